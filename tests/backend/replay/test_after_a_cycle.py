"""A project in a real Label Studio: after its cycle, the command replays its labels from what the cycle kept."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from backend import cycle
from backend.__main__ import main
from backend.replay import trials as module
from tests.backend.workbench import label, workbench
from tests.rig.servers import LabelStudioServer

HEAD = {"task_net": "test_resnet", "weights": "none", "training": "head", "sampler": "margin", "task_width": 0}


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
        cycle.run_cycle(bench.job)
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
