"""BADGE: the head of the queue is the seeding of k-means++ on gradient embeddings (Ash et al., ICLR 2020)."""

from __future__ import annotations

import numpy as np
import pytest

from tests.samplers.on_points import choices_data, head, points_data, queue

POINTS = np.random.default_rng(0).normal(0, 1, (30, 4)).astype(np.float16).astype(float)
WEIGHT = np.random.default_rng(1).normal(0, 1, (3, 4))
DATA = points_data(30, [0, 1], [0, 1], 3)


def embeddings(points: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(N, C F) by hand: (p - one-hot of the predicted class) times the features."""
    logits = points @ weight.T
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    p[np.arange(len(p)), p.argmax(axis=1)] -= 1.0
    return (p[:, :, None] * points[:, None, :]).reshape(len(points), -1)


def test_the_longest_gradient_is_first_and_the_rest_follows_by_length() -> None:
    sampler, found = queue("badge", head(WEIGHT.tolist()), DATA, POINTS, budget=3)
    picks = sampler.state_dict()["rows"].tolist()
    lengths = np.linalg.norm(embeddings(POINTS, WEIGHT), axis=1)
    assert len(picks) == 6 and found[:6] == picks
    assert picks[0] == DATA.unlabeled[lengths[DATA.unlabeled].argmax()]
    assert (np.diff(lengths[found[6:]]) < 0).all()


def test_copies_of_the_longest_gradient_are_not_asked_about_twice() -> None:
    """Half of the pool is one image; by uncertainty alone it would fill the head of the queue."""
    rest = np.linalg.norm(embeddings(POINTS, WEIGHT), axis=1)[2:]
    crowd = POINTS.copy()
    crowd[16:] = POINTS[2 + rest.argmax()]
    sampler, _ = queue("badge", head(WEIGHT.tolist()), DATA, crowd, budget=5)
    picked = crowd[sampler.state_dict()["rows"].numpy()]
    assert len(picked) == 10 and len(np.unique(picked, axis=0)) == 10


def test_of_several_choices_the_gradients_of_all_of_them_count() -> None:
    net = head(WEIGHT.tolist(), task="multilabel")
    data = choices_data(30, [0], [[1, 0, 0]])
    sampler, _ = queue("badge", net, data, POINTS, budget=1)
    p = 1 / (1 + np.exp(-POINTS @ WEIGHT.T))
    lengths = np.linalg.norm(p - (p > 0.5), axis=1) * np.linalg.norm(POINTS, axis=1)
    assert sampler.state_dict()["rows"][0] == data.unlabeled[lengths[data.unlabeled].argmax()]


@pytest.mark.parametrize("other", [1, 2])
def test_another_seed_gives_other_picks_behind_the_first(other: int) -> None:
    first, second = (
        queue("badge", head(WEIGHT.tolist()), DATA, POINTS, seed=seed, budget=5)[0].state_dict()["rows"].tolist()
        for seed in (0, other)
    )
    assert first[0] == second[0] and first != second
