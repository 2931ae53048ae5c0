"""What counts as a label where masks are drawn, and when a mask has to be made again.

Comparing with a real Label Studio is tested in tests/backend/test_cycle.py and test_mask_cache.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as sized
from hypothesis import strategies as st

from backend.settings.core import Settings
from backend.tasks.segmentation.annotations import (
    decisive_annotation,
    decisive_of,
    drawn_annotations,
    mask_digest,
)
from backend.tasks.segmentation.config import segmentation_spec

IMAGE = '<Image name="img" value="$image"/>'
BRUSH = '<BrushLabels name="paint" toName="img"><Label value="cat"/><Label value="background"/></BrushLabels>'
BOX = '<RectangleLabels name="box" toName="img"><Label value="cat"/></RectangleLabels>'
CONFIG = f"<View>{IMAGE}{BRUSH}{BOX}</View>"
SPEC = segmentation_spec(CONFIG)
ALL, KNOWN = Settings(unlabelled="background"), Settings(unlabelled="ignore")

STROKE = {"type": "brushlabels", "from_name": "paint", "to_name": "img", "value": {"brushlabels": ["cat"]}}
RECTANGLE = {"type": "rectanglelabels", "from_name": "box", "to_name": "img", "value": {"rectanglelabels": ["cat"]}}
CHOICE = {"type": "choices", "from_name": "kind", "to_name": "img", "value": {"choices": ["cat"]}}


def annotation(number: int, *regions: Any, day: int = 1, **more: Any) -> dict[str, Any]:
    stamp = f"2025-01-{day:02}T00:00:00.000000Z"
    return {"id": number, "result": list(regions), "updated_at": stamp, "was_cancelled": False} | more


def decisive(settings: Settings, *annotations: dict[str, Any]) -> int | None:
    found = decisive_annotation(annotations, SPEC, settings)
    return None if found is None else int(found["id"])


def counted(settings: Settings, *annotations: dict[str, Any]) -> list[int]:
    return [number for number, _ in drawn_annotations(annotations, SPEC, settings)]


@pytest.mark.parametrize(
    ("annotations", "everything", "known"),
    [
        ([], None, None),
        ([annotation(1, STROKE)], 1, 1),
        ([annotation(1, CHOICE, STROKE, "odd", None)], 1, 1),
        ([annotation(1)], 1, None),  # nothing is there; or nothing is known
        ([annotation(1, CHOICE)], None, None),  # answers another question
        ([annotation(1, STROKE), annotation(2, CHOICE, day=2)], 1, 1),
        ([annotation(1, RECTANGLE)], None, None),  # as long as boxes are not read
        ([annotation(1, STROKE | {"to_name": "another"})], None, None),
        ([annotation(1, STROKE, was_cancelled=True)], None, None),
        ([annotation(1, STROKE), annotation(2, STROKE, day=2), annotation(3, STROKE, day=3, was_cancelled=True)], 2, 2),
        ([annotation(1, STROKE), annotation(2, day=2)], 2, None),  # the later one says that nothing is there
        ([annotation(1, STROKE, ground_truth=True), annotation(2, day=2)], 1, 1),
        ([annotation(1) | {"result": None}], 1, None),
        ([annotation(1) | {"result": {"odd": 1}}], None, None),
    ],
)
def test_which_annotation_decides(annotations: list[dict[str, Any]], everything: int | None, known: int | None) -> None:
    assert decisive(ALL, *annotations) == everything
    assert decisive(KNOWN, *annotations) == known


def test_the_latest_annotation_counts_and_a_ground_truth_before_it() -> None:
    old = {"id": 1, "result": [{}], "updated_at": "2025-01-01T00:00:00Z"}
    new = {"id": 2, "result": [], "updated_at": "2025-01-02T00:00:00Z"}
    skipped = {"id": 3, "result": [], "updated_at": "2025-01-03T00:00:00Z", "was_cancelled": True}
    assert decisive_of([old, new, skipped]) is new
    assert decisive_of([old | {"ground_truth": True}, new]) == old | {"ground_truth": True}
    assert decisive_of([skipped, {"id": 4, "result": None}]) is None


def test_the_same_decides_when_the_results_were_not_asked_for() -> None:
    """They are read only where the mask is made, and where they tell whether there is one."""
    annotations = [annotation(1, STROKE), annotation(2, day=2), annotation(3, STROKE, day=3, was_cancelled=True)]
    short = [{key: value for key, value in one.items() if key != "result"} for one in annotations]
    assert decisive(ALL, *short) == decisive(ALL, *annotations) == 2
    assert counted(ALL, *short) == counted(ALL, *annotations) == [1, 2]


def test_every_submitted_annotation_counts_for_the_budget() -> None:
    annotations = [
        annotation(1, STROKE),
        annotation(2),
        annotation(3, STROKE, was_cancelled=True),
        annotation(4, CHOICE),
        annotation(5, STROKE, day=5),
    ]
    assert counted(ALL, *annotations) == [1, 2, 5]
    assert counted(KNOWN, *annotations) == [1, 5]
    assert drawn_annotations(annotations[4:], SPEC, KNOWN) == [(5, "2025-01-05T00:00:00.000000Z")]
    boxes = segmentation_spec(CONFIG, rectangles=True)
    assert [number for number, _ in drawn_annotations([annotation(6, RECTANGLE)], boxes, KNOWN)] == [6]


MADE_OF = st.fixed_dictionaries(
    {
        "id": st.integers(1, 3),
        "updated_at": st.sampled_from(["2025-01-01T00:00:00Z", "2025-01-01T00:00:01Z", None]),
        "source": st.sampled_from(["a.png", "b.png", "é\ud800.png"]),
        "order": st.permutations(["cat", "owl", "dog"]),
        "tag": st.sampled_from(["Brush", "Polygon"]),
        "rectangles": st.booleans(),
        "unlabelled": st.sampled_from(["background", "ignore"]),
    }
)


@sized(max_examples=200)
@given(MADE_OF, MADE_OF)
def test_a_mask_is_made_again_whenever_anything_that_it_is_made_of_changed(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    def made(of: dict[str, Any]) -> str:
        labels = "".join(f'<Label value="{label}"/>' for label in of["order"])
        config = f'<View>{IMAGE}<{of["tag"]}Labels name="c" toName="img">{labels}</{of["tag"]}Labels></View>'
        settings = replace(ALL, unlabelled=of["unlabelled"], rectangles=of["rectangles"])
        return mask_digest(of, of["source"], segmentation_spec(config), settings)

    assert (made(one) == made(other)) == (one == other)
    assert len(bytes.fromhex(made(one))) == 16


def test_other_changes_of_the_label_config_cost_nothing() -> None:
    source = "a.png"
    renamed = segmentation_spec(CONFIG.replace('"paint"', '"brush"').replace("</View>", '<Header value="x"/></View>'))
    assert mask_digest(annotation(1), source, SPEC, ALL) == mask_digest(annotation(1, STROKE), source, renamed, ALL)
