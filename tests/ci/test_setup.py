"""The set-up's own logic: which Python it takes, and when it has nothing to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAMPS = (".venv/.system", ".venv/.installed", ".venv-label-studio/.installed")
PROGRAMS = (".venv/bin/python", ".venv-label-studio/bin/python")


def fake_python(directory: Path, name: str, version: tuple[int, int]) -> None:
    """A program that answers as a Python of that version does to find-python.sh's question."""
    accepted = (3, 11) <= version <= (3, 13)
    script = directory / name
    script.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exit {0 if accepted else 1}\necho Python {version[0]}.{version[1]}\n'
    )
    script.chmod(0o755)


def find_python(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(ROOT / ".ci" / "find-python.sh")],
        env={"PATH": str(directory)},
        capture_output=True,
        text=True,
    )


def test_a_python_that_fits_is_taken_whatever_its_name(tmp_path: Path) -> None:
    fake_python(tmp_path, "python3", (3, 14))
    fake_python(tmp_path, "python3.12", (3, 12))
    assert find_python(tmp_path).stdout.strip() == str(tmp_path / "python3.12")


def test_without_one_the_reason_is_said(tmp_path: Path) -> None:
    fake_python(tmp_path, "python3", (3, 9))
    run = find_python(tmp_path)
    assert run.returncode == 1
    assert "Python 3.9" in run.stderr and "3.11" in run.stderr


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A checkout that looks set up, a minute ago."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    for source in ROOT.glob("requirements*"):
        shutil.copy(source, tmp_path)
    for name in (*PROGRAMS, *STAMPS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    past = time.time() - 60
    for path in tmp_path.rglob("*"):
        os.utime(path, (past, past))
    return tmp_path


def to_do(checkout: Path) -> str:
    return subprocess.run(
        ["make", "--dry-run", "setup"], cwd=checkout, capture_output=True, text=True, check=True
    ).stdout


def test_a_second_set_up_does_nothing(installed: Path) -> None:
    assert "Nothing to be done" in to_do(installed)


@pytest.mark.parametrize(
    ("changed", "redone", "left_alone"),
    [
        ("requirements.txt", "uv pip sync --quiet --python .venv/bin/python", ".venv-label-studio/bin/python req"),
        ("requirements-dev.txt", "uv pip sync --quiet --python .venv/bin/python", ".venv-label-studio/bin/python req"),
        ("requirements-label-studio.txt", "--python .venv-label-studio/bin/python req", "--python .venv/bin/python"),
    ],
)
def test_a_changed_requirement_file_is_installed_again(
    installed: Path, changed: str, redone: str, left_alone: str
) -> None:
    (installed / changed).touch()
    commands = to_do(installed)
    assert redone in commands
    assert left_alone not in commands


def test_a_change_of_the_code_installs_nothing(installed: Path) -> None:
    (installed / "backend").mkdir()
    (installed / "backend" / "cycle.py").touch()
    assert "Nothing to be done" in to_do(installed)
