"""Query by committee: vote entropy and consensus entropy, and the noise that breaks the former's ties."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from models.data import ClassTargets, CycleData, Runtime
from models.inference.predictions import measure
from models.networks.classifier import Classifier, NetConfig
from models.tasks import CLASSIFICATION
from samplers.qbc import TIE_BREAK, QbcOptions, QbcSampler
from tests.models.plain_figures import max_entropy, vote_entropy

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 3)
COUNT = 40
ROWS = np.arange(COUNT)


def make_data() -> CycleData:
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)
    return CycleData(pixels, ROWS[:9], ROWS[9:], ClassTargets(ROWS[:9] % 3), 3)


def make_net() -> Classifier:
    return CLASSIFICATION.build(NetConfig("resnet18", 3, 16, 4), 0).eval()


def fitted(kind: str) -> QbcSampler:
    options = QbcOptions(ensemble_size=3, epochs=1, batch_size=8, learning_rate=0.01, qbc_score=kind)
    sampler = QbcSampler(options, task="classification", num_classes=3, image_size=16)
    sampler.fit(make_net(), make_data(), RUNTIME)
    return sampler


def opinions(sampler: QbcSampler, net: Classifier) -> torch.Tensor:
    nets = [net, *sampler.committee()]
    logits = [measure(one, make_data().pixels, ROWS, RUNTIME, lambda _, logits: (logits,))[0] for one in nets]
    return torch.from_numpy(np.stack(logits)).log_softmax(dim=-1)


def test_vote_entropy_keeps_its_levels_and_orders_each_by_chance() -> None:
    sampler, net = fitted("vote-entropy"), make_net()
    levels = vote_entropy(opinions(sampler, net)).numpy()
    found = sampler.score(net, make_data().pixels, ROWS, RUNTIME).acquisition
    assert len(np.unique(levels.round(6))) > 1
    assert len(np.unique(found)) == COUNT
    np.testing.assert_allclose(found, levels + TIE_BREAK / 2, rtol=0.0, atol=TIE_BREAK / 2)


def test_consensus_entropy_has_no_noise() -> None:
    sampler, net = fitted("consensus-entropy"), make_net()
    scores = [sampler.score(net, make_data().pixels, ROWS, Runtime(CPU, seed)).acquisition for seed in (0, 1)]
    assert (scores[0] == scores[1]).all()
    np.testing.assert_allclose(scores[0], max_entropy(opinions(sampler, net)).numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", ["vote-entropy", "consensus-entropy"])
def test_members_that_differ_score_higher_than_members_that_do_not(kind: str) -> None:
    """Heads that answer by their bias alone, surely: three classes once each, against one class three times."""
    sampler, net = fitted(kind), make_net()
    found = []
    for winners in ([0, 1, 2], [1, 1, 1]):
        with torch.no_grad():
            for winner, one in zip(winners, [net, *sampler.committee()], strict=True):
                one.head.weight.zero_()
                one.head.bias.copy_(40.0 * torch.eye(3)[winner])
        found.append(sampler.score(net, make_data().pixels, ROWS, RUNTIME).acquisition)
    assert found[0] == pytest.approx(math.log(3), abs=1e-6)
    assert found[1] == pytest.approx(0.0, abs=1e-6)


def test_steps_of_vote_entropy_are_wider_than_the_noise_that_breaks_ties() -> None:
    """All ways in which up to 20 votes can fall, by enumeration."""

    def falls(left: int, most: int) -> list[list[int]]:
        if left == 0:
            return [[]]
        return [[first, *rest] for first in range(min(left, most), 0, -1) for rest in falls(left - first, first)]

    for size in range(2, 21):
        values = sorted(sum(-n / size * math.log(n / size) for n in fall) for fall in falls(size, size))
        steps = [after - before for before, after in pairwise(values) if after - before > 1e-13]
        assert min(steps) > 10 * TIE_BREAK
