"""Pictures of things, most of them photographs that were cut out: the stamps of Tux Paint, from Debian's package."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.data.datasets import DatasetUnavailable

PHOTOGRAPHS = "photographs"
PACKAGE = "tuxpaint-stamps-default"
CLASSES = ("animals", "clothes", "food", "household", "plants", "seasonal", "space", "town", "vehicles")
"""Folders of the package with at least 15 pictures, but for letters and symbols. They are the classes."""

_INSTALLED = Path("/usr/share/tuxpaint/stamps")
_PATIENCE = 600.0  # seconds, for 160 MB


def photographs(downloads: Path, installed: Path = _INSTALLED) -> Path:
    """A folder with a folder of PNG files for each class: about 500 pictures, 100 to 1,000 px wide.

    From the installed package, else from a package that is downloaded, not installed, into ``downloads``, once.

    Raises:
        DatasetUnavailable: there is neither.
    """
    folder = downloads.expanduser() / PHOTOGRAPHS
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        stamps = installed if installed.is_dir() else _downloaded(Path(scratch))
        draft = Path(scratch) / PHOTOGRAPHS
        for name in CLASSES:
            for path in sorted((stamps / name).rglob("*.png")):
                place = draft / name / "-".join(path.relative_to(stamps / name).parts)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
        draft.rename(folder)
    return folder


def _downloaded(scratch: Path) -> Path:
    """The stamps of a package that is fetched by ``apt-get`` and unpacked below ``scratch``."""
    try:
        for command in (["apt-get", "download", PACKAGE], ["sh", "-c", f"dpkg-deb --extract {PACKAGE}_*.deb files"]):
            subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True, timeout=_PATIENCE)
    except (OSError, subprocess.SubprocessError) as error:
        said = " ".join(str(getattr(error, "stderr", "") or error).split())[-200:]
        raise DatasetUnavailable(
            f"{PACKAGE} is not installed and could not be downloaded ({said}): install Debian's package, or put its"
            f" folder usr/share/tuxpaint/stamps to {_INSTALLED}"
        ) from error
    return scratch / "files" / "usr" / "share" / "tuxpaint" / "stamps"
