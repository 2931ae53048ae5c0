"""One project in the real Label Studio, and a job on it in this process: for tests of a single step of the worker."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from backend.errors import LeaseLost
from backend.files import predictions_folder
from backend.labelstudio.client import LabelStudio
from backend.settings.core import Settings
from backend.state import State, Version
from backend.tasks.segmentation.brush import encode_mask
from backend.tasks.segmentation.predictions import write_masks
from backend.worker.job import Job
from tests.integration.helpers import FRUIT, LabelProject, Studio, choices_config, drawings
from tests.rig.json_server import JsonServer
from tests.rig.proxy import Proxy
from tests.rig.servers import LabelStudioServer

OWNER = "bench"
TINY = {"task_width": 4, "epochs": 2, "batch_size": 16, "shortlist": 5, "device": "cpu", "control_fraction": 0.0}
"""Settings of a task network that learns in a blink, from all labels, in an order that is the sampler's alone."""


class Door:
    """What Label Studio meets of the backend: it answers ``/health`` and ``/setup``, and notes the latter as the web
    process does, unless it is that of ``another`` backend. Webhooks are answered and forgotten: tests leave the hints
    themselves."""

    def __init__(self, state: State, project_id: int, *, another: bool = False) -> None:
        self.open = True
        self.address = ""
        """The address that is noted, where a proxy hides the one that Label Studio calls."""

        def answer(request: BaseHTTPRequestHandler) -> tuple[int, Any]:
            version = None if another else state.versions.current(project_id)
            if request.path == "/setup" and self.open and not another:
                state.hints.heard(project_id, self.address or self.url)
            return 200 if self.open else 503, {"status": "UP", "model_version": version.name if version else ""}

        self._server = JsonServer(answer)
        self.url = self._server.url

    def close(self) -> None:
        self._server.close()


@dataclass
class Workbench:
    """``project`` as its owner sees it, ``proxy`` on the way there, ``state`` and ``job`` as a worker has them, and the
    ``door`` that Label Studio is connected to."""

    project: LabelProject
    proxy: Proxy
    state: State
    job: Job
    door: Door

    @property
    def tasks(self) -> list[int]:
        return sorted(self.project.tasks())

    def with_settings(self, **changes: Any) -> Job:
        """The same job under other settings."""
        self.job = replace(self.job, settings=replace(self.job.settings, **changes))
        return self.job

    def restarted(self) -> Job:
        """The job as the next worker gets it: nothing but the database is left of the one before."""
        self.job = replace(self.job.reread(), gateway=LabelStudio(self.proxy.url, self.job.gateway._token))
        return self.job

    def scored(
        self, tasks: Sequence[int] | None = None, *, name: str = "", seed: int = 0, checkpoint: Path | None = None
    ) -> Version:
        """A version that waits to be published, with made-up predictions."""
        chosen = np.array(self.tasks if tasks is None else tasks, dtype=np.int64)
        rng = np.random.default_rng(seed)
        number = self.state.cycles.next_number(self.project.id)
        self.state.cycles.start(self.project.id, OWNER, number, "entropy", 0)
        return self.state.versions.add(
            self.project.id,
            OWNER,
            cycle=number,
            name=name or f"entropy-c{number}-{seed:08x}",
            sampler="entropy",
            checkpoint=None if checkpoint is None else str(checkpoint),
            classes=self.project.classes,
            metrics={},
            task_ids=chosen,
            priority_score=rng.permutation(np.linspace(0.1, 0.9, len(chosen))),
            class_index=rng.integers(0, len(self.project.classes), len(chosen)),
            confidence=np.full(len(chosen), 0.5),
        )

    def scored_masks(
        self, count: int, *, name: str = "segmenting-c1-00000000", frame: tuple[int, int] = (30, 40), seed: int = 0
    ) -> tuple[Version, dict[int, np.ndarray]]:
        """A version that waits to be published, with made-up masks (H, W) of the ``count`` tasks at its head: a blob
        of each class. Task → mask comes back with it."""
        classes = self.project.classes
        chosen = np.array(self.tasks, dtype=np.int64)
        rng = np.random.default_rng(seed)
        published = rng.permutation(np.linspace(0.1, 0.9, len(chosen)))
        head = chosen[np.argsort(published)][:count]
        masks = np.stack([blobs(frame, len(classes), rng) for _ in head])
        sizes = np.tile([2 * frame[0], 2 * frame[1]], (count, 1))
        sure = np.full(masks.shape, 204, np.uint8)
        folder = predictions_folder(self.job.folder, name)
        write_masks(folder, classes, frame, head.tolist(), sizes, [(np.arange(count), masks, sure)])
        number = self.state.cycles.next_number(self.project.id)
        self.state.cycles.start(self.project.id, OWNER, number, "entropy", 0)
        version = self.state.versions.add(
            self.project.id,
            OWNER,
            cycle=number,
            name=name,
            sampler="entropy",
            checkpoint=None,
            classes=classes,
            metrics={"task": "segmentation", "frame": list(frame)},
            task_ids=chosen,
            priority_score=published,
            class_index=None,
            confidence=np.full(len(chosen), 0.8),
        )
        return version, dict(zip(head.tolist(), masks, strict=True))

    def ask_for(self, label_config: str) -> None:
        """The owner changes the label config."""
        self.project.studio.patch(f"/api/projects/{self.project.id}/", {"label_config": label_config})

    def order(self, version: Version) -> list[int]:
        """Task ids of ``version`` as scored, lowest first."""
        return [stored.task_id for stored in self.state.scores.all(version)]

    def status(self, version: Version) -> str:
        found = self.state.versions.get(version.id)
        assert found is not None
        return found.status

    def lose_lease(self) -> None:
        """Another worker takes the project over."""
        self.state.leases.release(self.project.id, OWNER)
        assert self.state.leases.take(self.project.id, "another", 600)


@contextmanager
def workbench(
    server: LabelStudioServer,
    folder: Path,
    *,
    tasks: int = 30,
    classes: Sequence[str] = FRUIT,
    pictures: bool = False,
    masks: bool = False,
    several: bool = False,
    **settings: Any,
) -> Iterator[Workbench]:
    """A project of ``tasks`` tasks, with ``pictures`` inside their data or with addresses that nobody asks for; with
    ``masks`` it is one to paint and outline in (:func:`masks_config`), with ``several`` one to tick any number of
    classes in (:func:`tags_config`)."""
    project = Studio(server).make_project("workbench", classes)
    if masks or several:
        config = masks_config(classes) if masks else tags_config(classes)
        project.studio.patch(f"/api/projects/{project.id}/", {"label_config": config})
    proxy = Proxy(server.url)
    state = State(f"sqlite:///{folder / 'state.sqlite3'}")
    door: Door | None = None
    try:
        (add_scenes if masks and pictures else add_tasks)(project, tasks, pictures=pictures)
        token = server.legacy_token  # which Label Studio answers in half the processor time
        config = Settings(**{"model_dir": str(folder), **TINY, **settings})
        info = LabelStudio(server.url, token).project(project.id)
        state.projects.connect(project.id, info.key, info.label_config, {}, proxy.url, "")
        assert state.leases.take(project.id, OWNER, 600)
        known = state.projects.get(project.id)
        assert known is not None

        def check() -> None:
            now = state.projects.get(known.id)
            if now is None or now.lease_owner != OWNER:
                raise LeaseLost("the lease is another's")

        gateway = LabelStudio(proxy.url, token)
        door = Door(state, project.id)
        project.connected(door.url)
        yield Workbench(
            project, proxy, state, Job(known, config, state, gateway, OWNER, torch.device("cpu"), check), door
        )
    finally:
        if door is not None:
            door.close()
        proxy.close()
        state.close()
        project.delete()


def add_tasks(project: LabelProject, count: int, *, pictures: bool = False, seed: int = 0) -> None:
    files = drawings(count, project.classes, seed)
    key = project.names[2]
    items = []
    for name, data in files.items():
        inside = "data:image/png;base64," + base64.b64encode(data).decode()
        kind = name.rsplit("-", 1)[1].removesuffix(".png")
        items.append({key: inside if pictures else f"/data/{name}", "kind": kind})
    if items:
        project.import_tasks(items)


def label(bench: Workbench, count: int) -> list[int]:
    """Annotates truly the ``count`` unlabeled tasks with the smallest ids."""
    tasks = bench.project.tasks()
    chosen = sorted(number for number, task in tasks.items() if not task["is_labeled"])[:count]
    for task in chosen:
        bench.project.annotate(task, tasks[task]["data"]["kind"])
    return chosen


# -- several choices ---------------------------------------------------------------------------------------------------


def tags_config(classes: Sequence[str]) -> str:
    """Any number of ``classes`` for each image, where :func:`choices_config` asks for one."""
    return choices_config(classes).replace('choice="single"', 'choice="multiple"')


def ticked(labels: Sequence[str]) -> list[dict[str, Any]]:
    """The ``result`` of an annotation that ticks ``labels``, as the editor sends it: no region for none of them."""
    region = {"from_name": "choice", "to_name": "picture", "type": "choices", "value": {"choices": list(labels)}}
    return [region] if labels else []


# -- masks -------------------------------------------------------------------------------------------------------------

PAINT, OUTLINE = "paint", "outline"
SCENE = (48, 64)
"""Height and width of the scenes' images."""


def masks_config(classes: Sequence[str], *tags: str, names: tuple[str, str] = ("picture", "image")) -> str:
    """To paint and to outline, or with one of the ``tags`` alone, on the image that :func:`choices_config` names."""
    labels = "".join(f'<Label value="{name}"/>' for name in classes)
    to_name, key = names
    kinds = {"BrushLabels": PAINT, "PolygonLabels": OUTLINE}
    controls = "".join(
        f'<{tag} name="{kinds[tag]}" toName="{to_name}">{labels}</{tag}>' for tag in tags or tuple(kinds)
    )
    return f'<View><Image name="{to_name}" value="${key}"/>{controls}</View>'


def both_config(classes: Sequence[str]) -> str:
    """A class for each image, and masks: what is learnt is the owner's choice, by the setting ``task``."""
    return choices_config(classes).replace("</View>", masks_config(classes).partition('value="$image"/>')[2])


def blobs(frame: tuple[int, int], classes: int, rng: np.random.Generator) -> np.ndarray:
    """A mask (H, W) uint8 with an upright box of each class 1..``classes`` in a column of its own."""
    high, wide = frame
    mask = np.zeros(frame, np.uint8)
    width = wide // classes
    for index in range(classes):
        top, left = rng.integers(1, high // 3), index * width + rng.integers(0, width // 4)
        mask[top : top + high // 2, left : left + width // 2] = index + 1
    return mask


def scene(kind: int, rng: np.random.Generator) -> tuple[bytes, list[int]]:
    """A PNG of :data:`SCENE` with a box in the color of class ``kind`` on noise, and the box: x, y, width, height."""
    high, wide = SCENE
    pixels = rng.integers(0, 60, (high, wide, 3)).astype(np.uint8)
    width, height = (int(side) for side in rng.integers(12, 24, 2))
    x, y = int(rng.integers(0, wide - width)), int(rng.integers(0, high - height))
    pixels[y : y + height, x : x + width, kind % 3] += 180
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue(), [x, y, width, height]


def add_scenes(project: LabelProject, count: int, *, pictures: bool = True, seed: int = 0) -> None:
    """Tasks with a scene each; its class and its box are in their data."""
    rng = np.random.default_rng(seed)
    items = []
    for number in range(count):
        kind = number % len(project.classes)
        data, box = scene(kind, rng)
        inside = "data:image/png;base64," + base64.b64encode(data).decode()
        items.append({project.names[2]: inside, "kind": project.classes[kind], "box": box})
    if items:
        project.import_tasks(items)


def painted(label: str, mask: np.ndarray, to_name: str = "picture") -> dict[str, Any]:
    """A brush region of ``mask`` (H, W) bool at the size of its image, as the editor sends it."""
    high, wide = mask.shape
    value = {"format": "rle", "rle": encode_mask(mask), "brushlabels": [label]}
    return {
        "type": "brushlabels", "from_name": PAINT, "to_name": to_name, "image_rotation": 0,
        "original_height": high, "original_width": wide, "value": value,
    }  # fmt: skip


def outlined(label: str, box: Sequence[int], size: tuple[int, int] = SCENE, to_name: str = "picture") -> dict[str, Any]:
    """A polygon region around a box of pixels, as the editor sends it."""
    (x, y, width, height), (high, wide) = box, size
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    points = [[100 * across / wide, 100 * down / high] for across, down in corners]
    return {
        "type": "polygonlabels", "from_name": OUTLINE, "to_name": to_name, "image_rotation": 0,
        "original_height": high, "original_width": wide,
        "value": {"points": points, "closed": True, "polygonlabels": [label]},
    }  # fmt: skip


def draw(bench: Workbench, count: int, *, tag: str = "") -> list[int]:
    """Annotates truly the ``count`` unlabeled scenes with the smallest ids: painted and outlined in turn, or as
    ``tag`` says."""
    tasks = bench.project.tasks()
    chosen = sorted(number for number, task in tasks.items() if not task["is_labeled"])[:count]
    for place, task in enumerate(chosen):
        data = tasks[task]["data"]
        draw_on(bench, task, data["kind"], data["box"], tag or (PAINT, OUTLINE)[place % 2])
    return chosen


def draw_on(bench: Workbench, task: int, label: str, box: Sequence[int], tag: str = PAINT) -> None:
    x, y, width, height = box
    mask = np.zeros(SCENE, bool)
    mask[y : y + height, x : x + width] = True
    region = painted(label, mask) if tag == PAINT else outlined(label, box)
    annotate(bench, task, [region])


def annotate(bench: Workbench, task: int, result: list[dict[str, Any]], **fields: Any) -> int:
    """An annotation of these regions, submitted; its id."""
    body = {"result": result, "lead_time": 1.0, **fields}
    return int(bench.project.studio.post(f"/api/tasks/{task}/annotations/", body)["id"])
