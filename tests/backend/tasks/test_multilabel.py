"""Several classes for each image: what the annotations of a task say of each, and what a prediction ticks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.label_interface import LabelInterface

from backend.settings.core import Settings
from backend.state import StoredPrediction
from backend.tasks.choices import ChoicesSpec, choices_spec
from backend.tasks.kept_probabilities import KeptProbabilities, write_probabilities
from backend.tasks.multilabel import Multilabel

CLASSES = ("cat", "dog", "owl")
SPEC = ChoicesSpec("tags", "img", "image", CLASSES)
AMONG_OTHERS = replace(SPEC, asks_more=True)
SETTINGS = Settings(sampler="margin")
NOTE = {"from_name": "note", "to_name": "img", "type": "textarea", "value": {"text": ["blurred"]}}


def kind(spec: ChoicesSpec = SPEC, **changes: Any) -> Multilabel:
    return Multilabel(spec, replace(SETTINGS, **changes))


def ticks(*choices: str) -> dict[str, Any]:
    return {"from_name": "tags", "to_name": "img", "type": "choices", "value": {"choices": list(choices)}}


def annotation(number: int, *regions: Any, day: int = 0, **more: Any) -> dict[str, Any]:
    """Number ``number``, changed last on a day of January: that of its number, or ``day``."""
    stamp = f"2025-01-{day or number:02}T00:00:00.000000Z"
    return {"id": number, "result": list(regions), "updated_at": stamp, "was_cancelled": False} | more


# -- annotations → label -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("regions", "label", "label_among_others"),
    [
        ([ticks("cat", "owl")], {"cat", "owl"}, {"cat", "owl"}),
        ([ticks("dog"), NOTE], {"dog"}, {"dog"}),
        ([ticks("dog"), ticks("cat"), "odd", None], {"cat", "dog"}, {"cat", "dog"}),
        ([], set(), set()),  # nothing ticked: none of the classes
        ([NOTE], set(), None),  # where there is nothing else to answer, whatever is there says so too
        ([ticks("cat", "quince")], {"cat"}, {"cat"}),  # one of them left the label config
        ([ticks("quince")], None, None),  # and that is all it ticked: nothing is known of the classes of now
    ],
)
def test_what_one_annotation_says(regions: list[Any], label: set[str] | None, label_among_others: set[str]) -> None:
    one = annotation(1, *regions)
    for spec, expected in ((SPEC, label), (AMONG_OTHERS, label_among_others)):
        assert kind(spec).label_of([one], "a.png") == expected
        counted = [] if expected is None else [(1, "2025-01-01T00:00:00.000000Z")]
        assert kind(spec).counted([one]) == counted


def test_what_is_not_a_label() -> None:
    nothing = [
        annotation(1, ticks("cat"), was_cancelled=True),
        annotation(2, was_cancelled=True),
        annotation(3) | {"result": None},
        annotation(4) | {"result": {"odd": 1}},
        annotation(5, ticks("quince")),
    ]
    assert kind().label_of(nothing, "a.png") is None
    assert kind().label_of([], "a.png") is None
    assert kind().counted(nothing) == []
    assert kind().label_of([*nothing, annotation(6, ticks("owl"))], "a.png") == {"owl"}
    assert [number for number, _ in kind().counted([*nothing, annotation(6, ticks("owl"))])] == [6]


def test_the_latest_ground_truth_decides_alone() -> None:
    found = [
        annotation(1, ticks("cat"), ground_truth=True),
        annotation(2, ticks("dog"), day=9, ground_truth=True),
        annotation(3, ticks("owl"), day=10),
        annotation(4, ticks("owl", "cat"), day=11),
        annotation(5, ticks("quince"), day=12, ground_truth=True),  # is none
    ]
    assert kind().label_of(found, "a.png") == {"dog"}
    found[1] = annotation(2, day=9, ground_truth=True)
    assert kind().label_of(found, "a.png") == frozenset()  # it says that nothing is there


def test_then_each_class_has_its_own_majority() -> None:
    found = [annotation(1, ticks("cat", "dog")), annotation(2, ticks("cat")), annotation(3, ticks("owl", "dog"))]
    assert kind().label_of(found, "a.png") == {"cat", "dog"}  # as nobody ticked it
    found += [annotation(4), annotation(5)]  # two see nothing: cat 2, dog 2, owl 1 of 5
    assert kind().label_of(found, "a.png") == frozenset()


def test_of_as_many_for_a_class_as_against_it_the_latest_decides() -> None:
    cat, dog = annotation(1, ticks("cat", "owl")), annotation(2, ticks("dog", "owl"))
    assert kind().label_of([cat, dog], "a.png") == {"dog", "owl"}
    edited = annotation(1, ticks("cat", "owl"), day=3)  # an old annotation that was changed is the latest
    assert kind().label_of([edited, dog], "a.png") == {"cat", "owl"}
    assert kind().label_of([cat, dog, annotation(4), annotation(3, ticks("cat", "dog"))], "a.png") == frozenset()
    assert kind().label_of([cat, dog, annotation(3), annotation(4, ticks("cat", "dog"))], "a.png") == {"cat", "dog"}


def test_labels_are_equal_exactly_when_they_say_the_same() -> None:
    one, other = kind().label_of([annotation(1, ticks("cat", "dog"))], "a"), annotation(2, ticks("dog", "cat"))
    assert one == kind().label_of([other], "b") and hash(one) == hash(kind().label_of([other], "b"))
    assert one != kind().label_of([annotation(1, ticks("cat"))], "a")


# -- prediction → result -----------------------------------------------------------------------------------------------


def stored(task: int, confidence: float | None = 0.87654) -> StoredPrediction:
    return StoredPrediction(task, "margin-c1-00000000", None, confidence, 0.25)


def kept(folder: Path, classes: tuple[str, ...], *rows: list[float]) -> KeptProbabilities:
    """Of the tasks 1, 2, …"""
    write_probabilities(folder, classes, list(range(1, len(rows) + 1)), np.array(rows, np.float32))
    found = KeptProbabilities.open(folder)
    assert found is not None
    return found


def choices(result: list[dict[str, Any]]) -> list[str]:
    return [] if not result else list(result[0]["value"]["choices"])


def test_a_result_ticks_every_class_that_reaches_the_threshold(tmp_path: Path) -> None:
    opened = kept(tmp_path, CLASSES, [0.5, 0.4999, 0.9], [0.1, 0.2, 0.3])
    assert kind().result(stored(1), opened) == [
        {"value": {"choices": ["cat", "owl"]}, "type": "choices", "from_name": "tags", "to_name": "img",
         "score": 0.8765}
    ]  # fmt: skip
    assert kind().result(stored(2), opened) == []  # Label Studio has no other way to say "none of them"
    assert choices(kind(multilabel_threshold=0.25).result(stored(2), opened)) == ["owl"]
    assert choices(kind(multilabel_threshold=0.15).result(stored(2), opened)) == ["dog", "owl"]
    assert choices(kind(multilabel_threshold=0.95).result(stored(1), opened)) == []
    assert kind().result(stored(1, confidence=None), opened)[0]["score"] == 0.25


def test_people_are_told_every_class_that_reaches_the_threshold_however_sure_it_has_to_be_for_a_tick(
    tmp_path: Path,
) -> None:
    write_probabilities(tmp_path, CLASSES, [1, 2], np.array([[0.6, 0.2, 0.5], [0.1, 0.2, 0.3]], np.float32))
    kept, one = KeptProbabilities.open(tmp_path), kind().serving({"train_preannotate_above": 0.9})
    said = [one.said(StoredPrediction(task, "v", None, 0.5, 0.5), kept) for task in (1, 2, 3)]
    assert said == [("cat", "owl"), (), ()]
    assert one.result(StoredPrediction(1, "v", None, 0.5, 0.5), kept) == []


def test_a_class_that_is_not_sure_enough_is_not_ticked(tmp_path: Path) -> None:
    opened = kept(tmp_path, CLASSES, [0.5, 0.4999, 0.9])
    measured = {"train_preannotate_above": 0.8}
    assert choices(kind().serving(measured).result(stored(1), opened)) == ["owl"]
    assert choices(kind(preannotate_above="0").serving(measured).result(stored(1), opened)) == ["cat", "owl"]
    assert choices(kind(preannotate_above="1").serving(measured).result(stored(1), opened)) == []
    assert choices(kind(preannotate_above="0.2").serving(measured).result(stored(1), opened)) == ["cat", "owl"]


def test_a_result_is_in_the_words_and_the_order_of_the_label_config_of_now(tmp_path: Path) -> None:
    opened = kept(tmp_path, CLASSES, [0.9, 0.8, 0.7])
    for now, drawn in (
        (("owl", "cat", "dog"), ["owl", "cat", "dog"]),
        (("owl", "quince", "cat"), ["owl", "cat"]),
        (("quince",), []),
    ):
        assert choices(kind(replace(SPEC, classes=now)).result(stored(1), opened)) == drawn


def test_there_is_no_result_of_what_was_not_kept(tmp_path: Path) -> None:
    opened = kept(tmp_path, CLASSES, [0.9, 0.8, 0.7])
    assert kind().holds(stored(1), opened) and not kind().holds(stored(2), opened)
    assert not kind().holds(stored(1), None)
    assert kind().result(stored(2), opened) == kind().result(stored(1), None) == []
    assert kind().open_kept(tmp_path / "never") is None
    reopened = kind().open_kept(tmp_path)
    assert reopened is not None and reopened.holds(1)


def test_label_studio_accepts_what_is_ticked(tmp_path: Path) -> None:
    config = (
        '<View><Image name="img" value="$image"/><Choices name="tags" toName="img" choice="multiple">'
        '<Choice value="Zebra" alias="z"/><Choice value="Ape"/><Choice value="Mole"/></Choices></View>'
    )
    made = kind(choices_spec(config, several=True))
    opened = kept(tmp_path, made.classes, [0.9, 0.8, 0.1])
    result = made.result(stored(1), opened)
    assert choices(result) == ["z", "Ape"]
    assert LabelInterface(config).validate_prediction({"result": result, "score": 0.5}, return_errors=True) == []
