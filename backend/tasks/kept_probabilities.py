"""The probability of each class for each task of a version, in files alongside its checkpoint.

    <digest of the task ids>.probabilities   a line of JSON, then
                                             N int64 task ids, ascending,
                                             N rows of C float32: the probability of each class

There is one file for the cycle, and one for each time that tasks joined later. A file is written atomically, before the
scores that it belongs to. If one is lost or damaged, its tasks lose their pre-annotations, but not their places in the
queue.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.files import whole_file

log = logging.getLogger(__name__)

FORMAT = 1
_ENDING = ".probabilities"


@dataclass(frozen=True)
class _Part:
    """One file: tasks (N,) int64, ascending, probabilities (N, C) float32."""

    classes: tuple[str, ...]
    tasks: np.ndarray
    probabilities: np.ndarray

    def row(self, task: int) -> int | None:
        place = int(np.searchsorted(self.tasks, task))
        return place if place < len(self.tasks) and self.tasks[place] == task else None


class KeptProbabilities:
    """The probabilities of one version, mapped from its files."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = list(parts)

    @classmethod
    def open(cls, folder: Path) -> KeptProbabilities | None:
        """Open the files in ``folder``. None if there are none."""
        found = [part for path in sorted(folder.glob(f"*{_ENDING}")) if (part := _read(path))]
        return cls(found) if found else None

    def holds(self, task: int) -> bool:
        return any(part.row(task) is not None for part in self._parts)

    def probabilities(self, task: int) -> dict[str, float] | None:
        """Class → probability for one task; None if none are kept for it."""
        for part in self._parts:
            row = part.row(task)
            if row is not None:
                return dict(zip(part.classes, part.probabilities[row].tolist(), strict=True))
        return None


def write_probabilities(folder: Path, classes: Sequence[str], tasks: Sequence[int], probabilities: np.ndarray) -> Path:
    """Write the ``probabilities`` (N, C) of ``tasks`` (N,) to a file in ``folder``.

    Raises:
        ValueError: the shapes do not match.
        OSError: writing failed, for example because the disk is full. Then there is no file.
    """
    if probabilities.shape != (len(tasks), len(classes)):
        raise ValueError(f"probabilities {probabilities.shape} of {len(tasks)} tasks and {len(classes)} classes")
    order = np.argsort(np.asarray(tasks, "<i8"))
    ids = np.asarray(tasks, "<i8")[order]
    header = {"format": FORMAT, "classes": list(classes), "rows": len(ids)}
    path = folder / f"{hashlib.blake2b(ids.tobytes(), digest_size=8).hexdigest()}{_ENDING}"
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(json.dumps(header).encode() + b"\n" + ids.tobytes())
        file.write(np.ascontiguousarray(probabilities[order], "<f4").tobytes())
    return path


def _read(path: Path) -> _Part | None:
    try:
        with path.open("rb") as file:
            header = json.loads(file.readline())
            rows, classes = int(header["rows"]), tuple(header["classes"])
            tasks = np.frombuffer(file.read(8 * rows), "<i8")
            start, shape = file.tell(), (rows, len(classes))
            if header["format"] != FORMAT or os.fstat(file.fileno()).st_size != start + 4 * rows * len(classes):
                raise ValueError("another format, or not whole")
            probabilities = np.memmap(file, "<f4", "r", start, shape) if rows else np.empty(shape, "<f4")
        return _Part(classes, tasks, probabilities)
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("The predictions in %s cannot be read: %s", path, error)
        return None
