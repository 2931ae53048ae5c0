"""What every kind of task keeps, and how one is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.data import ClassTargets, CycleData, Runtime
from models.inference.disagreement import StreamingBald, StreamingMaxEntropy
from models.inference.predictions import embed, predict
from models.losses.objectives import Objective
from models.networks.base import TaskNet
from models.tasks import TASKS, task_name_of, task_named
from models.training.schedule import Recipe
from models.training.task_network import train_network
from samplers.entropy import predictive_entropy
from tests.models.examples import EXAMPLES

RUNTIME = Runtime(torch.device("cpu"), 0)
CLASSES, SIZE = 3, 16
CONFIGS = {name: example.config(CLASSES, SIZE) for name, example in EXAMPLES.items()}
EVERY = pytest.mark.parametrize("name", TASKS)


def make_net(name: str, seed: int = 0) -> TaskNet:
    return TASKS[name].build(CONFIGS[name], seed)


def make_data(name: str, count: int = 12) -> CycleData:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2 * count, SIZE, SIZE, 3), dtype=np.uint8)
    targets = EXAMPLES[name].targets(rng, count, CLASSES, SIZE)
    return CycleData(pixels, np.arange(count), np.arange(count, 2 * count), targets, CLASSES)


def outputs(name: str, count: int = 5) -> Tensor:
    """Logits of the shape that this kind's networks give."""
    size = (count, CLASSES, *EXAMPLES[name].place)
    return 2.0 * torch.randn(size, generator=torch.Generator().manual_seed(1))


# --- the table ---


def test_the_table_and_the_targets_call_a_kind_the_same() -> None:
    assert {"classification", "segmentation"} <= set(TASKS), "checkpoints name them"
    assert set(TASKS) == set(EXAMPLES)
    assert all(task_named(name).name == name == make_data(name).task for name in TASKS)


def test_an_unknown_kind_is_refused_with_the_choice() -> None:
    with pytest.raises(KeyError, match=r"'boxes'.*classification, multilabel, segmentation"):
        task_named("boxes")


@pytest.mark.parametrize(
    ("saved", "name"),
    [
        ({"name": "resnet18", "num_classes": 3, "image_size": 32, "width": 16, "pretrained": False}, "classification"),
        ({"name": "vgg16-bn", "num_classes": 3, "image_size": 32, "width": 64, "pretrained": True}, "classification"),
        ({"name": "drn-d-22", "num_classes": 4, "width": 4, "pretrained": False}, "segmentation"),
        ({"name": "deeplabv3-resnet50", "num_classes": 4, "width": 0, "pretrained": True}, "segmentation"),
        ({"name": "lraspp-mobilenetv3", "num_classes": 4, "width": 0, "pretrained": True}, "segmentation"),
    ],
)
def test_a_checkpoint_of_before_there_were_names_is_known_by_its_network(saved: dict[str, Any], name: str) -> None:
    """The dictionaries are as version 0.3.0 wrote them."""
    task = task_named(task_name_of(saved))
    assert task.name == name
    config = task.config_from_dict(saved)
    assert config.to_dict() == saved
    assert config.bare().to_dict() == saved | {"pretrained": False}


# --- networks ---


@EVERY
def test_a_network_knows_its_task_and_its_state_does_not(name: str) -> None:
    net = make_net(name)
    assert net.task is TASKS[name]
    assert net.config == CONFIGS[name]
    assert {key.partition(".")[0] for key in net.state_dict()} == {"trunk", "head"}
    assert net.head.weight.shape[:2] == (net.num_classes, net.feature_channels) == (CLASSES, net.feature_channels)


@EVERY
def test_a_configuration_of_another_kind_of_network_is_refused(name: str) -> None:
    other = CONFIGS["classification" if name == "segmentation" else "segmentation"]
    with pytest.raises(TypeError, match="need"):
        TASKS[name].build(other, 0)


def test_networks_say_what_they_serve() -> None:
    assert CONFIGS["multilabel"].serves(CLASSES, SIZE)
    assert not CONFIGS["multilabel"].serves(CLASSES, 2 * SIZE)
    assert not CONFIGS["multilabel"].serves(CLASSES + 1, SIZE)
    assert CONFIGS["segmentation"].serves(CLASSES, 2 * SIZE)
    assert not CONFIGS["segmentation"].serves(CLASSES + 1, SIZE)


@EVERY
def test_rows_of_the_head_follow_the_names(name: str) -> None:
    """The background of masks has no name, and stays the first whatever the labels are called."""
    old, new = make_net(name, 0), make_net(name, 1)
    background = len(old.head.weight) - CLASSES + 1 if name == "segmentation" else 0
    labels = ["background", "b", "c"][: CLASSES - background]
    fresh = new.head.weight.detach().clone()
    assert TASKS[name].carry_over(old.state_dict(), labels, new, ["b", "new", "background"][: len(labels)]) == ""
    assert torch.equal(new.head.weight[:background], old.head.weight[:background])
    assert torch.equal(new.head.weight[background], old.head.weight[background + 1])
    assert torch.equal(new.head.weight[background + 1], fresh[background + 1])


# --- what outputs mean ---


@EVERY
def test_an_images_figures_are_its_own(name: str) -> None:
    """Not those of its neighbors in the batch; a broken image is broken alone."""
    task, logits = TASKS[name], outputs(name)
    logits[3, 1] = torch.nan
    for found in (
        task.predict(logits)[1],
        task.per_image(predictive_entropy, logits),
        task.per_image(predictive_entropy, logits, reduce="mean"),
    ):
        assert found.shape == (5,)
        assert found.isnan().tolist() == [False, False, False, True, False]
    alone = torch.cat([task.per_image(predictive_entropy, one[None]) for one in logits])
    whole = task.per_image(predictive_entropy, logits)
    torch.testing.assert_close(alone, whole, rtol=1e-5, atol=1e-7, equal_nan=True)
    assert task.image_features(logits).shape == (5, CLASSES)


@EVERY
def test_equal_opinions_have_the_entropy_of_one_and_no_disagreement(name: str) -> None:
    task, logits = TASKS[name], outputs(name)
    consensus, between = task.streaming(StreamingMaxEntropy), task.streaming(StreamingBald)
    for _ in range(3):
        consensus.add(logits)
        between.add(logits)
    own = task.per_image(predictive_entropy, logits).double()
    torch.testing.assert_close(consensus.result(), own, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(between.result(), torch.zeros(5, dtype=torch.float64), rtol=0.0, atol=1e-6)


@EVERY
def test_predictions_and_features_of_a_pool(name: str) -> None:
    net, data = make_net(name), make_data(name)
    found = predict(net, data.pixels, data.unlabeled, RUNTIME)
    assert len(found.predicted) == 12
    assert (found.confidence > 0.0).all() and (found.confidence <= 1.0).all()
    assert embed(net, data.pixels, data.unlabeled, RUNTIME).shape == (12, net.feature_channels)
    nothing = predict(net, data.pixels, data.unlabeled[:0], RUNTIME)
    assert (nothing.predicted.shape, nothing.predicted.dtype) == (
        (0, *found.predicted.shape[1:]),
        found.predicted.dtype,
    )


# --- training ---


class Recorded(Objective):
    """Cross entropy of the kind, and the shares of the losses that the kind gives to single images."""

    def __init__(self, name: str) -> None:
        self.task = TASKS[name]
        self.plain = self.task.cross_entropy()
        self.compared = 0

    def begin(self, net: TaskNet, data: CycleData, runtime: Runtime) -> None:
        self.plain.begin(net, data, runtime)

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        expected = self.plain.loss(net, images, targets, progress)
        mean, each = self.task.losses(net.head(net.features(images)), targets, None)
        torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(each.mean(), mean, rtol=1e-4, atol=1e-5)  # every pixel has a label here
        self.compared += len(each)
        return expected


@EVERY
def test_the_loss_of_the_images_is_that_of_the_objective(name: str) -> None:
    data, objective = make_data(name), Recorded(name)
    figures = train_network(make_net(name), data, objective, Recipe(epochs=2, batch_size=4), RUNTIME)
    assert objective.compared == 2 * len(data.labeled)
    assert np.isfinite(figures["loss"])


@EVERY
def test_a_latent_learns_something_of_every_labeled_image(name: str) -> None:
    data = make_data(name)
    found = TASKS[name].latent_targets(data, RUNTIME)
    if isinstance(data.targets, ClassTargets):
        assert found.dtype == torch.int64
        assert found.tolist() == data.targets.classes.tolist()
    else:
        assert found.shape == (12, CLASSES)
        assert (found.sum(dim=1) <= 1.0 + 1e-6).all()


@EVERY
def test_only_masks_are_balanced_by_class(name: str) -> None:
    data = make_data(name)
    balanced = TASKS[name].balanced(data)
    weight = TASKS[name].class_weight(balanced, RUNTIME.device)
    assert TASKS[name].class_weight(data, RUNTIME.device) is None
    if name == "segmentation":
        assert weight is not None and weight.shape == (CLASSES,)
    else:
        assert weight is None and balanced is data
