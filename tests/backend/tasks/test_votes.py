"""What a task with several annotations says, by each way to decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backend.errors import SettingsError
from backend.settings.core import Settings
from backend.tasks import KINDS
from backend.tasks.base import AnyTaskKind
from backend.tasks.votes import Answer, annotator_of, answers_from, by_annotator, weighed_classes, weighed_sets
from tests.backend.tasks.examples import EXAMPLES, annotation
from tests.integration.helpers import FRUIT

SETTINGS = Settings(sampler="margin", task_width=4, image_size=32)
VOTING = ("classification", "multilabel")


def made(name: str, consensus: str) -> AnyTaskKind:
    return KINDS[name].read(EXAMPLES[name].config(FRUIT), replace(SETTINGS, consensus=consensus))


def said(kind: AnyTaskKind, *names: str) -> list[dict[str, Any]]:
    """Annotations from the first to the latest."""
    return [annotation(day, EXAMPLES[kind.name].says([name]), day=day) for day, name in enumerate(names, 1)]


@pytest.mark.parametrize("name", VOTING)
def test_the_latest_or_the_majority_or_what_is_known_to_be_right(name: str) -> None:
    for consensus, expected in (("latest", "plum"), ("majority", "pear"), ("auto", "pear"), ("weighted", "pear")):
        kind = made(name, consensus)
        found = said(kind, "pear", "pear", "plum")
        (one,) = said(kind, expected)
        assert kind.label_of(found, "") == kind.label_of([one], "")
        found[0]["ground_truth"] = True
        assert kind.label_of(found, "") == kind.label_of(found[:1], "")


def test_a_tie_goes_to_the_latest_of_those_that_lead() -> None:
    kind = made("classification", "majority")
    assert kind.label_of(said(kind, "pear", "apple", "apple", "pear", "plum"), "") == "pear"


@pytest.mark.parametrize("consensus", ["majority", "weighted"])
def test_masks_are_not_put_to_the_vote_and_the_owner_is_told_what_to_set(consensus: str) -> None:
    with pytest.raises(SettingsError, match=f'"consensus": "{consensus}" has no meaning for .* set it to "latest"'):
        made("segmentation", consensus)
    assert made("segmentation", "latest").compares == ""


@pytest.mark.parametrize("name", VOTING)
def test_an_answer_is_what_one_annotation_says_and_no_answer_what_does_not_count(name: str) -> None:
    kind = made(name, "auto")
    (one,) = said(kind, "pear")
    assert kind.label_from(kind.answer_of(one)) == kind.label_of([one], "")
    assert kind.answer_of(one | {"was_cancelled": True}) is None


def test_the_annotator_is_known_by_id_or_not_at_all() -> None:
    found = [annotator_of({"completed_by": who}) for who in (7, {"id": 7, "email": "a@b"}, None, "seven", True)]
    assert found == [7, 7, None, None, None]
    assert annotator_of({}) is None


def test_the_last_answer_of_each_annotator_counts() -> None:
    answers = answers_from([[1, 7, "pear", False], [2, 8, "plum", False], [3, 7, "plum", False], [4, None, "x", False]])
    assert by_annotator(answers) == {7: "plum", 8: "plum"}
    assert answers_from(None) == []


def votes(*said: Any, truth: int | None = None) -> list[Answer]:
    """By annotators 1, 2, …"""
    return [Answer(number, number, one, number == truth) for number, one in enumerate(said, 1)]


def test_whoever_is_usually_right_outweighs_two_who_are_usually_not() -> None:
    known = {task: votes("apple", "pear", "plum", truth=3) for task in range(20)}
    found = weighed_classes(known | {99: votes("pear", "pear", "plum")}, FRUIT)
    assert found[99] == "plum" and found[0] == "plum"
    sets = {task: votes(["apple"], ["pear"], ["plum"], truth=3) for task in range(20)}
    assert weighed_sets(sets | {99: votes(["pear"], ["pear"], ["plum"])}, FRUIT)[99] == ["plum"]


def test_weighed_votes_that_tie_go_to_the_latest() -> None:
    assert weighed_classes({1: votes("pear", "plum"), 2: votes("plum", "pear")}, FRUIT) == {1: "plum", 2: "pear"}
    assert weighed_sets({1: votes(["pear"], ["pear", "plum"]), 2: votes(["plum"], [])}, FRUIT) == {
        1: ["pear", "plum"],
        2: [],
    }
    assert weighed_classes({}, FRUIT) == {} and weighed_sets({1: []}, FRUIT) == {}
