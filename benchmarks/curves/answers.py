"""Generated images that a run asked for, with what it was told of each, as they are kept."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Self

import numpy as np

UNRECOGNIZED = -1


@dataclass(frozen=True)
class Answers:
    """Images (G, S, S, 3) uint8, their labels (G,) int64, or :data:`UNRECOGNIZED`, and what the frozen backbone says of
    them, (G, E) float16; (G, 0) where there is none."""

    images: np.ndarray
    labels: np.ndarray
    features: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def none(cls) -> Self:
        return cls(np.empty((0, 0, 0, 3), np.uint8), np.empty(0, np.int64), np.empty((0, 0), np.float16))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        with np.load(io.BytesIO(content)) as kept:
            return cls(kept["images"], kept["labels"], kept["features"])

    def to_bytes(self) -> bytes:
        file = io.BytesIO()
        np.savez(file, images=self.images, labels=self.labels, features=self.features)
        return file.getvalue()

    def and_then(self, later: Answers) -> Answers:
        if not (len(self) and len(later)):
            return self if len(self) else later
        pairs = zip(
            (self.images, self.labels, self.features), (later.images, later.labels, later.features), strict=True
        )
        return Answers(*(np.concatenate(pair) for pair in pairs))

    def counts(self) -> dict[str, int]:
        """For the line of a cycle; nothing where no image was generated."""
        recognized = int((self.labels != UNRECOGNIZED).sum())
        return {"generated": len(self), "generated_recognized": recognized} if len(self) else {}
