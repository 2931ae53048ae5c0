"""GAAL: the images that are asked for are where the network is least sure, and not where nothing was recognized."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.data import Runtime
from samplers import gaal
from samplers.base import Answered, Generated, NotFitted
from samplers.gaal import nearer_to_first
from tests.samplers.worlds import (
    CPU,
    NOBODY,
    Fitted,
    data_for,
    fit,
    fitted,
    learn,
    net_for,
    own,
    sampler_for,
    snapshot,
)

COUNT = 4


def generate(world: Fitted, unrecognized: np.ndarray = NOBODY, seed: int = 0) -> Generated:
    answered = Answered(world.data.labeled, unrecognized)
    made = world.sampler.generate(world.net, world.data.pixels, COUNT, answered, Runtime(CPU, seed))
    assert made is not None
    return made


@pytest.mark.parametrize(("task", "classes"), [("classification", 2), ("classification", 5), ("multilabel", 3)])
def test_the_network_is_no_surer_of_what_is_asked_for_than_of_where_it_began(task: str, classes: int) -> None:
    made = generate(fitted("gaal", classes, task))
    assert made.images.shape == (COUNT, 32, 32, 3) and made.images.dtype == np.uint8
    assert (made.after >= made.before).all() and (made.after > made.before).any()
    assert (np.diff(made.after) <= 0).all()  # the least sure first
    assert len(set(made.seeds.tolist())) == COUNT


def test_the_same_seed_of_a_cycle_gives_the_same_images_and_another_gives_others() -> None:
    world = fitted("gaal", 3)
    first, again, other = generate(world), generate(world), generate(world, seed=1)
    assert (first.images == again.images).all() and (first.seeds == again.seeds).all()
    assert not set(first.seeds.tolist()) & set(other.seeds.tolist())


def test_generating_changes_nothing() -> None:
    world = own("gaal", 3, "classification")
    before, generator_before = snapshot(world), torch.get_rng_state()
    generate(world, world.data.unlabeled[:2])
    after = snapshot(world)
    assert [path for path in before if not torch.equal(before[path], after[path])] == []
    assert torch.equal(torch.get_rng_state(), generator_before)
    assert all(parameter.grad is None for parameter in world.net.parameters())


def test_images_like_those_that_showed_nothing_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    world = fitted("gaal", 3)
    every = generate(world, world.data.unlabeled[:1])

    def first_alone(points: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        assert (len(first), len(second)) == (len(world.data.labeled), 1) and len(points) == 2 * COUNT
        return torch.arange(len(points)) == 1

    monkeypatch.setattr(gaal, "nearer_to_first", first_alone)
    made = generate(world, world.data.unlabeled[:1])
    assert len(made.images) == len(made.seeds) == len(made.after) == 1
    assert len(every.images) <= COUNT


def test_which_of_two_sets_is_nearer() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.0]])
    near, far = torch.tensor([[0.0, 0.1], [9.0, 9.0]]), torch.tensor([[1.0, 0.1]])
    assert nearer_to_first(points, near, far).tolist() == [True, False, False]  # a tie is not nearer


def test_real_images_are_ordered_by_entropy() -> None:
    world = fitted("gaal", 3)
    plain = fit("entropy", 3)
    rows = world.data.unlabeled
    entropy = plain.sampler.score(world.net, world.data.pixels, rows, Runtime(CPU, 0)).acquisition
    assert (world.score(rows) == entropy).all()


def test_without_a_generator_nothing_can_be_generated() -> None:
    data = data_for("classification", 3)
    world = Fitted(sampler_for("gaal", data), net_for(data), data)
    assert world.sampler.state_dict() == {}
    with pytest.raises(NotFitted, match="neither trained nor loaded"):
        generate(world)
    learn(world.sampler, world.net, data)
    assert len(generate(world).images) == COUNT


def test_other_samplers_generate_nothing() -> None:
    data = data_for("classification", 3)
    sampler, answered = sampler_for("asal", data), Answered(data.labeled, NOBODY)
    assert not sampler.generates
    assert sampler.generate(net_for(data), data.pixels, 2, answered, Runtime(CPU, 0)) is None
