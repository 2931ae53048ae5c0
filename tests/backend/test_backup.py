"""Backups: written while others work, put back into another MODEL_DIR or database."""

from __future__ import annotations

import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from backend import backup
from backend.errors import BackendError, OwnerError
from backend.files import checkpoint_path, predictions_folder, project_folder
from backend.settings.core import Settings
from backend.state import State
from tests.backend.state.test_keeping import contents, fill
from tests.rig.processes import clean_environment

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Those of a backend with one project, whose version has a checkpoint and kept predictions, and with images."""
    chosen = Settings(model_dir=str(tmp_path / "models"))
    state = State.for_settings(chosen)
    version = fill(state)
    folder = project_folder(chosen.model_dir, "5.100")
    state.versions.move_checkpoint(version, str(checkpoint_path(folder, version.name)))
    state.close()
    for path, text in {
        checkpoint_path(folder, version.name): "a network",
        checkpoint_path(folder, "entropy-c0-9"): "of nobody",
        predictions_folder(folder, version.name) / "some.masks": "masks",
        folder / "images-32" / "pixels.u8": "pictures",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return chosen


def written(settings: Settings, path: Path) -> Path:
    state = State.for_settings(settings)
    assert backup.write(state, settings, path) == "1 projects, 2 files of versions"
    state.close()
    return path


def everything(settings: Settings) -> dict[str, list[tuple[object, ...]]]:
    state = State.for_settings(settings)
    found = contents(state)
    state.close()
    return found


def test_a_backup_holds_what_cannot_be_made_again_and_is_for_its_owner(settings: Settings, tmp_path: Path) -> None:
    path = written(settings, tmp_path / "a.tar")
    with tarfile.open(path) as tar:
        assert sorted(tar.getnames()) == [
            "manifest.json",
            "projects/5-100/answers/entropy-c1-0/some.masks",
            "projects/5-100/checkpoints/entropy-c1-0.pt",
            "state.sqlite3",
        ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.tar", "models"]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_backup_is_put_back_elsewhere(
    settings: Settings, tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    path = written(settings, tmp_path / "a.tar")
    url = "" if database == "sqlite" else request.getfixturevalue("postgres_url")
    there = Settings(model_dir=str(tmp_path / "there"), database_url=url)

    assert "with 1 projects is restored" in backup.restore(there, path)

    state = State.for_settings(there)
    version = state.versions.current(5)
    assert version is not None and version.checkpoint is not None
    assert Path(version.checkpoint).is_relative_to(tmp_path / "there")
    assert Path(version.checkpoint).read_text() == "a network"
    kept = predictions_folder(project_folder(there.model_dir, "5.100"), version.name)
    assert (kept / "some.masks").read_text() == "masks"
    assert state.labels.seen(5) == {10: "monday"} and len(state.scores.order(version)) == 2_499
    project = state.projects.get(5)
    assert project is not None and project.lease_owner is None
    state.close()
    if database == "postgresql":
        with pytest.raises(BackendError, match="holds projects already"):
            backup.restore(there, path)


def test_what_is_replaced_is_kept(settings: Settings, tmp_path: Path) -> None:
    path = written(settings, tmp_path / "a.tar")
    before = everything(settings)
    state = State.for_settings(settings)
    state.projects.connect(6, "6.1", "<View/>", {}, "http://here", "")
    state.close()

    words = backup.restore(settings, path)

    assert everything(settings) == before
    (kept,) = settings.directory.glob("state.sqlite3.replaced-*[0-9]")
    assert kept.name in words
    aside = State(f"sqlite:///{kept}")
    assert [one.id for one in aside.projects.all()] == [5, 6]
    aside.close()


@pytest.mark.parametrize("content", [None, b"", b"text", "an archive"])
def test_what_is_no_backup_changes_nothing(settings: Settings, tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "a.tar"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        with tarfile.open(path, "w") as tar:
            tar.add(ROOT / "LICENSE", "manifest.json")
    before = everything(settings)
    with pytest.raises(OwnerError, match=r"a\.tar"):
        backup.restore(settings, path)
    assert everything(settings) == before


def test_the_commands(settings: Settings, tmp_path: Path, postgres_url: str) -> None:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "backend", *arguments]
        env = clean_environment({"MODEL_DIR": settings.model_dir, **environment})
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)

    path = str(tmp_path / "a.tar")
    assert run("backup", path).stdout == f"{path}: 1 projects, 2 files of versions\n"
    assert "is restored" in run("restore", path, MODEL_DIR=str(tmp_path / "there")).stdout
    told = run("restore", str(tmp_path / "none.tar"))
    assert told.returncode == 1 and "cannot be read" in told.stderr
    moved = run("move", "--to", postgres_url)
    assert moved.stdout.startswith("1 projects are copied. Set DATABASE_URL"), moved.stderr
    assert everything(Settings(model_dir=settings.model_dir, database_url=postgres_url)) == everything(settings)
