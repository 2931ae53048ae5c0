"""BAIT on the features of a head: what it picks tells about the pool (Ash et al., NeurIPS 2021)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samplers.bait import information
from tests.samplers.on_points import choices_data, head, points_data, queue


def test_information_by_hand() -> None:
    """1 - (0.36 + 0.09 + 0.01), and 1/2 of two classes that are as likely."""
    logits = torch.tensor([[0.6, 0.3, 0.1]]).log()
    assert information(logits).item() == pytest.approx(0.54)
    assert information(torch.zeros(1, 2)).item() == pytest.approx(0.5)


def clouds() -> np.ndarray:
    """Rows 0 to 19 along one axis and 20 to 39 along another, about which the network is as unsure."""
    rng = np.random.default_rng(0)
    return np.repeat(np.eye(2), 20, axis=0) * rng.uniform(2, 3, (40, 1)) * rng.choice([-1, 1], (40, 1))


@pytest.mark.parametrize("labeled", [[0, 1, 2, 3], [20, 21, 22, 23]])
def test_it_asks_about_the_direction_of_which_nothing_is_known(labeled: list[int]) -> None:
    data = points_data(40, labeled, [0, 1, 0, 1], 2)
    sampler, found = queue("bait", head([[0.01, 0.01], [0.0, 0.0]]), data, clouds(), budget=2)
    picks = sampler.state_dict()["rows"].tolist()
    assert found[:2] == picks and len(picks) == 2
    assert all((row < 20) != (labeled[0] < 20) for row in picks)


def test_what_the_network_is_sure_of_tells_nothing() -> None:
    """Of two axes, the one along which a class is certain; far out, so that by length alone it would be asked about."""
    points = clouds()
    points[:20] = np.abs(points[:20]) * 10
    data = points_data(40, [0, 20], [0, 1], 2)
    sampler, _ = queue("bait", head([[1.0, 0.01], [0.0, 0.0]]), data, points, budget=5)
    assert min(sampler.state_dict()["rows"].tolist()) >= 20


def test_of_several_choices_the_information_adds_up() -> None:
    net = head([[0.01, 0.01], [0.01, 0.0]], task="multilabel")
    sampler, found = queue("bait", net, choices_data(40, [0, 1], [[1, 0], [0, 1]]), clouds(), budget=3)
    assert found[:3] == sampler.state_dict()["rows"].tolist() and found[0] >= 20
