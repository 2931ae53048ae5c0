"""Data sets as files of uint8 pixels that are mapped, not loaded.

On disk, in one folder per data set and size: train.u8 and test.u8 (rows of size×size×3 bytes), train.npy and test.npy
(class indices), about.json. The folder appears whole or not at all. Without the two files of the test part, each trial
of an experiment holds out images of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.files import replace_file

PARTS = ("train", "test")


@dataclass(frozen=True)
class ImageSet:
    """Pixels (M, S, S, 3) uint8, mapped read-only, and labels (M,) int64 into ``classes``, of both parts.

    ``train_labels`` belong to the oracle alone. ``undivided``: both parts are all images, and whoever uses them draws
    which are held out. ``digests``: of the pixels of each part. ``copies``: so many rows in a row show the same image.
    """

    train_pixels: np.ndarray
    train_labels: np.ndarray
    test_pixels: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    source: str
    digest: str
    undivided: bool = False
    digests: tuple[str, str] = ("", "")
    copies: int = 1

    @classmethod
    def open(cls, folder: Path) -> ImageSet:
        about = json.loads((folder / "about.json").read_text())
        undivided = not (folder / "test.npy").exists()
        parts = (PARTS[0], PARTS[0]) if undivided else PARTS
        labels = [np.load(folder / f"{part}.npy") for part in parts]
        side = about["size"]
        pixels = [
            np.memmap(folder / f"{part}.u8", np.uint8, "r", shape=(len(of), side, side, 3))
            for part, of in zip(parts, labels, strict=True)
        ]
        return cls(
            *(pixels[0], labels[0], pixels[1], labels[1]),
            classes=tuple(about["classes"]),
            source=about["source"],
            digest=about["digest"],
            undivided=undivided,
            digests=(_digest(folder / f"{parts[0]}.u8"), _digest(folder / f"{parts[1]}.u8")),
            copies=about.get("copies", 1),
        )


def _digest(path: Path) -> str:
    """Sixteen hexadecimal digits of a file's content, computed once."""
    kept = path.with_suffix(".digest")
    if not kept.exists():
        with path.open("rb") as file:
            replace_file(kept, hashlib.file_digest(file, "sha256").hexdigest()[:16].encode())
    return kept.read_text()


def write_about(folder: Path, side: int, classes: tuple[str, ...], source: str, copies: int = 1) -> None:
    """The last file of a folder: what is in the others, with a digest of it."""
    digest = hashlib.sha256(json.dumps([side, classes]).encode())
    for name in sorted(path.name for path in folder.glob("t*.*")):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    about = {"size": side, "classes": classes, "source": source, "digest": digest.hexdigest()[:16]}
    about |= {"copies": copies} if copies > 1 else {}
    (folder / "about.json").write_text(json.dumps(about))


@contextlib.contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """A draft that becomes ``folder`` when all went well; whoever was first wins."""
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield draft
        with contextlib.suppress(OSError):
            os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
