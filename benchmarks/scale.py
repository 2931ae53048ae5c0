"""``python -m benchmarks scale``: what a project of so many images and annotators takes, phase by phase.

A plan on paper. Every figure is a size of this code or is read from a page of ``benchmarks/results``, and is scaled in
proportion from what was measured there; the plan says from what, and what has not been measured at all.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.networks.backbones import BUNDLED, dimensions_of

RESULTS = Path(__file__).parent / "results"
BENCH, LARGE, PROCESSES = "bench-features.md", "large-projects.md", "label-studio-processes.md"

IMAGES, ANNOTATORS, SECONDS, LABELS, PRICE = 10_000_000, 100, 10.0, 500, 0.05
"""The project that ``docs/scale.md`` plans; seconds that a person takes for a label; labels between two cycles; what
an hour of a core costs, in a currency of one's own."""

SIDE = 224
"""Of cached images whose longer side exceeds 40 px, in pixels."""

SIMULATED = "Label Studio was simulated"
NOT_SHARED = "on a CPU; with EXECUTOR=ray several machines share it, which was not measured"

CORES = {"import": 1, "first read": 1, "embed": 2}
"""What is done once → the cores that it was measured on."""


@dataclass(frozen=True)
class Constant:
    """``value``: as measured with ``at`` of what it is scaled by, on the page ``source`` of the results."""

    value: float
    at: float
    source: str


@dataclass(frozen=True)
class Phase:
    """``amount``: how much of time, space or processes; ``note``: where that is from, and how far from what was
    measured."""

    name: str
    amount: str
    note: str


def measured() -> dict[str, Constant]:
    """The constants, from the pages of the results. Raises ValueError where a page does not have one any more."""
    bench, large = ((RESULTS / name).read_text() for name in (BENCH, LARGE))
    million = _row(large, "1,000,000")
    studio = _row(large[large.index("## What Label Studio alone costs") :], "200,000")
    several = _row((RESULTS / PROCESSES).read_text(), "4 processes")
    return {
        "import": Constant(float(studio[1]), 1e3, LARGE),
        "next": Constant(float(studio[2].split(",")[0]), 2e5, LARGE),
        "submit": Constant(float(studio[3].split(",")[0]), 2e5, LARGE),
        "label": Constant(sum(map(float, several[4].split(" + "))), 5e3, PROCESSES),
        "first read": Constant(float(million[1]), 1e6, LARGE),
        "cycle": Constant(float(million[2].split()[0]), 1e6, LARGE),
        "memory": Constant(float(million[5].split(",")[1].split()[0]), 1e6, LARGE),
        "embed": Constant(_found(bench, r"embedding took (\d+) ms an image") / 1e3, 1, BENCH),
        "score": Constant(_found(bench, r"scoring kept features[^|]*\|[^;|]*; ([\d.]+) s"), 1e6, BENCH),
    }


def once(images: int) -> Iterator[Phase]:
    """What a project of photographs, one class each, takes before the first label."""
    dimensions = dimensions_of(BUNDLED)
    row = 2 * (dimensions.features + sum(dimensions.taps))
    yield _phase("importing into Label Studio, by one of its processes", "import", images)
    yield _phase("the backend's first read, without Label Studio's part", "first read", images, SIMULATED)
    yield _phase(f"fetching, decoding and embedding at {SIDE} px, on two cores", "embed", images, NOT_SHARED)
    yield Phase("image cache, uint8", _bytes(images * SIDE * SIDE * 3), f"{SIDE} × {SIDE} × 3 bytes an image")
    yield Phase("features, float16", _bytes(images * row), f"{row:,} bytes an image")


def each_cycle(images: int) -> Iterator[Phase]:
    yield _phase("scoring", "score", images)
    yield _phase("reading, storing and publishing, without Label Studio's part", "cycle", images, SIMULATED)
    yield _phase("the worker's memory over its floor", "memory", images, SIMULATED)


def always(annotators: int, seconds: float, labels: int) -> Iterator[Phase]:
    """While ``annotators`` people take ``seconds`` for a label, with a cycle for every ``labels`` of them."""
    rate, known = annotators / seconds, measured()
    busy = known["next"].value + known["submit"].value
    yield Phase("labels", f"{rate:,.1f} a second", f"{annotators:,} people, {seconds:g} s each: assumed")
    yield Phase("time from one cycle to the next", _time(labels / rate), f"{labels:,} labels: assumed")
    tasks = f"{known['next'].at:,.0f} tasks on SQLite; with more tasks, not measured"
    from_ = f"`next` and Submit take {busy:.2f} s: {_link(known['next'])} with {tasks}"
    yield Phase("processes of Label Studio that serve and store them", f"{max(1, math.ceil(rate * busy)):,}", from_)
    computed = known["label"]
    tasks = f"{computed.at:,.0f} tasks, on two cores; on more cores, and with more tasks, not measured"
    from_ = f"a label takes {computed.value:.2f} core s: {_link(computed)} with four processes and {tasks}"
    cores = f"{max(1, math.ceil(rate * computed.value)):,}"
    yield Phase("cores for them, PostgreSQL, Redis and the job workers included", cores, from_)


def cost(images: int, price: float) -> str:
    """Of what is done once, in a sentence."""
    known = measured()
    seconds = sum(cores * known[name].value * images / known[name].at for name, cores in CORES.items())
    hours = seconds / 3600
    return f"What is done once takes {hours:,.1f} core hours: at {price:g} an hour, {hours * price:,.2f}."


def tables(images: int, annotators: int, seconds: float, labels: int, price: float) -> str:
    """The plan in Markdown."""
    parts = {
        "once": once(images),
        "each cycle": each_cycle(images),
        "always": always(annotators, seconds, labels),
    }
    lines = [f"{images:,} images, {annotators:,} annotators:", ""]
    lines += ["| when | what | how much | from |", "|---|---|---|---|"]
    lines += [f"| {when} | {one.name} | {one.amount} | {one.note} |" for when, part in parts.items() for one in part]
    return "\n".join([*lines, "", cost(images, price)])


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES, help="in the project (default: %(default)s)")
    parser.add_argument("--annotators", type=int, default=ANNOTATORS, help="at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="each takes for a label (default: %(default)s)")
    parser.add_argument("--labels", type=int, default=LABELS, help="between two cycles (default: %(default)s)")
    parser.add_argument("--price", type=float, default=PRICE, help="of an hour of a core (default: %(default)s)")
    given = parser.parse_args(arguments)
    if min(given.images, given.annotators, given.seconds, given.labels) <= 0 or given.price < 0:
        parser.error("images, annotators, seconds and labels are above 0, and the price is not below")
    print(tables(given.images, given.annotators, given.seconds, given.labels, given.price))
    return 0


def _phase(name: str, constant: str, images: int, but: str = "") -> Phase:
    """``but``: what else to know of the measurement."""
    one = measured()[constant]
    amount = one.value * images / one.at
    times = images / one.at
    factor = f"{times:,.0f}" if times >= 10 else f"{times:.2g}"
    note = _link(one) if one.at == 1 else f"{_link(one)} with {one.at:,.0f} tasks, × {factor}"
    return Phase(name, _bytes(amount * 2**20) if constant == "memory" else _time(amount), f"{note}; {but}".rstrip("; "))


def _link(constant: Constant) -> str:
    return f"[measured](../benchmarks/results/{constant.source})"


def _row(page: str, first: str) -> list[str]:
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] == first:
            return cells
    raise ValueError(f"no table has a row that begins with {first}")


def _found(page: str, pattern: str) -> float:
    found = re.search(pattern, page)
    if found is None:
        raise ValueError(f"nothing in the results reads {pattern}")
    return float(found[1])


def _time(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.1f} s"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,.0f} bytes"
