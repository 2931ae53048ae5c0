"""What every kind of task reads of a task and of its annotations alike."""

from __future__ import annotations

from typing import Any

import pytest

from backend.tasks.choices import choices_spec
from backend.tasks.label_config import age, image_source

KIND = '<Choices name="kind" toName="img"><Choice value="cat"/><Choice value="dog"/></Choices>'


@pytest.mark.parametrize(
    ("data", "source"),
    [
        ({"image": " /data/upload/1/a.png "}, "/data/upload/1/a.png"),
        ({"other": "x"}, None),
        ({"image": ""}, None),
        ({"image": None}, None),
        ({"image": ["a.png", "b.png"]}, None),
        ({}, None),
    ],
)
def test_image_source(data: dict[str, Any], source: str | None) -> None:
    assert image_source(data, "image") == source


def test_image_source_in_a_list_of_the_task_data() -> None:
    data = {"pages": [{"url": "a.png"}, {"url": "b.png"}], "images": ["c.png"], "x[0]": "d.png"}
    wanted = {"pages[1].url": "b.png", "pages.0.url": "a.png", "images[0]": "c.png", "x[0]": "d.png"}
    assert {key: image_source(data, key) for key in wanted} == wanted
    assert [image_source(data, key) for key in ("pages[2].url", "images[-1]", "images.length", "pages[0]")] == [
        None
    ] * 4


def test_image_source_inside_the_task_data() -> None:
    key = choices_spec(f'<View><Image name="img" value="$shot.url"/>{KIND}</View>').data_key
    assert image_source({"shot": {"url": "a.png"}}, key) == "a.png"
    assert image_source({"shot.url": "b.png", "shot": {"url": "a.png"}}, key) == "b.png"
    assert image_source({"shot": "a.png"}, key) is None


def test_annotations_are_ordered_by_their_last_change_then_by_their_number() -> None:
    annotations = [
        {"id": 4, "updated_at": "2025-01-02T00:00:00.000001"},  # without a zone: UTC
        {"id": 1, "updated_at": "2025-01-02T00:00:00.000001Z", "created_at": "2024-01-01T00:00:00Z"},
        {"id": 2, "updated_at": "2025-01-01T03:00:00+02:00"},  # one o'clock
        {"id": 3, "created_at": "2025-01-01T00:00:00Z"},
        {"id": 9, "updated_at": "odd"},
    ]
    assert [one["id"] for one in sorted(annotations, key=age)] == [9, 3, 2, 1, 4]
