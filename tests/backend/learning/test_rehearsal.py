"""A second network tells what the first one's probabilities are worth: what it learns from, and what it is asked."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from backend.learning import learner as learners
from backend.learning import rehearsal
from backend.learning.learner import Learner
from backend.settings.core import Settings
from models.data import ClassTargets, CycleData, MaskTargets, Runtime
from models.deadline import Deadline
from models.inference.predictions import predict
from models.networks.pretrained import FinetunedClassifier
from models.networks.pretrained_segmenter import PretrainedSegmenter
from models.training.calibration import NEVER
from models.training.task_network import TrainingDiverged, train_network

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 3)
ENCODER = "test_efficientnet"  # of timm, 0.4 million parameters
CLASSES = ("dark", "light")
SETTINGS = Settings(
    sampler="entropy", segmentation_net=ENCODER, task_net=ENCODER, weights="none", epochs=4, batch_size=4
)
FINETUNED = dataclasses.replace(SETTINGS, training="finetune")
MASKS = "segmentation"


def boxes(labels: int = 12) -> CycleData:
    """Noise with a bright box, which is the second class."""
    draw = np.random.default_rng(0)
    masks = np.zeros((labels + 4, 32, 32), np.uint8)
    for mask, (top, left) in zip(masks, draw.integers(0, 16, (len(masks), 2)), strict=True):
        mask[top : top + 14, left : left + 14] = 2
    pixels = (draw.integers(0, 60, (*masks.shape, 3)) + 80 * masks[..., None]).astype(np.uint8)
    return CycleData(pixels, np.arange(labels), np.arange(labels, labels + 4), MaskTargets(masks, np.arange(labels)), 3)


def shades(labels: int = 12) -> CycleData:
    """Dark images and light ones."""
    classes = np.arange(labels + 4) % 2
    noise = np.random.default_rng(0).integers(0, 60, (labels + 4, 32, 32, 3))
    pixels = (noise + 150 * classes[:, None, None, None]).astype(np.uint8)
    return CycleData(pixels, np.arange(labels), np.arange(labels, labels + 4), ClassTargets(classes[:labels]), 2)


def trained(settings: Settings, data: CycleData, previous: Learner | None = None) -> tuple[Learner, dict[str, float]]:
    return Learner.trained(settings, CLASSES, data, RUNTIME, previous)


def test_a_quarter_of_the_labels_is_held_back_with_what_was_said_of_them() -> None:
    data = shades(40)
    parts = rehearsal.parted(data, RUNTIME)
    assert parts is not None
    learned, held = parts
    assert (len(learned.labeled), len(held.labeled)) == (30, 10)
    assert sorted([*learned.labeled, *held.labeled]) == list(range(40))
    for part in parts:
        assert isinstance(part.targets, ClassTargets) and part.targets.classes.tolist() == (part.labeled % 2).tolist()
        assert len(part.unlabeled) == 0
    again = rehearsal.parted(data, RUNTIME)
    assert again is not None and np.array_equal(again[1].labeled, held.labeled)
    other = rehearsal.parted(data, Runtime(CPU, 4))
    assert other is not None and not np.array_equal(other[1].labeled, held.labeled)


def test_labels_of_generated_images_are_neither_held_back_nor_asked_about() -> None:
    data = dataclasses.replace(shades(40), synthetic=np.arange(40) >= 20)
    parts = rehearsal.parted(data, RUNTIME)
    assert parts is not None
    assert sorted(np.concatenate([part.labeled for part in parts])) == list(range(20))
    assert rehearsal.parted(dataclasses.replace(data, synthetic=np.arange(40) >= 7), RUNTIME) is None


@pytest.mark.parametrize(("settings", "data"), [(SETTINGS, boxes()), (FINETUNED, boxes()), (FINETUNED, shades())])
def test_what_is_found_is_the_versions_temperature_and_among_its_figures(settings: Settings, data: CycleData) -> None:
    learner, metrics = trained(settings, data)
    assert isinstance(learner.net, PretrainedSegmenter | FinetunedClassifier)
    assert learner.net.temperature == metrics["train_temperature"] != 1
    quality = {"train_pixel_accuracy", "train_mean_iou"} if data.task == MASKS else {"train_cv_accuracy"}
    assert quality | {"train_ece", "train_cv_labels", "train_preannotate_above"} <= set(metrics)
    assert metrics["train_cv_labels"] == 3 and metrics["train_preannotate_above"] == NEVER
    assert metrics["train_rehearsal_seconds"] > 0
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("data", [boxes(), shades()])
def test_the_network_is_made_as_sure_of_the_pool_as_the_second_one_is(
    data: CycleData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: list[Learner] = []
    original = rehearsal.rehearsed

    def noted(net: Any, learner: Learner, *more: Any) -> dict[str, float]:
        seconds.append(learner)
        return original(net, learner, *more)

    monkeypatch.setattr(rehearsal, "rehearsed", noted)
    first, _ = trained(FINETUNED, data)
    sure = [predict(one.net, data.pixels, data.unlabeled, RUNTIME).confidence.mean() for one in (first, *seconds)]
    assert len(sure) == 2 and sure[0] == pytest.approx(sure[1], abs=1e-3)


def test_the_network_itself_is_as_it_would_be_without(monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsed, _ = trained(SETTINGS, boxes())
    monkeypatch.setattr(PretrainedSegmenter, "rehearses", False)
    plain, metrics = trained(SETTINGS, boxes())
    assert "train_temperature" not in metrics and plain.net.temperature == 1
    theirs = plain.net.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in rehearsed.net.state_dict().items())


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each training was given, the rehearsals among them."""
    seen: list[dict[str, Any]] = []

    def noted(net: Any, data: CycleData, objective: Any, recipe: Any, runtime: Runtime) -> dict[str, float]:
        before = {key: value.clone() for key, value in net.state_dict().items()}
        figures = train_network(net, data, objective, recipe, runtime)
        seen.append({"before": before, "data": data, "recipe": recipe, "runtime": runtime, "images": figures["images"]})
        return figures

    for module in (learners, rehearsal):
        monkeypatch.setattr(module, "train_network", noted)
    return seen


def test_it_begins_afresh_with_other_labels_and_takes_a_fifth_of_the_images(trainings: list[dict[str, Any]]) -> None:
    """Also where the training itself goes on from an earlier cycle's network, which has seen the labels."""
    data = boxes(16)
    earlier, _ = trained(SETTINGS, data)
    trained(SETTINGS, data, earlier)
    *_, second, rehearsed = trainings
    fresh = Learner.fresh(SETTINGS, CLASSES, 32, CPU, RUNTIME.seed, MASKS).net.state_dict()
    assert all(torch.equal(value, fresh[key]) for key, value in rehearsed["before"].items())
    assert not all(torch.equal(value, fresh[key]) for key, value in second["before"].items())
    assert len(rehearsed["data"].labeled) == 12 and len(second["data"].labeled) == 16
    assert rehearsed["images"] <= rehearsal.SHARE * second["images"] + 4


def test_few_labels_are_all_learned_from_and_nothing_is_known(trainings: list[dict[str, Any]]) -> None:
    learner, metrics = trained(SETTINGS, boxes(rehearsal.FEWEST - 1))
    assert len(trainings) == 1 and learner.net.temperature == 1
    assert metrics["train_preannotate_above"] == NEVER and "train_ece" not in metrics


def test_a_rehearsal_that_fails_costs_the_figures_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def diverges(*_: object) -> dict[str, float]:
        raise TrainingDiverged("the training loss is not finite")

    monkeypatch.setattr(rehearsal, "train_network", diverges)
    learner, metrics = trained(SETTINGS, boxes())
    assert learner.net.temperature == 1 and metrics["train_preannotate_above"] == NEVER
    assert "How far confidences can be believed is not known: the training loss is not finite" in caplog.text


def test_networks_from_scratch_and_heads_have_none(trainings: list[dict[str, Any]]) -> None:
    """A head on features is cross-validated instead."""
    _, metrics = trained(dataclasses.replace(SETTINGS, segmentation_net="drn-d-22", task_width=4), boxes())
    assert len(trainings) == 1 and "train_temperature" not in metrics
    _, metrics = trained(SETTINGS, shades())
    assert len(trainings) == 2 and metrics["train_cv_labels"] == 12


def test_the_seconds_of_a_cycle_are_for_both(trainings: list[dict[str, Any]]) -> None:
    trained(dataclasses.replace(SETTINGS, fit_seconds=60.0), boxes())
    own, rehearsed = (one["runtime"].deadline for one in trainings)
    assert isinstance(own, Deadline) and isinstance(rehearsed, Deadline)
    assert rehearsed.at - own.at == pytest.approx(60 * (1 - 1 / (1 + rehearsal.SHARE)), abs=1)
