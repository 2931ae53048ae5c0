"""VAAL and its relatives on features: what is novel comes first, and networks of one space are not the other's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.data import CycleData, Runtime
from models.networks.backbones import NOTHING
from models.networks.pretrained import FrozenClassifier, PretrainedConfig
from models.networks.projection import Projection
from models.tasks import CLASSIFICATION
from models.training.adversarial import CPU_BATCH, FEATURE_ITERATIONS, AdversarialRecipe, plan
from samplers.adversarial_base import AdversarialSampler
from tests.samplers import novelty
from tests.samplers.novelty import LABELED, NAMES, UNLABELED, make_data, novel_first
from tests.samplers.worlds import make_masked_data, make_segmenter, sampler_for

CPU = torch.device("cpu")
FEATURES, TAPS = 6, (2, 2)
EVERY = pytest.mark.parametrize("name", NAMES)
ROWS = np.arange(LABELED + UNLABELED)


def net() -> FrozenClassifier:
    config = PretrainedConfig("points", 2, 32, NOTHING, NOTHING, True, FEATURES, TAPS)
    made = CLASSIFICATION.build(config, 0)
    assert isinstance(made, FrozenClassifier)
    return made.eval()


def runtime(seed: int = 0) -> Runtime:
    """Features of dark images, which only occur among the unlabeled, are about -1 in each direction; of others, 1."""
    kept = np.random.default_rng(1).normal(1, 0.3, (LABELED + UNLABELED, FEATURES + sum(TAPS)))
    kept[LABELED + 1 :: 2] -= 2
    return Runtime(CPU, seed, features=kept.astype(np.float16))


def make_sampler(name: str, **options: Any) -> AdversarialSampler:
    usual = {"vaal_width": 16, "vaal_iterations": 40, "vaal_batch_size": 16, "vaal_learning_rate": 3e-3}
    return novelty.make_sampler(name, **(usual | options))


def gray() -> CycleData:
    """Images that say nothing."""
    data = make_data()
    return replace(data, pixels=np.full_like(data.pixels, 128))


def config_of(sampler: AdversarialSampler) -> dict[str, Any]:
    state = sampler.state_dict()
    config: dict[str, Any] = state.get("game", state)["config"]
    return config


@EVERY
def test_novel_features_are_asked_for_first(name: str) -> None:
    sampler, one = make_sampler(name), net()
    sampler.fit(one, gray(), runtime())
    assert (config_of(sampler)["features"], config_of(sampler)["image_size"]) == (FEATURES, 0)
    scores = sampler.score(one, gray().pixels, ROWS, runtime()).acquisition
    assert novel_first(scores) > (0.8 if name in ("vaal-no-vae", "vaal-frozen-vae") else 0.95)


@EVERY
def test_pixels_are_looked_at_where_they_are_asked_for(name: str) -> None:
    sampler, one = make_sampler(name, vaal_space="pixels", vaal_iterations=1, vaal_width=4), net()
    sampler.fit(one, gray(), runtime())
    assert (config_of(sampler)["features"], config_of(sampler)["image_size"]) == (0, 32)


@pytest.mark.parametrize(("kept", "asked"), [("features", "pixels"), ("pixels", "features")])
@EVERY
def test_networks_of_the_other_space_are_not_used(name: str, kept: str, asked: str) -> None:
    first = make_sampler(name, vaal_space=kept, vaal_iterations=1, vaal_width=4)
    first.fit(net(), gray(), runtime())
    second = make_sampler(name, vaal_space=asked, vaal_width=4)
    second.load_state_dict(first.state_dict())
    assert second.networks is None
    third = make_sampler(name, vaal_space="auto", vaal_width=4)
    third.load_state_dict(first.state_dict())
    assert third.networks is not None, "a checkpoint says itself what its networks see"


def test_a_checkpoint_from_before_there_was_a_choice_is_of_pixels() -> None:
    first = make_sampler("vaal", vaal_space="pixels", vaal_iterations=1, vaal_width=4)
    data = make_data()
    first.fit(net(), data, runtime())
    state = first.state_dict()
    del state["config"]["features"]
    second = make_sampler("vaal", vaal_width=4)
    second.load_state_dict(state)
    scores = [one.score(net(), data.pixels, ROWS, runtime()).acquisition for one in (first, second)]
    assert np.array_equal(*scores)


def test_networks_of_features_go_on_while_the_features_are_the_same() -> None:
    sampler = make_sampler("vaal", vaal_iterations=1)
    sampler.fit(net(), gray(), runtime())
    first = sampler.networks
    sampler.fit(net(), gray(), runtime(1))
    assert sampler.networks is first
    other = net()
    other.config = replace(other.config, digest="another")
    sampler.fit(other, gray(), runtime(2))
    assert sampler.networks is not first


@pytest.mark.parametrize("name", ["vaal", "ta-vaal"])
def test_features_of_a_network_that_is_trained_are_other_ones_in_each_cycle(name: str) -> None:
    sampler, data = make_sampler(name, vaal_space="features", vaal_iterations=1), make_data()
    sampler.fit(novelty.NET, data, Runtime(CPU, 0))
    first = sampler.networks
    assert config_of(sampler)["features"] == novelty.NET.feature_channels
    sampler.fit(novelty.NET, data, Runtime(CPU, 1))
    assert sampler.networks is not first
    assert np.isfinite(sampler.score(novelty.NET, data.pixels, ROWS, Runtime(CPU, 1)).acquisition).all()


def test_of_masks_it_is_the_mean_of_the_pixels_features() -> None:
    data, segmenter = make_masked_data(2), make_segmenter(2)
    sampler = sampler_for("vaal", data, vaal_space="features")
    sampler.fit(segmenter, data, Runtime(CPU, 0))
    scores = sampler.score(segmenter, data.pixels, data.unlabeled, Runtime(CPU, 0)).acquisition
    assert len(np.unique(scores)) > len(scores) // 2


def test_a_cpu_has_time_for_more_iterations_of_features() -> None:
    assert plan(AdversarialRecipe(), 100, 1_900, 0, CPU) == (FEATURE_ITERATIONS, CPU_BATCH)
    assert plan(AdversarialRecipe(iterations=7), 100, 1_900, 0, CPU) == (7, 128)


def test_the_projection_keeps_the_directions_in_which_features_vary() -> None:
    """Of x = (3 a, b, 0.1 c) + 5, two directions: a and b are left, of variance 1 on average."""
    draws = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    points = draws * torch.tensor([3.0, 1.0, 0.1]) + 5.0
    projection = Projection(3, 2)
    projection.settle(points, torch.Generator().manual_seed(1))
    found = projection(points)
    spread = (found.square().mean(dim=0) * 5).tolist()  # (9 + 1) / 2 = 5
    assert spread == pytest.approx([9, 1], rel=0.1)
    assert abs(np.corrcoef(found[:, 0], draws[:, 0])[0, 1]) > 0.99
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(2), atol=1e-3, rtol=0)
