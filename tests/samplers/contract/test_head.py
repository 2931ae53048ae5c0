"""What every sampler for whole images keeps on a frozen backbone, where the task network is a head on kept features."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from models import checkpoint
from models.data import CycleData, Runtime
from models.inference.streaming import map_rows
from models.networks.backbones import NOTHING
from models.networks.pretrained import FrozenClassifier, PretrainedConfig
from models.pixels import normalize
from models.tasks import TASKS
from models.training import head
from samplers import SAMPLERS
from tests.samplers.worlds import (
    CPU,
    LABELED,
    SIZE,
    UNLABELED,
    UNSEEN,
    Fitted,
    data_for,
    make_pixels,
    modes,
    sampler_for,
    snapshot,
    train,
)

ON_HEADS = pytest.mark.parametrize(
    ("name", "task"),
    [(name, task) for name, one in SAMPLERS.items() for task in ("classification", "multilabel") if task in one.tasks],
)
# Of the spread of the scores: features are kept in float16, and the log-odds of near ties enlarge a logit's last digit.
ROUNDING = 1e-2
EVERYTHING = np.arange(LABELED + UNLABELED + UNSEEN)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the samplers whose objective trains networks beside the head: what is claimed here takes no long training."""
    monkeypatch.setattr(head, "PASSES", 2)
    monkeypatch.setattr(head, "FEWEST_STEPS", 3)


def make_head(task: str, classes: int = 3) -> FrozenClassifier:
    config = PretrainedConfig.of("test_efficientnet", classes, SIZE, NOTHING, NOTHING, frozen=True)
    net = TASKS[task].build(config, 0)
    assert isinstance(net, FrozenClassifier)
    return net


@cache
def kept_features() -> np.ndarray:
    net = make_head("classification")
    (kept,) = map_rows(
        make_pixels(), EVERYTHING, Runtime(CPU, 0), lambda images: (net.embed(normalize(images)),), "embed"
    )
    return kept


def runtime(seed: int = 0, batch: int = 0) -> Runtime:
    return Runtime(CPU, seed, eval_batch_size=batch, features=kept_features())


@dataclasses.dataclass(frozen=True)
class OnHead(Fitted):
    def score(self, rows: np.ndarray, seed: int = 0, batch: int = 0) -> np.ndarray:
        return self.sampler.score(self.net, self.data.pixels, rows, runtime(seed, batch)).acquisition


def fit(name: str, task: str, data: CycleData | None = None) -> OnHead:
    data = data or data_for(task, 3)
    net, sampler = make_head(task), sampler_for(name, data)
    train(sampler.objective(net, data, runtime()), net, data, runtime())
    metrics = sampler.fit(net, data, runtime())
    assert all(np.isfinite(value) for value in metrics.values())
    return OnHead(sampler, net, data)


@cache  # shared between tests: that scoring changes nothing is itself tested
def fitted(name: str, task: str) -> OnHead:
    return fit(name, task)


@ON_HEADS
def test_scores_on_a_head_are_finite_and_differ(name: str, task: str) -> None:
    scores = fitted(name, task).score(fitted(name, task).data.unlabeled)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > UNLABELED // 2


@ON_HEADS
def test_the_same_seed_gives_the_same_scores_on_a_head(name: str, task: str) -> None:
    first, again = fitted(name, task), fit(name, task)
    torch.manual_seed(99)  # no global generator takes part
    assert (first.score(first.data.unlabeled) == again.score(first.data.unlabeled)).all()


@ON_HEADS
def test_scores_on_a_head_do_not_depend_on_order_or_neighbors(name: str, task: str) -> None:
    world = fitted(name, task)
    rows = world.data.unlabeled
    order = np.random.default_rng(3).permutation(UNLABELED)
    expected = world.score(rows)
    spread = np.ptp(expected)
    np.testing.assert_allclose(world.score(rows[order], batch=7), expected[order], atol=1e-3 * spread)
    np.testing.assert_allclose(world.score(rows[5:11]), expected[5:11], atol=1e-3 * spread)


@ON_HEADS
def test_images_and_what_is_kept_of_them_are_scored_alike(name: str, task: str) -> None:
    """So that a new image has a place in the order of the others."""
    world = fitted(name, task)
    rows = world.data.unlabeled
    expected = world.score(rows)
    found = world.sampler.score(world.net, world.data.pixels, rows, Runtime(CPU, 0)).acquisition
    if name == "core-set":  # a pick changes all that come after it
        assert np.corrcoef(found, expected)[0, 1] > 0.5
    else:
        np.testing.assert_allclose(found, expected, atol=ROUNDING * float(np.ptp(expected)))


@ON_HEADS
def test_scoring_on_a_head_changes_nothing(name: str, task: str) -> None:
    world = fitted(name, task)
    before, modes_before = snapshot(world), modes(world)
    world.score(world.data.unlabeled, seed=5, batch=8)
    after = snapshot(world)
    assert [path for path in before if not torch.equal(before[path], after[path])] == []
    assert modes(world) == modes_before


@ON_HEADS
def test_a_state_on_a_head_goes_through_a_checkpoint(name: str, task: str, tmp_path: Path) -> None:
    world = fitted(name, task)
    state = {"net": world.net.state_dict(), "sampler": world.sampler.state_dict()}
    checkpoint.save(tmp_path / "state.pt", state)
    saved = checkpoint.load(tmp_path / "state.pt")
    net, sampler = make_head(task), sampler_for(name, world.data)
    net.load_state_dict(saved["net"])
    sampler.load_state_dict(saved["sampler"])
    assert (OnHead(sampler, net.eval(), world.data).score(EVERYTHING) == world.score(EVERYTHING)).all()


@ON_HEADS
def test_a_second_cycle_on_a_head_goes_on(name: str, task: str) -> None:
    world = fit(name, task)
    train(world.sampler.objective(world.net, world.data, runtime(1)), world.net, world.data, runtime(1))
    world.sampler.fit(world.net, world.data, runtime(1))
    assert np.isfinite(world.score(world.data.unlabeled)).all()


def test_matches_in_a_large_pool_are_those_of_all_rows_found_by_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = fitted("asal", "classification").sampler.state_dict()["matches"].tolist()
    monkeypatch.setattr("models.geometry.matching.LARGEST_EXACT", UNLABELED - 1)
    monkeypatch.setattr("models.geometry.matching.NearestRows", None)  # nothing is compared with all rows
    found = fit("asal", "classification").sampler.state_dict()["matches"].tolist()
    assert len(found) == len(set(found)) == len(exact)
    assert np.mean(np.array(found) == np.array(exact)) >= 0.8
