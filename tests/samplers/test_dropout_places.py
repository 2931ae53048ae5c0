"""Dropout at several stages, as the samplers that drop features have it, for every kind of task."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from models.data import Runtime
from models.inference.stage_dropout import draw_stage_masks, thinned_logits
from models.networks.pretrained import FrozenClassifier, PretrainedConfig
from models.pixels import normalize
from models.tasks import CLASSIFICATION
from samplers.base import SamplerError
from tests.models.plain_figures import bald
from tests.samplers.worlds import (
    CPU,
    UNLABELED,
    Fitted,
    data_for,
    learn,
    make_data,
    modes,
    net_for,
    sampler_for,
    snapshot,
    step,
)

CLASSES, DRAWS, RATE = 3, 4, 0.3
RUNTIME = Runtime(CPU, 0)


@cache
def world(name: str, task: str, place: str = "stages") -> Fitted:
    data = data_for(task, CLASSES)
    sampler = sampler_for(name, data, dropout_place=place, dropout_draws=DRAWS, dropout_rate=RATE)
    fitted = Fitted(sampler, net_for(data), data)
    learn(sampler, fitted.net, data)
    return fitted


def opinions(trained: Fitted) -> Tensor:
    """Logits (K, N, C, ...) of one thinned network after the other."""
    net, rows = trained.net, trained.data.unlabeled
    masks = draw_stage_masks(net, DRAWS, RATE, RUNTIME.generator("dropout draws"))
    images = normalize(torch.from_numpy(trained.data.pixels[rows]))
    with torch.no_grad():
        return torch.stack([thinned_logits(net, images, [mask[[draw]] for mask in masks]) for draw in range(DRAWS)])


def test_an_image_s_figure_is_that_of_its_row() -> None:
    trained = world("bald", "classification")
    expected = bald(opinions(trained).log_softmax(dim=-1)).numpy()
    assert expected.std() > 1e-4
    np.testing.assert_allclose(trained.score(trained.data.unlabeled), expected, atol=1e-5)


def test_a_mask_s_figure_is_the_mean_over_its_pixels() -> None:
    trained = world("bald", "segmentation")
    log_p = opinions(trained).log_softmax(dim=2).movedim(2, -1)  # (K, N, h, w, C)
    of_pixels = bald(log_p.flatten(1, 3)).unflatten(0, log_p.shape[1:4])
    expected = of_pixels.double().mean(dim=(1, 2)).numpy()
    assert expected.std() > 1e-4
    np.testing.assert_allclose(trained.score(trained.data.unlabeled), expected, atol=1e-5)


def test_several_choices_are_summed_over_the_classes() -> None:
    trained = world("bald", "multilabel")
    logits = opinions(trained)  # (K, N, C)
    rows = torch.stack([torch.zeros_like(logits), logits], dim=-1).log_softmax(dim=-1)
    expected = bald(rows.flatten(1, 2)).unflatten(0, (UNLABELED, CLASSES)).double().sum(dim=1).numpy()
    assert expected.std() > 1e-4
    np.testing.assert_allclose(trained.score(trained.data.unlabeled), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "task"),
    [("bald", "classification"), ("bald", "multilabel"), ("bald", "segmentation"), ("mc-dropout", "classification")],
)
def test_scores_follow_from_the_seed_and_nothing_else_and_change_nothing(name: str, task: str) -> None:
    trained = world(name, task)
    rows, before, was = trained.data.unlabeled, snapshot(trained), modes(trained)
    scores = trained.score(rows)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > UNLABELED // 2
    assert np.array_equal(trained.score(rows), scores)
    assert not np.allclose(trained.score(rows, seed=1), scores)
    some = np.array([20, 3, 11])
    np.testing.assert_allclose(trained.score(rows[some], batch=2), scores[some], atol=1e-5)
    assert modes(trained) == was
    after = snapshot(trained)
    assert all(torch.equal(before[path], after[path]) for path in before)


@pytest.mark.parametrize("task", ["classification", "multilabel", "segmentation"])
def test_training_drops_inside_the_network_too(task: str) -> None:
    """The first loss under the two places, from the same weights and seed, and at a rate of next to nothing."""
    data = data_for(task, CLASSES)

    def loss(place: str, rate: float) -> float:
        sampler, net = sampler_for("bald", data, dropout_place=place, dropout_rate=rate), net_for(data)
        return float(step(sampler.objective(net, data, RUNTIME), net, data, RUNTIME).detach())

    plain = loss("features", 1e-7)
    assert loss("stages", 1e-7) == pytest.approx(plain, rel=1e-5)
    assert len({round(found, 4) for found in (plain, loss("features", 0.5), loss("stages", 0.5))}) == 3


def test_a_network_without_stages_of_its_own_is_refused_in_words() -> None:
    data = make_data(CLASSES)
    config = PretrainedConfig("tf_efficientnet_lite0", CLASSES, 32, "none", "", True, 1280, (24, 40, 112, 320))
    net = FrozenClassifier(config)
    net.task = CLASSIFICATION
    sampler = sampler_for("bald", data, dropout_place="stages")
    words = 'bald: "dropout_place": "stages" needs a network that is trained as a whole, not tf_efficientnet_lite0'
    with pytest.raises(SamplerError, match=words):
        sampler.objective(net, data, RUNTIME)
    with pytest.raises(SamplerError, match=words):
        sampler.score(net, data.pixels, data.unlabeled, RUNTIME)
    sampler_for("bald", data).objective(net, data, RUNTIME)
