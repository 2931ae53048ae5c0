"""Tasks with a generated image: what marks them, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from backend.settings.core import Settings
from backend.state import Mark, PlannedImage
from backend.tasks import kind_of
from backend.tasks.choices import says_nothing
from backend.tasks.label_config import image_source
from backend.tasks.synthetic import data_uri, digest_of, is_unchanged, mark_of, task_data
from tests.integration.helpers import choices_config

MARKED = {"synthetic": True, "synthetic_batch": "gaal-c3-0123abcd", "synthetic_seed": 7}
ADDRESS = data_uri(b"image")
PLANNED = PlannedImage(Mark("gaal-c3-0123abcd", 7), 0, digest_of(ADDRESS), ADDRESS, 0)


def test_a_task_is_marked_by_its_version_and_seed() -> None:
    assert mark_of({**MARKED, "image": "x"}) == Mark("gaal-c3-0123abcd", 7)


@pytest.mark.parametrize(
    "changed",
    [
        {"synthetic": "true"},
        {"synthetic": None},
        {"synthetic_batch": "renderer v2"},
        {"synthetic_batch": 3},
        {"synthetic_seed": "7"},
        {"synthetic_seed": -1},
        {"synthetic_seed": True},
        {"synthetic_seed": 2**70},
    ],
)
def test_what_somebody_else_calls_synthetic_is_an_image_like_any_other(changed: dict[str, Any]) -> None:
    assert mark_of({**MARKED, **changed}) is None
    assert mark_of({"synthetic": True}) is None and mark_of({}) is None


@pytest.mark.parametrize("data_key", ["image", "a.b", "pages[1]", "a.pages[0].image"])
def test_the_image_is_where_the_label_config_looks_for_it(data_key: str) -> None:
    data = task_data(PLANNED, data_key)
    assert image_source(data, data_key) == ADDRESS
    assert mark_of(data) == PLANNED.mark and is_unchanged(data, PLANNED, data_key)


def test_a_task_whose_data_were_changed_is_not_what_was_planned() -> None:
    data = task_data(PLANNED, "image")
    assert not is_unchanged({**data, "image": data_uri(b"another")}, PLANNED, "image")
    assert not is_unchanged({**data, "synthetic_seed": 8}, PLANNED, "image")
    assert not is_unchanged({"image": ADDRESS}, PLANNED, "image")


@pytest.mark.parametrize("name", ["not recognisable", "Not recognizable", "not_recognizable", "NOT-RECOGNISABLE"])
def test_a_class_may_say_that_nothing_can_be_recognized(name: str) -> None:
    assert says_nothing(name)
    single = kind_of(choices_config(("cat", name)), Settings())
    assert single.shows_nothing(name) and not single.shows_nothing("cat")
    several = kind_of(choices_config(("cat", name)).replace('choice="single"', 'choice="multiple"'), Settings())
    assert several.shows_nothing(frozenset({"cat", name})) and not several.shows_nothing(frozenset())


def test_other_classes_say_something() -> None:
    assert not any(map(says_nothing, ("recognizable", "unknown", "not recognizable at night")))
