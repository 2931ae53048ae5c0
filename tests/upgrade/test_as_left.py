"""What 0.3.0 left behind is read as that version read it: from the archive's MODEL_DIR, and from a checkpoint of every
sampler, the present one tells and predicts the same, without Label Studio."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.brush import painted
from tests.rig.processes import HOST, free_port
from tests.rig.servers import BackendServer
from tests.upgrade.installation import CHECKPOINTS, ENVIRONMENT, KINDS, Kept, change, move, predict, status, unpack

DRAWN = ("random", "mc-dropout", "bald")
"""Samplers whose score of an image depends on which random numbers are drawn first."""
NOW = ("time", "held_by", "retry_at")
"""What ``status`` tells of the moment it is asked in."""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kept, BackendServer]]:
    """The web process alone on such an installation, without its Label Studio."""
    kept = Kept.unpacked(tmp_path_factory.mktemp("web"))
    move(kept, "", "")
    nobody = f"http://{HOST}:{free_port()}"
    server = BackendServer(kept.model_dir, nobody, "a-key", env=ENVIRONMENT, worker=False)
    with server:
        yield kept, server
        print(server.log_tail())


def test_status_tells_what_the_old_version_told(left: Kept) -> None:
    nobody = BackendServer(left.model_dir, f"http://{HOST}:9", "a-key", env=ENVIRONMENT)

    found = status(nobody)

    check_told(found, left.facts["status"])
    assert [version["status"] for project in found["projects"] for version in project["versions"]] == [
        *("current", "superseded"),
        *("publishing", "current", "superseded"),
    ]


def check_told(found: Any, recorded: Any, where: str = "status") -> None:
    """Everything ``recorded`` is there, unchanged; there may be more."""
    if isinstance(recorded, dict):
        for name in recorded.keys() - set(NOW):
            assert name in found, f"{where}.{name} is gone"
            check_told(found[name], recorded[name], f"{where}.{name}")
    elif isinstance(recorded, list):
        assert len(found) == len(recorded), where
        for place, (one, other) in enumerate(zip(found, recorded, strict=True)):
            check_told(one, other, f"{where}[{place}]")
    else:
        assert found == recorded, where


@pytest.mark.parametrize("kind", KINDS)
def test_predict_answers_what_the_old_version_answered(kind: str, web: tuple[Kept, BackendServer]) -> None:
    kept, server = web
    recorded = kept.facts["answers"][kind]
    assert len(recorded) == 20 + 1  # the last one's image is new: its answer comes from the model
    assert all(one["answer"]["result"] for one in recorded)

    found = predict(server.url, kept.facts["projects"][kind], [one["task"] for one in recorded])

    *stored, computed = zip(found, [one["answer"] for one in recorded], strict=True)
    for answer, old in stored:
        assert answer == old
    check_computed(kind, *computed)


def check_computed(kind: str, answer: Any, old: Any) -> None:
    """The same, up to what another processor's arithmetic may change."""
    assert answer["model_version"] == old["model_version"]
    assert answer["score"] == pytest.approx(old["score"], abs=1e-3)
    if kind == "segmentation":
        size = old["result"][0]["original_height"], old["result"][0]["original_width"]
        mask, old_mask = (painted(one["result"], ("box", "disc"), size) for one in (answer, old))
        assert (mask == old_mask).mean() > 0.98
        assert len(np.unique(old_mask)) > 1
    else:
        ((region,), (old_region,)) = (one["result"] for one in (answer, old))
        assert region == old_region | {"score": pytest.approx(old_region["score"], abs=1e-3)}


def test_a_checkpoint_of_every_sampler_answers_as_it_did(web: tuple[Kept, BackendServer], tmp_path: Path) -> None:
    """Each in the place of the current version's (so this comes last), and asked about an image of no project."""
    kept, server = web
    unpack(CHECKPOINTS, tmp_path)
    held, recorded = kept.facts["projects"]["classification"], json.loads((tmp_path / "answers.json").read_text())
    task = {"id": 1, "data": {"image": recorded["image"]}}
    assert len(recorded["answers"]) == 21

    wrong = {}
    for name, old in recorded["answers"].items():
        checkpoint = str(tmp_path / f"{name}.pt")
        change(kept.database, "update versions set checkpoint = ? where name = ?", checkpoint, held["model_version"])
        (answer,) = predict(server.url, held, [task])
        (region,) = answer["result"]
        new = {"label": region["value"]["choices"][0], "confidence": region["score"], "score": answer["score"]}
        if name in DRAWN:
            new["score"] = old["score"]
        if new != {"label": old["label"]} | {key: pytest.approx(old[key], abs=1e-3) for key in ("confidence", "score")}:
            wrong[name] = new, old
    assert wrong == {}
