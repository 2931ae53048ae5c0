"""What versions leave on disk, and what is swept of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.errors import BackendError
from backend.files import checkpoint_path, predictions_folder
from backend.learning.checkpoints import last_learner, save_learner, sweep_leftovers
from backend.learning.learner import Learner
from backend.settings.core import Settings
from backend.state import Version
from backend.tasks.kept_probabilities import KeptProbabilities, write_probabilities

CPU = torch.device("cpu")
NOWHERE = Path("/nowhere")
SETTINGS = Settings(sampler="entropy", task_width=4)


def fresh(seed: int) -> Learner:
    return Learner.fresh(SETTINGS, ("cat", "dog"), 32, CPU, seed)


def version(number: int, checkpoint: Path | None) -> Version:
    return Version(
        id=number, project_id=1, cycle=number, name=f"entropy-c{number}-0", sampler="entropy",
        checkpoint=None if checkpoint is None else str(checkpoint), classes=["cat", "dog"], status="current",
        created_at=0.0, published_at=None, writing_since=None, metrics={},
    )  # fmt: skip


def test_a_checkpoint_is_named_by_sampler_cycle_and_weights(tmp_path: Path) -> None:
    name = save_learner(tmp_path, fresh(0), 7)
    assert name.startswith("entropy-c7-") and len(name.rsplit("-", 1)[1]) == 8
    assert save_learner(tmp_path, fresh(0), 7) == name != save_learner(tmp_path, fresh(1), 7)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    assert Learner.load(checkpoint_path(tmp_path, name), CPU).classes == ("cat", "dog")


def test_a_checkpoint_of_which_a_bit_changed_is_recognized(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the weights, which its format does not check."""
    path = checkpoint_path(tmp_path, save_learner(tmp_path, fresh(0), 7))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BackendError, match="is damaged: what it holds is not what was written"):
        Learner.load(path, CPU)
    metrics: dict[str, Any] = {}
    assert last_learner(NOWHERE, [version(1, path)], CPU, metrics) is None
    assert "is damaged" in metrics["checkpoint_unreadable"]
    assert "Going on without it" in caplog.text and "Traceback" not in caplog.text


def test_sweeping_leaves_the_versions_that_are_wanted(tmp_path: Path) -> None:
    for name in ("kept", "gone"):
        write_probabilities(predictions_folder(tmp_path, name), ["cat"], [1], np.ones((1, 1), np.float32))
        path = checkpoint_path(tmp_path, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"weights")
    (predictions_folder(tmp_path, "kept") / "cut-off.draft").write_bytes(b"half")
    (tmp_path / "checkpoints" / "cycle-3.draft").write_bytes(b"half")
    sweep_leftovers(tmp_path, {"kept", "of-a-class"})
    assert [path.name for path in (tmp_path / "answers").iterdir()] == ["kept"]
    assert [path.suffix for path in (tmp_path / "answers" / "kept").iterdir()] == [".probabilities"]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["kept.pt"]
    assert KeptProbabilities.open(predictions_folder(tmp_path, "kept")) is not None
    sweep_leftovers(tmp_path / "elsewhere", set())


def test_a_warm_start_takes_the_newest_model_that_there_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [save_learner(tmp_path, fresh(seed), seed) for seed in (1, 2)]
    older, newer = (version(number, checkpoint_path(tmp_path, name)) for number, name in enumerate(names, 1))
    cold = version(3, None)
    found = last_learner(NOWHERE, [cold, newer, older], CPU)
    assert found is not None and torch.equal(found.net.head.weight, fresh(2).net.head.weight)
    assert last_learner(NOWHERE, [cold], CPU) is last_learner(NOWHERE, [], CPU) is None
    checkpoint_path(tmp_path, names[1]).write_bytes(b"damaged")
    # not one that another cycle would not have gone on from
    assert last_learner(NOWHERE, [cold, newer, older], CPU) is None
    assert "Going on without it" in caplog.text


def test_what_is_learned_again_gets_a_name_that_is_not_taken(tmp_path: Path) -> None:
    first = save_learner(tmp_path, fresh(0), 7)
    second = save_learner(tmp_path, fresh(0), 7, {first})
    third = save_learner(tmp_path, fresh(0), 7, {first, second})
    assert len({first, second, third}) == 3
    for name in (first, second, third):
        path = checkpoint_path(tmp_path, name)
        assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(name.rsplit("-", 1)[1])
        assert Learner.load(path, torch.device("cpu")).classes == fresh(0).classes


def test_what_a_lost_state_left_behind_is_spared(tmp_path: Path) -> None:
    old, new = save_learner(tmp_path, fresh(0), 1), save_learner(tmp_path, fresh(1), 2)
    os.utime(checkpoint_path(tmp_path, old), (1000.0, 1000.0))
    sweep_leftovers(tmp_path, set(), spared_before=2000.0)
    assert [path.stem for path in (tmp_path / "checkpoints").iterdir()] == [old]
    sweep_leftovers(tmp_path, set())
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert new != old
