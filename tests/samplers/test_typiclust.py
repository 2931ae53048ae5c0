"""TypiClust and then margin: typical images until each class has been seen."""

from __future__ import annotations

import numpy as np
import pytest

from samplers.typiclust import ENOUGH_LABELS
from tests.samplers.on_points import choices_data, head, points_data, queue

SIZES = [40, 25, 18, 14, 12, 11, 10, 9, 8, 7]
COUNT = sum(SIZES)
NET = head(np.eye(3, 12).tolist())


def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 12) of ten clusters far from each other, and the cluster of each."""
    rng = np.random.default_rng(0)
    of_point = rng.permutation(np.repeat(np.arange(len(SIZES)), SIZES))
    return 30 * np.eye(12)[of_point] + rng.normal(0, 1, (COUNT, 12)), of_point


POINTS, OF_POINT = blobs()


def margins() -> np.ndarray:
    logits = POINTS.astype(np.float16)[:, :3].astype(float)
    p = np.sort(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), axis=1)
    return p[:, -1] - p[:, -2]


def test_before_each_class_was_seen_every_cluster_without_a_label_is_asked_about_once() -> None:
    labeled = np.flatnonzero(OF_POINT == 0)[:2].tolist()
    sampler, found = queue("typiclust", NET, points_data(COUNT, labeled, [0, 1], 3), POINTS)
    assert 0 not in OF_POINT[found[:8]]
    assert len(set(OF_POINT[found[:9]])) >= 8  # k-means may take two for one
    picks = sampler.state_dict()["rows"].tolist()
    assert found[: len(picks)] == picks


def test_behind_the_typical_ones_the_order_is_by_margin() -> None:
    sampler, found = queue("typiclust", NET, points_data(COUNT, [0, 1], [0, 1], 3), POINTS)
    rest = found[len(sampler.state_dict()["rows"]) :]
    assert len(rest) > 10
    assert (np.diff(margins()[rest]) >= -1e-6).all()


def test_once_each_class_was_seen_the_order_is_margins() -> None:
    data = points_data(COUNT, [0, 1, 2], [2, 0, 1], 3)
    assert queue("typiclust", NET, data, POINTS)[1] == queue("margin", NET, data, POINTS)[1]


def test_a_class_that_nobody_meets_does_not_hold_it_up_forever() -> None:
    enough = 3 * ENOUGH_LABELS
    for labels, typical in ((enough - 1, True), (enough, False)):
        sampler, _ = queue("typiclust", NET, points_data(COUNT, list(range(labels)), [0] * labels, 3), POINTS)
        assert (len(sampler.state_dict()["rows"]) > 0) == typical


def test_of_several_choices_each_has_to_be_chosen_once() -> None:
    net = head(np.eye(2, 12).tolist(), task="multilabel")
    for chosen, typical in (([[1, 0], [0, 0]], True), ([[1, 0], [0, 1]], False)):
        sampler, _ = queue("typiclust", net, choices_data(COUNT, [0, 1], chosen), POINTS)
        assert (len(sampler.state_dict()["rows"]) > 0) == typical


def test_without_any_label_it_begins_with_the_largest_clusters() -> None:
    _, found = queue("typiclust", NET, points_data(COUNT, [], [], 3), POINTS)
    assert {0, 1} <= set(OF_POINT[found[:4]])


def test_a_large_pool_is_looked_at_as_a_whole_and_a_small_one_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    data = points_data(COUNT, [], [], 3)
    before = queue("typiclust", NET, data, POINTS)[0].state_dict()["rows"].tolist()
    monkeypatch.setattr("models.geometry.typical.LARGEST_SAMPLE", COUNT)
    assert queue("typiclust", NET, data, POINTS)[0].state_dict()["rows"].tolist() == before
    monkeypatch.setattr("models.geometry.typical.LARGEST_SAMPLE", COUNT - 1)
    picks = queue("typiclust", NET, data, POINTS)[0].state_dict()["rows"].tolist()
    assert len(set(picks)) == len(picks) > 50, "more than a sample of so few would have"
    assert len(set(OF_POINT[picks[:10]])) >= 9
