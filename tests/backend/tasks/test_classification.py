"""One class for each image: which class the annotations of a task name, and what a prediction of one becomes."""

from __future__ import annotations

from typing import Any

import pytest

from backend.settings.core import Settings
from backend.state import StoredPrediction
from backend.tasks.choices import ChoicesSpec, choices_result
from backend.tasks.classification import Classification, class_of

SPEC = ChoicesSpec("kind", "img", "image", ("cat", "dog", "owl"))
KIND = Classification(SPEC, Settings())


def annotation(number: int, label: str | None, updated: str = "2025-01-01", **more: Any) -> dict[str, Any]:
    result = [] if label is None else choices_result(SPEC, [label], 1.0)
    stamp = f"{updated}T00:00:00.000000Z"
    return {"id": number, "result": result, "updated_at": stamp, "was_cancelled": False, "ground_truth": False} | more


def test_latest_ground_truth_decides() -> None:
    found = [
        annotation(1, "cat", "2025-03-03", ground_truth=True),
        annotation(2, "dog", "2025-01-01", ground_truth=True),
        annotation(3, "owl", "2025-06-06"),
        annotation(4, "owl", "2025-06-07"),
        annotation(5, None, "2025-09-09", ground_truth=True),
    ]
    assert class_of(found, SPEC) == "cat"


def test_then_the_majority_then_the_latest() -> None:
    cat, cat2 = annotation(1, "cat", "2025-01-01"), annotation(2, "cat", "2025-01-02")
    dog, dog2 = annotation(3, "dog", "2025-01-03"), annotation(4, "dog", "2025-01-04")
    owl = annotation(5, "owl", "2025-01-05")
    assert class_of([cat, cat2, owl], SPEC) == "cat"
    assert class_of([owl, dog], SPEC) == "owl"
    assert class_of([dog, dog2, cat, cat2, owl], SPEC) == "dog"  # a draw of two: not the latest of all
    edited = annotation(1, "cat", "2025-02-01")  # an old annotation that was changed is the latest
    assert class_of([edited, owl], SPEC) == "cat"


def test_what_is_not_a_label() -> None:
    other = annotation(7, "cat")
    other["result"][0]["from_name"] = "mood"
    nothing = [
        annotation(1, None),
        annotation(2, "cat", was_cancelled=True),
        annotation(3, "no longer a class"),
        annotation(4, "cat", result=None),
        annotation(5, "cat", result=[{"from_name": "kind", "value": {"choices": ["cat", "dog"]}}]),
        annotation(6, "cat", result=[{"from_name": "kind", "value": None}, "odd"]),
        other,
    ]
    assert class_of(nothing, SPEC) is None
    assert KIND.counted(nothing) == []
    assert [KIND.why_not(one) for one in nothing] == [
        "empty",
        "skipped",
        "a choice that is not in the label config",
        "empty",
        "several choices",
        "only answers to other questions",
        "only answers to other questions",
    ]
    assert class_of([], SPEC) is None
    good = annotation(8, "dog", "2025-05-05")
    good["result"].append({"from_name": "note", "type": "textarea", "value": {"text": ["blurred"]}})
    assert class_of([*nothing, good], SPEC) == "dog"
    assert KIND.counted([*nothing, good]) == [(8, "2025-05-05T00:00:00.000000Z")]


def test_a_prediction_ticks_its_class_with_the_confidence_that_people_see() -> None:
    stored = StoredPrediction(7, "entropy-c1-00000000", "dog", 0.98765, 0.4)
    assert KIND.result(stored, None) == [
        {"value": {"choices": ["dog"]}, "type": "choices", "from_name": "kind", "to_name": "img", "score": 0.9877}
    ]


@pytest.mark.parametrize(
    ("setting", "measured", "ticked"),
    [
        ("auto", {"train_preannotate_above": 0.7}, {0.7, 0.99, 1.0}),
        ("auto", {"train_preannotate_above": 1.0}, set()),
        ("auto", {}, {0.3, 0.69, 0.7, 0.99, 1.0}),  # a version of before, or of a network that is trained as a whole
        ("0.5", {"train_preannotate_above": 0.7}, {0.69, 0.7, 0.99, 1.0}),
        ("0", {"train_preannotate_above": 1.0}, {0.3, 0.69, 0.7, 0.99, 1.0}),
        ("1", {}, set()),
    ],
)
def test_a_prediction_that_is_not_sure_enough_is_not_ticked(
    setting: str, measured: dict[str, float], ticked: set[float]
) -> None:
    served = Classification(SPEC, Settings(preannotate_above=setting)).serving(measured)
    sure = (0.3, 0.69, 0.7, 0.99, 1.0)
    results = {one: served.result(StoredPrediction(7, "v", "dog", one, 0.4), None) for one in sure}
    assert {one for one, result in results.items() if result} == ticked


def test_there_is_no_result_before_the_first_model_or_of_a_class_that_left_the_label_config() -> None:
    for label in (None, "quince"):
        assert KIND.result(StoredPrediction(7, "entropy-c1-00000000", label, 0.5, 0.4), None) == []
