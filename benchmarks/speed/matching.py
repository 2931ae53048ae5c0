"""What it costs ASAL to match generated images with a large pool, exactly: beside one bare product of the same numbers.

An index would have to be built before it is asked, which costs each row many comparisons; here each costs as many as
there are generated images, once a cycle.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.speed.measuring import Measured, in_turns
from benchmarks.speed.memory import status_bytes
from models.geometry.matching import PART, NearestRows

WANTED, FEATURES = 100, 64  # generated images, and the principal components that `asal_space: pca` has
ROWS, SMALL_ROWS = 1_000_000, 20_000
REPETITIONS = 3


def measure(folder: Path, small: bool) -> Measured:
    """Rows are read from a mapped file, as the features of a pool are."""
    count = SMALL_ROWS if small else ROWS
    path = folder / "matching.f32"
    rows, draw = np.memmap(path, np.float32, "w+", shape=(count, FEATURES)), np.random.default_rng(0)
    for start in range(0, count, PART):
        part = rows[start : start + PART]
        part[:] = draw.standard_normal(part.shape, dtype=np.float32)
    wanted = torch.from_numpy(draw.standard_normal((WANTED, FEATURES), dtype=np.float32))
    before, peak = status_bytes("VmRSS"), 0

    def match() -> None:
        nonlocal peak
        nearest = NearestRows(wanted)
        for start in range(0, count, PART):
            part = torch.from_numpy(np.array(rows[start : start + PART]))
            nearest.add(part, torch.arange(start, start + len(part)))
        peak = max(peak, status_bytes("VmRSS"))
        assert len(nearest.unique()[0]) == WANTED

    def multiply() -> None:
        for start in range(0, count, PART):
            torch.from_numpy(np.array(rows[start : start + PART])) @ wanted.T

    over, under = in_turns(match, multiply, 1 if small else REPETITIONS)
    path.unlink()
    mapped = count * FEATURES * 4 / 2**20
    notes = (
        f"{WANTED} generated images matched with {count:,} rows of {FEATURES} features from a mapped file, exactly and"
        f" uniquely, {torch.get_num_threads()} threads; resident memory grew by {(peak - before) / 2**20:.0f} MiB, of"
        f" which the file's pages are up to {mapped:.0f}, against bare products of the same rows",
    )
    title = f"asal: matching with {count:,} rows ÷ bare products of the same"
    return Measured("matching", title, over, under, "s", notes=notes)
