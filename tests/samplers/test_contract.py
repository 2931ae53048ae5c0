"""What every sampler in the table keeps, whatever its mathematics (see samplers/base.py)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.settings.core import Settings
from models import IGNORE, checkpoint
from models.data import ClassTargets, CycleData, DataError, MaskTargets, MultilabelTargets, Runtime
from models.inference.predictions import Predictions
from models.networks.base import TaskNet
from models.networks.vae import KL_REDUCTIONS
from models.tasks import TASKS
from samplers import SAMPLERS, all_options, build_sampler
from samplers import base as samplers_base
from samplers.adversarial_options import REDUCTIONS
from samplers.base import (
    EmptyPool,
    NonFiniteScores,
    Sampler,
    SamplerError,
    Scored,
    UnknownSampler,
    WrongTask,
    check_acquisition,
)
from samplers.options import SamplerOptions, about
from tests.samplers.worlds import (
    CLASSES,
    CPU,
    EVERY,
    EVERY_TASK,
    FRAME,
    LABELED,
    NOBODY,
    OPTIONS,
    SIZE,
    UNLABELED,
    UNSEEN,
    Fitted,
    data_for,
    first_norm,
    fit,
    fitted,
    learn,
    make_data,
    make_masked_data,
    make_net,
    make_pixels,
    make_sampler,
    make_segmenter,
    modes,
    net_for,
    own,
    sampler_for,
    serving,
    snapshot,
    step,
    tensors_of,
)

# --- the table ---


def test_the_table_names_its_samplers_rightly() -> None:
    assert {"random", "entropy", "vaal", "dast-al"} <= set(SAMPLERS)
    assert len(SAMPLERS) == len(set(SAMPLERS.values()))
    for name, sampler in SAMPLERS.items():
        assert sampler.name == name
        assert len(sampler.summary) > 10 and "|" not in sampler.summary + sampler.source + sampler.trains
        assert sampler.source or name == "random"
        assert isinstance(sampler.family, str)


def test_what_is_known_without_torch_is_what_models_have() -> None:
    assert list(TASKS) == list(samplers_base.TASKS)
    assert list(KL_REDUCTIONS) == list(REDUCTIONS)


@EVERY
def test_a_sampler_serves_the_kinds_of_task_that_it_does_not_refuse(name: str) -> None:
    sampler = SAMPLERS[name]
    assert set(sampler.tasks).isdisjoint(sampler.refusals)
    assert {*sampler.tasks, *sampler.refusals} == set(TASKS)
    assert all(reason and not reason.endswith(".") for reason in sampler.refusals.values())  # ends an owner's sentence


def test_an_option_that_several_samplers_have_is_declared_once() -> None:
    """So that there is one default, one help text and one check of each."""
    known = all_options()
    for sampler in SAMPLERS.values():
        for field in dataclasses.fields(sampler.Options):
            assert about(field) in (None, known.get(field.name)), f"{sampler.name}: {field.name}"


@EVERY
def test_options_of_a_sampler_are_settings_of_the_project_with_the_same_defaults(name: str) -> None:
    settings, options = Settings(), SAMPLERS[name].Options
    assert issubclass(options, SamplerOptions)
    for field in dataclasses.fields(options):
        assert getattr(settings, field.name) == field.default, field.name


@EVERY
def test_options_reach_the_sampler_and_strange_ones_do_not_disturb(name: str) -> None:
    sampler = make_sampler(name, 2, task=SAMPLERS[name].tasks[0])
    for field in dataclasses.fields(sampler.Options):
        assert getattr(sampler.options, field.name) == OPTIONS.get(field.name, field.default)


def test_an_unknown_sampler_is_refused_with_the_choice() -> None:
    with pytest.raises(UnknownSampler, match=r"'oracle'.*random, least-confidence"):
        build_sampler("oracle", {}, task="classification", num_classes=2, image_size=SIZE)


@EVERY
def test_the_score_says_what_it_computes(name: str) -> None:
    assert "(N,)" in (SAMPLERS[name]._score.__doc__ or "")


def test_which_samplers_have_no_meaning_for_which_kind_of_task() -> None:
    """What papers define for one class an image, as far as the samplers here follow them."""
    assert {"ads", "ceal"}.isdisjoint(serving("segmentation"))
    assert {"ads", "ceal", "dast-al"}.isdisjoint(serving("multilabel"))
    assert {"ads", "ceal", "dast-al", "entropy", "vaal"} <= set(serving("classification"))


@pytest.mark.parametrize(
    ("name", "task"), [(name, task) for name, sampler in SAMPLERS.items() for task in sampler.refusals]
)
def test_a_sampler_is_not_built_for_a_task_that_it_refuses_and_says_why(name: str, task: str) -> None:
    with pytest.raises(WrongTask, match=f"sampler {name} has no meaning for {task}: {SAMPLERS[name].refusals[task]}"):
        make_sampler(name, 3, task=task)


def test_a_kind_of_task_that_nobody_knows_is_refused() -> None:
    with pytest.raises(WrongTask, match="no meaning for boxes: it serves classification, multilabel"):
        make_sampler("entropy", 3, task="boxes")


def test_a_network_for_another_kind_of_task_is_refused() -> None:
    world = fitted("entropy", 3)
    with pytest.raises(WrongTask, match="entropy was built for classification, the network for segmentation"):
        world.sampler.score(make_segmenter(3), make_masked_data(3).pixels, np.arange(3), Runtime(CPU, 0))


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


@EVERY
@CLASSES
def test_one_finite_score_a_row_that_differ(name: str, num_classes: int) -> None:
    check_scored(fitted(name, num_classes), UNLABELED // 2)


@pytest.mark.parametrize("name", serving("multilabel"))
@pytest.mark.parametrize("num_classes", [1, 10])
def test_one_finite_score_a_row_with_several_classes(name: str, num_classes: int) -> None:
    check_scored(fitted(name, num_classes, "multilabel"), UNLABELED // 2)


@pytest.mark.parametrize("name", serving("segmentation"))
@pytest.mark.parametrize("num_classes", [2, 3])
def test_one_finite_score_an_image_that_is_segmented(name: str, num_classes: int) -> None:
    """Two networks' votes on 24 pixels come to few different means."""
    check_scored(fitted(name, num_classes, "segmentation"), 1 if name in ("ensemble", "qbc") else UNLABELED // 2)


@EVERY_TASK
def test_the_same_seed_gives_the_same_scores(name: str, task: str) -> None:
    first, again = fitted(name, 3, task), fit(name, 3, data_for(task, 3))
    rows = first.data.unlabeled
    assert (first.score(rows) == first.score(rows)).all()
    torch.manual_seed(99)  # no global generator takes part
    assert (first.score(rows) == again.score(rows)).all()


@EVERY_TASK
@pytest.mark.parametrize("batch", [1, 7, 28, UNLABELED, 500])  # 28: the last batch has one row
def test_scores_do_not_depend_on_batch_size_or_order(name: str, task: str, batch: int) -> None:
    world = fitted(name, 3, task)
    rows = world.data.unlabeled
    order = np.random.default_rng(batch).permutation(UNLABELED)
    expected = world.score(rows)
    spread = expected.max() - expected.min()
    np.testing.assert_allclose(world.score(rows[order], batch=batch), expected[order], atol=1e-4 * spread)


@EVERY_TASK
def test_scores_of_a_part_are_part_of_the_scores(name: str, task: str) -> None:
    world = fitted(name, 3, task)
    rows = world.data.unlabeled
    expected = world.score(rows)
    spread = expected.max() - expected.min()
    np.testing.assert_allclose(world.score(rows[5:11]), expected[5:11], atol=1e-4 * spread)
    np.testing.assert_allclose(world.score(rows[3:4]), expected[3:4], atol=1e-4 * spread)


@EVERY_TASK
def test_a_memory_mapped_pool_gives_the_same_scores(name: str, task: str, tmp_path: Path) -> None:
    world = fitted(name, 3, task)
    np.save(tmp_path / "pixels.npy", world.data.pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    scored = world.sampler.score(world.net, mapped, world.data.unlabeled, Runtime(CPU, 0))
    assert (scored.acquisition == world.score(world.data.unlabeled)).all()


# --- what scoring leaves alone ---


@EVERY_TASK
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


@EVERY_TASK
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


@EVERY_TASK
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


# --- state ---


@EVERY_TASK
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


@EVERY_TASK
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


# --- images ---


@EVERY
@pytest.mark.parametrize("size", [28, 224])
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


@EVERY_TASK
@pytest.mark.parametrize("missing", ["unlabeled", "labeled", "both"])
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
@pytest.mark.parametrize(("labels", "num_classes"), [(1, 1), (1, 3), (2, 2), (5, 3)])
def test_few_labels_of_one_class(name: str, labels: int, num_classes: int) -> None:
    data = make_data(num_classes)
    targets = ClassTargets(np.zeros(labels, dtype=np.int64))
    data = dataclasses.replace(data, labeled=data.labeled[:labels], targets=targets)
    assert np.isfinite(fit(name, num_classes, data).score(data.unlabeled)).all()


@pytest.mark.parametrize("name", serving("multilabel"))
@pytest.mark.parametrize("chosen", [0, 1])
@pytest.mark.parametrize("num_classes", [1, 3])
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


@EVERY_TASK
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


@EVERY_TASK
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


def test_checks_of_the_base_class() -> None:
    check_acquisition("one", np.array([0.0, -1e300]), 2)
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(NonFiniteScores, match=r"sampler one: 1 of 2 scores are not finite.*position 1"):
            check_acquisition("one", np.array([0.0, value]), 2)
    for wrong in (np.zeros(3), np.zeros((2, 1)), np.zeros(2, dtype=np.float32)):
        with pytest.raises(SamplerError, match="expected 2 float64"):
            check_acquisition("one", wrong, 2)


def test_a_sampler_that_returns_nan_is_stopped_by_the_base_class() -> None:
    class Careless(Sampler[SamplerOptions]):
        name = "careless"
        summary = "returns NaN"
        Options = SamplerOptions

        def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
            return Scored(np.full(len(rows), np.nan))

    sampler = Careless(task="classification", num_classes=2, image_size=SIZE)
    with pytest.raises(NonFiniteScores, match="careless"):
        sampler.score(make_net(2), make_pixels(), np.arange(3), Runtime(CPU, 0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@EVERY_TASK
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
