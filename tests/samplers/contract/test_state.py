"""What every sampler in the table keeps, whatever its mathematics (see samplers/base.py): its state."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import checkpoint
from models.data import Runtime
from tests.samplers.worlds import (
    CPU,
    EVERY,
    EVERY_TASK_OR_FAMILY,
    LABELED,
    UNLABELED,
    UNSEEN,
    Fitted,
    fitted,
    learn,
    make_data,
    make_masked_data,
    make_net,
    make_sampler,
    make_segmenter,
    net_for,
    own,
    sampler_for,
    serving,
    snapshot,
)


@EVERY_TASK_OR_FAMILY
def test_state_goes_through_a_checkpoint_and_scores_the_same_also_rows_never_seen(
    name: str, task: str, tmp_path: Path
) -> None:
    world = fitted(name, 3, task)
    checkpoint.save(tmp_path / "sampler.pt", world.sampler.state_dict())
    restored = sampler_for(name, world.data)
    restored.load_state_dict(checkpoint.load(tmp_path / "sampler.pt"))
    other = Fitted(restored, world.net, world.data)
    everything = np.arange(LABELED + UNLABELED + UNSEEN)
    scores = world.score(everything)
    assert (other.score(everything) == scores).all()
    assert len(np.unique(scores[-UNSEEN:])) > (1 if task == "segmentation" else UNSEEN // 2)


@EVERY
def test_loaded_state_is_a_copy(name: str) -> None:
    world, second = own(name, 3, "classification"), make_sampler(name, 3)
    second.load_state_dict(world.sampler.state_dict())
    before = snapshot(world)
    learn(second, make_net(3), world.data, seed=1)
    after = snapshot(world)
    assert [path for path in before if not torch.equal(before[path], after[path])] == []


@EVERY
@pytest.mark.parametrize("earlier", [{}, "fewer classes", "other widths"])
def test_state_that_does_not_fit_means_a_fresh_start(name: str, earlier: Any) -> None:
    state = earlier
    if earlier == "fewer classes":
        state = fitted(name, 2).sampler.state_dict()
    elif earlier == "other widths":
        latents = {"vaal_latent": 6, "ta_vaal_latent": 6, "sraal_latent": 6}
        others = {"covariance": "full", "learning_loss_width": 6, "ensemble_size": 3, "ads_prototypes": 2}
        other = sampler_for(name, make_data(3), vaal_width=8, **latents, **others)
        learn(other, make_net(3), make_data(3))
        state = other.state_dict()
    sampler, net, data = make_sampler(name, 3), make_net(3), make_data(3)
    sampler.load_state_dict(state)
    learn(sampler, net, data)
    assert np.isfinite(Fitted(sampler, net, data).score(data.unlabeled)).all()


@pytest.mark.parametrize("name", serving("segmentation"))
@pytest.mark.parametrize("earlier", ["classification", "fewer classes"])
def test_state_of_other_networks_means_a_fresh_start_with_masks(name: str, earlier: str) -> None:
    former = fitted(name, 3) if earlier == "classification" else fitted(name, 2, "segmentation")
    data = make_masked_data(3)
    net, sampler = make_segmenter(3), sampler_for(name, data)
    sampler.load_state_dict(former.sampler.state_dict())
    sampler.objective(net, data, Runtime(CPU, 0))
    sampler.fit(net, data, Runtime(CPU, 0))
    assert np.isfinite(Fitted(sampler, net, data).score(data.unlabeled)).all()


@EVERY_TASK_OR_FAMILY
def test_a_resumed_cycle_equals_an_uninterrupted_one(name: str, task: str, tmp_path: Path) -> None:
    """Going on from a checkpoint is going on: net and sampler after the second cycle are the same to the last bit."""
    straight = own(name, 3, task)
    checkpoint.save(tmp_path / "c.pt", {"net": straight.net.state_dict(), "sampler": straight.sampler.state_dict()})
    more = dataclasses.replace(
        straight.data,
        labeled=np.concatenate([straight.data.labeled, straight.data.unlabeled[:5]]),
        targets=straight.data.targets.at(np.append(np.arange(LABELED), np.arange(5))),
        unlabeled=straight.data.unlabeled[5:],
    )
    saved = checkpoint.load(tmp_path / "c.pt")
    resumed = Fitted(sampler_for(name, more), net_for(more), more)
    resumed.net.load_state_dict(saved["net"])
    resumed.sampler.load_state_dict(saved["sampler"])
    worlds = [Fitted(straight.sampler, straight.net, more), resumed]
    for world in worlds:
        learn(world.sampler, world.net, more, seed=1)
    first, second = (snapshot(world) for world in worlds)
    assert first.keys() == second.keys()
    assert [path for path in first if not torch.equal(first[path], second[path])] == []
    assert (worlds[0].score(more.unlabeled) == worlds[1].score(more.unlabeled)).all()
