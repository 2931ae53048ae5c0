"""ASAL: matches first and in their order, real and unlabeled, and the GAN trained once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.data import Runtime
from tests.samplers.worlds import CPU, fit, learn, make_data, net_for, sampler_for


@pytest.mark.parametrize("space", ["backbone", "critic", "autoencoder", "pca"])
def test_matches_are_asked_for_first_in_their_order(space: str) -> None:
    data = make_data(3)
    net, sampler = net_for(data), sampler_for("asal", data, asal_space=space)
    learn(sampler, net, data)
    matches = sampler.state_dict()["matches"].tolist()
    assert len(set(matches)) == 5 and set(matches) <= set(data.unlabeled.tolist())
    scored = sampler.score(net, data.pixels, data.unlabeled, Runtime(CPU, 0)).acquisition
    assert data.unlabeled[np.argsort(-scored)][:5].tolist() == matches
    rest = np.sort(scored)[:-5]
    assert rest.max() < 30.0 and len(np.unique(rest)) == len(rest)


def test_two_classes_are_searched_along_their_boundary() -> None:
    world = fit("asal", 2)
    assert world.sampler.state_dict()["matches"].shape == (5,)


def test_the_gan_is_trained_once_until_the_pool_has_grown() -> None:
    data = make_data(3)
    net, sampler = net_for(data), sampler_for("asal", data)
    first = sampler.fit(net, data, Runtime(CPU, 0))
    again = sampler.fit(net, data, Runtime(CPU, 1))
    assert first["gan_iterations"] == 2 and "gan_iterations" not in again
    grown = sampler_for("asal", data, gan_growth=0.1)
    grown.load_state_dict(sampler.state_dict() | {"learned_from": 20})
    assert grown.fit(net, data, Runtime(CPU, 2))["gan_iterations"] == 2


def test_gray_images_make_a_gray_generator_and_color_is_never_lost() -> None:
    data = make_data(3)
    net, sampler = net_for(data), sampler_for("asal", data)
    color = data.pixels.copy()
    data.pixels[...] = data.pixels[..., :1]
    sampler.fit(net, data, Runtime(CPU, 0))
    assert sampler.state_dict()["config"]["channels"] == 1
    data.pixels[...] = color
    sampler.fit(net, data, Runtime(CPU, 0))
    assert sampler.state_dict()["config"]["channels"] == 3


def test_a_generator_of_another_kind_is_not_taken_over() -> None:
    data = make_data(3)
    net, sampler = net_for(data), sampler_for("asal", data)
    sampler.fit(net, data, Runtime(CPU, 0))
    other = sampler_for("asal", data, gan="wgan-gp")
    other.load_state_dict(sampler.state_dict())
    assert other.state_dict() == {}
    metrics = other.fit(net, data, Runtime(CPU, 0))
    assert metrics["gan_iterations"] == 2 and torch.isfinite(torch.tensor(list(metrics.values()))).all()


def test_a_generator_of_one_image_is_doubted_and_entropy_stands_in() -> None:
    sampler = sampler_for("asal", make_data(3))
    real = {"gan_distinct_of_real": 0.5, "gan_precision_of_real": 0.8}
    untrained = {"gan_distinct_neighbors": 0.004, "gan_precision": 1.0}  # as measured, on Fashion-MNIST
    assert "of their own" in sampler.doubts(real | untrained)
    assert "among the real ones" in sampler.doubts(real | {"gan_distinct_neighbors": 0.5, "gan_precision": 0.0})
    assert sampler.doubts(real | {"gan_distinct_neighbors": 0.2, "gan_precision": 0.6}) == ""
    assert sampler.standin == "entropy"


def test_what_was_measured_of_the_generator_is_known_in_later_cycles() -> None:
    data = make_data(3)
    net, sampler = net_for(data), sampler_for("asal", data)
    first = sampler.fit(net, data, Runtime(CPU, 0))
    other = sampler_for("asal", data)
    other.load_state_dict(sampler.state_dict())
    again = other.fit(net, data, Runtime(CPU, 5))
    measured = ("gan_critic_gap", "gan_distinct_neighbors", "gan_precision", "gan_recall", "gan_precision_of_real")
    assert [again[key] for key in measured] == [first[key] for key in measured]
    assert "gan_iterations" not in again
