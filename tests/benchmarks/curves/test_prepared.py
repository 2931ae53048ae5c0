"""What a sampler learns from the images alone is learned once for all arms of a trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.learning import preparation
from benchmarks.curves import prepared as module
from benchmarks.curves.plan import Plan, Run
from benchmarks.curves.prepared import prepared_for
from benchmarks.curves.tasks.classification import Classification
from samplers import build_sampler

CPU = torch.device("cpu")
TINY = {"gan": "dcgan", "gan_iterations": 2, "gan_width": 4, "gan_latent": 6}


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Classification:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), dtype=np.uint8)
    monkeypatch.setattr(Classification, "pixels", pixels)
    monkeypatch.setattr(Classification, "classes", ("one", "other"))
    images: Any = object()
    return Classification(np.arange(12), np.arange(0), images)


def prepared(task: Classification, folder: Path, sampler: str = "asal", trial: int = 1, **options: object) -> Any:
    plan = Plan("data", "digest", 4, 2, 2, overrides={**TINY, **options})
    return prepared_for(task, plan, plan.settings(Run(sampler, trial)), folder, CPU)


@pytest.mark.usefixtures("one_thread")
def test_arms_that_ask_for_the_same_gan_share_it(
    task: Classification, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Path] = []
    original = preparation.go_on

    def go_on(folder: Path, *given: Any) -> Any:
        trained.append(folder)
        return original(folder, *given)

    monkeypatch.setattr(preparation, "go_on", go_on)
    first, second = prepared(task, tmp_path), prepared(task, tmp_path, asal_space="pca")
    assert len(trained) == 1
    weights = [state["generator"] for state in (first, second)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    prepared(task, tmp_path, trial=2)
    prepared(task, tmp_path, gan_width=8)
    assert len(set(trained)) == 3, "another trial and another width have GANs of their own"


@pytest.mark.usefixtures("one_thread")
def test_a_gan_takes_all_of_its_iterations_however_busy_the_machine_is(
    task: Classification, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []

    def build(name: str, options: Any, **more: Any) -> Any:
        built.append(build_sampler(name, options, **more))
        return built[-1]

    monkeypatch.setattr(module, "build_sampler", build)
    prepared(task, tmp_path, gan_seconds=1)
    assert built[-1].options.gan_seconds > 100_000 and built[-1].options.gan_iterations == 2
    assert len(list(tmp_path.iterdir())) == 1
    prepared(task, tmp_path, gan_seconds=2)
    assert len(list(tmp_path.iterdir())) == 2, "what was asked for names it"


def test_other_samplers_prepare_nothing(task: Classification, tmp_path: Path) -> None:
    assert prepared(task, tmp_path, "margin") is None
    assert not list(tmp_path.iterdir())
