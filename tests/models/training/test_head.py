"""The head on features that stay: what it is trained on, under which objectives, and what stays as it is."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.data import ClassTargets, CycleData, DataError, MultilabelTargets, Runtime
from models.deadline import Deadline
from models.losses.isda import ISDA, class_covariance, isda_loss, semantic_table
from models.losses.objectives import CrossEntropy, Objective
from models.networks.backbones import NOTHING
from models.networks.pretrained import FinetunedClassifier, FrozenClassifier, PretrainedConfig
from models.pixels import normalize
from models.tasks import TASKS
from models.training.committee import train_members
from models.training.schedule import Recipe
from models.training.task_network import train_network

CPU = torch.device("cpu")
SIDE, COUNT, LABELED, FEATURES, TAPS = 32, 60, 24, 16, (4, 5)
RECIPE = Recipe(epochs=1, batch_size=8, learning_rate=0.01)
# Dimensions of no network of timm: nobody may ask for the backbone itself.
HEAD = PretrainedConfig("no such network", 3, SIDE, NOTHING, NOTHING, True, FEATURES, TAPS)


def made(classes: np.ndarray | None = None, apart: float = 2.0) -> tuple[FrozenClassifier, CycleData, Runtime]:
    rng = np.random.default_rng(0)
    classes = np.arange(COUNT) % 3 if classes is None else classes
    kept = rng.normal(0, 1, (COUNT, HEAD.embedding))
    kept[:, :3] += apart * np.eye(3)[np.arange(COUNT) % 3]
    net = TASKS["classification"].build(HEAD, 0)
    assert isinstance(net, FrozenClassifier)
    data = CycleData(
        np.zeros((COUNT, SIDE, SIDE, 3), np.uint8),
        np.arange(LABELED),
        np.arange(LABELED, COUNT),
        ClassTargets(classes[:LABELED]),
        3,
    )
    return net, data, Runtime(CPU, 0, features=kept.astype(np.float16))


def accuracy(net: FrozenClassifier, runtime: Runtime) -> float:
    assert runtime.features is not None
    with torch.no_grad():
        said = net(torch.from_numpy(runtime.features[LABELED:])).argmax(dim=1).numpy()
    return float((said == np.arange(LABELED, COUNT) % 3).mean())


def test_it_learns_from_what_is_kept_without_the_backbone() -> None:
    net, data, runtime = made()
    figures = train_network(net, data, CrossEntropy(), RECIPE, runtime)
    assert accuracy(net, runtime) > 0.8
    assert figures["labels"] == LABELED
    assert figures["loss"] < 0.8
    assert net.temperature == figures["temperature"] != 1
    assert figures["cv_labels"] == LABELED and figures["cv_accuracy"] > 0.5 and 0 <= figures["ece"] < 0.4
    assert all(np.isfinite(value) for value in figures.values())
    assert not net.training


def test_labels_that_it_left_out_in_turn_are_judged_and_a_wrong_one_is_in_doubt() -> None:
    classes = np.arange(COUNT) % 3
    classes[7] = (classes[7] + 1) % 3
    net, data, runtime = made(classes, apart=12.0)
    assert net.judged is None
    data = dataclasses.replace(data, synthetic=np.arange(LABELED) < 2)  # nothing is said of these
    figures = train_network(net, data, CrossEntropy(), RECIPE, runtime)
    assert net.judged is not None
    assert net.judged.places.tolist() == list(range(LABELED - 2))
    assert net.judged.given.tolist() == classes[2:LABELED].tolist()
    assert net.judged.sure_from == figures["preannotate_above"]
    assert dataclasses.replace(net.judged, sure_from=1.0).doubts() == [], "who is sure of nothing doubts nothing"
    doubts = dataclasses.replace(net.judged, sure_from=0.5).doubts()
    assert (7 - 2, classes[7], 7 % 3) in [(one.place, one.given, one.suggested) for one in doubts]
    assert len(doubts) < 4


def test_the_same_seed_gives_the_same_head() -> None:
    heads = []
    for _ in range(2):
        net, data, runtime = made()
        train_network(net, data, CrossEntropy(), RECIPE, runtime)
        heads.append(net.head.weight)
    assert torch.equal(*heads)


def test_the_head_under_isda_minimizes_its_bound() -> None:
    """No small step in any of some directions goes lower, the penalty counted; plain cross entropy ends elsewhere."""
    net, data, runtime = made()
    figures = train_network(net, data, ISDA(2.0), RECIPE, runtime)
    plain, *_ = made()
    train_network(plain, data, CrossEntropy(), RECIPE, runtime)
    assert not torch.allclose(net.head.weight, plain.head.weight, atol=1e-3)
    assert runtime.features is not None
    features = torch.from_numpy(runtime.features[:LABELED, :FEATURES]).float()
    targets = torch.from_numpy(data.targets.classes) if isinstance(data.targets, ClassTargets) else None
    assert targets is not None
    spread = torch.from_numpy(runtime.features[:, :FEATURES]).float().std(dim=0, correction=0)
    covariance = class_covariance(features, targets, 3)

    def total(weight: torch.Tensor) -> float:
        logits = functional.linear(features, weight, net.head.bias)
        bound = isda_loss(logits, targets, semantic_table(weight, covariance), 2.0)
        return float(LABELED * bound + (weight * spread).square().sum() / (2 * figures["strength"]))

    with torch.no_grad():
        lowest, generator = total(net.head.weight), torch.Generator().manual_seed(0)
        for _ in range(20):
            step = torch.randn(net.head.weight.shape, generator=generator)
            assert total(net.head.weight + 0.1 * step) > lowest


def test_an_objective_with_networks_of_its_own_is_trained_in_steps() -> None:
    class WithModule(Objective):
        def __init__(self) -> None:
            self.module = torch.nn.Linear(TAPS[0], 1)
            self.passes = 0

        @property
        def networks(self) -> list[torch.nn.Module]:
            return [self.module]

        def loss(
            self, net: torch.nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float
        ) -> torch.Tensor:
            assert isinstance(net, FrozenClassifier)
            features, taps = net.features_and_taps(images)
            return functional.cross_entropy(net.head(features), targets) + (self.module(taps[0]) - 3.0).square().mean()

        def after_epoch(self, net: torch.nn.Module, progress: float, learning_rate: float) -> None:
            self.passes += 1

    net, data, runtime = made()
    objective = WithModule()
    before = objective.module.bias.item()
    figures = train_network(net, data, objective, RECIPE, runtime)
    assert abs(objective.module.bias.item() - 3.0) < abs(before - 3.0)
    assert objective.passes > 1 and figures["steps"] > 100
    assert accuracy(net, runtime) > 0.8
    assert not objective.module.training


def test_several_choices_are_a_regression_each() -> None:
    _, data, runtime = made()
    chosen = np.eye(3, dtype=np.uint8)[np.arange(LABELED) % 3]
    chosen[:, 1] |= chosen[:, 0]
    data = dataclasses.replace(data, targets=MultilabelTargets(chosen))
    net = TASKS["multilabel"].build(HEAD, 0)
    train_network(net, data, net.task.cross_entropy(), RECIPE, runtime)
    assert runtime.features is not None
    with torch.no_grad():
        said = net(torch.from_numpy(runtime.features[LABELED:])).sigmoid().numpy()
    first = np.arange(LABELED, COUNT) % 3 == 0
    assert said[first][:, 1].mean() > said[~first][:, 1].mean()  # chosen along with the first class, and by itself
    assert said[first][:, 0].mean() > said[~first][:, 0].mean() + 0.05


@pytest.mark.parametrize("objective", [CrossEntropy(), ISDA(0.5)], ids=["cross entropy", "isda"])
def test_what_spreads_over_the_pool_helps_a_head_of_few_labels(objective: Objective) -> None:
    """Clusters in a few of the directions, of which the labels alone say little."""
    rng = np.random.default_rng(0)
    classes = np.arange(400) % 3
    kept = rng.normal(0, 1, (400, HEAD.embedding))
    kept[:, :FEATURES] += (4 * rng.normal(0, 1, (3, 2))[classes]) @ rng.normal(0, 1, (2, FEATURES))
    data = CycleData(
        np.zeros((400, SIDE, SIDE, 3), np.uint8), np.arange(15), np.arange(15, 400), ClassTargets(classes[:15]), 3
    )
    runtime = Runtime(CPU, 0, features=kept.astype(np.float16))
    told, figures = {}, {}
    for semi_supervised in (False, True):
        net = TASKS["classification"].build(HEAD, 0)
        recipe = dataclasses.replace(RECIPE, semi_supervised=semi_supervised)
        figures[semi_supervised] = train_network(net, data, objective, recipe, runtime)
        with torch.no_grad():
            said = net(torch.from_numpy(kept[15:]).half()).argmax(dim=1).numpy()
        told[semi_supervised] = float((said == classes[15:]).mean())
    assert figures[False]["spread_share"] == 0 < figures[True]["spread_share"]
    assert told[True] >= told[False]


def test_members_of_a_committee_of_heads_differ() -> None:
    net, data, runtime = made()
    others = [copy.deepcopy(net) for _ in range(2)]
    train_members(others, [1, 2], data, RECIPE, runtime)
    assert not torch.allclose(others[0].head.weight, others[1].head.weight, atol=1e-2)


def test_a_deadline_that_has_passed_ends_it_early() -> None:
    net, data, runtime = made()
    figures = train_network(net, data, CrossEntropy(), RECIPE, dataclasses.replace(runtime, deadline=Deadline(0.0)))
    assert figures["bounded_by_seconds"] == 1
    assert figures["steps"] <= 20


def test_without_labels_there_is_nothing_to_learn() -> None:
    net, data, runtime = made()
    nothing = dataclasses.replace(data, labeled=data.labeled[:0], targets=data.targets.at(slice(0)))
    with pytest.raises(DataError, match="no labeled row"):
        train_network(net, nothing, CrossEntropy(), RECIPE, runtime)


def test_features_of_another_backbone_are_refused() -> None:
    net, data, runtime = made()
    assert runtime.features is not None
    with pytest.raises(DataError, match="the features must be"):
        train_network(net, data, CrossEntropy(), RECIPE, dataclasses.replace(runtime, features=runtime.features[:, :5]))


def test_a_state_holds_the_head_alone() -> None:
    assert set(made()[0].state_dict()) == {"head.weight", "head.bias"}


# --- a backbone that is trained as well ---


def test_fine_tuning_begins_with_the_head_and_moves_the_backbone_less() -> None:
    config = PretrainedConfig.of("test_efficientnet", 3, SIDE, NOTHING, NOTHING, frozen=False)
    net = TASKS["classification"].build(config, 0)
    assert isinstance(net, FinetunedClassifier)
    before = {key: value.clone() for key, value in net.trunk.state_dict().items()}
    _, data, _ = made()
    pixels = np.random.default_rng(0).integers(0, 256, data.pixels.shape).astype(np.uint8)
    figures = train_network(
        net, dataclasses.replace(data, pixels=pixels), CrossEntropy(), Recipe(1, 8, 0.1), Runtime(CPU, 0)
    )
    moved = [key for key, value in net.trunk.state_dict().items() if not torch.equal(before[key], value)]
    assert moved and not any("running" in key for key in moved)
    assert figures["images"] == LABELED
    assert net.temperature == 1 and "cv_accuracy" not in figures
    assert {group["share"] for group in net.rate_groups()} == {0.01, 0.1}
    with torch.no_grad():
        assert torch.isfinite(net(normalize(torch.from_numpy(pixels[:2])))).all()


def test_labels_of_generated_images_are_learned_and_measure_nothing() -> None:
    """Wrong ones move the head, but neither how strong its penalty is nor how right it is said to be."""
    net, data, runtime = made()
    data = dataclasses.replace(data, unlabeled=data.unlabeled[6:])
    plain = train_network(net, data, CrossEntropy(), RECIPE, runtime)
    wrong = np.arange(LABELED, LABELED + 6)
    classes = np.concatenate([np.arange(LABELED) % 3, (wrong + 1) % 3])
    more = dataclasses.replace(
        data,
        labeled=np.arange(LABELED + 6),
        targets=ClassTargets(classes),
        synthetic=np.arange(LABELED + 6) >= LABELED,
    )
    other = made()[0]
    figures = train_network(other, more, CrossEntropy(), RECIPE, runtime)
    measured = ("strength", "temperature", "cv_accuracy", "ece", "cv_labels", "preannotate_above")
    assert {key: figures[key] for key in measured} == {key: plain[key] for key in measured}
    assert figures["cv_labels"] == LABELED and figures["labels"] == LABELED + 6
    assert not torch.allclose(net.head.weight, other.head.weight, atol=1e-3)
    known = more.real
    assert known.synthetic is None and len(known.labeled) == LABELED
    assert (known.targets.at(slice(None)).classes == data.targets.classes).all()  # type: ignore[attr-defined]
