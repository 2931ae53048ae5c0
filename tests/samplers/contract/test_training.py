"""What every sampler in the table keeps, whatever its mathematics (see samplers/base.py): how it trains."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from models import IGNORE
from models.data import ClassTargets, CycleData, DataError, MaskTargets, MultilabelTargets, Runtime
from samplers.base import (
    EmptyPool,
    NonFiniteScores,
    SamplerError,
)
from tests.samplers.worlds import (
    CLASSES,
    CPU,
    EVERY,
    EVERY_TASK_OR_FAMILY,
    FRAME,
    LABELED,
    NOBODY,
    UNLABELED,
    UNSEEN,
    data_for,
    fit,
    fitted,
    make_data,
    make_masked_data,
    net_for,
    own,
    sampler_for,
    serving,
    step,
)

# --- odd pools and labeled sets ---


@EVERY
def test_an_empty_pool_is_a_named_error(name: str) -> None:
    with pytest.raises(EmptyPool, match=name):
        fitted(name, 3).score(NOBODY)


@EVERY
def test_a_single_row_pool_is_scored(name: str) -> None:
    world = fitted(name, 3)
    assert world.score(world.data.unlabeled[:1]).shape == (1,)


@EVERY
def test_rows_that_do_not_exist_are_refused(name: str) -> None:
    world = fitted(name, 3)
    for bad in (-1, LABELED + UNLABELED + UNSEEN):
        with pytest.raises(DataError, match="rows must lie in"):
            world.score(np.array([0, bad]))


@EVERY_TASK_OR_FAMILY
@pytest.mark.parametrize("missing", ["unlabeled", "labeled", pytest.param("both", marks=pytest.mark.long)])
def test_fit_without_unlabeled_or_labeled_rows_leaves_a_usable_sampler(name: str, task: str, missing: str) -> None:
    data = data_for(task, 3)
    if missing in ("unlabeled", "both"):
        data = dataclasses.replace(data, unlabeled=NOBODY)
    if missing in ("labeled", "both"):
        data = dataclasses.replace(data, labeled=NOBODY, targets=data.targets.at(NOBODY))
    try:
        world = fit(name, 3, data)
    except (SamplerError, DataError) as error:
        assert missing != "unlabeled", "a pool that is labeled through is no error"
        assert "label" in str(error)  # it says what is missing
        return
    assert np.isfinite(world.score(np.arange(20))).all()


@EVERY
@pytest.mark.parametrize(
    ("labels", "num_classes"),
    [(1, 1), (1, 3), *(pytest.param(*few, marks=pytest.mark.long) for few in ((2, 2), (5, 3)))],
)
def test_few_labels_of_one_class(name: str, labels: int, num_classes: int) -> None:
    data = make_data(num_classes)
    targets = ClassTargets(np.zeros(labels, dtype=np.int64))
    data = dataclasses.replace(data, labeled=data.labeled[:labels], targets=targets)
    assert np.isfinite(fit(name, num_classes, data).score(data.unlabeled)).all()


@pytest.mark.parametrize("name", serving("multilabel"))
@pytest.mark.parametrize(
    ("chosen", "num_classes"),
    [(0, 3), (1, 1), *(pytest.param(*few, marks=pytest.mark.long) for few in ((0, 1), (1, 3)))],
)
def test_few_labels_of_nothing_or_of_everything(name: str, chosen: int, num_classes: int) -> None:
    data = data_for("multilabel", num_classes)
    targets = MultilabelTargets(np.full((2, num_classes), chosen, dtype=np.uint8))
    world = fit(name, num_classes, dataclasses.replace(data, labeled=data.labeled[:2], targets=targets))
    assert np.isfinite(world.score(data.unlabeled)).all()
    assert all(parameter.isfinite().all() for parameter in world.net.parameters())


@pytest.mark.parametrize("name", serving("segmentation"))
@pytest.mark.parametrize("labeled", ["nothing", "one class"])
def test_few_masks_and_little_in_them(name: str, labeled: str) -> None:
    """Two masks: entirely of pixels that nobody said anything about, or of one class, of one that there is."""
    data = make_masked_data(2 if labeled == "nothing" else 1)
    masks = np.full((2, *FRAME), IGNORE if labeled == "nothing" else 0, dtype=np.uint8)
    few = dataclasses.replace(data, labeled=data.labeled[:2], targets=MaskTargets(masks, np.array([1, 0])))
    world = fit(name, data.num_classes, few)
    assert np.isfinite(world.score(data.unlabeled)).all()
    assert all(parameter.isfinite().all() for parameter in world.net.parameters())


# --- objective and progress ---


def check_gradients(name: str, data: CycleData) -> None:
    net, runtime = net_for(data), Runtime(CPU, 0)
    sampler = sampler_for(name, data)
    loss = step(sampler.objective(net, data, runtime), net, data, runtime)
    assert loss.shape == ()
    assert loss.isfinite()
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())
    for parameter in (next(net.trunk.parameters()), net.head.weight):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@EVERY
@CLASSES
def test_the_objective_trains_trunk_and_head(name: str, num_classes: int) -> None:
    check_gradients(name, make_data(num_classes))


@pytest.mark.parametrize("name", serving("multilabel"))
def test_the_objective_trains_trunk_and_head_with_several_classes(name: str) -> None:
    check_gradients(name, data_for("multilabel", 3))


@pytest.mark.parametrize("name", serving("segmentation"))
def test_the_objective_trains_trunk_and_head_with_masks(name: str) -> None:
    check_gradients(name, make_masked_data(3))


@EVERY_TASK_OR_FAMILY
def test_work_can_be_stopped_through_progress(name: str, task: str) -> None:
    class Stop(Exception):
        pass

    def progress(phase: str, done: int, total: int) -> None:
        assert phase
        assert 0 <= done <= total
        raise Stop

    world = own(name, 3, task)
    runtime = Runtime(CPU, 0, progress)
    told = False
    for work in (
        lambda: world.sampler.fit(world.net, world.data, runtime),
        lambda: world.sampler.score(world.net, world.data.pixels, world.data.unlabeled, runtime),
    ):
        try:
            work()
        except Stop:
            told = True
    assert told or name == "random"  # random has no work worth telling
    assert np.isfinite(world.score(world.data.unlabeled)).all()


# --- broken networks ---


@EVERY_TASK_OR_FAMILY
def test_broken_networks_are_an_error_that_names_the_sampler(name: str, task: str) -> None:
    world = own(name, 3, task)
    expected = world.score(world.data.unlabeled)
    with torch.no_grad():
        for value in (world.net, *vars(world.sampler).values()):
            if isinstance(value, torch.nn.Module):
                for parameter in value.parameters():
                    parameter.fill_(torch.nan)
    try:
        scores = world.score(world.data.unlabeled)
    except NonFiniteScores as error:
        assert name in str(error)
    else:
        assert (scores == expected).all()  # a sampler that uses no network
