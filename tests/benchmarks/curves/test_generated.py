"""A run that generates images pays for each it asks for, learns from those that were recognized, and can be cut off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.curves import generated
from benchmarks.curves.answers import UNRECOGNIZED, Answers
from benchmarks.curves.plan import Plan, Run
from benchmarks.curves.run import play
from benchmarks.curves.store import RunStore
from benchmarks.curves.tasks.classification import Classification
from benchmarks.data.kept_images import ImageSet
from models.data import ClassTargets, CycleData, Runtime, targets_of
from tests.benchmarks.curves.curves_bench import NOT_COMPARED, Stopped, quiet

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
TINY = {"gan": "dcgan", "gan_iterations": 2, "gan_width": 4, "gan_latent": 6, "synthetic_steps": 2, "health": "off"}
TINY |= {"synthetic_restarts": 1, "synthetic_share": 0.4, "task_width": 4, "epochs": 1, "task_net": "resnet18"}
TINY |= {"weights": "none"}


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """Bright and dark noise, 30 to learn from and 10 to test on."""
    draw = np.random.default_rng(0)
    labels = np.arange(40) % 2
    pixels = (draw.integers(0, 100, (40, 32, 32, 3)) + 150 * labels[:, None, None, None]).astype(np.uint8)
    return ImageSet(pixels[:30], labels[:30], pixels[30:], labels[30:], ("dark", "bright"), "noise", "digest")


def test_the_recognized_are_learned_from_behind_the_pool() -> None:
    pixels = np.arange(6, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2).repeat(3, 3)
    data = CycleData(pixels, np.array([1, 4]), np.array([2, 5]), ClassTargets(np.array([1, 0])), 2)
    answers = Answers(pixels[:3] + 100, np.array([0, UNRECOGNIZED, 1]), np.full((3, 2), 7, np.float16))
    features = np.arange(12, dtype=np.float16).reshape(6, 2)
    grown, runtime, answered = generated.with_answers(data, Runtime(CPU, 0, features=features), answers)
    assert grown.pixels[:, 0, 0, 0].tolist() == [1, 2, 4, 5, 100, 101, 102]
    assert grown.labeled.tolist() == [0, 2, 4, 6] and grown.unlabeled.tolist() == [1, 3]
    assert targets_of(grown, ClassTargets).classes.tolist() == [1, 0, 0, 1]
    assert grown.real.labeled.tolist() == [0, 2] and targets_of(grown.real, ClassTargets).classes.tolist() == [1, 0]
    assert answered.recognized.tolist() == [0, 2, 4, 6] and answered.unrecognized.tolist() == [5]
    assert runtime.features is not None
    assert runtime.features.tolist() == [*features[[1, 2, 4, 5]].tolist(), *[[7, 7]] * 3]
    assert generated.with_answers(data, runtime, Answers.none())[0] is data


def test_answers_are_kept_and_added_to() -> None:
    one = Answers(np.ones((2, 4, 4, 3), np.uint8), np.array([1, UNRECOGNIZED]), np.ones((2, 0), np.float16))
    again = Answers.from_bytes(one.to_bytes())
    assert (again.images == one.images).all() and again.labels.tolist() == [1, UNRECOGNIZED]
    assert again.features.shape == (2, 0)
    both = Answers.none().and_then(one).and_then(Answers.none()).and_then(again)
    assert len(both) == 4 and both.counts() == {"generated": 4, "generated_recognized": 2}
    assert Answers.none().counts() == {}


def test_a_run_pays_for_what_it_generates_and_goes_on_where_it_was_cut_off(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of five labels of a purchase are of generated images, each of which is recognized."""
    monkeypatch.setattr(generated.Recognizer, "recognize", lambda self, pixels: int(pixels[0, 0, 0] > 127))
    plan = Plan("digits", "digest", initial=6, budget=5, cycles=3, overrides=TINY)
    task, run = Classification.of(images, plan), Run("gaal", 1)
    lines = play(task, plan, run, tmp_path / "a" / "b" / "c", CPU, quiet)
    assert [line["labels"] for line in lines] == [6, 11, 16] == plan.labels()
    assert [line.get("generated", 0) for line in lines] == [0, 2, 4]
    assert lines[2]["generated_recognized"] == 4
    assert list((tmp_path / "a" / "b" / "c").glob("generated-*")) == [], "removed after the last cycle"

    def stop(cycle: int, phase: str, done: int, total: int) -> None:
        if cycle == 3 and phase == "train":
            raise Stopped

    cut = tmp_path / "d" / "e" / "f"
    with pytest.raises(Stopped):
        play(task, plan, run, cut, CPU, stop)
    assert len(RunStore(cut).answers(2)) == 4 and len(RunStore(cut).labeled(2)) == 12
    went_on = play(task, plan, run, cut, CPU, quiet)
    same = [[{key: line[key] for key in line if key not in NOT_COMPARED} for line in one] for one in (lines, went_on)]
    assert same[0] == same[1]
