"""What every sampler in the table keeps, whatever its mathematics (see samplers/base.py): its scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from models import checkpoint
from models.data import ClassTargets, CycleData, MaskTargets, MultilabelTargets, Runtime
from models.inference.predictions import Predictions
from models.lending import Lent
from samplers import build_sampler
from tests.samplers.worlds import (
    CLASSES,
    CPU,
    EACH_FAMILY,
    EVERY,
    EVERY_TASK_OR_FAMILY,
    OPTIONS,
    UNLABELED,
    UNSEEN,
    Fitted,
    data_for,
    first_norm,
    fit,
    fitted,
    make_data,
    modes,
    net_for,
    own,
    sampler_for,
    serving,
    snapshot,
    tensors_of,
)

# --- scores ---


def check_scored(world: Fitted, fewest: int) -> None:
    rows = world.data.unlabeled
    scored = world.sampler.score(world.net, world.data.pixels, rows, Runtime(CPU, 0))
    assert scored.acquisition.shape == (UNLABELED,)
    assert scored.acquisition.dtype == np.float64
    assert np.isfinite(scored.acquisition).all()
    assert len(np.unique(scored.acquisition)) > fewest  # an order, not a constant
    if scored.predictions is not None:
        check_predictions(world.data, scored.predictions)


def check_predictions(data: CycleData, predictions: Predictions) -> None:
    assert predictions.confidence.shape == (UNLABELED,)
    assert 0 < predictions.confidence.min() <= predictions.confidence.max() <= 1
    if data.task == "multilabel":
        assert predictions.predicted.shape == (UNLABELED, data.num_classes)
        assert 0 <= predictions.predicted.min() <= predictions.predicted.max() <= 1
        return
    assert predictions.predicted.shape == (UNLABELED,)
    assert 0 <= predictions.predicted.min() <= predictions.predicted.max() < data.num_classes


@EACH_FAMILY
def test_a_pool_that_is_scored_on_several_devices_has_the_scores_of_one(name: str, task: str) -> None:
    """To the last bit: all that a row's score depends on is that row. The second device is the processor, too."""

    @contextmanager
    def lend(besides: torch.device) -> Iterator[Sequence[Lent]]:
        yield [Lent(torch.device("cpu:1"), lambda: False)]

    world = fitted(name, 3, task)
    alone, spread = (Runtime(CPU, 0, eval_batch_size=4, idle=idle) for idle in (None, lend))
    asked = (world.net, world.data.pixels, world.data.unlabeled)
    one, other = (world.sampler.score(*asked, how) for how in (alone, spread))
    assert np.array_equal(one.acquisition, other.acquisition)
    assert (one.predictions is None) == (other.predictions is None)
    if one.predictions is not None and other.predictions is not None:
        assert np.array_equal(one.predictions.predicted, other.predictions.predicted)
        assert np.array_equal(one.predictions.confidence, other.predictions.confidence)


@EVERY
@CLASSES
def test_one_finite_score_a_row_that_differ(name: str, num_classes: int) -> None:
    check_scored(fitted(name, num_classes), UNLABELED // 2)


@pytest.mark.parametrize("name", serving("multilabel"))
@pytest.mark.parametrize("num_classes", [1, pytest.param(10, marks=pytest.mark.long)])
def test_one_finite_score_a_row_with_several_classes(name: str, num_classes: int) -> None:
    check_scored(fitted(name, num_classes, "multilabel"), UNLABELED // 2)


@pytest.mark.parametrize("name", serving("segmentation"))
@pytest.mark.parametrize("num_classes", [pytest.param(2, marks=pytest.mark.long), 3])
def test_one_finite_score_an_image_that_is_segmented(name: str, num_classes: int) -> None:
    """Two networks' votes on 24 pixels come to few different means."""
    check_scored(fitted(name, num_classes, "segmentation"), 1 if name in ("ensemble", "qbc") else UNLABELED // 2)


@EVERY_TASK_OR_FAMILY
def test_the_same_seed_gives_the_same_scores(name: str, task: str) -> None:
    first, again = fitted(name, 3, task), fit(name, 3, data_for(task, 3))
    rows = first.data.unlabeled
    assert (first.score(rows) == first.score(rows)).all()
    torch.manual_seed(99)  # no global generator takes part
    assert (first.score(rows) == again.score(rows)).all()


# Of the spread of the scores: the log-odds of what is nearly a tie enlarge a logit's last digit.
ROUNDING = 1e-3


# 28: the last batch has one row; 500: all of them in another order
SIZES = [28, 500, *(pytest.param(size, marks=pytest.mark.long) for size in (1, 7, UNLABELED))]


@EVERY_TASK_OR_FAMILY
@pytest.mark.parametrize("batch", SIZES)
def test_scores_do_not_depend_on_batch_size_or_order(name: str, task: str, batch: int) -> None:
    world = fitted(name, 3, task)
    rows = world.data.unlabeled
    order = np.random.default_rng(batch).permutation(UNLABELED)
    expected = world.score(rows)
    spread = expected.max() - expected.min()
    np.testing.assert_allclose(world.score(rows[order], batch=batch), expected[order], atol=ROUNDING * spread)


@EVERY_TASK_OR_FAMILY
def test_scores_of_a_part_are_part_of_the_scores(name: str, task: str) -> None:
    world = fitted(name, 3, task)
    rows = world.data.unlabeled
    expected = world.score(rows)
    spread = expected.max() - expected.min()
    np.testing.assert_allclose(world.score(rows[5:11]), expected[5:11], atol=ROUNDING * spread)
    np.testing.assert_allclose(world.score(rows[3:4]), expected[3:4], atol=ROUNDING * spread)


@EVERY_TASK_OR_FAMILY
def test_a_memory_mapped_pool_gives_the_same_scores(name: str, task: str, tmp_path: Path) -> None:
    world = fitted(name, 3, task)
    np.save(tmp_path / "pixels.npy", world.data.pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    scored = world.sampler.score(world.net, mapped, world.data.unlabeled, Runtime(CPU, 0))
    assert (scored.acquisition == world.score(world.data.unlabeled)).all()


# --- what scoring leaves alone ---


@EVERY_TASK_OR_FAMILY
@pytest.mark.parametrize("training", [True, False])
def test_scoring_changes_nothing(name: str, task: str, training: bool) -> None:
    world = own(name, 3, task)
    for value in (world.net, *vars(world.sampler).values()):
        if isinstance(value, torch.nn.Module):
            value.train(training)
    world.net.zero_grad()  # of the training
    first_norm(world.net).train(not training)
    before, modes_before, pixels_before = snapshot(world), modes(world), world.data.pixels.copy()
    generator_before = torch.get_rng_state()
    world.score(world.data.unlabeled, seed=5, batch=8)
    after = snapshot(world)
    assert before.keys() == after.keys()
    assert [path for path in before if not torch.equal(before[path], after[path])] == []
    assert modes(world) == modes_before
    assert (world.data.pixels == pixels_before).all()
    assert torch.equal(torch.get_rng_state(), generator_before)
    assert all(parameter.grad is None for parameter in world.net.parameters())


@EVERY_TASK_OR_FAMILY
def test_scoring_reads_no_labels(name: str, task: str) -> None:
    world = own(name, 3, task)
    expected = world.score(world.data.unlabeled)
    targets = world.data.targets
    if isinstance(targets, ClassTargets):
        targets.classes[:] = (targets.classes + 1) % 3
    elif isinstance(targets, MultilabelTargets):
        targets.chosen[:] = 1 - targets.chosen
    else:
        assert isinstance(targets, MaskTargets)
        targets.masks.setflags(write=True)
        targets.masks[:] = 1
    world.data.labeled[:] = world.data.labeled[::-1].copy()
    assert (world.score(world.data.unlabeled) == expected).all()


@EVERY_TASK_OR_FAMILY
def test_fit_leaves_the_task_net_as_it_was(name: str, task: str) -> None:
    data = data_for(task, 3)
    net, sampler, runtime = net_for(data), sampler_for(name, data), Runtime(CPU, 0)
    sampler.objective(net, data, runtime)
    net.train()
    first_norm(net).eval()
    world = Fitted(sampler, net, data)
    before = {path: tensor.clone() for path, tensor in tensors_of(net.state_dict())}
    modes_before = [module.training for module in net.modules()]
    generator_before = torch.get_rng_state()
    sampler.fit(net, data, runtime)
    after = world.net.state_dict()
    assert all(torch.equal(tensor, after[path[1:]]) for path, tensor in before.items())
    assert [module.training for module in net.modules()] == modes_before
    assert torch.equal(torch.get_rng_state(), generator_before)


# --- images ---


@EVERY
@pytest.mark.parametrize(
    "size", [pytest.param(28, marks=pytest.mark.long), 96, pytest.param(224, marks=pytest.mark.long)]
)
def test_images_of_other_sizes(name: str, size: int) -> None:
    world = fit(name, 3, make_data(3, size))
    assert np.isfinite(world.score(world.data.unlabeled)).all()


@EVERY
def test_gray_images(name: str) -> None:
    data = make_data(3, 28)
    gray = np.repeat(data.pixels[..., :1], 3, axis=3)  # as the image cache stores one channel
    world = fit(name, 3, dataclasses.replace(data, pixels=gray))
    assert len(np.unique(world.score(data.unlabeled))) > UNLABELED // 2


@EVERY
def test_fit_and_training_read_no_labels_of_the_pool(name: str) -> None:
    """What is not handed over cannot be read; `labeled` and `unlabeled` must not be mixed up either."""
    data = make_data(3)
    assert not set(data.labeled) & set(data.unlabeled)
    poisoned = dataclasses.replace(data, pixels=data.pixels.copy())
    poisoned.pixels[-UNSEEN:] = 0  # rows in neither set
    assert (fit(name, 3, poisoned).score(data.unlabeled) == fitted(name, 3).score(data.unlabeled)).all()


# --- on a GPU ---


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@EVERY_TASK_OR_FAMILY
def test_on_cuda_scores_are_close_to_the_cpus(name: str, task: str, tmp_path: Path) -> None:
    cuda = torch.device("cuda")
    world = own(name, 3, task)
    expected = world.score(world.data.unlabeled)
    image_size = world.data.image_size
    sampler = build_sampler(name, OPTIONS, task=task, num_classes=3, image_size=image_size, device=cuda)
    checkpoint.save(tmp_path / "sampler.pt", world.sampler.state_dict())
    sampler.load_state_dict(checkpoint.load(tmp_path / "sampler.pt", cuda))
    runtime = Runtime(cuda, 0)
    scores = sampler.score(world.net.to(cuda), world.data.pixels, world.data.unlabeled, runtime).acquisition
    assert np.corrcoef(scores, expected)[0, 1] > 0.99
    other_seed = dataclasses.replace(runtime, seed=1)
    sampler.objective(world.net, world.data, other_seed).begin(world.net, world.data, other_seed)
    sampler.fit(world.net, world.data, other_seed)
    again = sampler.score(world.net, world.data.pixels, world.data.unlabeled, other_seed).acquisition
    assert np.isfinite(again).all()
