"""Masks all the way round on a real Label Studio: painted, learnt, and shown with the next task, to be corrected."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from benchmarks.data.datasets import fashion_mnist
from benchmarks.data.scenes import Scenes, cut_out
from demo.annotator import as_png
from demo.brush import paint, painted
from tests.integration.editor import Editor
from tests.integration.helpers import LabelProject, Seen, Studio, kill_hard, start_backend, wait_for
from tests.rig.servers import BackendServer

pytestmark = pytest.mark.timeout(400)

SIDE = 96
FRAME = (SIDE, SIDE)
TALL = (140, 90)
"""(H, W) of a picture of another shape."""
CLASSES = ("clothes", "shoes and bags")
KIND = np.array([0, 1, 1, 1, 1, 1, 2, 1, 2, 2, 2], np.uint8)
"""Of the scenes' classes, the background and the ten of Fashion-MNIST."""

BUDGET = 10
QUICK = {"sampler": "entropy", "budget": BUDGET, "task_width": 0, "class_balance": True, "seed": 1}
"""Masks that one can see, after a second."""
FROM_NOTHING = {"sampler": "entropy", "budget": 12, "epochs": 80, "class_balance": True, "seed": 1}
"""The same after some seconds, in which a worker can be killed."""


def config(tag: str) -> str:
    labels = "".join(f'<Label value="{name}"/>' for name in CLASSES)
    image = '<Image name="image" value="$image" zoom="true"/>'
    return f'<View><{tag} name="mask" toName="image">{labels}</{tag}>{image}</View>'


@dataclass
class Painting:
    """A project of scenes, and the true mask (H, W) of each task, 0 the background, i + 1 ``CLASSES[i]``."""

    project: LabelProject
    masks: dict[int, np.ndarray]

    def submit(self, task: int, result: list[dict[str, Any]]) -> None:
        self.project.studio.post(f"/api/tasks/{task}/annotations/", {"result": result, "lead_time": 1.0})

    def paint_served(self, count: int) -> list[int]:
        """Paints truly, one after the other, the next ``count`` tasks that Label Studio serves; their ids."""
        served: list[int] = []
        while len(served) < count and (task := self.project.next_task()) is not None:
            self.submit(task["id"], paint(self.masks[task["id"]], CLASSES))
            served.append(task["id"])
        return served

    def answers(self, version: str) -> dict[int, list[dict[str, Any]]]:
        """Task id → the regions that Label Studio holds of a version."""
        return {item["task"]: item["result"] for item in self.project.predictions(version)}


@pytest.fixture(scope="module")
def backend(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendServer]:
    """A web process and a worker whose lease is over soon after it was killed."""
    server = start_backend(tmp_path_factory.mktemp("masks"), studio, LEASE_SECONDS="2", IMAGE_SIZE="48")
    yield server
    server.stop()
    print(server.log_tail())


@pytest.fixture(scope="module")
def seen(backend: BackendServer) -> Seen:
    return Seen.of(backend)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    images, labels, *_ = fashion_mnist()
    return Scenes(cut_out(images[:1000], labels[:1000]), SIDE, seed=0)


@pytest.fixture
def make_painting(studio: Studio, scenes: Scenes, request: pytest.FixtureRequest) -> Iterator[Callable[..., Painting]]:
    """Makes projects that are deleted after the test: ``make_painting(scenes, control, mixed=False)``; ``mixed``: every
    other image is of another shape, and lying on its side in its file."""
    made: list[LabelProject] = []

    def make(count: int, tag: str = "BrushLabels", *, mixed: bool = False) -> Painting:
        body = {"title": request.node.name[:50], "label_config": config(tag), "show_collab_predictions": True}
        project = LabelProject(studio, studio.post("/api/projects/", body)["id"], CLASSES, ("mask", "image", "image"))
        made.append(project)
        drawn = [scenes.scene(row) for row in range(count)]
        files = {f"{row:04d}.png": as_png(image) for row, (image, _) in enumerate(drawn)}
        masks = [KIND[mask] for _, mask in drawn]
        if mixed:
            for row in range(0, count, 2):
                files[f"{row:04d}.png"] = on_its_side(drawn[row][0])
                masks[row] = stretched(masks[row], TALL)
        if files:
            project.upload(files)
        return Painting(project, dict(zip(sorted(project.tasks()), masks, strict=True)))  # numbered in the files' order

    yield make
    for project in made:
        project.delete()


def on_its_side(image: np.ndarray) -> bytes:
    """A file that shows ``image`` stretched to :data:`TALL`, but holds it turned, which its EXIF data say."""
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    lying = Image.fromarray(image).resize(TALL[::-1]).transpose(Image.Transpose.ROTATE_90)
    lying.save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


def stretched(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)


def check_learnt(masks: dict[int, np.ndarray], answers: dict[int, np.ndarray]) -> None:
    """Where an item is predicted there is one more often than elsewhere: the masks are in their places."""
    truth = np.stack([stretched(masks[task], FRAME) > 0 for task in answers])
    ours = np.stack([stretched(mask, FRAME) > 0 for mask in answers.values()])
    assert ours.any(axis=(1, 2)).mean() > 0.5, "most answers are empty"
    right = truth[ours].mean()
    assert right > truth.mean() + 0.08
    for shift in (SIDE // 4, SIDE // 2):  # the same masks in other places
        assert right > truth[np.roll(ours, shift, axis=(1, 2))].mean() + 0.08


@pytest.mark.browser
def test_the_next_task_shows_our_mask(
    page: Page, backend: BackendServer, seen: Seen, make_painting: Callable[..., Painting]
) -> None:
    painting = make_painting(32)
    project = painting.project.connected(backend.url, QUICK)
    first = project.wait_for_cycle(0)
    order = project.published_order(first)
    assert painting.paint_served(BUDGET - 1) == order[: BUDGET - 1]

    editor = Editor(page, FRAME)
    editor.open_stream(project, order[BUDGET - 1])
    editor.expect_regions()
    paint_by_mouse(editor, painting.masks[order[BUDGET - 1]])
    editor.submit()  # the tenth: a cycle begins, while the stream goes on by the order that is there
    editor.wait_for_task(order[BUDGET])
    editor.expect_regions()
    version = project.wait_for_cycle(1)
    assert seen.labels(project) == {1: BUDGET}
    paint_by_mouse(editor, painting.masks[order[BUDGET]])
    editor.submit()

    answers = painting.answers(version)
    order = [task for task in project.published_order(version) if task in project.unlabelled()]
    masks = {task: painted(answers[task], CLASSES, FRAME) for task in order}
    check_learnt(painting.masks, masks)
    assert any(answers[task] for task in order[:3])
    for task in order[:3]:
        editor.wait_for_task(task)
        editor.expect_regions(*(region["value"]["brushlabels"][0] for region in answers[task]))
        assert np.array_equal(painted(editor.draft(), CLASSES, FRAME), masks[task])
        if answers[task]:
            stored = editor.submit()
            assert stored["parent_prediction"]
            assert np.array_equal(painted(stored["result"], CLASSES, FRAME), masks[task])
        else:  # nothing to see: nothing to submit
            paint_by_mouse(editor, painting.masks[task])
            editor.submit()
    editor.wait_for_task(order[3])
    project.studio.post(f"/api/tasks/{order[3]}/annotations/", {"result": [], "lead_time": 1.0})  # it was locked
    assert painting.paint_served(4) == order[4:8]


def paint_by_mouse(editor: Editor, mask: np.ndarray) -> None:
    """One stroke of the brush for each class that it finds room for, along its longest row."""
    strokes = []
    for value, name in enumerate(CLASSES, 1):
        rows = [_longest_run(row == value) for row in mask[: SIDE * 3 // 4]]  # what is below may be hidden
        y = int(np.argmax([length for _, length in rows]))
        x, length = rows[y]
        if length >= 6:
            editor.choose(name)
            editor.drag((x + 1.5, y + 0.5), (x + length - 1.5, y + 0.5))
            strokes.append(name)
    assert strokes
    editor.expect_regions(*strokes)


def _longest_run(row: np.ndarray) -> tuple[int, int]:
    """Start and length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.pad(row.astype(np.int8), 1)))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    return (int(starts[lengths.argmax()]), int(lengths.max())) if len(starts) else (0, 0)


@pytest.mark.long
def test_polygons_are_learnt_and_answered(backend: BackendServer, make_painting: Callable[..., Painting]) -> None:
    painting = make_painting(24, "PolygonLabels")
    project = painting.project.connected(backend.url, QUICK | {"budget": 12})
    project.wait_for_cycle(0)
    for task in project.published_order()[:12]:
        painting.submit(task, outlined(painting.masks[task]))
    version = project.wait_for_cycle(1)

    answers = painting.answers(version)
    regions = [region for result in answers.values() for region in result]
    assert {(region["from_name"], region["type"]) for region in regions} == {("mask", "polygonlabels")}
    assert {region["value"]["polygonlabels"][0] for region in regions} <= set(CLASSES)
    points = np.concatenate([region["value"]["points"] for region in regions])
    assert points.min() >= 0
    assert points.max() <= 100
    check_learnt(painting.masks, {task: filled(result) for task, result in answers.items()})


def outlined(mask: np.ndarray) -> list[dict[str, Any]]:
    """The ``result`` of an annotation with a polygon around each part of a class, by OpenCV."""
    result = []
    for value, name in enumerate(CLASSES, 1):
        lines, _ = cv2.findContours((mask == value).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for line in lines:
            points = ((line[:, 0] + 0.5) / SIDE * 100).tolist()
            named = {"from_name": "mask", "to_name": "image", "type": "polygonlabels"}
            shown = {"original_width": SIDE, "original_height": SIDE, "image_rotation": 0}
            result.append({**named, **shown, "value": {"points": points, "closed": True, "polygonlabels": [name]}})
    return result


def filled(result: list[dict[str, Any]]) -> np.ndarray:
    """The mask of polygons, by OpenCV."""
    mask = np.zeros(FRAME, np.uint8)
    for region in result:
        corners = np.array(region["value"]["points"]) / 100 * SIDE - 0.5
        cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], CLASSES.index(region["value"]["polygonlabels"][0]) + 1)
    return mask


@pytest.mark.long
@pytest.mark.parametrize("phase", ["train", "publish"])
def test_a_killed_worker_loses_nothing(
    phase: str, backend: BackendServer, seen: Seen, make_painting: Callable[..., Painting]
) -> None:
    painting = make_painting(28, mixed=True)
    project = painting.project.connected(backend.url, FROM_NOTHING)
    project.wait_for_cycle(0)
    painting.paint_served(12)
    seen.wait_for_training(project)
    seen.wait_for_phase(project, phase)
    worker = backend.worker_pid
    kill_hard(worker)

    cycle, lost = (2, [1]) if phase == "train" else (1, [])  # training begins again, what was learnt is published
    version = project.wait_for_cycle(cycle)
    assert backend.worker_pid != worker
    wait_for("the cycle to be closed", lambda: seen.labels(project) == {cycle: 12})
    assert seen.cycles(project, "interrupted") == lost
    assert seen.classes(version, project) == list(CLASSES)
    held = Counter((item["task"], item["model_version"]) for item in project.predictions())
    assert [key for key, times in held.items() if times > 1] == []
    answers = painting.answers(version)
    assert set(answers) == project.unlabelled()
    # ``painted`` reads no region of another size than the image's: the editor could not show it
    masks = {task: painted(result, CLASSES, painting.masks[task].shape) for task, result in answers.items()}
    check_learnt(painting.masks, masks)
    order = project.published_order(version)
    assert painting.paint_served(5) == order[:5]


@pytest.mark.parametrize("sampler", ["ads", "ceal"])
def test_a_sampler_without_meaning_for_masks_is_refused_in_words(
    sampler: str, backend: BackendServer, make_painting: Callable[..., Painting]
) -> None:
    project = make_painting(0).project

    answer = project.connect(backend.url, {"sampler": sampler})

    assert not answer.ok
    assert f'sampler \\"{sampler}\\" has no meaning for masks: ' in answer.text
    assert 'Set \\"sampler\\" to another' in answer.text
    project.connected(backend.url, {"sampler": "entropy"})
