"""Data, networks and fitted samplers of every kind of task, small enough for a test to have all of them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models import IGNORE
from models.data import ClassTargets, CycleData, MaskTargets, MultilabelTargets, Runtime
from models.losses.objectives import Objective
from models.networks.base import TaskNet
from models.networks.segmenter import Segmenter, SegmenterConfig
from models.pixels import normalize
from models.tasks import SEGMENTATION, TASKS
from models.training.schedule import Recipe
from models.training.task_network import train_network
from samplers import SAMPLERS, build_sampler
from samplers.base import Sampler
from tests.models.examples import EXAMPLES

CPU = torch.device("cpu")
SIZE = 32
FRAME = (32, 48)  # of the images that are segmented; their maps are of 4 x 6
LABELED, UNLABELED, UNSEEN = 12, 29, 8  # UNSEEN rows join the pool after fit
EPOCHS = 1
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
    "gan_iterations": 2,
    "gan_width": 4,
    "gan_latent": 6,
    "synthetic_steps": 3,
    "asal_images": 5,
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
# The same, for what is the same code whatever the task: every sampler with its first kind of network and one of each
# family with all, the others in `make test-long`.
OF_EACH_FAMILY = ("entropy", "core-set", "mc-dropout", "learning-loss", "vaal-frozen-vae", "gaal")
EVERY_TASK_OR_FAMILY = pytest.mark.parametrize(
    ("name", "task"),
    [
        pytest.param(name, task, marks=() if task == sampler.tasks[0] or name in OF_EACH_FAMILY else pytest.mark.long)
        for name, sampler in SAMPLERS.items()
        for task in sampler.tasks
    ],
)
# What is the same code whatever sampler and task: one of each family with every kind of network, the others as above.
EACH_FAMILY = pytest.mark.parametrize(
    ("name", "task"),
    [
        pytest.param(name, task, marks=() if name in OF_EACH_FAMILY else pytest.mark.long)
        for name, sampler in SAMPLERS.items()
        for task in sampler.tasks
    ],
)
# What is the same code whatever the sampler, and dear: with one of each family, the others in `make test-long`.
EVERY_OR_FAMILY = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OF_EACH_FAMILY else pytest.mark.long) for name in SAMPLERS]
)
CLASSES = pytest.mark.parametrize("num_classes", [2, pytest.param(10, marks=pytest.mark.long), 1000])


def serving(task: str) -> list[str]:
    """Names of the samplers that have a meaning for this kind of task."""
    return [name for name, sampler in SAMPLERS.items() if task in sampler.tasks]


def make_pixels(size: int = SIZE) -> np.ndarray:
    """Smooth random colors with noise, so that images differ in more than noise."""
    rng = np.random.default_rng(0)
    side = size // 4
    base = rng.integers(0, 200, (LABELED + UNLABELED + UNSEEN, 4, 4, 3)).repeat(side, axis=1).repeat(side, axis=2)
    return (base + rng.integers(0, 56, (len(base), size, size, 3))).astype(np.uint8)


def make_data(num_classes: int, size: int = SIZE) -> CycleData:
    rows = np.random.default_rng(1).permutation(LABELED + UNLABELED)
    targets = np.arange(LABELED) % num_classes
    return CycleData(make_pixels(size), rows[:LABELED], rows[LABELED:], ClassTargets(targets), num_classes)


def make_multilabel_data(num_classes: int) -> CycleData:
    """The same images; each class chosen or not by chance, nothing in the fourth of them and all in the sixth."""
    data = make_data(num_classes)
    chosen = np.random.default_rng(2).integers(0, 2, (LABELED, num_classes), dtype=np.uint8)
    chosen[3], chosen[5] = 0, 1
    return dataclasses.replace(data, targets=MultilabelTargets(chosen))


def make_masked_data(num_classes: int) -> CycleData:
    """Images of patches that are not square, and masks of patches that are read only: of each class but the last, which
    nobody has labeled yet, and a third of IGNORE. One mask is nothing else.
    """
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 200, (LABELED + UNLABELED + UNSEEN, 4, 6, 3)).repeat(8, axis=1).repeat(8, axis=2)
    classes = rng.integers(0, max(1, num_classes - 1), (LABELED, 4, 6))
    classes[rng.random(classes.shape) < 1 / 3] = IGNORE
    classes[3] = IGNORE
    masks = classes.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)
    masks.setflags(write=False)
    rows = rng.permutation(LABELED + UNLABELED)
    pixels = (patches + rng.integers(0, 56, patches.shape)).astype(np.uint8)
    mask_of = rng.permutation(LABELED)
    return CycleData(pixels, rows[:LABELED], rows[LABELED:], MaskTargets(masks, mask_of), num_classes)


def make_segmenter(num_classes: int) -> Segmenter:
    return copy.deepcopy(_segmenter(num_classes))


@cache
def _segmenter(num_classes: int) -> Segmenter:
    net = SEGMENTATION.build(SegmenterConfig("drn-d-22", num_classes, 4), 0)
    with torch.no_grad():
        net(normalize(torch.from_numpy(make_masked_data(num_classes).pixels)))
        net.head.weight.mul_(4.0)
    return net


def data_for(task: str, num_classes: int) -> CycleData:
    makers = {
        "classification": make_data,
        "multilabel": make_multilabel_data,
        "segmentation": make_masked_data,
    }
    if task in makers:
        return makers[task](num_classes)
    targets = EXAMPLES[task].targets(np.random.default_rng(2), LABELED, num_classes, SIZE)
    return dataclasses.replace(make_data(num_classes), targets=targets)


def net_for(data: CycleData) -> TaskNet:
    if data.task == "segmentation":
        return make_segmenter(data.num_classes)
    return make_net(data.num_classes, data.image_size, data.task)


def make_net(num_classes: int, size: int = SIZE, task: str = "classification") -> TaskNet:
    return copy.deepcopy(_net(num_classes, size, task))


@cache
def _net(num_classes: int, size: int, task: str) -> TaskNet:
    net = TASKS[task].build(EXAMPLES[task].config(num_classes, size), 0)
    with torch.no_grad():
        net(normalize(torch.from_numpy(make_pixels(size))))  # batch statistics that fit the images
        net.head.weight.mul_(4.0)  # predictions that are neither certain nor all alike
    return net


def make_sampler(name: str, num_classes: int, size: int = SIZE, task: str = "classification") -> Sampler[Any]:
    return build_sampler(name, OPTIONS, task=task, num_classes=num_classes, image_size=size, device=CPU)


def sampler_for(name: str, data: CycleData, **options: object) -> Sampler[Any]:
    """Built for the task, classes and images of `data`."""
    return build_sampler(
        name,
        OPTIONS | options,
        task=data.task,
        num_classes=data.num_classes,
        image_size=data.image_size,
        device=CPU,
    )


@dataclass(frozen=True)
class Fitted:
    """A sampler after `objective` and `fit`, with all it was fitted on. Scoring must not change it."""

    sampler: Sampler[Any]
    net: TaskNet
    data: CycleData

    def score(self, rows: np.ndarray, seed: int = 0, batch: int = 0) -> np.ndarray:
        runtime = Runtime(CPU, seed, eval_batch_size=batch)
        return self.sampler.score(self.net, self.data.pixels, rows, runtime).acquisition


def fit(name: str, num_classes: int, data: CycleData | None = None) -> Fitted:
    data = data or make_data(num_classes)
    net, sampler = net_for(data), sampler_for(name, data)
    learn(sampler, net, data)
    return Fitted(sampler, net, data)


def learn(sampler: Sampler[Any], net: TaskNet, data: CycleData, seed: int = 0) -> None:
    """One cycle's training: the task network under the sampler's objective, then the sampler's own networks."""
    runtime = Runtime(CPU, seed)
    if len(data.labeled):
        train(sampler.objective(net, data, runtime), net, data, runtime)
    metrics = sampler.fit(net, data, runtime)
    assert all(np.isfinite(value) for value in metrics.values())


def train(objective: Objective, net: TaskNet, data: CycleData, runtime: Runtime) -> None:
    train_network(net, data, objective, Recipe(epochs=EPOCHS, batch_size=8, learning_rate=0.01), runtime)


def step(objective: Objective, net: TaskNet, data: CycleData, runtime: Runtime) -> Tensor:
    """The loss of one batch under the objective, as training would ask for it."""
    net.train()
    objective.begin(net, data, runtime)
    images = normalize(torch.from_numpy(data.pixels[data.labeled]))
    return objective.loss(net, images, targets_of_batch(data), 0.5)


def targets_of_batch(data: CycleData) -> Tensor:
    """All targets as an objective gets them."""
    return EXAMPLES[data.task].batch(data.targets)


@cache  # shared between tests: that scoring changes nothing is itself tested
def fitted(name: str, num_classes: int, task: str = "classification") -> Fitted:
    return fit(name, num_classes, data_for(task, num_classes))


def forget() -> None:
    """Clear what tests share; it is rebuilt at its next use."""
    for one in (_net, _segmenter, fitted):
        one.cache_clear()


def own(name: str, num_classes: int, task: str) -> Fitted:
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
