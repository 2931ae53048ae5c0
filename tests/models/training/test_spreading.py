"""Labels that spread over a neighbor graph: a graph by hand, two moons, and the blend with a head."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.training import spreading
from models.training.blending import MOST_LABELS, blended
from models.training.logistic import CrossValidation, Scale, cross_validated
from models.training.spreading import neighbor_graph, spread


def two_moons(count: int, noise: float = 0.06) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (N, 2) of two half circles that reach into each other, and which one each is of."""
    rng = np.random.default_rng(0)
    angle, moon = np.pi * rng.random(count), np.arange(count) % 2
    x, y = np.cos(angle) * (1 - 2 * moon) + moon, np.sin(angle) * (1 - 2 * moon) + 0.5 * moon
    points = np.stack([x, y], axis=1) + noise * rng.normal(size=(count, 2))
    return torch.from_numpy(points).float(), torch.from_numpy(moon)


def on_a_sphere(points: torch.Tensor) -> torch.Tensor:
    """Directions whose similarity falls with the distance of the points, as those of features do: random waves."""
    generator = torch.Generator().manual_seed(0)
    wave = 5.0 * torch.randn(points.shape[1], 400, generator=generator)
    return torch.cos(points @ wave + 6.3 * torch.rand(400, generator=generator))


def test_a_chain_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three directions at 0, 40 and 81 degrees, one neighbor each: the middle one is that of both others, the first one
    that of the middle one. So an edge has weight w1 = cos³ 40° both ways, and another, w2 = cos³ 41° / 2, one way only.
    Degrees are w1, w1 + w2 and w2, and S is w1 / √(w1 (w1 + w2)) and w2 / √((w1 + w2) w2)."""
    monkeypatch.setattr(spreading, "NEIGHBORS", 1)
    angles = torch.deg2rad(torch.tensor([0.0, 40.0, 81.0]))
    graph = neighbor_graph(torch.stack([angles.cos(), angles.sin()], dim=1)).to_dense()
    first, second = np.cos(np.deg2rad(40)) ** 3, np.cos(np.deg2rad(41)) ** 3 / 2
    expected = torch.zeros(3, 3)
    expected[0, 1] = expected[1, 0] = float(np.sqrt(first / (first + second)))
    expected[1, 2] = expected[2, 1] = float(np.sqrt(second / (first + second)))
    torch.testing.assert_close(graph, expected, atol=1e-5, rtol=0)


def test_what_spreads_is_the_solution_of_its_equation() -> None:
    """F = (1 - α) (I - α S)⁻¹ Y (LGC, equation 3, with the factor that the iteration has)."""
    points, _ = two_moons(60)
    graph = neighbor_graph(on_a_sphere(points))
    seeds = torch.zeros(60, 2)
    seeds[0, 0] = seeds[1, 1] = 1.0
    alpha = spreading.ALPHA
    exact = (1 - alpha) * torch.linalg.solve(torch.eye(60) - alpha * graph.to_dense(), seeds)
    torch.testing.assert_close(spread(graph, seeds), exact, atol=0.02, rtol=0)


def test_one_label_of_each_of_two_moons_reaches_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in LGC's figure 1: where the nearest of the two labels is another moon's for many of the points."""
    monkeypatch.setattr(spreading, "ALPHA", 0.99)
    monkeypatch.setattr(spreading, "STEPS", 400)
    points, moon = two_moons(300, noise=0.02)
    ends = [int(points[:, 0].argmin()), int(points[:, 0].argmax())]
    seeds = torch.zeros(300, 2)
    seeds[ends[0], 0] = seeds[ends[1], 1] = 1.0
    told = spread(neighbor_graph(on_a_sphere(points)), seeds).argmax(dim=1)
    nearest = torch.cdist(points, points[ends]).argmin(dim=1)
    assert float((told == moon).float().mean()) > 0.95
    assert float((nearest == moon).float().mean()) < 0.9


# --- the blend ---


def clusters(labels: int, pool: int, noise: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of labels (L, F) and of a pool (G, F), and the classes (L,): four clusters in some of the directions."""
    generator = torch.Generator().manual_seed(1)
    classes = torch.arange(labels + pool) % 4
    centers = 3.0 * torch.randn(4, 6, generator=generator)
    low = centers[classes] + noise * torch.randn(len(classes), 6, generator=generator)
    features = low @ torch.randn(6, 40, generator=generator) + torch.randn(len(classes), 40, generator=generator)
    return features[:labels], features[labels:], classes[:labels]


def validated(features: torch.Tensor, classes: torch.Tensor) -> CrossValidation:
    standard = Scale.of(features).standardized(features)
    return cross_validated(standard, functional.one_hot(classes, 4).float(), True, np.random.default_rng(0))


def test_clusters_are_worth_something() -> None:
    features, pool, classes = clusters(24, 200, 1.0)
    wide, generator = functional.one_hot(classes, 4).float(), torch.Generator().manual_seed(0)
    found = blended(features, pool, wide, True, validated(features, classes), generator)
    assert found is not None and found.share > 0
    assert float((found.spread.argmax(dim=1) == torch.arange(24, 224) % 4).float().mean()) > 0.9


def test_a_head_that_tells_all_better_is_left_alone() -> None:
    """Its answers are made right for all labels that were left out, so that no blend can be better."""
    features, pool, classes = clusters(24, 200, 1.0)
    wide = functional.one_hot(classes, 4).float()
    found = validated(features, classes)
    assert found.left_out is not None
    certain = dataclasses.replace(found, left_out=dataclasses.replace(found.left_out, logits=50.0 * wide))
    assert blended(features, pool, wide, True, certain, torch.Generator().manual_seed(0)) is None


def test_without_a_pool_without_folds_and_with_many_labels_nothing_spreads() -> None:
    features, pool, classes = clusters(24, 200, 1.0)
    wide, generator = functional.one_hot(classes, 4).float(), torch.Generator().manual_seed(0)
    assert blended(features, pool[:0], wide, True, validated(features, classes), generator) is None
    assert blended(features, pool, wide, True, CrossValidation(0.1, None), generator) is None
    features, pool, classes = clusters(MOST_LABELS + 1, 200, 1.0)
    wide = functional.one_hot(classes, 4).float()
    assert blended(features, pool, wide, True, validated(features, classes), generator) is None


def test_the_blend_is_between_the_head_and_what_spreads() -> None:
    """The slope of its loss is 0 for a head that says just that of the pool, apart from the labels' own."""
    features, pool, classes = clusters(24, 200, 1.0)
    wide = functional.one_hot(classes, 4).float()
    found = blended(features, pool, wide, True, validated(features, classes), torch.Generator().manual_seed(0))
    assert found is not None
    assert found.spread.shape == (200, 4)
    torch.testing.assert_close(found.spread.sum(dim=1), torch.ones(200))
    weight, bias = torch.zeros(4, 40), torch.zeros(4)
    loss = found.loss(lambda weight, bias: weight.sum() * 0, weight, bias)
    told = (1 - found.share) * torch.full((200, 4), 0.25) + found.share * found.spread
    moved = torch.randn(4, generator=torch.Generator().manual_seed(3))
    expected = -(told * moved.log_softmax(dim=0)).sum()
    assert float(loss(weight, moved)) == pytest.approx(float(expected), rel=1e-4)


def test_several_choices_spread_apart() -> None:
    """A class that all of two clusters have, and one that all of one of them have."""
    features, pool, classes = clusters(24, 200, 1.0)
    chosen = torch.stack([classes < 2, classes == 0], dim=1).float()
    standard = Scale.of(features).standardized(features)
    found = cross_validated(standard, chosen, False, np.random.default_rng(0))
    blend = blended(features, pool, chosen, False, found, torch.Generator().manual_seed(0))
    assert blend is not None
    own = torch.arange(24, 224) % 4
    answers = torch.stack([own < 2, own == 0], dim=1)
    assert float(((blend.spread > 0.5) == answers).float().mean()) > 0.9
