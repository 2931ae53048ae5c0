"""Core-set: its queue is greedy's order on the network's features (Sener & Savarese, ICLR 2018)."""

from __future__ import annotations

import dataclasses
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

import samplers.core_set
from models.data import CycleData, Runtime
from models.inference.predictions import embed, predict
from models.networks.classifier import Classifier, NetConfig, build_classifier
from models.pixels import normalise
from samplers.base import NotFitted
from samplers.core_set import NOTHING, CoreSetOptions, CoreSetSampler

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 0)
NOBODY = np.empty(0, dtype=np.int64)
LABELLED, POOL, SIZE = 6, 50, 16


@cache
def make_data() -> CycleData:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (LABELLED + POOL, 2, 2, 3)).repeat(SIZE // 2, axis=1).repeat(SIZE // 2, axis=2)
    rows = rng.permutation(LABELLED + POOL)
    return CycleData(pixels.astype(np.uint8), rows[:LABELLED], np.arange(LABELLED) % 3, rows[LABELLED:], 3)


@cache
def make_net() -> Classifier:
    net = build_classifier(NetConfig("resnet18", 3, SIZE, 4), 0)
    with torch.no_grad():
        net(normalise(torch.from_numpy(make_data().pixels)))
    return net.eval()


def fitted(data: CycleData, picks: int = 10) -> CoreSetSampler:
    sampler = CoreSetSampler(CoreSetOptions(core_set_picks=picks), num_classes=3, image_size=SIZE)
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
    points, centers = features_of(data, data.unlabelled), features_of(data, data.labelled)
    order, radii = greedy_by_definition(points, centers, 10)
    values = score(fitted(data), data.pixels, data.unlabelled)
    queue = np.argsort(-values, kind="stable")
    assert queue[:10].tolist() == order
    np.testing.assert_allclose(np.exp(values[order]), radii, rtol=1e-5)
    rest = away(points, np.concatenate([centers, points[order]])).min(axis=1)
    assert (np.diff(rest[queue[10:]]) < 1e-6).all()
    np.testing.assert_allclose(np.exp(values[queue[10:]]), rest[queue[10:]], rtol=1e-4)


def test_the_soonest_rows_cover_the_pool_within_twice_the_best() -> None:
    """Gonzalez 1985; the optimum over all choices of three among twelve rows, beside two labelled ones."""
    data = dataclasses.replace(make_data(), labelled=make_data().labelled[:2], targets=make_data().targets[:2])
    for start in range(0, 36, 12):
        part = dataclasses.replace(data, unlabelled=data.unlabelled[start : start + 12])
        points, centers = features_of(part, part.unlabelled), features_of(part, part.labelled)
        soonest = np.argsort(-score(fitted(part, 3), part.pixels, part.unlabelled))[:3]

        def radius(chosen: Any, points: np.ndarray = points, centers: np.ndarray = centers) -> float:
            return float(away(points, np.concatenate([centers, points[list(chosen)]])).min(axis=1).max())

        assert radius(soonest) <= 2 * min(radius(chosen) for chosen in combinations(range(12), 3)) * (1 + 1e-6)


def test_copies_of_labelled_rows_and_of_picks_come_last() -> None:
    data = make_data()
    pixels = data.pixels.copy()
    first = int(np.argmax(score(fitted(data), data.pixels, data.unlabelled)))
    copy_of_label, copy_of_pick = data.unlabelled[[first - 1, first - 2]]
    pixels[copy_of_label] = pixels[data.labelled[0]]
    pixels[copy_of_pick] = pixels[data.unlabelled[first]]
    data = dataclasses.replace(data, pixels=pixels)
    values = score(fitted(data), pixels, data.unlabelled)
    last = set(data.unlabelled[np.argsort(values)[:2]])
    one_of_the_pair = {copy_of_pick, data.unlabelled[first]}
    assert copy_of_label in last
    assert last & one_of_the_pair
    assert int(np.argmax(values)) == first or data.unlabelled[int(np.argmax(values))] == copy_of_pick


def test_a_row_that_joins_later_far_away_is_soon() -> None:
    data = make_data()
    far = data.unlabelled[int(np.argmax(score(fitted(data), data.pixels, data.unlabelled)))]
    without = dataclasses.replace(data, unlabelled=data.unlabelled[data.unlabelled != far])
    values = score(fitted(without), data.pixels, data.unlabelled)
    assert data.unlabelled[int(np.argmax(values))] == far


def test_other_images_are_not_taken_for_picks_by_their_row_number() -> None:
    data = make_data()
    sampler = fitted(data)
    assert sampler.cover is not None
    pick = int(sampler.cover.rows[0])
    other = np.broadcast_to(data.pixels[data.labelled[0]], data.pixels.shape)  # a labelled image in every row
    assert score(sampler, other, np.array([pick])).tolist() == [np.log(NOTHING)]


def test_without_labels_the_first_is_the_row_in_the_middle() -> None:
    data = dataclasses.replace(make_data(), labelled=NOBODY, targets=NOBODY)
    points = features_of(data, data.unlabelled)
    middle = int(away(points, points.mean(axis=0, keepdims=True)).argmin())
    for picks in (1, 8):
        values = score(fitted(data, picks), data.pixels, data.unlabelled)
        assert int(np.argmax(values)) == middle
        assert np.isfinite(values).all()
    order, _ = greedy_by_definition(points, points[[middle]], 7)
    assert np.argsort(-values, kind="stable")[:8].tolist() == [middle, *order]


def test_without_a_pool_the_labelled_rows_alone_are_centers() -> None:
    data = make_data()
    sampler = fitted(dataclasses.replace(data, unlabelled=NOBODY))
    expected = away(features_of(data, data.unlabelled), features_of(data, data.labelled)).min(axis=1)
    np.testing.assert_allclose(np.exp(score(sampler, data.pixels, data.unlabelled)), expected, rtol=1e-4)


def test_a_large_pool_is_sampled_and_the_rest_finds_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers.core_set, "MOST_POINTS", 20)
    data = make_data()
    sampler = fitted(data)
    assert sampler.cover is not None
    values = score(sampler, data.pixels, data.unlabelled)
    assert np.isfinite(values).all() and len(np.unique(values)) == POOL
    radii = np.log(sampler.cover.radii.numpy())
    assert np.isin(radii, values).all()
    assert (values > radii[-1]).sum() > 10  # rows never embedded in `fit` stand among the picks


def test_figures_answers_and_an_early_score() -> None:
    data = make_data()
    sampler = CoreSetSampler(num_classes=3, image_size=SIZE)
    with pytest.raises(NotFitted, match="core-set"):
        score(sampler, data.pixels, data.unlabelled)
    figures = sampler.fit(make_net(), data, RUNTIME)
    assert (figures["centers"], figures["picks"], figures["radius"]) == (LABELLED, POOL, 0.0)
    scored = sampler.score(make_net(), data.pixels, data.unlabelled, RUNTIME)
    assert scored.answers is not None
    assert (scored.answers.predicted == predict(make_net(), data.pixels, data.unlabelled, RUNTIME).predicted).all()


def test_a_stop_between_picks_leaves_the_earlier_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):
        pass

    def progress(phase: str, done: int, total: int) -> None:
        if phase == "core-set":
            raise Stop

    monkeypatch.setattr("models.geometry.k_center.TELL_EVERY", 4)
    sampler = fitted(make_data())
    before = sampler.cover
    with pytest.raises(Stop):
        sampler.fit(make_net(), make_data(), Runtime(CPU, 0, progress))
    assert sampler.cover is before
