"""Samplers of masks on an encoder that stays as it is, whose maps are kept while the decoder is trained."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import pytest
import torch

from models.networks.backbones import NOTHING
from models.networks.pretrained_segmenter import FrozenSegmenter, PretrainedSegmenterConfig
from models.tasks import SEGMENTATION
from tests.samplers.worlds import FRAME, UNLABELED, Fitted, learn, make_masked_data, sampler_for, serving

CLASSES = 3
ONE_AGAINST_ONE = {"ensemble": 0.5, "qbc": math.log(2)}
"""Two members that learned for a moment may say one class each everywhere, and so disagree about every pixel."""


@cache
def world(name: str) -> Fitted:
    config = PretrainedSegmenterConfig.of("test_efficientnet", CLASSES, max(FRAME), NOTHING, NOTHING, True)
    net = SEGMENTATION.build(dataclasses.replace(config, enlarged=1.0), 0)
    data = make_masked_data(CLASSES)
    sampler = sampler_for(name, data)
    learn(sampler, net, data)
    return Fitted(sampler, net, data)


@pytest.mark.parametrize("name", serving("segmentation"))
def test_one_finite_score_an_image_whatever_the_batches_and_the_order(name: str) -> None:
    fitted = world(name)
    rows = fitted.data.unlabeled
    scores = fitted.score(rows)
    assert scores.shape == (UNLABELED,) and np.isfinite(scores).all()
    assert len(np.unique(scores)) > 1 or scores == pytest.approx(ONE_AGAINST_ONE.get(name))
    order = np.random.default_rng(0).permutation(len(rows))
    np.testing.assert_allclose(fitted.score(rows[order], batch=5), scores[order], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", serving("segmentation"))
def test_the_encoder_stays_and_decoder_and_head_are_trained(name: str) -> None:
    fitted = world(name)
    assert isinstance(fitted.net, FrozenSegmenter)
    untrained = SEGMENTATION.build(fitted.net.config, 0)
    assert not torch.equal(fitted.net.head.weight, untrained.head.weight)
    moved = [key for key, value in untrained.trunk.state_dict().items() if value.is_floating_point()]
    assert all(not torch.equal(fitted.net.trunk.state_dict()[key], untrained.trunk.state_dict()[key]) for key in moved)
    assert not any(parameter.requires_grad for parameter in fitted.net.encoder.parameters())
