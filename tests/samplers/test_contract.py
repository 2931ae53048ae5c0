"""What every sampler in the table keeps, whatever its mathematics (see samplers/base.py)."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.settings.core import Settings
from backend.settings.samplers import CLASSIFICATION_ONLY
from models import checkpoint
from models.data import CycleData, DataError, Runtime, Task
from models.losses.index_masks import IGNORE
from models.losses.objectives import Objective
from models.networks.classifier import Classifier, NetConfig, build_classifier
from models.networks.segmenter import Segmenter, SegmenterConfig, build_segmenter
from models.networks.task_net import TaskNet
from models.pixels import normalise
from models.training.task_network import Recipe, train_network
from samplers import SAMPLERS, build_sampler
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

CPU = torch.device("cpu")
SIZE = 32
FRAME = (32, 48)  # of the images that are segmented; their maps are of 4 x 6
LABELLED, UNLABELLED, UNSEEN = 12, 29, 8  # UNSEEN rows join the pool after fit
EPOCHS = 2
NOBODY = np.empty(0, dtype=np.int64)
# Small enough to run in a second; every sampler picks what it knows.
OPTIONS: dict[str, object] = {
    "vaal_width": 4,
    "vaal_latent": 4,
    "vaal_iterations": 2,
    "vaal_batch_size": 8,
    "covariance": "diag",
    "ta_vaal_latent": 4,
    "sraal_latent": 4,
    "learning_loss_width": 8,
    "dropout_draws": 8,
    "ensemble_size": 2,
    "core_set_picks": 6,
    "ceal_delta": 1.0,
    "budget": 5,
    "epochs": EPOCHS,
    "batch_size": 8,
    "learning_rate": 0.01,
    "not_a_setting_of_any_sampler": object(),
}
EVERY = pytest.mark.parametrize("name", SAMPLERS)
# Every sampler with every kind of network that it has a meaning for.
EVERY_TASK = pytest.mark.parametrize(
    ("name", "task"), [(name, task) for name, sampler in SAMPLERS.items() for task in sampler.tasks]
)
OF_MASKS = [name for name, sampler in SAMPLERS.items() if "segmentation" in sampler.tasks]
CLASSES = pytest.mark.parametrize("num_classes", [2, 10, 1000])


def make_pixels(size: int = SIZE) -> np.ndarray:
    """Smooth random colours with noise, so that images differ in more than noise."""
    rng = np.random.default_rng(0)
    side = size // 4
    base = rng.integers(0, 200, (LABELLED + UNLABELLED + UNSEEN, 4, 4, 3)).repeat(side, axis=1).repeat(side, axis=2)
    return (base + rng.integers(0, 56, (len(base), size, size, 3))).astype(np.uint8)


def make_data(num_classes: int, size: int = SIZE) -> CycleData:
    rows = np.random.default_rng(1).permutation(LABELLED + UNLABELLED)
    targets = np.arange(LABELLED) % num_classes
    return CycleData(make_pixels(size), rows[:LABELLED], targets, rows[LABELLED:], num_classes)


def make_masked_data(num_classes: int) -> CycleData:
    """Images of patches that are not square, and masks of patches that are read only: of each class but the last, which
    nobody has labelled yet, and a third of IGNORE. One mask is nothing else.
    """
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 200, (LABELLED + UNLABELLED + UNSEEN, 4, 6, 3)).repeat(8, axis=1).repeat(8, axis=2)
    classes = rng.integers(0, max(1, num_classes - 1), (LABELLED, 4, 6))
    classes[rng.random(classes.shape) < 1 / 3] = IGNORE
    classes[3] = IGNORE
    masks = classes.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)
    masks.setflags(write=False)
    rows = rng.permutation(LABELLED + UNLABELLED)
    pixels = (patches + rng.integers(0, 56, patches.shape)).astype(np.uint8)
    mask_of = rng.permutation(LABELLED)
    return CycleData(pixels, rows[:LABELLED], mask_of, rows[LABELLED:], num_classes, masks)


def make_segmenter(num_classes: int) -> Segmenter:
    net = build_segmenter(SegmenterConfig("drn-d-22", num_classes, 4), 0)
    with torch.no_grad():
        net(normalise(torch.from_numpy(make_masked_data(num_classes).pixels)))
        net.head.weight.mul_(4.0)
    return net


def data_for(task: Task, num_classes: int) -> CycleData:
    return make_data(num_classes) if task == "classification" else make_masked_data(num_classes)


def net_for(data: CycleData) -> TaskNet:
    if data.task == "segmentation":
        return make_segmenter(data.num_classes)
    return make_net(data.num_classes, data.image_size)


def make_net(num_classes: int, size: int = SIZE) -> Classifier:
    net = build_classifier(NetConfig("resnet18", num_classes, size, 4), 0)
    with torch.no_grad():
        net(normalise(torch.from_numpy(make_pixels(size))))  # batch statistics that fit the images
        net.head.weight.mul_(4.0)  # answers that are neither certain nor all alike
    return net


def make_sampler(name: str, num_classes: int, size: int = SIZE) -> Sampler:
    return build_sampler(name, OPTIONS, num_classes=num_classes, image_size=size, device=CPU)


@dataclass(frozen=True)
class Fitted:
    """A sampler after `objective` and `fit`, with all it was fitted on. Scoring must not change it."""

    sampler: Sampler
    net: TaskNet
    data: CycleData

    def score(self, rows: np.ndarray, seed: int = 0, batch: int = 0) -> np.ndarray:
        runtime = Runtime(CPU, seed, eval_batch_size=batch)
        return self.sampler.score(self.net, self.data.pixels, rows, runtime).acquisition


def fit(name: str, num_classes: int, data: CycleData | None = None) -> Fitted:
    data = data or make_data(num_classes)
    net, sampler = net_for(data), make_sampler(name, num_classes, data.image_size)
    learn(sampler, net, data)
    return Fitted(sampler, net, data)


def learn(sampler: Sampler, net: TaskNet, data: CycleData, seed: int = 0) -> None:
    """One cycle's training: the task network under the sampler's objective, then the sampler's own networks."""
    runtime = Runtime(CPU, seed)
    if len(data.labelled):
        train(sampler.objective(net, data, runtime), net, data, runtime)
    figures = sampler.fit(net, data, runtime)
    assert all(np.isfinite(value) for value in figures.values())


def train(objective: Objective, net: TaskNet, data: CycleData, runtime: Runtime) -> None:
    train_network(net, data, objective, Recipe(epochs=EPOCHS, batch_size=8, learning_rate=0.01), runtime)


def step(objective: Objective, net: TaskNet, data: CycleData, runtime: Runtime) -> Tensor:
    """The loss of one batch under the objective, as training would ask for it."""
    net.train()
    objective.begin(net, data, runtime)
    images = normalise(torch.from_numpy(data.pixels[data.labelled]))
    targets = data.targets if data.masks is None else data.masks[data.targets]
    return objective.loss(net, images, torch.from_numpy(targets), 0.5)


@cache  # shared between tests: that scoring changes nothing is itself tested
def fitted(name: str, num_classes: int, task: Task = "classification") -> Fitted:
    return fit(name, num_classes, data_for(task, num_classes))


def own(name: str, num_classes: int, task: Task) -> Fitted:
    """The same, for a test that changes something."""
    return copy.deepcopy(fitted(name, num_classes, task))


def first_norm(net: TaskNet) -> torch.nn.BatchNorm2d:
    return next(module for module in net.trunk.modules() if isinstance(module, torch.nn.BatchNorm2d))


def tensors_of(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors of a nested state with their places."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, dict):
        for key in value:
            yield from tensors_of(value[key], f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from tensors_of(item, f"{path}[{index}]")


def snapshot(world: Fitted) -> dict[str, Tensor]:
    state = {"net": world.net.state_dict(), "sampler": world.sampler.state_dict()}
    return {path: tensor.clone() for path, tensor in tensors_of(state)}


def modes(world: Fitted) -> list[bool]:
    nets = [world.net, *(value for value in vars(world.sampler).values() if isinstance(value, torch.nn.Module))]
    return [module.training for net in nets for module in net.modules()]


# --- the table ---


def test_the_table_names_its_samplers_rightly() -> None:
    assert {"random", "entropy", "vaal", "dast-al"} <= set(SAMPLERS)
    for name, sampler in SAMPLERS.items():
        assert sampler.name == name
        assert sampler.summary


@EVERY
def test_settings_of_a_sampler_are_settings_of_the_project_with_the_same_defaults(name: str) -> None:
    settings = Settings()
    for field in dataclasses.fields(SAMPLERS[name].Options):
        assert getattr(settings, field.name) == field.default, field.name


@EVERY
def test_options_reach_the_sampler_and_strange_ones_do_not_disturb(name: str) -> None:
    sampler = make_sampler(name, 2)
    for field in dataclasses.fields(sampler.Options):
        assert getattr(sampler.options, field.name) == OPTIONS.get(field.name, field.default)


def test_an_unknown_sampler_is_refused_with_the_choice() -> None:
    with pytest.raises(UnknownSampler, match=r"'oracle'.*random, least-confidence"):
        build_sampler("oracle", {}, num_classes=2, image_size=SIZE)


@EVERY
def test_the_score_says_what_it_computes(name: str) -> None:
    assert "(N,)" in (SAMPLERS[name]._score.__doc__ or "")


def test_those_for_classification_alone_are_the_settings() -> None:
    """So that a project with masks is refused before anything is trained."""
    assert set(CLASSIFICATION_ONLY) == set(SAMPLERS) - set(OF_MASKS) == {"ads", "ceal"}
    assert all(CLASSIFICATION_ONLY.values())


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - set(OF_MASKS)))
def test_a_sampler_without_a_meaning_for_masks_says_so(name: str) -> None:
    data, net, runtime = make_masked_data(3), make_segmenter(3), Runtime(CPU, 0)
    with pytest.raises(WrongTask, match=f"sampler {name} has no meaning for masks"):
        make_sampler(name, 3).objective(net, data, runtime)
    with pytest.raises(WrongTask, match=f"sampler {name} has no meaning for masks"):
        fitted(name, 3).sampler.score(net, data.pixels, data.unlabelled, runtime)


# --- scores ---


def check_scored(world: Fitted, fewest: int) -> None:
    rows, num_classes = world.data.unlabelled, world.data.num_classes
    scored = world.sampler.score(world.net, world.data.pixels, rows, Runtime(CPU, 0))
    assert scored.acquisition.shape == (UNLABELLED,)
    assert scored.acquisition.dtype == np.float64
    assert np.isfinite(scored.acquisition).all()
    assert len(np.unique(scored.acquisition)) > fewest  # an order, not a constant
    if scored.answers is not None:
        assert scored.answers.predicted.shape == scored.answers.confidence.shape == (UNLABELLED,)
        assert 0 <= scored.answers.predicted.min() <= scored.answers.predicted.max() < num_classes
        assert 0 < scored.answers.confidence.min() <= scored.answers.confidence.max() <= 1


@EVERY
@CLASSES
def test_one_finite_score_a_row_that_differ(name: str, num_classes: int) -> None:
    check_scored(fitted(name, num_classes), UNLABELLED // 2)


@pytest.mark.parametrize("name", OF_MASKS)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_one_finite_score_an_image_that_is_segmented(name: str, num_classes: int) -> None:
    """Two networks' votes on 24 pixels come to few different means."""
    check_scored(fitted(name, num_classes, "segmentation"), 1 if name in ("ensemble", "qbc") else UNLABELLED // 2)


@EVERY_TASK
def test_the_same_seed_gives_the_same_scores(name: str, task: Task) -> None:
    first, again = fitted(name, 3, task), fit(name, 3, data_for(task, 3))
    rows = first.data.unlabelled
    assert (first.score(rows) == first.score(rows)).all()
    torch.manual_seed(99)  # no global generator takes part
    assert (first.score(rows) == again.score(rows)).all()


@EVERY_TASK
@pytest.mark.parametrize("batch", [1, 7, 28, UNLABELLED, 500])  # 28: the last batch has one row
def test_scores_do_not_depend_on_batch_size_or_order(name: str, task: Task, batch: int) -> None:
    world = fitted(name, 3, task)
    rows = world.data.unlabelled
    order = np.random.default_rng(batch).permutation(UNLABELLED)
    expected = world.score(rows)
    spread = expected.max() - expected.min()
    np.testing.assert_allclose(world.score(rows[order], batch=batch), expected[order], atol=1e-4 * spread)


@EVERY_TASK
def test_scores_of_a_part_are_part_of_the_scores(name: str, task: Task) -> None:
    world = fitted(name, 3, task)
    rows = world.data.unlabelled
    expected = world.score(rows)
    spread = expected.max() - expected.min()
    np.testing.assert_allclose(world.score(rows[5:11]), expected[5:11], atol=1e-4 * spread)
    np.testing.assert_allclose(world.score(rows[3:4]), expected[3:4], atol=1e-4 * spread)


@EVERY_TASK
def test_a_memory_mapped_pool_gives_the_same_scores(name: str, task: Task, tmp_path: Path) -> None:
    world = fitted(name, 3, task)
    np.save(tmp_path / "pixels.npy", world.data.pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    scored = world.sampler.score(world.net, mapped, world.data.unlabelled, Runtime(CPU, 0))
    assert (scored.acquisition == world.score(world.data.unlabelled)).all()


# --- what scoring leaves alone ---


@EVERY_TASK
@pytest.mark.parametrize("training", [True, False])
def test_scoring_changes_nothing(name: str, task: Task, training: bool) -> None:
    world = own(name, 3, task)
    for value in (world.net, *vars(world.sampler).values()):
        if isinstance(value, torch.nn.Module):
            value.train(training)
    world.net.zero_grad()  # of the training
    first_norm(world.net).train(not training)
    before, modes_before, pixels_before = snapshot(world), modes(world), world.data.pixels.copy()
    generator_before = torch.get_rng_state()
    world.score(world.data.unlabelled, seed=5, batch=8)
    after = snapshot(world)
    assert before.keys() == after.keys()
    assert [path for path in before if not torch.equal(before[path], after[path])] == []
    assert modes(world) == modes_before
    assert (world.data.pixels == pixels_before).all()
    assert torch.equal(torch.get_rng_state(), generator_before)
    assert all(parameter.grad is None for parameter in world.net.parameters())


@EVERY_TASK
def test_scoring_reads_no_labels(name: str, task: Task) -> None:
    world = own(name, 3, task)
    expected = world.score(world.data.unlabelled)
    world.data.targets[:] = (world.data.targets + 1) % 3
    if world.data.masks is not None:
        world.data.masks.setflags(write=True)
        world.data.masks[:] = 1
    world.data.labelled[:] = world.data.labelled[::-1].copy()
    assert (world.score(world.data.unlabelled) == expected).all()


@EVERY_TASK
def test_fit_leaves_the_task_net_as_it_was(name: str, task: Task) -> None:
    data = data_for(task, 3)
    net, sampler, runtime = net_for(data), make_sampler(name, 3, data.image_size), Runtime(CPU, 0)
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
    name: str, task: Task, tmp_path: Path
) -> None:
    world = fitted(name, 3, task)
    checkpoint.save(tmp_path / "sampler.pt", world.sampler.state_dict())
    restored = make_sampler(name, 3, world.data.image_size)
    restored.load_state_dict(checkpoint.load(tmp_path / "sampler.pt"))
    other = Fitted(restored, world.net, world.data)
    everything = np.arange(LABELLED + UNLABELLED + UNSEEN)
    scores = world.score(everything)
    assert (other.score(everything) == scores).all()
    assert len(np.unique(scores[-UNSEEN:])) > (UNSEEN // 2 if task == "classification" else 1)


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
        options = OPTIONS | {"vaal_width": 8} | latents | others
        other = build_sampler(name, options, num_classes=3, image_size=SIZE, device=CPU)
        learn(other, make_net(3), make_data(3))
        state = other.state_dict()
    sampler, net, data = make_sampler(name, 3), make_net(3), make_data(3)
    sampler.load_state_dict(state)
    learn(sampler, net, data)
    assert np.isfinite(Fitted(sampler, net, data).score(data.unlabelled)).all()


@pytest.mark.parametrize("name", OF_MASKS)
@pytest.mark.parametrize("earlier", ["classification", "fewer classes"])
def test_state_of_other_networks_means_a_fresh_start_with_masks(name: str, earlier: str) -> None:
    former = fitted(name, 3) if earlier == "classification" else fitted(name, 2, "segmentation")
    data = make_masked_data(3)
    net, sampler = make_segmenter(3), make_sampler(name, 3, data.image_size)
    sampler.load_state_dict(former.sampler.state_dict())
    sampler.objective(net, data, Runtime(CPU, 0))
    sampler.fit(net, data, Runtime(CPU, 0))
    assert np.isfinite(Fitted(sampler, net, data).score(data.unlabelled)).all()


@EVERY_TASK
def test_a_resumed_cycle_equals_an_uninterrupted_one(name: str, task: Task, tmp_path: Path) -> None:
    """Going on from a checkpoint is going on: net and sampler after the second cycle are the same to the last bit."""
    straight = own(name, 3, task)
    checkpoint.save(tmp_path / "c.pt", {"net": straight.net.state_dict(), "sampler": straight.sampler.state_dict()})
    more = dataclasses.replace(
        straight.data,
        labelled=np.concatenate([straight.data.labelled, straight.data.unlabelled[:5]]),
        targets=np.concatenate([straight.data.targets, np.arange(5) % 3]),
        unlabelled=straight.data.unlabelled[5:],
    )
    saved = checkpoint.load(tmp_path / "c.pt")
    resumed = Fitted(make_sampler(name, 3, more.image_size), net_for(more), more)
    resumed.net.load_state_dict(saved["net"])
    resumed.sampler.load_state_dict(saved["sampler"])
    worlds = [Fitted(straight.sampler, straight.net, more), resumed]
    for world in worlds:
        learn(world.sampler, world.net, more, seed=1)
    first, second = (snapshot(world) for world in worlds)
    assert first.keys() == second.keys()
    assert [path for path in first if not torch.equal(first[path], second[path])] == []
    assert (worlds[0].score(more.unlabelled) == worlds[1].score(more.unlabelled)).all()


# --- images ---


@EVERY
@pytest.mark.parametrize("size", [28, 224])
def test_images_of_other_sizes(name: str, size: int) -> None:
    world = fit(name, 3, make_data(3, size))
    assert np.isfinite(world.score(world.data.unlabelled)).all()


@EVERY
def test_grey_images(name: str) -> None:
    data = make_data(3, 28)
    grey = np.repeat(data.pixels[..., :1], 3, axis=3)  # as the image cache stores one channel
    world = fit(name, 3, dataclasses.replace(data, pixels=grey))
    assert len(np.unique(world.score(data.unlabelled))) > UNLABELLED // 2


@EVERY
def test_fit_and_training_read_no_labels_of_the_pool(name: str) -> None:
    """What is not handed over cannot be read; `labelled` and `unlabelled` must not be mixed up either."""
    data = make_data(3)
    assert not set(data.labelled) & set(data.unlabelled)
    poisoned = dataclasses.replace(data, pixels=data.pixels.copy())
    poisoned.pixels[-UNSEEN:] = 0  # rows in neither set
    assert (fit(name, 3, poisoned).score(data.unlabelled) == fitted(name, 3).score(data.unlabelled)).all()


# --- odd pools and labelled sets ---


@EVERY
def test_an_empty_pool_is_a_named_error(name: str) -> None:
    with pytest.raises(EmptyPool, match=name):
        fitted(name, 3).score(NOBODY)


@EVERY
def test_a_single_row_pool_is_scored(name: str) -> None:
    world = fitted(name, 3)
    assert world.score(world.data.unlabelled[:1]).shape == (1,)


@EVERY
def test_rows_that_do_not_exist_are_refused(name: str) -> None:
    world = fitted(name, 3)
    for bad in (-1, LABELLED + UNLABELLED + UNSEEN):
        with pytest.raises(DataError, match="rows must lie in"):
            world.score(np.array([0, bad]))


@EVERY_TASK
@pytest.mark.parametrize("missing", ["unlabelled", "labelled", "both"])
def test_fit_without_unlabelled_or_labelled_rows_leaves_a_usable_sampler(name: str, task: Task, missing: str) -> None:
    data = data_for(task, 3)
    if missing in ("unlabelled", "both"):
        data = dataclasses.replace(data, unlabelled=NOBODY)
    if missing in ("labelled", "both"):
        data = dataclasses.replace(data, labelled=NOBODY, targets=NOBODY)
    try:
        world = fit(name, 3, data)
    except (SamplerError, DataError) as error:
        assert missing != "unlabelled", "a pool that is labelled through is no error"
        assert "label" in str(error)  # it says what is missing
        return
    assert np.isfinite(world.score(np.arange(20))).all()


@EVERY
@pytest.mark.parametrize(("labels", "num_classes"), [(1, 1), (1, 3), (2, 2), (5, 3)])
def test_few_labels_of_one_class(name: str, labels: int, num_classes: int) -> None:
    data = make_data(num_classes)
    data = dataclasses.replace(data, labelled=data.labelled[:labels], targets=np.zeros(labels, dtype=np.int64))
    assert np.isfinite(fit(name, num_classes, data).score(data.unlabelled)).all()


@pytest.mark.parametrize("name", OF_MASKS)
@pytest.mark.parametrize("labelled", ["nothing", "one class"])
def test_few_masks_and_little_in_them(name: str, labelled: str) -> None:
    """Two masks: entirely of pixels that nobody said anything about, or of one class, of one that there is."""
    data = make_masked_data(2 if labelled == "nothing" else 1)
    masks = np.full((2, *FRAME), IGNORE if labelled == "nothing" else 0, dtype=np.uint8)
    few = dataclasses.replace(data, labelled=data.labelled[:2], targets=np.array([1, 0]), masks=masks)
    world = fit(name, data.num_classes, few)
    assert np.isfinite(world.score(data.unlabelled)).all()
    assert all(parameter.isfinite().all() for parameter in world.net.parameters())


# --- objective and progress ---


def check_gradients(name: str, data: CycleData) -> None:
    net, runtime = net_for(data), Runtime(CPU, 0)
    sampler = make_sampler(name, data.num_classes, data.image_size)
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


@pytest.mark.parametrize("name", OF_MASKS)
def test_the_objective_trains_trunk_and_head_with_masks(name: str) -> None:
    check_gradients(name, make_masked_data(3))


@EVERY_TASK
def test_work_can_be_stopped_through_progress(name: str, task: Task) -> None:
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
        lambda: world.sampler.score(world.net, world.data.pixels, world.data.unlabelled, runtime),
    ):
        try:
            work()
        except Stop:
            told = True
    assert told or name == "random"  # random has no work worth telling
    assert np.isfinite(world.score(world.data.unlabelled)).all()


# --- broken networks ---


@EVERY_TASK
def test_broken_networks_are_an_error_that_names_the_sampler(name: str, task: Task) -> None:
    world = own(name, 3, task)
    expected = world.score(world.data.unlabelled)
    with torch.no_grad():
        for value in (world.net, *vars(world.sampler).values()):
            if isinstance(value, torch.nn.Module):
                for parameter in value.parameters():
                    parameter.fill_(torch.nan)
    try:
        scores = world.score(world.data.unlabelled)
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


def test_a_sampler_that_answers_nan_is_stopped_by_the_base_class() -> None:
    class Careless(Sampler):
        name = "careless"
        summary = "answers NaN"

        def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
            return Scored(np.full(len(rows), np.nan))

    sampler = Careless(num_classes=2, image_size=SIZE)
    with pytest.raises(NonFiniteScores, match="careless"):
        sampler.score(make_net(2), make_pixels(), np.arange(3), Runtime(CPU, 0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@EVERY_TASK
def test_on_cuda_scores_are_close_to_the_cpus(name: str, task: Task, tmp_path: Path) -> None:
    cuda = torch.device("cuda")
    world = own(name, 3, task)
    expected = world.score(world.data.unlabelled)
    sampler = build_sampler(name, OPTIONS, num_classes=3, image_size=world.data.image_size, device=cuda)
    checkpoint.save(tmp_path / "sampler.pt", world.sampler.state_dict())
    sampler.load_state_dict(checkpoint.load(tmp_path / "sampler.pt", cuda))
    runtime = Runtime(cuda, 0)
    scores = sampler.score(world.net.to(cuda), world.data.pixels, world.data.unlabelled, runtime).acquisition
    assert np.corrcoef(scores, expected)[0, 1] > 0.99
    other_seed = dataclasses.replace(runtime, seed=1)
    sampler.objective(world.net, world.data, other_seed).begin(world.net, world.data, other_seed)
    sampler.fit(world.net, world.data, other_seed)
    again = sampler.score(world.net, world.data.pixels, world.data.unlabelled, other_seed).acquisition
    assert np.isfinite(again).all()
