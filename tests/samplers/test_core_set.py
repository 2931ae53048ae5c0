"""Core-set: its queue is greedy's order on the network's features (Sener & Savarese, ICLR 2018)."""

from __future__ import annotations

import dataclasses
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from models.data import ClassTargets, CycleData, Runtime
from models.inference.predictions import embed, predict
from models.networks.classifier import Classifier, NetConfig
from models.pixels import normalize
from models.tasks import CLASSIFICATION
from samplers.base import NotFitted
from samplers.core_set import NOTHING, CoreSetOptions, CoreSetSampler
from tests.models.geometry.large_pools import clustered
from tests.samplers.on_points import head, points_data, queue

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 0)
NOBODY = np.empty(0, dtype=np.int64)
LABELED, POOL, SIZE = 6, 50, 16


@cache
def make_data() -> CycleData:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (LABELED + POOL, 2, 2, 3)).repeat(SIZE // 2, axis=1).repeat(SIZE // 2, axis=2)
    rows = rng.permutation(LABELED + POOL)
    return CycleData(pixels.astype(np.uint8), rows[:LABELED], rows[LABELED:], ClassTargets(np.arange(LABELED) % 3), 3)


@cache
def make_net() -> Classifier:
    net = CLASSIFICATION.build(NetConfig("resnet18", 3, SIZE, 4), 0)
    with torch.no_grad():
        net(normalize(torch.from_numpy(make_data().pixels)))
    return net.eval()


def fitted(data: CycleData, picks: int = 10) -> CoreSetSampler:
    sampler = CoreSetSampler(
        CoreSetOptions(core_set_picks=picks), task="classification", num_classes=3, image_size=SIZE
    )
    sampler.fit(make_net(), data, RUNTIME)
    return sampler


def score(sampler: CoreSetSampler, pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return sampler.score(make_net(), pixels, rows, RUNTIME).acquisition


def features_of(data: CycleData, rows: np.ndarray) -> np.ndarray:
    return embed(make_net(), data.pixels, rows, RUNTIME).astype(np.float64)


def away(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Dense distances (N, L), by differences."""
    return np.sqrt(((points[:, None] - centers[None]) ** 2).sum(axis=2))


def greedy_by_definition(points: np.ndarray, centers: np.ndarray, picks: int) -> tuple[list[int], list[float]]:
    order: list[int] = []
    radii: list[float] = []
    for _ in range(picks):
        nearest = away(points, np.concatenate([centers, points[order]])).min(axis=1)
        order.append(int(nearest.argmax()))
        radii.append(float(nearest.max()))
    return order, radii


def test_the_queue_is_greedys_order_and_then_the_distance() -> None:
    data = make_data()
    points, centers = features_of(data, data.unlabeled), features_of(data, data.labeled)
    order, radii = greedy_by_definition(points, centers, 10)
    values = score(fitted(data), data.pixels, data.unlabeled)
    queue = np.argsort(-values, kind="stable")
    assert queue[:10].tolist() == order
    np.testing.assert_allclose(np.exp(values[order]), radii, rtol=1e-5)
    rest = away(points, np.concatenate([centers, points[order]])).min(axis=1)
    assert (np.diff(rest[queue[10:]]) < 1e-6).all()
    np.testing.assert_allclose(np.exp(values[queue[10:]]), rest[queue[10:]], rtol=1e-4)


def test_the_soonest_rows_cover_the_pool_within_twice_the_best() -> None:
    """Gonzalez 1985; the optimum over all choices of three among twelve rows, beside two labeled ones."""
    data = dataclasses.replace(
        make_data(), labeled=make_data().labeled[:2], targets=make_data().targets.at(np.arange(2))
    )
    for start in range(0, 36, 12):
        part = dataclasses.replace(data, unlabeled=data.unlabeled[start : start + 12])
        points, centers = features_of(part, part.unlabeled), features_of(part, part.labeled)
        soonest = np.argsort(-score(fitted(part, 3), part.pixels, part.unlabeled))[:3]

        def radius(chosen: Any, points: np.ndarray = points, centers: np.ndarray = centers) -> float:
            return float(away(points, np.concatenate([centers, points[list(chosen)]])).min(axis=1).max())

        assert radius(soonest) <= 2 * min(radius(chosen) for chosen in combinations(range(12), 3)) * (1 + 1e-6)


def test_copies_of_labeled_rows_and_of_picks_come_last() -> None:
    data = make_data()
    pixels = data.pixels.copy()
    first = int(np.argmax(score(fitted(data), data.pixels, data.unlabeled)))
    copy_of_label, copy_of_pick = data.unlabeled[[first - 1, first - 2]]
    pixels[copy_of_label] = pixels[data.labeled[0]]
    pixels[copy_of_pick] = pixels[data.unlabeled[first]]
    data = dataclasses.replace(data, pixels=pixels)
    values = score(fitted(data), pixels, data.unlabeled)
    last = set(data.unlabeled[np.argsort(values)[:2]])
    one_of_the_pair = {copy_of_pick, data.unlabeled[first]}
    assert copy_of_label in last
    assert last & one_of_the_pair
    assert int(np.argmax(values)) == first or data.unlabeled[int(np.argmax(values))] == copy_of_pick


def test_a_row_that_joins_later_far_away_is_soon() -> None:
    data = make_data()
    far = data.unlabeled[int(np.argmax(score(fitted(data), data.pixels, data.unlabeled)))]
    without = dataclasses.replace(data, unlabeled=data.unlabeled[data.unlabeled != far])
    values = score(fitted(without), data.pixels, data.unlabeled)
    assert data.unlabeled[int(np.argmax(values))] == far


def test_other_images_are_not_taken_for_picks_by_their_row_number() -> None:
    data = make_data()
    sampler = fitted(data)
    assert sampler.order is not None
    pick = int(sampler.order.rows[0])
    other = np.broadcast_to(data.pixels[data.labeled[0]], data.pixels.shape)  # a labeled image in every row
    assert score(sampler, other, np.array([pick])).tolist() == [np.log(NOTHING)]


def test_without_labels_the_first_is_the_row_in_the_middle() -> None:
    data = dataclasses.replace(make_data(), labeled=NOBODY, targets=ClassTargets(NOBODY))
    points = features_of(data, data.unlabeled)
    middle = int(away(points, points.mean(axis=0, keepdims=True)).argmin())
    for picks in (1, 8):
        values = score(fitted(data, picks), data.pixels, data.unlabeled)
        assert int(np.argmax(values)) == middle
        assert np.isfinite(values).all()
    order, _ = greedy_by_definition(points, points[[middle]], 7)
    assert np.argsort(-values, kind="stable")[:8].tolist() == [middle, *order]


def test_without_a_pool_the_labeled_rows_alone_are_centers() -> None:
    data = make_data()
    sampler = fitted(dataclasses.replace(data, unlabeled=NOBODY))
    expected = away(features_of(data, data.unlabeled), features_of(data, data.labeled)).min(axis=1)
    np.testing.assert_allclose(np.exp(score(sampler, data.pixels, data.unlabeled)), expected, rtol=1e-4)


def test_a_large_pool_is_sampled_and_the_rest_finds_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.geometry.k_center.MOST_POINTS", 20)
    data = make_data()
    sampler = fitted(data)
    assert sampler.order is not None
    values = score(sampler, data.pixels, data.unlabeled)
    assert np.isfinite(values).all() and len(np.unique(values)) == POOL
    radii = np.log(sampler.order.radii.numpy())
    assert np.isin(radii, values).all()
    assert (values > radii[-1]).sum() > 10  # rows never embedded in `fit` stand among the picks


def test_figures_answers_and_an_early_score() -> None:
    data = make_data()
    sampler = CoreSetSampler(task="classification", num_classes=3, image_size=SIZE)
    with pytest.raises(NotFitted, match="core-set"):
        score(sampler, data.pixels, data.unlabeled)
    figures = sampler.fit(make_net(), data, RUNTIME)
    assert (figures["centers"], figures["picks"], figures["radius"]) == (LABELED, POOL, 0.0)
    scored = sampler.score(make_net(), data.pixels, data.unlabeled, RUNTIME)
    assert scored.predictions is not None
    assert (scored.predictions.predicted == predict(make_net(), data.pixels, data.unlabeled, RUNTIME).predicted).all()


def test_a_stop_between_picks_leaves_the_earlier_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):
        pass

    def progress(phase: str, done: int, total: int) -> None:
        if phase == "core-set":
            raise Stop

    monkeypatch.setattr("models.geometry.k_center.TELL_EVERY", 4)
    sampler = fitted(make_data())
    before = sampler.order
    with pytest.raises(Stop):
        sampler.fit(make_net(), make_data(), Runtime(CPU, 0, progress))
    assert sampler.order is before


def test_a_large_pool_whose_features_are_kept_is_gone_through_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the order that a pool of any size would have, whose features fit."""
    points = clustered(900).numpy()
    net, data = head(np.eye(3, points.shape[1]).tolist()), points_data(900, [0, 1, 2], [0, 1, 2], 3)
    expected, order = queue("core-set", net, data, points, core_set_picks=60)
    monkeypatch.setattr("models.geometry.k_center.MOST_POINTS", 500)
    monkeypatch.setattr("models.geometry.k_center_whole.FEWEST_ACTIVE", 50)
    whole, found = queue("core-set", net, data, points, core_set_picks=60)
    assert whole.state_dict()["rows"].tolist() == expected.state_dict()["rows"].tolist() == found[:60] == order[:60]
    torch.testing.assert_close(whole.state_dict()["radii"], expected.state_dict()["radii"], rtol=1e-4, atol=1e-4)


def test_a_large_pool_of_images_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.geometry.k_center.MOST_POINTS", 20)
    assert len(fitted(make_data(), picks=40).state_dict()["rows"]) == 20
