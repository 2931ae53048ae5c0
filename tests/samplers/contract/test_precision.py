"""What every sampler in the table keeps, whatever its mathematics: its order does not depend on how it is computed."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from models.data import Runtime
from models.inference import fused
from models.networks.base import TaskNet
from models.training.schedule import Recipe
from models.training.task_network import train_network
from tests.samplers.worlds import CPU, EVERY_TASK_OR_FAMILY, Fitted, data_for, net_for, sampler_for

ROUNDING = 1e-4  # of the scores' range; float32 has 6e-8 of a number, and a score is the work of some twenty layers
EPOCHS = 15


@cache
def trained(task: str) -> TaskNet:
    """With weights and batch statistics that many steps have moved, and predictions that are sure of something."""
    data = data_for(task, 3)
    net = net_for(data)
    recipe = Recipe(epochs=EPOCHS, batch_size=8, learning_rate=0.02)
    train_network(net, data, net.task.cross_entropy(), recipe, Runtime(CPU, 0))
    return net


def scores(world: Fitted, dtype: torch.dtype = torch.float32) -> np.ndarray:
    runtime = Runtime(CPU, 0, score_dtype=dtype)
    return world.sampler.score(world.net, world.data.pixels, world.data.unlabeled, runtime).acquisition


@cache  # scoring changes nothing, see test_scores
def fitted_to_trained(name: str, task: str) -> Fitted:
    data, net = data_for(task, 3), trained(task)
    sampler = sampler_for(name, data)
    sampler.objective(net, data, Runtime(CPU, 0))
    sampler.fit(net, data, Runtime(CPU, 0))
    return Fitted(sampler, net, data)


@EVERY_TASK_OR_FAMILY
def test_a_fused_network_gives_the_same_order(name: str, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for images whose scores are closer than rounding: sorted by the one scores, the others are sorted as well."""
    world = fitted_to_trained(name, task)
    found = scores(world)
    calls: list[object] = []
    monkeypatch.setattr(fused, "_fuse", calls.append)  # the copy stays as it is
    plain = scores(world)
    assert calls or name == "random", "it scores with a network that is not a scoring copy"
    closest = ROUNDING * float(np.ptp(plain))
    np.testing.assert_allclose(found, plain, rtol=0, atol=closest)
    np.testing.assert_allclose(plain[np.argsort(found, kind="stable")], np.sort(plain), rtol=0, atol=2 * closest)


@EVERY_TASK_OR_FAMILY
def test_scores_in_bfloat16_are_finite_and_like_the_others(name: str, task: str) -> None:
    """Few digits are left, so the order is another one; but it is not a wrong number's."""
    world = fitted_to_trained(name, task)
    found, exact = scores(world, torch.bfloat16), scores(world)
    assert found.dtype == np.float64 and np.isfinite(found).all()
    if name == "random":
        assert np.array_equal(found, exact)
    elif len(np.unique(exact)) > 10 and name != "core-set":  # a pick changes all that come after it
        assert np.corrcoef(found, exact)[0, 1] > 0.9
