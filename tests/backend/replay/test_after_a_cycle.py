"""A project in a real Label Studio: after its cycle, the command replays its labels from what the cycle kept."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend import cycle
from backend.__main__ import main
from backend.events import Work
from backend.replay import pieces
from backend.replay import project as project_module
from backend.replay import trials as module
from backend.reporting import replays
from backend.reporting.pool_map import PoolMap
from backend.worker.worker import Worker
from tests.backend.workbench import OWNER, Workbench, label, workbench
from tests.rig.servers import LabelStudioServer

HEAD = {"task_net": "test_resnet", "weights": "none", "training": "head", "sampler": "margin", "task_width": 0}


@pytest.mark.long
@pytest.mark.slow
def test_the_command_replays_what_a_cycle_learned_from(
    label_studio: LabelStudioServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "STAGES", 2)
    monkeypatch.setattr(os, "nice", lambda by: 0)  # the command would lower the priority of the whole suite
    with workbench(label_studio, tmp_path, tasks=66, pictures=True, **HEAD) as bench:
        label(bench, 60)
        version = cycle.run_cycle(bench.job)
        drawn = PoolMap.kept(bench.job.folder)
        assert drawn is not None and version.metrics["mapped"] == 66 and drawn.tasks.tolist() == bench.tasks
        assert drawn.queue.tolist() == bench.order(version)
        for name, value in HEAD.items():
            monkeypatch.setenv(name.upper(), str(value))
        monkeypatch.setenv("MODEL_DIR", str(tmp_path))
        project = str(bench.project.id)
        assert main(["replay", project, "--samplers", "margin,random", "--trials", "6", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["labels"], found["held_out"], found["chosen_by"]) == (60, 18, "margin")
        assert found["target"] > 0.6  # three kinds of drawings; a third would be chance
        assert main(["status", project, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["projects"][0]["replay"] == found
        assert main(["replay", project, "--samplers", "margin", "--trials", "5"]) == 2
        assert "5 trials are too few to tell 1 sampler from random" in capsys.readouterr().err
        again = asked_of_the_worker(bench, monkeypatch)["samplers"][0]["curve"]
        assert list(again) == found["samplers"][0]["curve"]


def asked_of_the_worker(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The same replay, asked for as the page does it, and played by upkeep."""
    monkeypatch.setattr(project_module, "USUAL", ())
    monkeypatch.setattr(pieces, "TRIALS", 6)
    number, before = bench.project.id, replays.kept(bench.job.folder)
    bench.state.leases.release(number, OWNER)
    hand = Worker(replace(bench.job.settings, label_studio_api_key=bench.job.gateway._token, budget=1000))
    bench.state.replays.ask(number)
    for _ in range(30):
        project = bench.state.projects.get(number)
        assert project is not None and not (project.replaying or {}).get("error")
        if not project.replay_requested:
            break
        assert hand.work_on(project, Work.UPKEEP)
    found = replays.kept(bench.job.folder)
    assert found is not None and before is not None and found.at > before.at
    return found.as_json()
