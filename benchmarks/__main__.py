"""``python -m benchmarks <command>``: bench, curves, copies, demo, papers, gan, gpu, label-studio, neighbors, replay,
scale."""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = {
    "bench": ("benchmarks.speed.command", "the speed table: ratios, each measured side by side in one run"),
    "curves": ("benchmarks.curves.command", "accuracy or its like over labels, one curve for each sampler"),
    "copies": ("benchmarks.copies", "from which cosine on images count as near copies of each other"),
    "demo": ("demo.run", "Label Studio, the backend and a project to label"),
    "papers": ("benchmarks.papers.command", "the tables and figures of the papers, each by its name"),
    "gan": ("benchmarks.gan", "how well the GAN of asal and gaal learns from a pool, beside real images"),
    "gpu": ("benchmarks.gpu.command", "the papers' cycles on a CUDA device: seconds, iterations/s, share of the peak"),
    "label-studio": ("benchmarks.label_studio", "labels a second and waits, by Label Studio's number of processes"),
    "replay": ("benchmarks.replay.command", "how often a replay of simulated owners says what it should"),
    "neighbors": (
        "benchmarks.neighbors",
        "an index of neighbors in a large pool, and what it replaces: seconds and recall",
    ),
    "scale": ("benchmarks.scale", "what a project of so many images and annotators takes, on paper"),
}
"""Each is a module with ``main(arguments)``, imported when asked for: `gpu` runs where the others cannot."""


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in COMMANDS:
        wanted = arguments and arguments[0] in ("-h", "--help")
        lines = ["usage: python -m benchmarks COMMAND [options]", ""]
        lines += [f"  {name:13}{words}" for name, (_, words) in COMMANDS.items()]
        print("\n".join(lines), file=sys.stdout if wanted else sys.stderr)
        return 0 if wanted else 2
    return int(import_module(COMMANDS[arguments[0]][0]).main(arguments[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
