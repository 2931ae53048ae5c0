"""Which images are scored where a part of the pool is: by chance, by doubt, or near labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from backend.learning import candidates as module
from backend.learning.candidates import Candidates, asks_network
from backend.learning.learner import Learner, random_subset
from backend.settings.core import Settings
from models.data import Runtime
from models.networks.pretrained import FrozenClassifier
from tests.models.geometry.large_pools import clustered
from tests.samplers.on_points import SIZE, head, runtime

COUNT, LABELED = 400, np.array([0, 1, 2, 3])
POINTS = clustered(COUNT).numpy()
ROWS = np.setdiff1d(np.arange(COUNT), LABELED)
PIXELS = np.zeros((COUNT, SIZE, SIZE, 3), np.uint8)
NET = head(np.random.default_rng(0).normal(0, 0.2, (3, POINTS.shape[1])).tolist())


def learner_of(net: FrozenClassifier = NET) -> Learner:
    settings = Settings(task_net="resnet18", weights="none", task_width=4, sampler="margin")
    made = Learner.fresh(settings, ("a", "b", "c"), SIZE, torch.device("cpu"), 0)
    return replace(made, net=net)


def chosen(how: str, size: int, previous: Learner | None = None, seed: int = 0, **given: Any) -> np.ndarray:
    settings = Settings(subset=size, candidates=how)
    kept: Runtime = runtime(POINTS, seed)
    return Candidates(settings, previous, PIXELS, given.get("labeled", LABELED), kept).of(ROWS, size)


def confidence() -> np.ndarray:
    logits = NET.head(torch.from_numpy(POINTS.astype(np.float16)).float())
    return cast(np.ndarray, logits.softmax(dim=1).amax(dim=1).detach().numpy())


def test_by_chance_they_are_those_of_ever() -> None:
    assert chosen("random", 50, learner_of(), seed=7).tolist() == random_subset(len(ROWS), 50, 7).tolist()


@pytest.mark.parametrize("how", ["uncertainty", "neighborhood"])
def test_before_there_is_a_network_they_are_drawn_by_chance(how: str) -> None:
    assert chosen(how, 50, None, seed=7).tolist() == random_subset(len(ROWS), 50, 7).tolist()


@pytest.mark.parametrize("how", ["random", "uncertainty", "neighborhood"])
def test_there_are_as_many_as_asked_for_each_once_in_ascending_order(how: str) -> None:
    for size in (1, 50, len(ROWS) - 1):
        found = chosen(how, size, learner_of())
        assert len(found) == size and (np.diff(found) > 0).all() and found.max() < len(ROWS)


def test_by_uncertainty_they_are_those_that_the_network_is_least_sure_of() -> None:
    sure = confidence()[ROWS]
    found = chosen("uncertainty", 50, learner_of())
    assert sure[found].max() <= np.delete(sure, found).min() + 1e-6


def test_by_neighborhood_each_label_has_its_nearest_images_among_them() -> None:
    found = set(ROWS[chosen("neighborhood", 80, learner_of())].tolist())
    away = torch.cdist(torch.from_numpy(POINTS[LABELED]), torch.from_numpy(POINTS[ROWS]))
    for nearest in ROWS[away.topk(10, largest=False).indices.numpy()]:
        assert len(found & set(nearest.tolist())) >= 8, "but for what lies in none of the main directions"


def test_a_large_pool_has_the_same_neighbors_by_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = chosen("neighborhood", 80, learner_of())
    monkeypatch.setattr(module, "LARGEST_EXACT", 100)
    assert len(np.intersect1d(chosen("neighborhood", 80, learner_of()), exact)) >= 70


def test_where_neighbors_are_too_few_chance_fills_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEIGHBORS", 1)
    monkeypatch.setattr(module, "FEWEST_NEIGHBORS", 1)
    copies = np.zeros(60, np.int64)  # all of which have the same neighbors
    first, again = (chosen("neighborhood", 60, learner_of(), labeled=copies, seed=seed) for seed in (1, 2))
    assert len(first) == len(again) == 60 and set(first) != set(again)


def test_only_a_part_that_is_not_drawn_by_chance_needs_the_last_network() -> None:
    assert not asks_network(Settings(subset=5))
    assert not asks_network(Settings(candidates="uncertainty"))
    assert asks_network(Settings(subset=5, candidates="neighborhood"))
