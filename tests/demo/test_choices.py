"""Choices as regions and back, and what no editor would show."""

from __future__ import annotations

from typing import Any

import pytest

from backend.tasks.choices import choices_of, choices_result, choices_spec
from demo.annotator import PreannotationError
from demo.choices import choices_config, choose, chosen

CLASSES = ("cat", 'the "dog" & <owl>', "Ankle boot")


@pytest.mark.parametrize("names", [[], ["cat"], ["Ankle boot", 'the "dog" & <owl>']])
def test_the_backend_reads_what_is_chosen_and_its_predictions_are_read(names: list[str]) -> None:
    spec = choices_spec(choices_config(CLASSES, several=True), several=True)
    assert spec.classes == CLASSES
    assert choices_of({"id": 1, "result": choose(names)}, spec) == set(names)
    assert chosen(choices_result(spec, names, 0.5), CLASSES) == set(names)


def test_one_choice_is_asked_for_unless_several_are() -> None:
    assert choices_spec(choices_config(CLASSES)).classes == CLASSES
    assert choose([]) == [], "nothing chosen is no region, as Label Studio stores it"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "labels"}, "not one of the choices"),
        ({"to_name": "picture"}, "not one of the choices"),
        ({"value": {"choices": ["bird"]}}, "not choices of the label config"),
        ({"value": {"choices": "cat"}}, "not choices of the label config"),
        ({"value": None}, "picks None"),
        ({"value": {"choices": ["cat", "cat"]}}, "twice"),
    ],
)
def test_a_region_that_no_editor_shows_is_refused(change: dict[str, Any], words: str) -> None:
    (region,) = choose(["cat"])
    with pytest.raises(PreannotationError, match=words):
        chosen([region | change], CLASSES)
