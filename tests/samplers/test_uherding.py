"""UHerding: images that together cover what the network is unsure of (Bae, Sutherland & Oliveira 2025)."""

from __future__ import annotations

import numpy as np
import pytest

from tests.samplers.on_points import choices_data, head, points_data, queue

WEIGHT = [[6.0, 0.0, 0.0, 0.0], [0.0, 6.0, 0.0, 0.0]]  # two classes, by the larger of the first two features
LABELED = [[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]]


def cloud(center: list[float], count: int, seed: int = 0) -> np.ndarray:
    return np.array([*center, 0.0]) + np.random.default_rng(seed).normal(0, 0.02, (count, 4))


def picks(points: np.ndarray, budget: int, temperature: float = 1.0) -> list[int]:
    """The labeled points are the last two."""
    rows = len(points)
    net = head(WEIGHT)
    net.temperature = temperature
    data = points_data(rows + 2, [rows, rows + 1], [0, 1], 2)
    sampler, found = queue("uherding", net, data, np.concatenate([points, LABELED]), budget=budget)
    chosen: list[int] = sampler.state_dict()["rows"].tolist()
    assert found[: len(chosen)] == chosen
    return chosen


def test_what_the_network_is_unsure_of_is_covered_first() -> None:
    """It is sure of rows 0 to 39, which are twice as many."""
    points = np.concatenate([cloud([0.3, 1.0, 1.0], 40), cloud([0.7, 0.7, 1.0], 20)])
    assert picks(points, 1)[0] >= 40


def test_of_what_it_is_as_unsure_of_the_denser_part_comes_first_and_then_another_one() -> None:
    points = np.concatenate([cloud([0.7, 0.7, 0.0], 15), cloud([0.7, 0.7, 2.0], 40)])
    first, second = picks(points, 1)
    assert first >= 15 > second


def test_probabilities_are_calibrated() -> None:
    """Of a network that is unsure of everything the larger part comes first again."""
    points = np.concatenate([cloud([0.3, 1.0, 1.0], 40), cloud([0.7, 0.7, 1.0], 20)])
    assert picks(points, 1, temperature=100.0)[0] < 40


def test_what_a_label_covers_gets_smaller_as_labels_get_denser(monkeypatch: pytest.MonkeyPatch) -> None:
    from models.geometry import herding

    widths, herd = [], herding.herd
    monkeypatch.setattr(herding, "herd", lambda *given: widths.append(given[-1]) or herd(*given))
    picks(cloud([0.7, 0.7, 1.0], 20), 1)
    assert widths == [pytest.approx(np.sqrt(2.0), abs=1e-3)], "the distance of the two labeled images, of length 1"


def test_twice_the_budget_is_picked_and_margin_follows() -> None:
    points = cloud([0.5, 0.7, 1.0], 30)
    assert len(picks(points, 4)) == 8
    data = points_data(32, [30, 31], [0, 1], 2)
    rest = queue("uherding", head(WEIGHT), data, np.concatenate([points, LABELED]), budget=4)[1][8:]
    margin = queue("margin", head(WEIGHT), data, np.concatenate([points, LABELED]))[1]
    assert rest == [row for row in margin if row in rest]


def test_of_several_choices_it_is_the_mean_doubt() -> None:
    points = np.concatenate([cloud([1.0, 1.0, 1.0], 40), cloud([0.0, 0.0, 1.0], 20)])  # sure of both; of neither
    data = choices_data(61, [60], [[1, 1]])
    sampler, _ = queue(
        "uherding", head(WEIGHT, task="multilabel"), data, np.concatenate([points, LABELED[:1]]), budget=1
    )
    assert sampler.state_dict()["rows"][0] >= 40
