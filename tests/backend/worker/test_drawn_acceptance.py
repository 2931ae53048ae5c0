"""Drawn pre-annotations that people left as they were, of what is drawn in a real Label Studio."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.labelstudio.records import TaskAnnotations
from backend.settings.core import Settings
from backend.tasks.classification import Classification
from backend.tasks.segmentation.config import segmentation_spec
from backend.tasks.segmentation.kind import Segmentation
from backend.tasks.segmentation.masks import drawing_digest
from backend.worker.acceptance import begun_from
from backend.worker.sync import read_truth
from tests.backend.workbench import (
    SCENE,
    Workbench,
    annotate,
    masks_config,
    outlined,
    painted,
    workbench,
)
from tests.integration.helpers import FRUIT, choices_config
from tests.rig.servers import LabelStudioServer

OURS = "random-c1-abcdef12"
SPEC = segmentation_spec(masks_config(FRUIT))
BOX = (5, 5, 20, 20)


def brushed(label: str = FRUIT[0], box: tuple[int, int, int, int] = BOX) -> dict[str, Any]:
    x, y, width, height = box
    mask = np.zeros(SCENE, bool)
    mask[y : y + height, x : x + width] = True
    return painted(label, mask)


# -- when two drawings are the same ------------------------------------------------------------------------------------


def test_drawings_are_the_same_when_their_masks_are() -> None:
    first = brushed()
    assert drawing_digest([first], SPEC) == drawing_digest([first | {"id": "another", "score": 0.5}], SPEC)
    assert drawing_digest([first], SPEC) == drawing_digest([outlined(FRUIT[0], BOX)], SPEC)
    assert drawing_digest([first], SPEC) != drawing_digest([brushed(FRUIT[1])], SPEC)
    assert drawing_digest([first], SPEC) != drawing_digest([brushed(box=(5, 5, 20, 21))], SPEC)
    assert (
        drawing_digest([first], SPEC) != drawing_digest([], SPEC) == drawing_digest([brushed(box=(0, 0, 0, 0))], SPEC)
    )


def test_what_is_no_region_draws_nothing() -> None:
    odd: list[Any] = ["words", None, {"type": "choices", "value": {"choices": ["a"]}}]
    assert drawing_digest([*odd, brushed()], SPEC) == drawing_digest([brushed()], SPEC)
    assert drawing_digest(odd, SPEC) == drawing_digest([], SPEC)


def test_a_large_drawing_is_compared_at_a_fraction_of_its_size() -> None:
    sides = (5000, 8000)
    whole, most = np.ones(sides, bool), np.ones(sides, bool)
    most[:, 4000:] = False
    assert drawing_digest([painted(FRUIT[0], whole)], SPEC) != drawing_digest([painted(FRUIT[0], most)], SPEC)


def test_what_was_known_of_another_kind_of_task_is_not_compared() -> None:
    """The label config was exchanged: the id is the same, what was filled in a class."""
    stamp = "2026-01-01T00:00:00Z"
    annotation: dict[str, Any] = {"id": 7, "was_cancelled": False, "updated_at": stamp, "parent_prediction": 9}
    shown = {"id": 9, "result": [brushed()], "model_version": OURS}
    masks = Segmentation.read(masks_config(FRUIT), Settings())
    assert begun_from(masks, TaskAnnotations(1, [annotation]), [7, OURS, FRUIT[0]]) is None
    read = TaskAnnotations(1, [annotation | {"result": [brushed()]}], predictions=[shown])
    begun = begun_from(masks, read, [7, OURS, FRUIT[0]])
    assert begun == [7, OURS, *2 * [drawing_digest([brushed()], SPEC)], stamp]
    classes = Classification.read(choices_config(FRUIT), Settings())
    choice = {"from_name": "kind", "to_name": "picture", "type": "choices", "value": {"choices": [FRUIT[0]]}}
    assert begun_from(classes, TaskAnnotations(1, [annotation | {"result": [choice]}]), begun) is None


# -- in comparisons ----------------------------------------------------------------------------------------------------


@pytest.fixture
def bench(label_studio: LabelStudioServer, tmp_path: Path) -> Iterator[Workbench]:
    with workbench(label_studio, tmp_path, tasks=8, masks=True) as made:
        number = made.state.cycles.next_number(made.job.project.id)
        made.state.cycles.start(made.job.project.id, made.job.owner, number, "random", 0)
        version = made.state.versions.add(
            made.job.project.id,
            made.job.owner,
            cycle=number,
            name=OURS,
            sampler="random",
            checkpoint=None,
            classes=FRUIT,
            metrics={},
            task_ids=np.array(made.tasks),
            priority_score=np.linspace(0.1, 0.9, len(made.tasks)),
            class_index=None,
            confidence=None,
        )
        made.state.versions.switch_to(version, made.job.owner)
        read_truth(made.job)
        yield made


def predicted(bench: Workbench, task: int, regions: list[dict[str, Any]], version: str = OURS) -> int:
    body = {"task": task, "result": regions, "score": 0.5, "model_version": version}
    return int(bench.project.studio.post("/api/predictions/", body)["id"])


def accepted(bench: Workbench, *, whole: bool = False) -> tuple[int, float] | None:
    read_truth(bench.job.reread(), whole=whole)
    found = bench.job.reread().project.acceptance
    return None if found is None else (found["n"], found["value"])


@pytest.mark.slow
def test_a_mask_that_was_submitted_as_it_was_drawn_was_accepted_and_a_corrected_one_was_not(bench: Workbench) -> None:
    """Also after the prediction was removed, of which Label Studio then forgets that anything was begun from it."""
    same, moved, alone, blank, theirs = bench.tasks[:5]
    first = annotate(bench, same, [brushed()], parent_prediction=predicted(bench, same, [brushed()]))
    assert accepted(bench) == (1, 1.0)
    annotate(bench, moved, [brushed(box=(9, 5, 20, 20))], parent_prediction=predicted(bench, moved, [brushed()]))
    annotate(bench, alone, [brushed()])
    annotate(bench, blank, [brushed()], parent_prediction=predicted(bench, blank, []))
    annotate(bench, theirs, [brushed()], parent_prediction=predicted(bench, theirs, [brushed()], "somebody-else"))
    assert accepted(bench) == (2, 0.5)
    for one in bench.project.predictions(OURS):
        bench.project.studio.delete(f"/api/predictions/{one['id']}/")
    assert accepted(bench, whole=True) == (2, 0.5)

    bench.project.studio.patch(f"/api/annotations/{first}/", {"result": [brushed(FRUIT[2])]})
    assert accepted(bench) == (2, 0.0), "it was corrected later"
    bench.project.studio.patch(f"/api/annotations/{first}/", {"result": [brushed()]})
    assert accepted(bench, whole=True) == (2, 0.5)
    bench.project.studio.delete(f"/api/annotations/{first}/")
    assert accepted(bench) == (1, 0.0)


@pytest.mark.slow
def test_what_is_drawn_is_read_once(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strokes are large, and comparisons are made every few minutes."""
    read: list[list[int]] = []
    annotations_of = type(bench.job.gateway).annotations_of

    def counting(client: Any, number: int, tasks: list[int], *, results: bool = True, shown: bool = False) -> Any:
        read.extend([list(tasks)] if results else [])
        return annotations_of(client, number, tasks, results=results, shown=shown)

    monkeypatch.setattr(type(bench.job.gateway), "annotations_of", counting)
    task, other = bench.tasks[:2]
    annotate(bench, task, [outlined(FRUIT[0], BOX)], parent_prediction=predicted(bench, task, [brushed()]))
    annotate(bench, other, [outlined(FRUIT[0], BOX)])
    assert accepted(bench) == (1, 1.0)
    assert accepted(bench) == accepted(bench, whole=True) == (1, 1.0)
    assert read == [[task]]
