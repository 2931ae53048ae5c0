"""What a run leaves on disk, so that it can be interrupted at any instant and go on: one folder for each run.

    results.jsonl      a line for each finished cycle, appended and on the disk before the next begins
    labelled-C.npy     rows that are labeled after the purchase of cycle C
    generated-C.npz    generated images that were asked for by then, with their answers, where there are any
    learner-C.pt       the networks of cycle C

A cycle is done when its line is complete: the others are written before it, and those of earlier cycles are removed
after it. What an interrupted cycle left is overwritten by its second attempt.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.curves.answers import Answers
from models.files import DRAFT, replace_file

Line = dict[str, Any]


class RunStore:
    """The folder of one run; one process at a time writes to it (:meth:`held`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._results = folder / "results.jsonl"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Wait while another process still has the run: one whose parent was killed ends within moments."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def lines(self) -> list[Line]:
        """The finished cycles. An incomplete last line does not count."""
        try:
            text = self._results.read_bytes()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]

    def labeled(self, cycle: int) -> np.ndarray:
        """Rows (L,) that are labeled after the purchase of ``cycle``."""
        rows: np.ndarray = np.load(self.folder / f"labelled-{cycle}.npy")
        return rows

    def checkpoint(self, cycle: int) -> Path:
        return self.folder / f"learner-{cycle}.pt"

    def answers(self, cycle: int) -> Answers:
        """Generated images that were asked for up to the purchase of ``cycle``."""
        path = self._answers(cycle)
        return Answers.from_bytes(path.read_bytes()) if path.exists() else Answers.none()

    def _answers(self, cycle: int) -> Path:
        return self.folder / f"generated-{cycle}.npz"

    def keep_labeled(self, cycle: int, rows: np.ndarray, answers: Answers) -> None:
        if len(answers):
            replace_file(self._answers(cycle), answers.to_bytes())
        file = io.BytesIO()
        np.save(file, rows)
        replace_file(self.folder / f"labelled-{cycle}.npy", file.getvalue())

    def finish_cycle(self, line: Line, last: bool) -> None:
        """Append the line of a cycle, and remove what the next one does not need, or everything after the last."""
        whole = b"".join(json.dumps(one).encode() + b"\n" for one in self.lines())
        with self._results.open("ab") as file:
            file.truncate(len(whole))  # the start of a line that was cut off
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        for kind in ("labelled-*.npy", "generated-*.npz", "learner-*.pt", f"learner-*{DRAFT}"):
            for path in self.folder.glob(kind):
                if last or path.stem.rpartition("-")[2] != str(line["cycle"]):
                    path.unlink(missing_ok=True)
