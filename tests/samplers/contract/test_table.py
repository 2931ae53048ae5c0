"""What every sampler keeps, whatever its mathematics (see samplers/base.py): its options and its tasks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from backend.settings.core import Settings
from models.data import Runtime
from models.networks.base import TaskNet
from models.networks.vae import KL_REDUCTIONS
from models.tasks import TASKS
from models.training import adversarial as training_adversarial
from samplers import SAMPLERS, all_options, build_sampler
from samplers import base as samplers_base
from samplers.adversarial_options import REDUCTIONS, STREAMS
from samplers.base import (
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
    CPU,
    EVERY,
    OPTIONS,
    SIZE,
    fitted,
    make_masked_data,
    make_net,
    make_pixels,
    make_sampler,
    make_segmenter,
    serving,
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
        assert not sampler.standin or set(sampler.tasks) <= set(SAMPLERS[sampler.standin].tasks)


def test_what_is_known_without_torch_is_what_models_have() -> None:
    assert list(TASKS) == list(samplers_base.TASKS)
    assert list(KL_REDUCTIONS) == list(REDUCTIONS)
    assert training_adversarial.STREAMS == STREAMS


@EVERY
@pytest.mark.parametrize("acquisition", [None, -3.0, 0.3, 31.0, 700.0])
def test_a_sampler_says_in_half_a_sentence_why_an_image_comes_where_it_does(
    name: str, acquisition: float | None
) -> None:
    words = SAMPLERS[name].reason(acquisition)
    assert 15 < len(words) < 110 and "`" not in words, "it stands on a page, after the sampler's name"
    assert not words.endswith(".") and words[0].islower()


def test_what_a_sampler_says_of_an_image_is_what_its_acquisition_means() -> None:
    """A margin of 1/4 has log-odds of ln 3, and so has a probability of 3/4; ln 2 nats are those of two answers."""
    log_3 = float(np.log(3.0))
    said = {name: sampler.reason(log_3) for name, sampler in SAMPLERS.items()}
    assert said["margin"] == "the two most probable answers are 25.0 points apart"
    assert said["least-confidence"] == "its most probable answer has a probability of 25.0 %"
    assert said["max-prob"] == "its most probable answer has a probability of 75.0 %"
    assert "between 3.0 equally probable answers" in said["entropy"] and said["gaal"] == said["entropy"]
    assert said["uherding"] == said["margin"] != SAMPLERS["uherding"].reason(31.0)


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


# --- the base class ---


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
