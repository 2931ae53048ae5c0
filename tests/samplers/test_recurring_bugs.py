"""Mistakes that published active-learning code makes again and again, each with a test that would have caught it.

Sizes are never those of a paper: a number of classes or labels that is written down somewhere shows itself here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_pre_hook

from backend.learning.scores import priority_scores
from models import IGNORE
from models.data import ClassTargets, CycleData, Runtime
from models.inference.predictions import embed
from models.losses.loss_prediction import LossPredictor
from models.losses.objectives import CrossEntropy
from models.pixels import augment, normalize
from models.training.schedule import Recipe
from models.training.task_network import train_network
from samplers.noise import logistic_noise
from tests.samplers.worlds import (
    CPU,
    EVERY,
    EVERY_TASK,
    EVERY_TASK_OR_FAMILY,
    Fitted,
    data_for,
    fitted,
    make_net,
    make_pixels,
    make_sampler,
    net_for,
    sampler_for,
    step,
    targets_of_batch,
)

LOSS_PREDICTION = {"learning-loss", "learning-loss-v2", "ta-vaal"}
OWN_LOSS = LOSS_PREDICTION | {"mc-dropout", "bald", "ads", "dast-al"}  # the others train on plain cross entropy
RUNTIME = Runtime(CPU, 0)


# --- 1. random rows drawn with replacement: some twice, others lost (TA-VAAL, Sequential-GCN, DeepAL) ---


@pytest.mark.parametrize("seed", [0, 1])
def test_random_asks_for_every_row_of_a_subset_exactly_once(seed: int) -> None:
    subset = np.random.default_rng(seed).choice(50_000, 10_000, replace=False)
    numbers = logistic_noise(subset, seed)
    queue = subset[np.argsort(-numbers)]
    assert len(np.unique(numbers)) == 10_000
    assert sorted(queue) == sorted(subset)  # nothing twice, nothing lost, nothing from outside
    first, rest = set(queue[:1000]), set(queue[1000:])
    assert len(first) == 1000 and len(rest) == 9000


@EVERY_TASK_OR_FAMILY
def test_the_whole_pool_is_queued_once(name: str, task: str) -> None:
    world = fitted(name, 3, task)
    published = priority_scores(world.score(world.data.unlabeled), seed=0)
    assert len(np.unique(published)) == len(world.data.unlabeled)
    assert ((published > 0) & (published <= 1)).all()


# --- 2. networks in the wrong mode while scoring (VAAL's task net after validation; autoencoders in training mode) ---


@contextmanager
def watched() -> Iterator[dict[nn.Module, bool]]:
    """Every module that computes meanwhile, and whether it ever did so in training mode."""
    seen: dict[nn.Module, bool] = {}

    def note(module: nn.Module, inputs: object) -> None:
        seen[module] = seen.get(module, False) or module.training

    hook = register_module_forward_pre_hook(note)
    try:
        yield seen
    finally:
        hook.remove()


@EVERY_TASK
def test_all_networks_score_in_eval_mode_also_when_left_in_training_mode(name: str, task: str) -> None:
    world = fitted(name, 3, task)
    rows = world.data.unlabeled
    with watched() as seen:
        expected = world.score(rows)
    assert not any(seen.values())
    assert not any(module.training for module in seen)  # nor did training and `fit` leave them so
    assert seen or name == "random"
    try:
        for module in seen:
            module.training = True
        with watched() as again:
            values = world.score(rows)
    finally:
        for module in seen:
            module.training = False
    matters = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    assert not any(training for module, training in again.items() if isinstance(module, matters))
    assert (values == expected).all()


# --- 3. a condition that is always true: every method trains with the ranker's loss (TA-VAAL) ---


def plain_loss(task: str, logits: Tensor, targets: Tensor) -> Tensor:
    if task == "multilabel":
        return functional.binary_cross_entropy_with_logits(logits, targets)
    return functional.cross_entropy(logits, targets.long(), ignore_index=IGNORE)


@EVERY_TASK
def test_only_those_that_predict_losses_train_a_loss_predictor(name: str, task: str) -> None:
    data = data_for(task, 3)
    net = net_for(data)
    objective = sampler_for(name, data).objective(net, data, RUNTIME)
    loss = step(objective, net, data, RUNTIME)
    modules = [module for network in objective.networks for module in network.modules()]
    assert any(isinstance(module, LossPredictor) for module in modules) == (name in LOSS_PREDICTION)
    if name not in OWN_LOSS:
        images = normalize(torch.from_numpy(data.pixels[data.labeled]))
        assert list(objective.networks) == []
        torch.testing.assert_close(loss, plain_loss(task, net(images), targets_of_batch(data)))
    objective.finish()


# --- 4. the wrong end of the queue (DAST-AL's "Maxp", VAAL in DeepAL+) ---


def probabilities(world: Fitted) -> np.ndarray:
    """(U, C) softmax by NumPy of a plain forward pass over the unlabeled images as they are."""
    images = normalize(torch.from_numpy(world.data.pixels[world.data.unlabeled]))
    with torch.no_grad():
        logits = world.net.eval()(images).double().numpy()
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def entropy(world: Fitted) -> np.ndarray:
    p = probabilities(world)
    return -(p * np.log(p)).sum(axis=1)


def error(world: Fitted) -> np.ndarray:
    return 1.0 - probabilities(world).max(axis=1)


def closeness(world: Fitted) -> np.ndarray:
    p = np.sort(probabilities(world), axis=1)
    return p[:, -2] - p[:, -1]


def farness(world: Fitted) -> np.ndarray:
    points, centers = (
        embed(world.net, world.data.pixels, rows, RUNTIME).astype(float)
        for rows in (world.data.unlabeled, world.data.labeled)
    )
    return np.sqrt(((points[:, None] - centers[None]) ** 2).sum(axis=2)).min(axis=1)


BY_HAND: dict[str, Callable[[Fitted], np.ndarray]] = {
    "least-confidence": error,
    "margin": closeness,
    "entropy": entropy,
    "max-prob": lambda world: -error(world),
    "ceal": entropy,
}


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("num_classes", [2, 7])
def test_the_queue_is_that_of_a_plain_forward_pass(name: str, num_classes: int) -> None:
    """Also no. 6 by value: the images are those of the pool, not augmented ones."""
    world = fitted(name, num_classes)
    expected, values = BY_HAND[name](world), world.score(world.data.unlabeled)
    assert np.argsort(-values).tolist() == np.argsort(-expected).tolist()


def test_core_set_begins_with_the_row_farthest_from_all_labels() -> None:
    world = fitted("core-set", 3)
    values = world.score(world.data.unlabeled)
    assert np.argmax(values) == np.argmax(farness(world))


# --- 5. the number of labels or classes of another experiment, from a global (TA-VAAL's ADDENDUM); 7. odd batches ---


@EVERY
@pytest.mark.parametrize(("labels", "num_classes"), [(5, 2), (7, 3), (9, 11)])
def test_any_number_of_labels_trains_in_batches_of_four(name: str, labels: int, num_classes: int) -> None:
    """Batches of 3 + 2, 4 + 3 and 3 + 3 + 3 rows: losses on pairs have one row left over."""
    rows = np.random.default_rng(labels).permutation(40)
    targets = np.arange(labels) % num_classes
    data = CycleData(make_pixels(), rows[:labels], rows[labels:], ClassTargets(targets), num_classes)
    net, sampler = make_net(num_classes), make_sampler(name, num_classes)
    recipe = Recipe(epochs=1, batch_size=4, learning_rate=0.01)
    metrics = train_network(net, data, sampler.objective(net, data, RUNTIME), recipe, RUNTIME)
    assert (metrics["labels"], metrics["batch_size"]) == (labels, 4)
    assert np.isfinite(metrics["loss"])
    assert all(parameter.isfinite().all() for parameter in net.parameters())


# --- 6. the pool scored through the training's crops and mirrors (DAST-AL, ADS, VAAL, SRAAL) ---


@EVERY
def test_scoring_augments_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(images: Tensor, generator: torch.Generator) -> Tensor:
        raise AssertionError("an image was augmented")

    world = fitted(name, 3)
    expected = world.score(world.data.unlabeled)
    for module in list(sys.modules.values()):
        for attribute, value in list(vars(module).items()) if module.__name__.startswith("models.") else ():
            if value is augment:
                monkeypatch.setattr(module, attribute, refuse)
    with pytest.raises(AssertionError, match="augmented"):  # the trap works
        train_network(make_net(3), world.data, CrossEntropy(), Recipe(epochs=1), RUNTIME)
    assert (world.score(world.data.unlabeled) == expected).all()


@EVERY_TASK
def test_the_task_network_sees_the_images_as_they_are(name: str, task: str) -> None:
    world = fitted(name, 3, task)
    shown: list[Tensor] = []
    hook = world.net.trunk.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]))
    try:
        world.score(world.data.unlabeled)
    finally:
        hook.remove()
    pool = normalize(torch.from_numpy(world.data.pixels[np.sort(world.data.unlabeled)]))
    if shown:  # not every sampler looks at the task network
        assert torch.equal(torch.cat(shown)[: len(pool)], pool)
