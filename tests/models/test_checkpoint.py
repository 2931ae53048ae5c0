"""models.checkpoint: whole or not there, and never code."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from models.checkpoint import CheckpointError, load, save
from tests.rig.waiting import wait_for


def test_round_trip(tmp_path: Path) -> None:
    payload = {
        "net": {"weight": torch.arange(6.0).view(2, 3), "steps": torch.tensor(7)},
        "classes": ["cat", "dog"],
        "config": {"width": 16, "pretrained": False, "rate": 0.1, "none": None},
    }
    save(tmp_path / "one.pt", payload)
    loaded = load(tmp_path / "one.pt")
    assert torch.equal(loaded["net"]["weight"], payload["net"]["weight"])
    assert loaded["net"]["steps"].item() == 7
    assert loaded["classes"] == ["cat", "dog"]
    assert loaded["config"] == payload["config"]


def test_saving_replaces_and_leaves_no_other_file(tmp_path: Path) -> None:
    for value in (1, 2):
        save(tmp_path / "one.pt", {"value": value})
    assert load(tmp_path / "one.pt") == {"value": 2}
    assert [entry.name for entry in tmp_path.iterdir()] == ["one.pt"]


def test_a_failing_save_leaves_the_old_file(tmp_path: Path) -> None:
    save(tmp_path / "one.pt", {"value": 1})
    with pytest.raises(Exception, match="pickle"):
        save(tmp_path / "one.pt", {"tensor": torch.zeros(1000), "value": lambda: None})
    assert load(tmp_path / "one.pt") == {"value": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["one.pt"]


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pt is missing"):
        load(tmp_path / "gone.pt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # of the fourth, which is no checkpoint
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip", pickle.dumps({"a": 1})[:5]])
def test_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bad\.pt is damaged"):
        load(tmp_path / "bad.pt")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated(tmp_path: Path, share: float) -> None:
    path = tmp_path / "half.pt"
    save(path, {"weight": torch.zeros(5000)})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="damaged"):
        load(path)


class Exploit:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    torch.save({"payload": Exploit(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError):
        load(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_not_a_dictionary(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="list instead of a dictionary"):
        load(tmp_path / "list.pt")


def test_killed_while_saving_the_file_is_old_or_new_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "one.pt"
    program = (
        "import sys, torch, pathlib\n"
        "from models.checkpoint import save\n"
        "for turn in range(10**6):\n"
        "    save(pathlib.Path(sys.argv[1]), {'turn': turn, 'weight': torch.full((300_000,), float(turn))})\n"
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=root)
    try:
        wait_for("the first file", path.exists, every=0.01)
        time.sleep(0.237)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    loaded = load(path)
    assert (loaded["weight"] == loaded["turn"]).all()
