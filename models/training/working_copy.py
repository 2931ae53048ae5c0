"""Images averaged down once to the size at which a network that sees them again and again wants them.

An autoencoder of 64 px that is trained on frames of 512 x 1024 would read two megabytes for each image of each step and
shrink it again. Axis letters: N rows, S side of the copy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import torch
from torch.nn import functional

from models.data import Runtime
from models.inference.streaming import batches_of, stream_batches

WORTH_IT = 4  # times as many pixels as the copy's: below that, shrinking costs less than another pass


@contextmanager
def working_copy(
    pixels: np.ndarray, rows: np.ndarray, size: int, runtime: Runtime, phase: str = "fit"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`pixels` and `rows` (N,) as they are where images are not much larger than S = `size`, or S is 0; else a copy of
    those rows, (N', S, S, 3) uint8, each the means over areas, and their places in it (N,).

    The copy is a mapped file that vanishes with the context, so memory does not grow with N. Reports to
    runtime.progress(phase, ..).
    """
    if size == 0 or pixels.shape[1] * pixels.shape[2] <= WORTH_IT * size**2:
        yield pixels, rows
        return
    wanted = np.unique(rows)
    with tempfile.TemporaryFile(prefix="working-copy-") as file:
        parts = batches_of(wanted, runtime, pixels)
        stream = stream_batches(pixels, (wanted[part] for part in parts), runtime.device)
        with torch.inference_mode(), closing(stream) as batches:
            for part, images in zip(parts, batches, strict=True):  # in ascending order, so written one after the other
                shrunk = functional.interpolate(images.permute(0, 3, 1, 2).float(), size=(size, size), mode="area")
                # written, not mapped: a full disk is then an error here, not a bus error that ends the process
                file.write(shrunk.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy().tobytes())
                runtime.progress(phase, int(part[-1]) + 1, len(wanted))
        file.flush()
        yield np.memmap(file, np.uint8, "r", shape=(len(wanted), size, size, 3)), np.searchsorted(wanted, rows)
