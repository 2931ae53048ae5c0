"""``python -m benchmarks copies``: from which cosine of their features on images may be folded together on the owner's
page, where near copies among the next images stand behind the first of them.

Of images of each data set, drawn by chance, it makes copies: as of a burst (the jitter of the redundant pool), saved
again as JPEG, and cropped. A copy that is as near as the bound would be folded. What is folded wrongly is measured on
different images: as many as the page reads ahead, in a queue that is drawn by chance, many times.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from backend.reporting.pool_map import NEAR, near_copies, of_length_one
from backend.settings.core import Settings
from backend.tasks import KINDS
from backend.web.pages.upcoming import READ_AHEAD
from benchmarks.data.copies import jitter
from benchmarks.data.datasets import DOWNLOADS
from benchmarks.data.image_sets import prepare
from benchmarks.data.kept_images import ImageSet
from benchmarks.speed.measuring import machine
from models.data import no_progress
from models.files import replace_file
from models.networks.pretrained import FrozenClassifier
from models.pixels import normalize
from models.tasks import task_named

SIDES = {"fashion-mnist": 32, "digits": 32, "photographs": 224}
"""Data set → the side of its images in pixels, as the learning curves use them."""

BOUNDS = (0.80, 0.85, 0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
IMAGES, DRAWS = 400, 50
JPEG_QUALITY, CROP = 50, 0.9
_BATCH = 32


def saved_again(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(buffer))


def cropped(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """A part of 90 % of its height and width, at the size of before."""
    side = round(CROP * len(image))
    top, left = draw.integers(0, len(image) - side + 1, 2)
    part = Image.fromarray(image[top : top + side, left : left + side])
    return np.asarray(part.resize(image.shape[1::-1], Image.Resampling.BILINEAR))


COPIES: Mapping[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "burst": jitter,
    "JPEG": saved_again,
    "cropped": cropped,
}
"""Sort of copy → how one is made of an image (H, W, 3) uint8."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks copies", description=__doc__)
    parser.add_argument("--datasets", nargs="+", choices=list(SIDES), default=list(SIDES), help="default: all")
    parser.add_argument("--images", type=int, default=IMAGES, help="of each, at most (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=DOWNLOADS, metavar="DIR", help="the data sets")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also store what is printed, as Markdown")
    options = parser.parse_args(arguments)
    lines = head_lines(arguments)
    print("\n".join(lines))
    for name in options.datasets:
        folder = prepare(name, SIDES[name], options.data, options.data / "curves" / "images", no_progress)
        pixels = ImageSet.open(folder).train_pixels
        draw = np.random.default_rng([options.seed, 11])
        count = min(options.images, len(pixels))
        some = pixels[np.sort(draw.choice(len(pixels), count, replace=False))]
        points = embedded(some)
        copies = {sort: embedded(np.stack([make(image, draw) for image in some])) for sort, make in COPIES.items()}
        section = [f"## {name}: {count} images at {SIDES[name]} px", "", *table(points, copies, draw), ""]
        print("\n".join(section), flush=True)
        lines += section
    if options.write:
        replace_file(options.write, "\n".join(lines).encode())
    return 0


def head_lines(arguments: Sequence[str]) -> list[str]:
    about = machine() | {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}
    return [
        "# Near copies",
        "",
        f"`python -m benchmarks {' '.join(['copies', *arguments])}`",
        "",
        f"Share of copies that have a cosine of the bound or more with their original, and of {READ_AHEAD} different",
        f"images, drawn by chance {DRAWS} times, that are folded behind another one. Features of the default backbone.",
        "Burst: moved by up to 2 pixels, up to 10 % brighter or darker, noise; JPEG: saved again at quality",
        f"{JPEG_QUALITY}; cropped: {100 * CROP:.0f} % of height and width. The product folds from {NEAR} on.",
        "",
        *[f"- {name}: {value}" for name, value in about.items()],
        "",
    ]


def embedded(pixels: np.ndarray) -> np.ndarray:
    """What the default network's backbone says of images (N, S, S, 3) uint8: (N, F) float32, each of length 1."""
    config = KINDS["classification"].net_config(Settings(), 2, pixels.shape[1:3], torch.device("cpu"))
    net = task_named("classification").build(config, 0)
    assert isinstance(net, FrozenClassifier)
    found = []
    for start in range(0, len(pixels), _BATCH):
        with torch.inference_mode():
            found.append(net.embed(normalize(torch.from_numpy(pixels[start : start + _BATCH]))).numpy())
    # as the product keeps them
    return of_length_one(np.concatenate(found).astype(np.float16)[:, : net.feature_channels])


def table(points: np.ndarray, copies: Mapping[str, np.ndarray], draw: np.random.Generator) -> list[str]:
    """A row for each bound. ``points`` (N, F): of the images; ``copies``: sort → (N, F), of a copy of each."""
    cosines = {sort: (points * of_copies).sum(axis=1) for sort, of_copies in copies.items()}
    queues = [draw.choice(len(points), min(READ_AHEAD, len(points)), replace=False) for _ in range(DRAWS)]
    lines = [
        f"| bound | {' | '.join(f'{sort} folded' for sort in copies)} | different images folded |",
        "|---" * (2 + len(copies)) + "|",
    ]
    for bound in BOUNDS:
        folded = [f"{100 * (cosine >= bound).mean():.1f} %" for cosine in cosines.values()]
        lines.append(f"| {bound:.2f} | {' | '.join(folded)} | {100 * wrongly_folded(points, queues, bound):.1f} % |")
    return lines


def wrongly_folded(points: np.ndarray, queues: Sequence[np.ndarray], bound: float) -> float:
    """Mean share of the images of a queue, all different, that stand behind another one of it."""
    return float(np.mean([(near_copies(points[some], bound) != np.arange(len(some))).mean() for some in queues]))
