"""Each image of a data set is embedded once, for all runs: a file of what the frozen backbone says of it.

In the folder of the data sets: ``features-DIGEST-KEY.f16``, rows (M, E) float16 of the images with that digest, and
``….done``, a byte for each row that is there. Rows that are not asked for take no space on most file systems.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.tasks import KINDS
from benchmarks.curves.plan import Plan, Run
from benchmarks.curves.tasks.base import NOTHING_KEPT, CurveTask, Kept, Part
from models import ProgressFn
from models.networks.base import TaskConfig
from models.networks.pretrained import FrozenClassifier
from models.pixels import normalize
from models.tasks import task_named

_BATCH = 32


def kept_of(task: CurveTask[Any], plan: Plan, folder: Path, device: torch.device) -> Kept:
    """The features of the images of ``task``, below ``folder``; nothing where the plan's networks read images."""
    parts, config = task.parts(), _config(task, plan, device)
    if not parts or not config.feature_key:
        return NOTHING_KEPT
    width = task_named(plan.task).build(config, 0).feature_channels
    train, test = (_File(folder, part, config).rows for part in parts)
    return Kept(train, test, width)


def embed(tasks: Sequence[CurveTask[Any]], plan: Plan, folder: Path, device: torch.device, report: ProgressFn) -> None:
    """Embed the images that any of ``tasks`` uses and that are not embedded yet. It may be interrupted at any time."""
    for number, part in enumerate(tasks[0].parts()):
        config = _config(tasks[0], plan, device)
        if not config.feature_key:
            return
        rows = np.unique(np.concatenate([task.parts()[number].rows for task in tasks]))
        file = _File(folder, part, config)
        missing = rows[file.done[rows] == 0]
        if not len(missing):
            continue
        net = task_named(plan.task).build(config, 0).to(device)
        assert isinstance(net, FrozenClassifier)
        for start in range(0, len(missing), _BATCH):
            report("features", start, len(missing))
            some = missing[start : start + _BATCH]
            images = normalize(torch.from_numpy(part.pixels[some]).to(device))
            with torch.inference_mode():
                file.write(some, net.embed(images).cpu().numpy())


def _config(task: CurveTask[Any], plan: Plan, device: torch.device) -> TaskConfig:
    frame = (task.pixels.shape[1], task.pixels.shape[2])
    return KINDS[plan.task].net_config(plan.settings(Run("random", 1)), len(task.classes), frame, device)


class _File:
    """Rows of features, and which of them are there."""

    def __init__(self, folder: Path, part: Part, config: TaskConfig) -> None:
        self._path = folder / f"features-{part.digest}-{config.feature_key}.f16"
        self._shape = (len(part.pixels), config.embedding)

    @property
    def rows(self) -> np.ndarray:
        return np.memmap(self._path, np.float16, "r", shape=self._shape)

    @property
    def done(self) -> np.memmap[Any, np.dtype[np.uint8]]:
        """A byte for each row: 1 where it is there."""
        path = self._path.with_suffix(".done")
        for file, size in ((self._path, 2 * self._shape[0] * self._shape[1]), (path, self._shape[0])):
            if not file.exists():
                with file.open("ab") as opened:
                    opened.truncate(size)
        return np.memmap(path, np.uint8, "r+", shape=self._shape[:1])

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        kept = np.memmap(self._path, np.float16, "r+", shape=self._shape)
        kept[rows] = values
        kept.flush()
        done = self.done
        done[rows] = 1
        done.flush()
