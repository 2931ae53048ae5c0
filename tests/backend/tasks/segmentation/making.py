"""Masks without images to draw them on. Programs that tests start and kill import this, and not pytest and torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from backend.tasks.segmentation.mask_cache import MadeMask

FRAME = (4, 6)


def digest(text: object) -> str:
    return hashlib.blake2b(str(text).encode(), digest_size=16).hexdigest()


def plain(value: int) -> np.ndarray:
    return np.full(FRAME, value, np.uint8)


class Maker:
    """Masks of one value, that of ``values`` or the task's number; counts what is asked for."""

    def __init__(self, values: Mapping[int, int] | None = None) -> None:
        self.values, self.asked = values or {}, []  # type: tuple[Mapping[int, int], list[int]]

    def __call__(self, tasks: Sequence[int]) -> Iterator[MadeMask]:
        self.asked += tasks
        for task in tasks:
            yield MadeMask(task, digest(task), plain(self.values.get(task, task % 100)))


def wanted(*tasks: int) -> dict[int, str]:
    return {task: digest(task) for task in tasks}
