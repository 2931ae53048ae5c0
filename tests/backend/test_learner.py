"""The learner: made fresh, trained, saved, read again, warm-started; the same seed gives the same scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.errors import BackendError
from backend.learner import CPU_WIDTH, PAPER_WIDTH, Learner
from backend.scores import to_published
from backend.settings import Settings
from backend.settings_samplers import SAMPLER_NAMES
from models import checkpoint
from models.data import CycleData, Runtime
from models.pixels import normalise
from tests.integration.helpers import drawing

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
)


def pictures(count: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(count, 32, 32, 3) uint8 and their classes (count,)."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(count) % classes
    grey = np.stack([drawing(int(kind), rng, side=32) for kind in kinds])
    return np.repeat(grey[..., None], 3, axis=3), kinds.astype(np.int64)


def trained(settings: Settings, classes: tuple[str, ...] = CLASSES, seed: int = 5, width: int = 0) -> Learner:
    pixels, kinds = pictures(36, len(classes))
    data = CycleData(pixels, np.arange(12), kinds[:12], np.arange(12, 36), len(classes))
    learner = Learner.fresh(settings, classes, 32, CPU, seed)
    learner.learn(data, settings, Runtime(CPU, seed))
    return learner


def scores(learner: Learner, seed: int = 5) -> np.ndarray:
    pixels, _ = pictures(36)
    return learner.score(pixels, np.arange(12, 36), Runtime(CPU, seed))[0]


def with_sampler(name: str, **changes: Any) -> Settings:
    return dataclasses.replace(TINY, sampler=name, **changes)


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_the_same_seed_gives_the_same_version(name: str, tmp_path: Path) -> None:
    first, second = trained(with_sampler(name)), trained(with_sampler(name))
    assert np.array_equal(scores(first), scores(second))
    assert first.save(tmp_path / "a.pt") == second.save(tmp_path / "b.pt")  # the hash in the version's name
    other = trained(with_sampler(name), seed=6)
    assert other.save(tmp_path / "c.pt") != first.save(tmp_path / "d.pt") or name == "random"


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_what_was_saved_scores_and_answers_the_same(name: str, tmp_path: Path) -> None:
    learner = trained(with_sampler(name))
    learner.save(tmp_path / "model.pt")
    again = Learner.load(tmp_path / "model.pt", CPU)
    assert again.classes == CLASSES and again.sampler.name == name
    assert np.array_equal(scores(learner), scores(again))
    pixels, _ = pictures(36)
    for ours, theirs in zip(learner.answer(pixels[:5]), again.answer(pixels[:5]), strict=True):
        assert np.array_equal(ours, theirs)


def test_an_answer_is_a_class_a_confidence_and_a_published_score(tmp_path: Path) -> None:
    learner = trained(with_sampler("entropy"))
    pixels, _ = pictures(12)
    labels, confidence, score = learner.answer(pixels)
    assert ((confidence > 1 / 3) & (confidence <= 1)).all()
    probabilities = torch.softmax(logits(learner, pixels), dim=1).double().numpy()
    assert labels == [CLASSES[place] for place in probabilities.argmax(axis=1)]
    assert confidence == pytest.approx(probabilities.max(axis=1), abs=1e-5)
    entropy = -(probabilities * np.log(probabilities)).sum(axis=1)
    assert score == pytest.approx(to_published(entropy, 0), abs=1e-4)


def logits(learner: Learner, pixels: np.ndarray) -> torch.Tensor:
    learner.net.eval()
    with torch.no_grad():
        answers: torch.Tensor = learner.net(normalise(torch.from_numpy(pixels)))
    return answers


def test_widths_left_to_the_device_are_stored_as_they_were_trained(tmp_path: Path) -> None:
    """What a GPU trained at the papers' widths is read on a CPU at those widths, not at a CPU's."""
    settings = with_sampler("vaal", task_width=0, vaal_width=0)
    on_cpu = Learner.fresh(settings, CLASSES, 32, CPU, 0)
    assert on_cpu.net_config.width == CPU_WIDTH != PAPER_WIDTH

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
    settings = with_sampler(name)
    old = trained(settings)
    grown = ("blank", "rings", "stripes", "checks")  # in front, and the others in another order
    new = Learner.fresh(settings, grown, 32, CPU, 1)
    fresh_row = new.net.head.weight[0].detach().clone()
    new.warm_from(old)
    for place, kind in enumerate(grown[1:], start=1):
        row = old.classes.index(kind)
        assert torch.equal(new.net.head.weight[place], old.net.head.weight[row])
        assert torch.equal(new.net.head.bias[place], old.net.head.bias[row])
    assert torch.equal(new.net.head.weight[0], fresh_row)
    pixels, _ = pictures(12)
    order = [old.classes.index(kind) for kind in grown[1:]]
    torch.testing.assert_close(logits(new, pixels)[:, 1:], logits(old, pixels)[:, order])  # it knows what it knew
    data = CycleData(pixels, np.arange(8), np.array([2, 3, 1] * 2 + [2, 3]), np.arange(8, 12), 4)
    new.learn(data, settings, Runtime(CPU, 1))
    acquisition, answers = new.score(pixels, np.arange(8, 12), Runtime(CPU, 1))
    assert np.isfinite(acquisition).all() and (answers.predicted < 4).all()


def test_a_warm_start_goes_on_and_a_sampler_of_another_name_starts_fresh() -> None:
    old = trained(with_sampler("vaal", epochs=30))
    new = Learner.fresh(with_sampler("dast-al"), CLASSES, 32, CPU, 1)
    new.warm_from(old)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*map(parameters, (new, old)), strict=True))
    again = Learner.fresh(with_sampler("vaal"), CLASSES, 32, CPU, 1)
    again.warm_from(old)
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
