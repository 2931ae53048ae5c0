"""The learner: made fresh, trained, saved, read again, warm-started; the same seed gives the same scores."""

from __future__ import annotations

import dataclasses
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.errors import BackendError
from backend.learning.learner import Learner, cycle_seed
from backend.learning.scores import priority_scores
from backend.settings.core import Settings
from backend.tasks.segmentation.kind import DRN_CPU_WIDTH
from backend.tasks.whole_images import CLASSIFIER_CPU_WIDTH, CLASSIFIER_WIDTH
from models import IGNORE, checkpoint
from models.data import ClassTargets, CycleData, MaskTargets, MultilabelTargets, Runtime
from models.deadline import Deadline
from models.inference.predictions import predict_masks
from models.networks.backbones import BUNDLED
from models.networks.classifier import NetConfig
from models.networks.pretrained_segmenter import PretrainedSegmenterConfig
from models.networks.segmenter import Segmenter, SegmenterConfig
from models.pixels import normalize
from models.training import adversarial, task_network
from models.training.budget import Pace
from samplers import SAMPLER_NAMES
from tests.integration.helpers import drawing
from tests.samplers.worlds import EVERY_OR_FAMILY

pytestmark = pytest.mark.usefixtures("shallow_networks")

CPU = torch.device("cpu")
CLASSES = ("stripes", "checks", "rings")
TINY = Settings(
    task_width=4,
    epochs=3,
    batch_size=16,
    vaal_width=4,
    vaal_latent=4,
    ta_vaal_latent=4,
    sraal_latent=4,
    vaal_iterations=3,
    vaal_batch_size=8,
    ensemble_size=2,
    dropout_draws=8,
    learning_loss_width=8,
    core_set_picks=6,
    gan_iterations=2,
    gan_width=4,
    gan_latent=6,
    synthetic_steps=2,
    asal_images=5,
)


def pictures(count: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(count, 32, 32, 3) uint8 and their classes (count,)."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(count) % classes
    gray = np.stack([drawing(int(kind), rng, side=32) for kind in kinds])
    return np.repeat(gray[..., None], 3, axis=3), kinds.astype(np.int64)


def trained(settings: Settings, classes: tuple[str, ...] = CLASSES, seed: int = 5, width: int = 0) -> Learner:
    pixels, kinds = pictures(36, len(classes))
    data = CycleData(pixels, np.arange(12), np.arange(12, 36), ClassTargets(kinds[:12]), len(classes))
    learner = Learner.fresh(settings, classes, 32, CPU, seed)
    learner.learn(data, settings, Runtime(CPU, seed))
    return learner


@cache
def kept(name: str) -> Learner:
    """Trained once for all tests that only read it."""
    return trained(brief(name))


def scores(learner: Learner, seed: int = 5) -> np.ndarray:
    pixels, _ = pictures(36)
    return learner.score(pixels, np.arange(12, 36), Runtime(CPU, seed))[0]


def with_sampler(name: str, **changes: Any) -> Settings:
    return dataclasses.replace(TINY, sampler=name, **changes)


def brief(name: str) -> Settings:
    """For what is checked of every sampler."""
    return with_sampler(name, epochs=1)


@EVERY_OR_FAMILY
def test_the_same_seed_gives_the_same_version(name: str, tmp_path: Path) -> None:
    first, second = kept(name), trained(brief(name))
    assert np.array_equal(scores(first), scores(second))
    assert first.save(tmp_path / "a.pt") == second.save(tmp_path / "b.pt")  # the hash in the version's name
    other = trained(brief(name), seed=6)
    assert other.save(tmp_path / "c.pt") != first.save(tmp_path / "d.pt") or name == "random"


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_what_was_saved_scores_and_predicts_the_same(name: str, tmp_path: Path) -> None:
    learner = kept(name)
    learner.save(tmp_path / "model.pt")
    again = Learner.load(tmp_path / "model.pt", CPU)
    assert again.classes == CLASSES and again.sampler.name == name
    assert np.array_equal(scores(learner), scores(again))
    pixels, _ = pictures(36)
    assert same_predictions(learner, again, pixels[:5])


def test_any_sampler_without_an_objective_of_its_own_can_have_isdas() -> None:
    """With the same augmentation, `margin` trains the very network that `dast-al` trains; without, another one."""

    def network(name: str, objective: str) -> list[torch.Tensor]:
        return parameters(trained(with_sampler(name, objective=objective)))

    ours, plain, isda = network("margin", "isda"), network("margin", "auto"), network("dast-al", "auto")
    assert all(torch.equal(one, other) for one, other in zip(ours, isda, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(ours, plain, strict=True))


@pytest.mark.parametrize("name", ["ensemble", "vaal"])
def test_what_trains_besides_the_task_network_gets_its_share_of_the_seconds(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deadline of its own for the task network at half of the time; the sampler's networks end with the cycle's."""
    ends: list[float] = []

    class Noted(Pace):
        def __init__(self, steps: int, deadline: Deadline | None, device: torch.device) -> None:
            assert deadline is not None
            ends.append(deadline.at)
            super().__init__(steps, deadline, device)

    for module in (task_network, adversarial):
        monkeypatch.setattr(module, "Pace", Noted)
    pixels, kinds = pictures(36)
    data = CycleData(pixels, np.arange(12), np.arange(12, 36), ClassTargets(kinds[:12]), 3)
    settings = with_sampler(name, fit_seconds=1.0, epochs=10_000, vaal_iterations=1_000_000)
    began = time.monotonic()
    figures = Learner.fresh(settings, CLASSES, 32, CPU, 5).learn(data, settings, Runtime(CPU, 5))
    assert figures["train_bounded_by_seconds"] == figures["fit_bounded_by_seconds"] == 1
    first, second = ends
    assert second - first == pytest.approx(0.5, abs=0.01)
    assert began < first < second


@pytest.mark.parametrize("name", ["margin", "ensemble", "ads"])
def test_the_bound_on_the_images_is_each_networks_own(name: str) -> None:
    pixels, kinds = pictures(240)
    data = CycleData(pixels, np.arange(120), np.arange(120, 240), ClassTargets(kinds[:120]), 3)
    settings = with_sampler(name, train_images=100)
    figures = Learner.fresh(settings, CLASSES, 32, CPU, 5).learn(data, settings, Runtime(CPU, 5))
    assert 90 < figures["train_images"] <= 100 and figures["train_bounded_by_images"] == 1
    if name == "ensemble":
        assert figures["fit_images"] == figures["train_images"], "of two networks, the task network among them"


def same_predictions(one: Learner, other: Learner, images: np.ndarray) -> bool:
    (ours, our_scores), (theirs, their_scores) = one.predict(images), other.predict(images)
    return (
        np.array_equal(ours.predicted, theirs.predicted)
        and np.array_equal(ours.confidence, theirs.confidence)
        and np.array_equal(our_scores, their_scores)
    )


def test_a_prediction_is_a_class_a_confidence_and_a_priority_score() -> None:
    learner = trained(with_sampler("entropy"))
    pixels, _ = pictures(12)
    predictions, score = learner.predict(pixels)
    confidence = predictions.confidence
    assert ((confidence > 1 / 3) & (confidence <= 1)).all()
    probabilities = torch.softmax(logits(learner, pixels), dim=1).double().numpy()
    assert predictions.predicted.tolist() == probabilities.argmax(axis=1).tolist()
    assert confidence == pytest.approx(probabilities.max(axis=1), abs=1e-5)
    entropy = -(probabilities * np.log(probabilities)).sum(axis=1)
    assert score == pytest.approx(priority_scores(entropy, 0), abs=1e-4)


def logits(learner: Learner, pixels: np.ndarray) -> torch.Tensor:
    learner.net.eval()
    with torch.no_grad():
        found: torch.Tensor = learner.net(normalize(torch.from_numpy(pixels)))
    return found


def test_widths_left_to_the_device_are_stored_as_they_were_trained(tmp_path: Path) -> None:
    """What a GPU trained at the papers' widths is read on a CPU at those widths, not at a CPU's."""
    settings = with_sampler("vaal", task_net="resnet18", task_width=0, vaal_width=0)
    on_cpu = Learner.fresh(settings, CLASSES, 32, CPU, 0)
    assert on_cpu.net_config.width == CLASSIFIER_CPU_WIDTH != CLASSIFIER_WIDTH

    # trained here at other widths than a CPU's own, as a GPU's would be; the settings still say "auto"
    wide = trained(with_sampler("vaal", task_width=8, vaal_width=12))
    payload = wide.payload() | {"options": settings.options()}
    checkpoint.save(tmp_path / "gpu.pt", payload)
    again = Learner.load(tmp_path / "gpu.pt", CPU)
    assert again.net_config.width == 8
    assert shapes(again.net) == shapes(wide.net)
    assert again.sampler.vae.config.width == 12  # type: ignore[attr-defined]
    assert np.array_equal(scores(again), scores(wide))


def shapes(net: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in net.state_dict().items()}


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_an_added_class_enters_by_name_and_the_others_stay(name: str) -> None:
    settings = brief(name)
    old = kept(name)
    grown = ("blank", "rings", "stripes", "checks")  # in front, and the others in another order
    new = Learner.fresh(settings, grown, 32, CPU, 1)
    fresh_row = new.net.head.weight[0].detach().clone()
    new.warm_start_from(old)
    for place, kind in enumerate(grown[1:], start=1):
        row = old.classes.index(kind)
        assert torch.equal(new.net.head.weight[place], old.net.head.weight[row])
        assert torch.equal(new.net.head.bias[place], old.net.head.bias[row])
    assert torch.equal(new.net.head.weight[0], fresh_row)
    pixels, _ = pictures(12)
    order = [old.classes.index(kind) for kind in grown[1:]]
    torch.testing.assert_close(logits(new, pixels)[:, 1:], logits(old, pixels)[:, order])  # it knows what it knew
    kinds = np.array([2, 3, 1] * 2 + [2, 3])
    data = CycleData(pixels, np.arange(8), np.arange(8, 12), ClassTargets(kinds), 4)
    new.learn(data, settings, Runtime(CPU, 1))
    acquisition, predictions = new.score(pixels, np.arange(8, 12), Runtime(CPU, 1))
    assert np.isfinite(acquisition).all() and (predictions.predicted < 4).all()


def test_a_warm_start_goes_on_and_a_sampler_of_another_name_starts_fresh() -> None:
    old = trained(with_sampler("vaal", epochs=30))
    new = Learner.fresh(with_sampler("dast-al"), CLASSES, 32, CPU, 1)
    new.warm_start_from(old)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*map(parameters, (new, old)), strict=True))
    again = Learner.fresh(with_sampler("vaal"), CLASSES, 32, CPU, 1)
    again.warm_start_from(old)
    assert np.array_equal(scores(again), scores(old))


def parameters(learner: Learner) -> list[torch.Tensor]:
    return list(learner.net.parameters())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "damaged"),
        (lambda path: checkpoint.save(path, {"format": 99}), "format 99"),
    ],
    ids=["gone", "cut short", "another format"],
)
def test_a_checkpoint_that_cannot_be_read_says_so(tmp_path: Path, damage: Any, words: str) -> None:
    path = tmp_path / "entropy-c1-0000.pt"
    Learner.fresh(with_sampler("entropy"), CLASSES, 32, CPU, 0).save(path)
    damage(path)
    with pytest.raises(BackendError, match=words):
        Learner.load(path, CPU)


def test_a_checkpoint_of_before_there_were_masks_is_read(tmp_path: Path) -> None:
    learner = trained(with_sampler("entropy"))
    payload = learner.payload()
    assert payload.pop("frame") == [32, 32] and payload.pop("task") == "classification"
    checkpoint.save(tmp_path / "earlier.pt", payload)
    again = Learner.load(tmp_path / "earlier.pt", CPU)
    assert (again.frame, again.task) == ((32, 32), "classification")
    assert isinstance(again.net_config, NetConfig)
    assert np.array_equal(scores(learner), scores(again))


def test_a_version_is_scored_by_dropout_in_the_places_it_was_trained_with(tmp_path: Path) -> None:
    """Also in bfloat16; a version of before there was a choice has it before the last layer."""
    learner = trained(with_sampler("bald", dropout_place="stages", epochs=1))
    learner.save(tmp_path / "stages.pt")
    again = Learner.load(tmp_path / "stages.pt", CPU)
    assert np.array_equal(scores(learner), scores(again))
    reduced = again.score(pictures(36)[0], np.arange(12, 36), Runtime(CPU, 5, score_dtype=torch.bfloat16))[0]
    np.testing.assert_allclose(reduced, scores(learner), atol=0.05)
    payload = kept("bald").payload()
    payload["options"] = {key: value for key, value in payload["options"].items() if key != "dropout_place"}
    checkpoint.save(tmp_path / "earlier.pt", payload)
    assert np.array_equal(scores(Learner.load(tmp_path / "earlier.pt", CPU)), scores(kept("bald")))


def test_later_scores_have_the_precision_of_the_version(tmp_path: Path) -> None:
    """Also after the setting was changed, and of a version from before there was one."""
    learner = trained(with_sampler("margin", score_dtype="bfloat16"))
    learner.save(tmp_path / "reduced.pt")
    assert Learner.load(tmp_path / "reduced.pt", CPU).runtime(seed=3) == Runtime(CPU, 3, score_dtype=torch.bfloat16)
    pixels, _ = pictures(36)
    rows = np.arange(12, 36)
    reduced = learner.score(pixels, rows, learner.runtime(seed=5))[0]
    assert not np.array_equal(reduced, scores(learner)), "in float32"
    _, fresh = learner.predict(pixels[rows])
    assert np.array_equal(fresh, priority_scores(reduced, seed=0)), "a new task is scored like the pool"
    payload = learner.payload()
    payload["options"] = {key: value for key, value in payload["options"].items() if key != "score_dtype"}
    checkpoint.save(tmp_path / "old.pt", payload)
    assert Learner.load(tmp_path / "old.pt", CPU).runtime(seed=0) == Runtime(CPU, 0)


def test_each_cycle_has_a_seed_of_its_own() -> None:
    seeds = {cycle_seed(seed, number) for seed in range(20) for number in range(20)}
    assert len(seeds) == 400 and all(0 <= seed < 2**62 for seed in seeds)
    assert cycle_seed(3, 4) == cycle_seed(3, 4)


# --- several choices ---


def trained_on_ticks(settings: Settings, seed: int = 5) -> Learner:
    """Of twelve pictures that show their own class, and every other one the last class too."""
    pixels, kinds = pictures(36)
    chosen = np.eye(3, dtype=np.uint8)[kinds[:12]]
    chosen[::2, 2] = 1
    data = CycleData(pixels, np.arange(12), np.arange(12, 36), MultilabelTargets(chosen), 3)
    return Learner.trained(settings, CLASSES, data, Runtime(CPU, seed))[0]


@pytest.mark.parametrize("name", ["margin", "core-set", "ensemble", "learning-loss", "vaal", "sraal"])
def test_a_model_of_several_choices_that_was_saved_scores_and_predicts_the_same(name: str, tmp_path: Path) -> None:
    learner = trained_on_ticks(with_sampler(name))
    digest = learner.save(tmp_path / "model.pt")
    again = Learner.load(tmp_path / "model.pt", CPU)
    assert (again.task, again.frame, again.classes) == ("multilabel", (32, 32), CLASSES)
    assert np.array_equal(scores(learner), scores(again))
    assert same_predictions(learner, again, pictures(36)[0][:5])
    assert trained_on_ticks(with_sampler(name)).save(tmp_path / "same.pt") == digest


def test_a_prediction_of_several_choices_is_a_probability_of_each() -> None:
    learner = trained_on_ticks(with_sampler("entropy"))
    pixels, _ = pictures(12)
    predictions, score = learner.predict(pixels)
    p = torch.sigmoid(logits(learner, pixels)).double().numpy()
    assert predictions.predicted == pytest.approx(p, abs=1e-5) and predictions.predicted.shape == (12, 3)
    assert predictions.confidence == pytest.approx(np.maximum(p, 1 - p).mean(axis=1), abs=1e-5)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(axis=1)
    assert score == pytest.approx(priority_scores(entropy, 0), abs=1e-4)


def test_classes_that_exclude_each_other_are_no_start_for_those_that_do_not() -> None:
    """The network is the same one; what its outputs mean is not."""
    pixels, kinds = pictures(36)
    one_class = trained(with_sampler("margin"))
    targets = MultilabelTargets(np.eye(3, dtype=np.uint8)[kinds[:12]])
    data = CycleData(pixels, np.arange(12), np.arange(12, 36), targets, 3)
    after, scratch = (
        Learner.trained(with_sampler("margin"), CLASSES, data, Runtime(CPU, 5), start)[0] for start in (one_class, None)
    )
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*map(parameters, (after, scratch)), strict=True))


# --- masks ---

FRAME = (24, 40)
LABELS = ("cup", "plate")
TINY_ENCODER = "test_efficientnet"  # of timm, 0.4 million parameters
MASKED = dataclasses.replace(TINY, epochs=2, batch_size=4)


def scenes(labels: int = 2) -> CycleData:
    """Twelve labeled images of noise with bars, and eight others. The first label's bars stand high and are bright,
    the second's are low; a twentieth of the pixels is IGNORE. Rows of images and of masks are in different orders."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 90, (20, *FRAME, 3))
    masks = np.zeros((20, *FRAME), dtype=np.uint8)
    for row, (first, second) in enumerate(rng.integers(0, 24, (20, 2))):
        masks[row, 2:10, first : first + 16] = 1
        if labels > 1:
            masks[row, 16:21, second : second + 12] = 2
    pixels[masks == 1] += 150
    pixels[masks == 2, 0] += 120
    masks[rng.random(masks.shape) < 0.05] = IGNORE
    order = rng.permutation(20)
    kept = np.empty_like(masks)
    kept[order] = masks
    kept.setflags(write=False)
    rows = rng.permutation(20)
    targets = MaskTargets(kept, order[rows[:12]])
    return CycleData(pixels.astype(np.uint8), rows[:12], rows[12:], targets, 1 + labels)


def trained_on_scenes(settings: Settings, seed: int = 5, previous: Learner | None = None) -> Learner:
    return Learner.trained(settings, LABELS, scenes(), Runtime(CPU, seed), previous)[0]


def masked(name: str, **changes: Any) -> Settings:
    return dataclasses.replace(MASKED, sampler=name, **changes)


@pytest.mark.parametrize("name", ["entropy", "dast-al", "ensemble", "ta-vaal", "sraal"])
def test_a_segmenter_that_was_saved_scores_and_paints_the_same(name: str, tmp_path: Path) -> None:
    learner, data = trained_on_scenes(masked(name)), scenes()
    assert (learner.task, learner.frame, learner.classes) == ("segmentation", FRAME, LABELS)
    learner.save(tmp_path / "model.pt")
    again = Learner.load(tmp_path / "model.pt", CPU)
    assert (again.task, again.frame, again.classes) == ("segmentation", FRAME, LABELS)
    assert again.net_config == learner.net_config == SegmenterConfig("drn-d-22", 3, 4)
    assert again.sampler.image_size == 40
    found = [one.score(data.pixels, data.unlabeled, Runtime(CPU, 5)) for one in (learner, again)]
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1].confidence, found[1][1].confidence)
    assert same_predictions(learner, again, data.pixels[:5])
    for ours, theirs in zip(*(masks_of(one, data.pixels[:5]) for one in (learner, again)), strict=True):
        assert np.array_equal(ours, theirs)
    same = trained_on_scenes(masked(name))
    assert same.save(tmp_path / "same.pt") == learner.save(tmp_path / "again.pt")


def masks_of(learner: Learner, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks and the confidence in each pixel, (B, H, W) uint8 each, of images one by one."""
    found = [next(iter(predict_masks(learner.net, one[None], np.zeros(1, int), Runtime(CPU, 0)))) for one in images]
    return np.concatenate([masks for _, masks, _ in found]), np.concatenate([sure for _, _, sure in found])


def test_a_segmenters_predictions_are_masks_with_confidence_and_a_priority_score() -> None:
    learner, data = trained_on_scenes(masked("entropy")), scenes()
    assert isinstance(learner.net, Segmenter)
    images = data.pixels[[9, 2, 14]]
    masks, sure = masks_of(learner, images)
    predictions, score = learner.predict(images)
    confidence = predictions.confidence
    assert masks.shape == sure.shape == (3, *FRAME) and masks.dtype == sure.dtype == np.uint8
    for places, mask, pixel in predict_masks(learner.net, data.pixels, np.array([9, 2, 14]), Runtime(CPU, 0)):
        assert np.array_equal(masks[places], mask) and np.array_equal(sure[places], pixel)
    p = torch.softmax(logits(learner, images), dim=1).double().numpy()
    assert (masks == p.argmax(axis=1)).mean() > 0.999
    with torch.no_grad():
        maps = learner.net.head(learner.net.features(normalize(torch.from_numpy(images)))).double().softmax(dim=1)
    assert confidence == pytest.approx(maps.amax(dim=1).mean(dim=(1, 2)).numpy(), rel=1e-4)
    entropy = -(maps * maps.log()).sum(dim=1).mean(dim=(1, 2)).numpy()
    assert score == pytest.approx(priority_scores(entropy, 0), abs=1e-4)


def test_a_checkpoint_of_before_tasks_had_names_is_read(tmp_path: Path) -> None:
    learner = trained_on_scenes(masked("vaal"))
    payload = learner.payload()
    assert payload.pop("task") == "segmentation"
    checkpoint.save(tmp_path / "earlier.pt", payload)
    again = Learner.load(tmp_path / "earlier.pt", CPU)
    assert (again.task, again.frame) == ("segmentation", FRAME)
    assert same_predictions(learner, again, scenes().pixels[:3])


def test_masks_begin_with_the_installed_backbone_unless_something_else_is_asked_for() -> None:
    """Images of 40 pixels are enlarged to 192 for it."""
    config = Learner.fresh(masked("entropy", task_width=0), LABELS, FRAME, CPU, 0, "segmentation").net_config
    assert isinstance(config, PretrainedSegmenterConfig)
    assert (config.name, config.weights, config.num_classes, config.frozen) == (BUNDLED, "imagenet", 3, True)
    assert config.enlarged == pytest.approx(192 / 40)
    for changes in ({"task_width": 8}, {"weights": "none"}, {"segmentation_net": "drn-d-22"}):
        chosen = masked("entropy", **{"task_width": 0, **changes})
        found = Learner.fresh(chosen, LABELS, FRAME, CPU, 0, "segmentation").net_config
        assert found == SegmenterConfig("drn-d-22", 3, changes.get("task_width", DRN_CPU_WIDTH))


@pytest.mark.parametrize("training", ["head", "finetune"])
def test_a_segmenter_on_an_encoder_that_was_saved_scores_and_paints_the_same(training: str, tmp_path: Path) -> None:
    settings = masked("dast-al", task_width=0, segmentation_net=TINY_ENCODER, weights="none", training=training)
    learner, data = trained_on_scenes(settings), scenes()
    learner.save(tmp_path / "model.pt")
    again = Learner.load(tmp_path / "model.pt", CPU)
    assert again.net_config.to_dict() == learner.net_config.bare().to_dict()
    found = [one.score(data.pixels, data.unlabeled, Runtime(CPU, 5)) for one in (learner, again)]
    assert np.array_equal(found[0][0], found[1][0])
    for ours, theirs in zip(*(masks_of(one, data.pixels[:3]) for one in (learner, again)), strict=True):
        assert np.array_equal(ours, theirs)


def test_a_project_whose_model_is_of_the_earlier_default_starts_from_the_new_network_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = trained_on_scenes(masked("entropy"))
    with caplog.at_level("INFO"):
        new = trained_on_scenes(
            masked("entropy", task_width=0, segmentation_net=TINY_ENCODER, weights="none"), previous=old
        )
    assert "Training from scratch: the earlier network has another architecture" in caplog.text
    assert isinstance(new.net_config, PretrainedSegmenterConfig)


def test_the_width_of_a_segmenter_is_the_devices_unless_it_is_set() -> None:
    unset = masked("entropy", task_width=0, segmentation_net="drn-d-22")
    learner = Learner.fresh(unset, LABELS, FRAME, CPU, 0, "segmentation")
    assert learner.net_config == SegmenterConfig("drn-d-22", 3, DRN_CPU_WIDTH)
    other = dataclasses.replace(unset, segmentation_net="lraspp-mobilenetv3")
    assert Learner.fresh(other, LABELS, FRAME, CPU, 0, "segmentation").net_config.name == "lraspp-mobilenetv3"


def test_labels_that_come_go_and_change_places_keep_what_is_known_of_them() -> None:
    old = trained_on_scenes(masked("entropy"))
    for labels in (("fork", "plate", "cup"), ("plate",), ("plate", "cup"), ("cup", "plate", "spoon")):
        new = Learner.fresh(masked("entropy"), labels, FRAME, CPU, 1, "segmentation")
        fresh = new.net.head.weight.detach().clone()
        new.warm_start_from(old)
        images = scenes().pixels[:3]
        found, before = logits(new, images), logits(old, images)
        torch.testing.assert_close(found[:, 0], before[:, 0])  # the background
        for place, label in enumerate(labels, start=1):
            if label in LABELS:
                torch.testing.assert_close(found[:, place], before[:, 1 + LABELS.index(label)])
            else:
                assert torch.equal(new.net.head.weight[place], fresh[place])


def test_a_warm_start_goes_on_with_masks_and_its_sampler_too() -> None:
    old = trained_on_scenes(masked("vaal"))
    new = Learner.fresh(masked("vaal"), LABELS, FRAME, CPU, 1, "segmentation")
    new.warm_start_from(old)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*map(parameters, (new, old)), strict=True))
    data = scenes()
    found = [one.score(data.pixels, data.unlabeled, Runtime(CPU, 5))[0] for one in (new, old)]
    assert np.array_equal(*found)


@pytest.mark.parametrize(
    "name", ["vaal", "ensemble", *(pytest.param(name, marks=pytest.mark.long) for name in ("entropy", "dast-al"))]
)
def test_a_model_of_another_task_is_no_start(name: str) -> None:
    """Not even its sampler: what it knows was learnt of other pictures, cut to squares."""
    classifier = trained(with_sampler(name), classes=(*LABELS, "background"))
    after = trained_on_scenes(masked(name), previous=classifier)
    scratch = trained_on_scenes(masked(name))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*map(parameters, (after, scratch)), strict=True))
    data = scenes()
    found = [one.score(data.pixels, data.unlabeled, Runtime(CPU, 5))[0] for one in (after, scratch)]
    assert np.array_equal(*found)
    pixels, kinds = pictures(24)
    back = CycleData(pixels, np.arange(12), np.arange(12, 24), ClassTargets(kinds[:12]), 3)
    learners = [Learner.trained(with_sampler(name), CLASSES, back, Runtime(CPU, 2), one)[0] for one in (after, None)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*map(parameters, learners), strict=True))


def test_balanced_classes_weigh_the_loss_by_the_labeled_pixels() -> None:
    """1 / ln(1.02 + share), the shares counted by NumPy in the labeled masks alone, IGNORE nowhere."""
    data, settings = scenes(), masked("entropy", class_balance=True)
    assert isinstance(data.targets, MaskTargets)
    seen = data.targets.masks[data.targets.rows]
    counts = np.bincount(seen[seen != IGNORE], minlength=3)
    weight = (1.0 / np.log(1.02 + counts / counts.sum())).astype(np.float32)
    by_hand = dataclasses.replace(data, targets=dataclasses.replace(data.targets, class_weight=weight))
    balanced = Learner.trained(settings, LABELS, data, Runtime(CPU, 5))[0]
    expected = Learner.trained(masked("entropy"), LABELS, by_hand, Runtime(CPU, 5))[0]
    plain = trained_on_scenes(masked("entropy"))
    for ours, theirs in zip(*map(parameters, (balanced, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(balanced.net.head.bias, plain.net.head.bias, rtol=1e-3)


def test_crops_are_what_the_setting_says() -> None:
    """0: the network is shown whole images."""
    shown: list[set[tuple[int, ...]]] = []
    for crop in (0, 16):
        sizes: set[tuple[int, ...]] = set()
        learner = Learner.fresh(masked("random", crop_size=crop), LABELS, FRAME, CPU, 0, "segmentation")
        learner.net.trunk.register_forward_pre_hook(
            lambda _, inputs, sizes=sizes: sizes.add(tuple(inputs[0].shape[2:]))
        )
        learner.learn(scenes(), masked("random", crop_size=crop), Runtime(CPU, 0))
        shown.append(sizes)
    assert shown == [{FRAME}, {(16, 16)}]
