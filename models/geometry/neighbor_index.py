"""Nearest neighbors among a million rows: an approximate index (faiss), built in pieces, kept in a file.

Each row is kept by its coordinates in the main directions (`models.geometry.space`), as float16, in the list of the
cell that it lies in; a question looks through the lists of a few cells only. So two things make it approximate: what
lies in none of the directions, and neighbors beyond the cells that are looked through. The first is undone where
candidates are compared by their features (`nearest`); how much the second costs is measured by
`python -m benchmarks neighbors`.

The only module that imports faiss, once an index is needed. Axis letters: N rows, F features, P directions, Q
questions, K neighbors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from models.data import Runtime, no_progress
from models.files import whole_file
from models.geometry.space import PART, Read, Space, in_parts

PROBED = 32  # cells that a question looks through
CANDIDATES = 4  # times as many rows as are asked for are compared by all of their features
CELLS_PER_ROOT = 4  # times the root of the number of rows: so many cells
TRAINED = 32  # rows for each cell that the cells are found by
STEPS = 8  # of k-means
ADDED = 1 << 16  # rows added at a time
OUTGROWN = 1.5  # times as many cells as it has: then it is made anew
NOBODY = -1
UNREADABLE = (OSError, EOFError, ValueError, KeyError, RuntimeError, BadZipFile)


class NeighborIndex:
    """An index of rows (N,) by number. `rows`: those that are in it, in the order in which they came."""

    def __init__(self, space: Space, index: Any, rows: np.ndarray) -> None:
        """index: of faiss, with the numbers of `rows`."""
        self.space, self.rows = space, rows
        self._index = index

    @classmethod
    def build(cls, rows: np.ndarray, read: Read, runtime: Runtime, phase: str = "index") -> NeighborIndex:
        """Of the rows (N,), N >= 1, a part of them in memory at a time. Reports runtime.progress(phase, rows, N)."""
        space = Space.of(rows, read, runtime)
        some = np.sort(runtime.rng("neighbor index").permutation(rows)[: TRAINED * cells_for(len(rows))])
        found = cls._trained(space, in_parts(some, read, space.coordinates, silent(runtime), ""), len(rows), runtime)
        found.add(rows, read, runtime, phase)
        return found

    @classmethod
    def over(cls, space: Space, coordinates: Tensor, runtime: Runtime) -> NeighborIndex:
        """Of rows by their coordinates (N, P) in the space, N >= 1; their numbers are their positions."""
        count = len(coordinates)
        some = np.sort(runtime.rng("neighbor index").permutation(count)[: TRAINED * cells_for(count)])
        found = cls._trained(space, coordinates[torch.from_numpy(some)], count, runtime)
        for start in range(0, count, ADDED):
            found._put(np.arange(start, min(start + ADDED, count)), coordinates[start : start + ADDED])
        return found

    @classmethod
    def _trained(cls, space: Space, some: Tensor, rows: int, runtime: Runtime) -> NeighborIndex:
        """Without a row, for so many, with cells found by the coordinates of some of them."""
        faiss = _faiss()
        width, cells = some.shape[1], cells_for(rows)
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatL2(width), width, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2, False
        )
        index.cp.seed, index.cp.niter = int(runtime.rng("cells").integers(2**31)), STEPS
        index.cp.min_points_per_centroid = 1
        with _as_many_threads():
            index.train(np.ascontiguousarray(some.numpy()))
        return cls(space, index, np.empty(0, np.int64))

    def add(self, rows: np.ndarray, read: Read, runtime: Runtime, phase: str = "index") -> None:
        """Take up more rows (N,), none of which is in it."""
        order = np.sort(rows)
        for start in range(0, len(order), PART):
            part = order[start : start + PART]
            self._put(part, self.space.coordinates(read(part)))
            runtime.progress(phase, start + len(part), len(order))

    def _put(self, rows: np.ndarray, coordinates: Tensor) -> None:
        numbers = rows.astype(np.int64)
        with _as_many_threads():
            self._index.add_with_ids(np.ascontiguousarray(coordinates.numpy()), numbers)
        self.rows = np.concatenate([self.rows, numbers])

    def roughly(
        self, coordinates: Tensor, count: int, allowed: np.ndarray | None = None, probed: int = PROBED
    ) -> tuple[Tensor, Tensor]:
        """For questions (Q, P) in the space, squared distances (Q, K) float32 in it and numbers (Q, K) int64 of the
        nearest rows, the nearest first; `NOBODY` at infinity where the cells have no more. allowed: numbers of the
        rows that may be found; None: all.
        """
        faiss = _faiss()
        chosen = None
        if allowed is not None:
            among = np.zeros(int(max(self.rows.max(), allowed.max())) + 1, bool)
            among[allowed] = True
            chosen = faiss.IDSelectorBitmap(np.packbits(among, bitorder="little"))
        how = faiss.SearchParametersIVF(nprobe=min(probed, self.cells), sel=chosen)
        with _as_many_threads():
            squared, rows = self._index.search(np.ascontiguousarray(coordinates.numpy()), count, params=how)
        found = torch.from_numpy(rows)
        return torch.from_numpy(squared).masked_fill(found == NOBODY, torch.inf), found

    def nearest(
        self, features: Tensor, count: int, read: Read, allowed: np.ndarray | None = None, probed: int = PROBED
    ) -> tuple[Tensor, Tensor]:
        """The same for questions (Q, F), but by all features of `CANDIDATES` times as many rows: distances (Q, K)
        float64, not squared, in the units of the features, and numbers (Q, K)."""
        squared, rough = self.roughly(self.space.coordinates(features), CANDIDATES * count, allowed, probed)
        away = torch.full(rough.shape, torch.inf, dtype=torch.float64)
        for asked, numbers, known, found in zip(features.cpu().double(), rough, squared.isfinite(), away, strict=True):
            found[known] = (read(numbers[known].numpy()).double() - asked).norm(dim=1)
        best = away.topk(min(count, away.shape[1]), dim=1, largest=False)
        return best.values, rough.gather(1, best.indices)

    # --- in a file ---

    @classmethod
    def kept(cls, path: Path | None, rows: np.ndarray, read: Read, runtime: Runtime) -> NeighborIndex:
        """One that has all of the rows (N,), N >= 1: what the file has, and what came since; built where there is none,
        or where it has become too small. Then kept in the file, unless that is None.

        A row whose features changed since is found by those that it had. `nearest` compares by those that it has.
        """
        found = None
        if path is not None and path.exists():
            try:
                found = cls.load(path)
            except UNREADABLE:  # damaged, or of another version
                found = None
        if found is not None and cells_for(len(np.union1d(found.rows, rows))) > OUTGROWN * found.cells:
            found = None
        if found is None:
            found, missing = cls.build(rows, read, runtime), rows
        else:
            missing = np.setdiff1d(rows, found.rows)
            found.add(missing, read, runtime)
        if path is not None and len(missing):
            found.save(path)
        return found

    @property
    def cells(self) -> int:
        """Into how many its rows are divided."""
        return int(self._index.nlist)

    def save(self, path: Path) -> None:
        """Write it to ``path``, whole or not at all."""
        faiss = _faiss()
        kept = {"mean": self.space.mean, "scale": self.space.scale, "basis": self.space.basis}
        arrays = {name: tensor.numpy() for name, tensor in kept.items()}
        arrays |= {"rows": self.rows, "index": faiss.serialize_index(self._index)}
        with whole_file(path, several=True) as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> NeighborIndex:
        """What `save` wrote. Raises one of `UNREADABLE` where it cannot be read."""
        faiss = _faiss()
        with np.load(path) as kept:
            found: Mapping[str, np.ndarray] = {name: kept[name] for name in kept.files}
        space = Space(*(torch.from_numpy(found[name]) for name in ("mean", "scale", "basis")))
        return cls(space, faiss.deserialize_index(found["index"]), found["rows"])


def cells_for(rows: int) -> int:
    """How many cells an index of so many rows has."""
    return max(1, min(round(CELLS_PER_ROOT * rows**0.5), rows // 8))


def silent(runtime: Runtime) -> Runtime:
    """The same, reporting nothing."""
    return replace(runtime, progress=no_progress)


def _faiss() -> Any:
    """Loaded once it is needed: it takes half a second. Its type stubs know less than it does."""
    import faiss

    return faiss


@contextmanager
def _as_many_threads() -> Iterator[None]:
    """Inside, faiss computes with as many threads as torch: it has a number of its own, in each thread of ours."""
    faiss = _faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(torch.get_num_threads())
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
