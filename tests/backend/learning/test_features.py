"""A project's images are embedded once, and the first order is made of that."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.images.cache import ImageCache
from backend.learning import features as module
from backend.learning import first_order as first_module
from backend.learning.features import Features
from backend.learning.first_order import first_order
from backend.learning.learner import Learner
from backend.settings.core import Settings
from backend.tasks import KINDS
from backend.worker.turns import Turns
from models import checkpoint
from models.data import ClassTargets, CycleData, Runtime, no_progress
from models.networks import pretrained
from models.networks.backbones import SMALLEST_SIDE
from models.networks.pretrained import FrozenClassifier
from tests.backend.tasks.examples import EXAMPLES
from tests.integration.helpers import FRUIT

CPU = torch.device("cpu")
SETTINGS = Settings(task_net="test_efficientnet", weights="none", training="head", sampler="margin")
COUNT = 12


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    rng = np.random.default_rng(0)
    made = ImageCache(tmp_path / "images-32", 32)
    with made._writing(), made._batch() as batch:
        for task in range(1, COUNT + 1):
            batch.add(task, bytes([task] * 16), rng.integers(0, 256, (32, 32, 3)).astype(np.uint8))
    return made


def opened(cache: ImageCache, settings: Settings = SETTINGS) -> Features:
    kind = KINDS["classification"].read(EXAMPLES["classification"].config(FRUIT), settings)
    return Features.open(kind, cache, CPU)


TASKS = np.arange(1, COUNT + 1)


def test_each_image_is_embedded_once(cache: ImageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[tuple[str, int, int]] = []
    assert opened(cache).fill(TASKS, lambda *report: reports.append(report))
    assert reports[0] == ("features", 0, COUNT) and reports[-1] == ("features", COUNT, COUNT)
    monkeypatch.setattr(FrozenClassifier, "embed", lambda *_: pytest.fail("it was embedded again"))
    again = opened(cache)
    assert again.fill(TASKS, no_progress)
    assert again.present(TASKS).tolist() == TASKS.tolist()


def test_images_that_several_devices_embed_are_embedded_as_by_one(
    cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "_PIXELS", SMALLEST_SIDE**2)
    alone, order = opened(cache), TASKS[::-1]
    assert alone.fill(order, no_progress) and alone.kept is not None
    of_one = alone.of(TASKS).copy()
    shutil.rmtree(alone.kept.directory)
    spread = opened(cache)
    assert not len(spread.present(TASKS))
    assert spread.fill(order, no_progress, idle=Turns([CPU, torch.device("cpu:1")]).idle)
    assert np.array_equal(spread.of(TASKS), of_one)


def test_what_a_kill_interrupts_goes_on_where_it_was(cache: ImageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_PIXELS", 4 * SMALLEST_SIDE**2)
    monkeypatch.setattr(module, "_SAVE_ROWS", 4)

    def stop(phase: str, done: int, total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(cache).fill(TASKS, stop)
    reports: list[int] = []
    assert opened(cache).fill(TASKS, lambda phase, done, total: reports.append(total))
    assert set(reports) == {4}


def test_when_the_time_is_over_some_are_there_in_the_order_asked_for(
    cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "_PIXELS", 4 * SMALLEST_SIDE**2)
    kept = opened(cache)
    assert not kept.fill(TASKS[::-1], no_progress, seconds=0.0)
    assert kept.present(TASKS).tolist() == [9, 10, 11, 12]


def test_features_are_what_the_network_says_of_the_image(cache: ImageCache) -> None:
    kept = opened(cache)
    kept.fill(TASKS, no_progress)
    learner = Learner.fresh(SETTINGS, FRUIT, 32, CPU, 0)
    rows = kept.rows_for(learner)
    assert rows is not None
    runtime = Runtime(CPU, 0)
    _, from_images = learner.score(cache.pixels, cache.rows(TASKS), runtime)
    _, from_rows = learner.score(cache.pixels, cache.rows(TASKS), replace(runtime, features=rows))
    np.testing.assert_allclose(from_rows.confidence, from_images.confidence, atol=1e-3)


def test_a_learner_of_another_network_reads_the_images(cache: ImageCache) -> None:
    kept = opened(cache)
    kept.fill(TASKS, no_progress)
    papers = replace(SETTINGS, task_net="resnet18", weights="auto", training="auto", task_width=4)
    assert kept.rows_for(Learner.fresh(papers, FRUIT, 32, CPU, 0)) is None
    assert kept.rows_for(Learner.fresh(replace(SETTINGS, task_net="test_resnet"), FRUIT, 32, CPU, 0)) is None
    assert opened(cache, papers).rows is None
    assert opened(cache, papers).fill(TASKS, no_progress)
    assert opened(cache, papers).present(TASKS).tolist() == TASKS.tolist()


def test_a_learner_on_features_goes_through_a_checkpoint_without_its_backbone(
    cache: ImageCache, tmp_path: Path
) -> None:
    kept = opened(cache)
    kept.fill(TASKS, no_progress)
    data = CycleData(cache.pixels, cache.rows(TASKS[:6]), cache.rows(TASKS[6:]), ClassTargets(np.arange(6) % 3), 3)
    runtime = Runtime(CPU, 0, features=kept.rows)
    learner, figures = Learner.trained(SETTINGS, FRUIT, data, runtime)
    assert figures["train_labels"] == 6 and figures["train_strength"] > 0
    learner.save(tmp_path / "checkpoint.pt")
    assert (tmp_path / "checkpoint.pt").stat().st_size < 100_000
    loaded = Learner.load(tmp_path / "checkpoint.pt", CPU)
    expected = learner.score(cache.pixels, data.unlabeled, runtime)[0]
    assert (loaded.score(cache.pixels, data.unlabeled, runtime)[0] == expected).all()
    later, _ = Learner.trained(SETTINGS, FRUIT[::-1], data, runtime, loaded)
    assert np.isfinite(later.score(cache.pixels, data.unlabeled, runtime)[0]).all()


def test_confidences_are_those_of_the_temperature_and_the_order_is_not(cache: ImageCache, tmp_path: Path) -> None:
    """Also of a checkpoint, and of one from before there was a temperature: the margin of two classes, read from either
    confidence, is the same number apart from it."""
    learner = Learner.fresh(SETTINGS, FRUIT[:2], 32, CPU, 0)
    rows = np.arange(COUNT)
    expected, plain = learner.score(cache.pixels, rows, Runtime(CPU, 0))
    learner.net.temperature = 0.2
    learner.save(tmp_path / "checkpoint.pt")
    loaded = Learner.load(tmp_path / "checkpoint.pt", CPU)
    acquisition, sharper = loaded.score(cache.pixels, rows, Runtime(CPU, 0))
    assert (acquisition == expected).all()
    margins = [np.log(found.confidence / (1 - found.confidence)) for found in (plain, sharper)]
    np.testing.assert_allclose(margins[1], margins[0] / 0.2, rtol=1e-3)
    old = {key: value for key, value in learner.payload().items() if key != "temperature"}
    checkpoint.save(tmp_path / "old.pt", old)
    from_old = Learner.load(tmp_path / "old.pt", CPU).score(cache.pixels, rows, Runtime(CPU, 0))[1]
    assert (from_old.confidence == plain.confidence).all()


@pytest.mark.parametrize("embedded", [COUNT, 4])
def test_the_first_order_is_of_embedded_images_where_they_are_enough(
    cache: ImageCache, embedded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_module, "ENOUGH_EMBEDDED", 6)
    kept = opened(cache)
    kept.fill(TASKS[:embedded], no_progress)
    ordered = first_order(kept, TASKS[1:], TASKS[:1], Runtime(CPU, 0))
    assert sorted(ordered.tasks.tolist()) == TASKS[1:].tolist()
    assert len(set(ordered.acquisition.tolist())) == COUNT - 1


def test_images_that_are_not_embedded_in_time_come_behind_the_others(
    cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_module, "ENOUGH_EMBEDDED", 6)
    kept = opened(cache)
    kept.fill(TASKS[:8], no_progress)
    ordered = first_order(kept, TASKS, TASKS[:0], Runtime(CPU, 0))
    assert sorted(ordered.tasks.tolist()) == TASKS.tolist()
    assert sorted(ordered.head(8, 0)) == TASKS[:8].tolist()
