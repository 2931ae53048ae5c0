"""How well the GAN of `asal` and `gaal` learns from a pool: its figures as it goes, beside those of real images.

python -m benchmarks gan                     Fashion-MNIST, 2,000 images at 32 px, the defaults of a CPU
python -m benchmarks gan --iterations 20000 --width 64 --device cuda --picture samples.png
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from backend.images.encoding import encode_png, grid
from backend.tasks.backbones import BUNDLED
from benchmarks.curves.prepared import PATIENT
from benchmarks.data.datasets import DOWNLOADS, NAMED
from models.data import Runtime
from models.inference.synthesis import network_input
from models.networks.backbones import IMAGENET
from models.networks.kept_backbones import kept_backbone
from models.training.gan import GanTraining
from models.training.gan_health import generator_health
from samplers import build_sampler

POINTS = 4
SHOWN = ("gan_distinct_neighbors", "gan_distinct_of_real", "gan_precision", "gan_precision_of_real", "gan_recall")


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    pixels = images_of(options.dataset, options.images, options.side, options.seed)
    device, rows = torch.device(options.device), np.arange(options.images)
    chosen = {"gan": options.kind, "gan_width": options.width, **PATIENT}
    trunk = kept_backbone(BUNDLED, IMAGENET, options.side, device)

    def embed(images: Tensor) -> Tensor:
        return trunk(network_input(images, options.side))

    spent = 0.0
    print(
        "iterations, seconds, of the processor, " + ", ".join(name.removeprefix("gan_") for name in SHOWN) + ", doubts",
        flush=True,
    )
    state: dict[str, Any] = {}
    for point in range(1, POINTS + 1):
        iterations = max(1, options.iterations * point // POINTS)
        sampler = build_sampler(
            "asal",
            chosen | {"gan_iterations": iterations},
            task="classification",
            num_classes=2,
            image_size=options.side,
            device=device,
        )
        began = time.process_time()
        found = sampler.prepare(state, pixels, rows, Runtime(device, options.seed), lambda: False)
        state = found.training
        training = GanTraining.from_state(state["gan"], device)
        runtime = Runtime(device, options.seed)
        spent += time.process_time() - began
        health = generator_health(training.average, training.critic, pixels, rows, embed, runtime)
        figures = ", ".join(f"{health[name]:.3f}" for name in SHOWN)
        print(
            f"{training.taken}, {training.seconds:.0f}, {spent:.0f}, {figures}, {sampler.doubts(health) or 'none'}",
            flush=True,
        )
        if options.picture and found.sample is not None:
            Path(options.picture).write_bytes(encode_png(grid(found.sample)))
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gan", description=str(__doc__).split("\n")[0])
    parser.add_argument("--dataset", choices=NAMED, default="fashion-mnist")
    parser.add_argument("--images", type=int, default=2_000, help="images of the pool (2000)")
    parser.add_argument("--side", type=int, default=32, help="their side in pixels, as the product keeps them (32)")
    parser.add_argument("--kind", choices=("auto", "wgan-gp", "dcgan"), default="auto")
    parser.add_argument("--width", type=int, default=0, help="channels next to the image (0: the device's default)")
    parser.add_argument("--iterations", type=int, default=2_000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", help="a PNG of 64 generated images")
    return parser.parse_args(arguments)


def images_of(name: str, count: int, side: int, seed: int) -> np.ndarray:
    """Some of the training images of a data set: (N, S, S, 3) uint8."""
    found = NAMED[name](DOWNLOADS).train_images
    some = found[np.random.default_rng(seed).choice(len(found), count, replace=False)]
    colors = np.broadcast_to(some.reshape(*some.shape[:3], -1), (*some.shape[:3], 3))  # gray ones have one channel
    images = torch.from_numpy(colors.copy()).permute(0, 3, 1, 2).float()
    resized = functional.interpolate(images, size=(side, side), mode="bilinear", antialias=side < images.shape[2])
    return resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
