"""Images with masks as files of uint8 that are mapped, not loaded.

On disk, in one folder per data set and size: for each part (train, test) PART.images.u8 with rows of H×W×3 bytes and
PART.masks.u8 with rows of H×W bytes, and about.json. The folder appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from benchmarks.data.kept_images import PARTS, made_whole
from models import IGNORE


@dataclass(frozen=True)
class Frequencies:
    """What the masks of one part hold: of each class the share of the pixels that are not ignored and the share of the
    images that it is in, and the share of all pixels that are ignored."""

    pixels: tuple[float, ...]
    images: tuple[float, ...]
    ignored: float


@dataclass(frozen=True)
class MaskSet:
    """Images (N, H, W, 3) and masks (N, H, W) of both parts, uint8, mapped read-only; masks hold indices into
    ``classes`` or IGNORE.

    ``train_masks`` belong to the oracle alone.
    """

    train_images: np.ndarray
    train_masks: np.ndarray
    test_images: np.ndarray
    test_masks: np.ndarray
    classes: tuple[str, ...]
    source: str
    digest: str
    frequencies: dict[str, Frequencies]

    @classmethod
    def open(cls, folder: Path) -> MaskSet:
        about = json.loads((folder / "about.json").read_text())
        frame = (about["height"], about["width"])

        def mapped(part: str, kind: str, *axes: int) -> np.ndarray:
            shape = (about["parts"][part]["rows"], *frame, *axes)
            return np.memmap(folder / f"{part}.{kind}.u8", np.uint8, "r", shape=shape)

        return cls(
            mapped("train", "images", 3),
            mapped("train", "masks"),
            mapped("test", "images", 3),
            mapped("test", "masks"),
            tuple(about["classes"]),
            about["source"],
            about["digest"],
            {
                part: Frequencies(tuple(of["pixels"]), tuple(of["images"]), of["ignored"])
                for part, of in about["parts"].items()
            },
        )


class PartWriter:
    """Appends rows to a part's two files, one at a time, and counts what the masks hold."""

    def __init__(self, folder: Path, part: str, frame: tuple[int, int]) -> None:
        self._frame = frame
        self._files = [(folder / f"{part}.{kind}.u8").open("wb") for kind in ("images", "masks")]
        self._digests = [hashlib.sha256() for _ in self._files]
        self._pixels = np.zeros(256, dtype=np.int64)
        self._images = np.zeros(256, dtype=np.int64)
        self.rows = 0

    def write(self, image: np.ndarray, mask: np.ndarray) -> None:
        """One more row: ``image`` (H, W, 3) and ``mask`` (H, W), both uint8."""
        if image.dtype != np.uint8 or mask.dtype != np.uint8:
            raise TypeError(f"uint8 is kept, got {image.dtype} and {mask.dtype}")
        if image.shape != (*self._frame, 3) or mask.shape != self._frame:
            raise ValueError(f"rows are {self._frame}, got an image {image.shape} and a mask {mask.shape}")
        for array, file, digest in zip((image, mask), self._files, self._digests, strict=True):
            data = array.tobytes()
            file.write(data)
            digest.update(data)
        counts = np.bincount(mask.ravel(), minlength=256)
        self._pixels += counts
        self._images += counts > 0
        self.rows += 1

    @property
    def highest(self) -> int:
        """The highest class index in any mask; -1 when all of it is ignored."""
        return int(np.flatnonzero(self._pixels[:IGNORE]).max(initial=-1))

    @property
    def digest(self) -> str:
        return " ".join(digest.hexdigest() for digest in self._digests)

    def frequencies(self, classes: int) -> Frequencies:
        """The shares of the first ``classes`` classes in what was written."""
        valid = max(1, int(self._pixels[:IGNORE].sum()))
        return Frequencies(
            tuple((self._pixels[:classes] / valid).tolist()),
            tuple((self._images[:classes] / max(1, self.rows)).tolist()),
            float(self._pixels[IGNORE] / max(1, self._pixels.sum())),
        )

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()


@contextlib.contextmanager
def draft_of(folder: Path, frame: tuple[int, int]) -> Iterator[tuple[Path, dict[str, PartWriter]]]:
    """A draft and the writer of each part; close with :func:`finish`, then it becomes ``folder``."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with made_whole(folder) as draft, contextlib.ExitStack() as opened:
        yield draft, {part: opened.enter_context(PartWriter(draft, part, frame)) for part in PARTS}


def finish(
    draft: Path, writers: dict[str, PartWriter], frame: tuple[int, int], classes: Sequence[str], source: str
) -> None:
    """The last file of a draft: what the others hold, with a digest of it."""
    digest = hashlib.sha256(json.dumps([frame, list(classes)]).encode())
    parts = {}
    for part, writer in writers.items():
        digest.update(writer.digest.encode())
        shares = writer.frequencies(len(classes))
        parts[part] = {
            "rows": writer.rows,
            "pixels": [round(share, 6) for share in shares.pixels],
            "images": [round(share, 6) for share in shares.images],
            "ignored": round(shares.ignored, 6),
        }
    about = {
        "height": frame[0],
        "width": frame[1],
        "classes": list(classes),
        "source": source,
        "digest": digest.hexdigest()[:16],
        "parts": parts,
    }
    (draft / "about.json").write_text(json.dumps(about, indent=1))
