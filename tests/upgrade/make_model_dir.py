"""Makes the archive that the upgrade tests start from: ``python -m tests.upgrade.make_model_dir OLD_CHECKOUT``.

``OLD_CHECKOUT`` is a checkout of the version that is to be upgraded, with its own ``.venv``. A real Label Studio is
started, and the old backend works for two small projects in it, by the hands of an annotator:

    segmentation     entropy, drn-d-22: a first order, 4 painted tasks, one cycle, its masks kept
    classification   vaal: a first order, 4 labels, one cycle, 4 more labels, and ``kill -9`` of the worker while it
                     publishes what the second cycle learned, after a prediction whose arrival it has not noted

What is in MODEL_DIR then is archived as it is, the database's log folded into its one file, together with what Label
Studio holds and what the old version said of it. Once per version is enough.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import tarfile
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from demo.brush import paint
from tests.integration.helpers import FAST, LabelProject, Studio, kill_hard, png
from tests.rig.proxy import Proxy
from tests.rig.servers import BackendServer, LabelStudioServer, WorkerProcess
from tests.rig.waiting import wait_for
from tests.upgrade.installation import (
    ARCHIVE,
    CHECKPOINTS,
    FACTS,
    MODEL_DIR,
    held_by,
    number_rows,
    predict,
    renumber_tasks,
    rows,
    status,
)

HERE = Path(__file__).parent
PYTHON = ".venv/bin/python"
FIRST_PROJECT, FIRST_TASK, FIRST_ANNOTATION = 9_001, 900_001, 90_001
"""Ids that no other test's rows have in the same Label Studio."""

IMAGES, BUDGET, SHORTLIST = 24, 4, 5
HIGH, WIDE = 32, 40
PATIENCE = 900.0
CHOICES, LABELS = ("stripes", "checks", "plain"), ("box", "disc")

COMMON = {"budget": BUDGET, "shortlist": SHORTLIST, "task_width": 4, "seed": 3}
CLASSIFICATION = {
    **COMMON,
    "sampler": "vaal",
    "vaal_width": 4,
    "vaal_latent": 4,
    "vaal_iterations": 5,
    "vaal_batch_size": 8,
}
SEGMENTATION = {**COMMON, "sampler": "entropy", "segmentation_net": "drn-d-22", "class_balance": True}

OLD_ENVIRONMENT = {
    **{name: FAST[name] for name in ("DEVICE", "POLL_SECONDS", "CLEANUP_SECONDS", "OMP_NUM_THREADS")},
    "LEASE_SECONDS": "2",
    "EPOCHS": "40",
}
"""What is not the projects' own. Superseded versions stay, and the networks learn something."""


class _Old:
    """What runs is the old version."""

    checkout: Path

    def popen_options(self) -> dict[str, object]:
        return {"cwd": self.checkout}


class OldWeb(_Old, BackendServer):
    def command(self) -> list[str]:
        _, *rest = super().command()
        return [str(self.checkout / PYTHON), *rest]


class OldWorker(_Old, WorkerProcess):
    """Its checkpoints compress."""

    def command(self) -> list[str]:
        return [str(self.checkout / PYTHON), str(HERE / "old_backend.py"), "worker"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="of the version to be upgraded, with its .venv")
    checkout = _Old.checkout = parser.parse_args().checkout.resolve()
    with tempfile.TemporaryDirectory(prefix="upgrade-") as scratch:
        folder = Path(scratch)
        server = LabelStudioServer(folder / "label-studio")
        server.directory.mkdir(exist_ok=True)
        (server.directory / "legacy-token").write_text("0" * 40)  # the state keeps it: let it be nobody's
        server.start()
        try:
            facts = work(Studio(server), folder)
        finally:
            server.stop()
        (folder / FACTS).write_text(json.dumps(facts))
        fold(folder / MODEL_DIR / "state.sqlite3")
        pack(ARCHIVE, folder, FACTS, MODEL_DIR)
    with tempfile.TemporaryDirectory(prefix="upgrade-") as scratch:
        command = [checkout / PYTHON, HERE / "old_checkpoints.py", scratch]
        subprocess.run(command, cwd=checkout, check=True)
        pack(CHECKPOINTS, Path(scratch), *sorted(path.name for path in Path(scratch).iterdir()))


def work(studio: Studio, folder: Path) -> dict[str, Any]:
    """Let the old version work in ``folder`` until it is killed; what there is to remember of it."""
    number_rows(
        studio.server.directory / "label_studio.sqlite3",
        project=FIRST_PROJECT,
        task_completion=FIRST_ANNOTATION,
    )
    model_dir = folder / MODEL_DIR
    proxy = Proxy(studio.url)
    web = OldWeb(model_dir, proxy.url, studio.server.personal_access_token(), env=OLD_ENVIRONMENT, worker=False)
    worker = OldWorker(model_dir, proxy.url, web.api_key, env=OLD_ENVIRONMENT)
    web.log_path, worker.log_path = folder / "web.log", folder / "worker.log"
    web.start()
    worker.start()
    try:
        segmentation, paint_one = painting(studio, web.url)
        label(segmentation, paint_one)
        finished(model_dir, segmentation, 1)
        classification, label_one = classifying(studio, web.url)
        label(classification, label_one)
        finished(model_dir, classification, 1)
        answers = {
            "segmentation": answers_of(web.url, segmentation, scene(0, np.random.default_rng(9))[0]),
            "classification": answers_of(web.url, classification, pattern(0, np.random.default_rng(9))),
        }
        trap = proxy.set("POST", "^/api/predictions/$", body="-c2-", nth=3, after=lambda: kill_hard(worker.pid))
        label(classification, label_one)
        trap.wait(PATIENCE)
        at = time.time()
        told = status(web)
        kill_hard(web.pid)
        projects = {
            "segmentation": held_by(studio, segmentation.id),
            "classification": held_by(studio, classification.id),
        }
    except BaseException:
        print(web.log_tail(), worker.log_tail(), sep="\n")
        raise
    finally:
        worker.kill()
        web.kill()
        proxy.close()
    return {"at": at, "model_dir": str(model_dir), "projects": projects, "status": told, "answers": answers}


# -- the projects ------------------------------------------------------------------------------------------------------

Annotate = Callable[[Mapping[str, Any]], None]
"""Submits the true answer to a task."""


def classifying(studio: Studio, url: str) -> tuple[LabelProject, Annotate]:
    """A connected project of patterns, its first order out."""
    project = studio.make_project("Patterns", CHOICES, pictures(pattern, 1))
    renumber_tasks(project, FIRST_TASK + IMAGES)
    project.connected(url, CLASSIFICATION).wait_for_cycle(0, timeout=PATIENCE)

    def annotate(task: Mapping[str, Any]) -> None:
        project.annotate(task["id"], CHOICES[_number(task) % len(CHOICES)])

    return project, annotate


def painting(studio: Studio, url: str) -> tuple[LabelProject, Annotate]:
    """A connected project of scenes, its first order out."""
    labels = "".join(f'<Label value="{name}"/>' for name in LABELS)
    config = (
        '<View><Image name="image" value="$image"/>'
        f'<BrushLabels name="mask" toName="image">{labels}</BrushLabels></View>'
    )
    body = {"title": "Scenes", "label_config": config, "show_collab_predictions": True}
    project = LabelProject(studio, studio.post("/api/projects/", body)["id"], LABELS, ("mask", "image", "image"))
    project.upload(pictures(lambda number, rng: scene(number, rng)[0], 2))
    renumber_tasks(project, FIRST_TASK)
    project.connected(url, SEGMENTATION).wait_for_cycle(0, timeout=PATIENCE)
    masks = [scene(number, rng)[1] for number, rng in generators(2)]

    def annotate(task: Mapping[str, Any]) -> None:
        result = paint(masks[_number(task)], LABELS)
        studio.post(f"/api/tasks/{task['id']}/annotations/", {"result": result, "lead_time": 1.0})

    return project, annotate


def label(project: LabelProject, annotate: Annotate) -> None:
    """As many tasks as make a cycle due, in the order in which they are served."""
    for _ in range(BUDGET):
        task = project.next_task()
        assert task is not None
        annotate(task)


def generators(seed: int) -> list[tuple[int, np.random.Generator]]:
    return [(number, np.random.default_rng([seed, number])) for number in range(IMAGES)]


def pictures(draw: Callable[[int, np.random.Generator], np.ndarray], seed: int) -> dict[str, bytes]:
    """File name → PNG, in the order of the tasks."""
    return {f"{number:04d}.png": png(draw(number, rng)) for number, rng in generators(seed)}


def pattern(number: int, rng: np.random.Generator) -> np.ndarray:
    """(32, 32) uint8 of few values: they compress."""
    y, x = np.mgrid[0:32, 0:32] + rng.integers(0, 8, (2, 1, 1))
    bright = [x // 4 % 2, (x // 4 + y // 4) % 2, 0 * x][number % len(CHOICES)]
    return (16 * np.clip(4 + 7 * bright + rng.integers(-1, 2, x.shape), 0, 15)).astype(np.uint8)


def scene(number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture (32, 40, 3) uint8 and its mask (32, 40) uint8: a bright box and a dark disc on gray, or one of them."""
    y, x = np.mgrid[0:HIGH, 0:WIDE]
    mask = np.zeros((HIGH, WIDE), np.uint8)
    top, left = rng.integers(0, HIGH - 14), rng.integers(0, WIDE - 14)
    if number % 4 != 3:
        mask[top : top + 12, left : left + 12] = 1
    middle = rng.integers(6, HIGH - 6), rng.integers(6, WIDE - 6)
    if number % 4 != 2:
        mask[np.hypot(y - middle[0], x - middle[1]) < 6] = 2
    colors = np.array([[7, 7, 7], [14, 12, 3], [1, 3, 9]])
    return (16 * (colors[mask] + rng.integers(-1, 2, (HIGH, WIDE, 1)))).astype(np.uint8), mask


def _number(task: Mapping[str, Any]) -> int:
    """Of the picture, in the name of the uploaded file."""
    return int(str(task["data"]["image"]).rsplit("-", 1)[1].removesuffix(".png"))


# -- what to remember --------------------------------------------------------------------------------------------------


def finished(model_dir: Path, project: LabelProject, cycle: int) -> None:
    """Waits until the version of this cycle is wholly published and nobody is at the project."""
    version = project.wait_for_cycle(cycle, timeout=PATIENCE)
    query = """select 1 from projects join versions on versions.id = current_version_id where projects.id = ?
        and name = ? and versions.status = 'current' and lease_owner is null and refresh_seq = refresh_seen
        and not exists (select 1 from cycles where cycles.project_id = projects.id and cycles.status = 'running')"""
    wait_for("the backend to rest", lambda: rows(model_dir / "state.sqlite3", query, project.id, version), PATIENCE)


def answers_of(url: str, project: LabelProject, unseen: np.ndarray) -> list[dict[str, Any]]:
    """What ``/predict`` answers to every task without a label, from what is stored, and last to one that is not in the
    project, by the model itself: a task whose image, ``unseen``, is in its data."""
    fields = {"fields": "all", "include": "id,data", "resolve_uri": "false"}
    tasks = project.studio.get("/api/tasks/", project=project.id, page_size=1000, **fields)["tasks"]
    unlabelled = project.unlabelled()
    asked = [{"id": task["id"], "data": task["data"]} for task in tasks if task["id"] in unlabelled]
    asked.append({"id": 1, "data": {"image": "data:image/png;base64," + b64encode(png(unseen)).decode()}})
    answers = predict(url, project.info(), asked)
    return [{"task": task, "answer": answer} for task, answer in zip(asked, answers, strict=True)]


def fold(database: Path) -> None:
    """A database's log into its one file."""
    with closing(sqlite3.connect(database)) as conn:
        conn.execute("pragma wal_checkpoint(truncate)")
        conn.execute("vacuum")


def pack(archive: Path, folder: Path, *names: str) -> None:
    """What is called so in ``folder`` into an archive, owned by nobody in particular."""

    def plain(item: tarfile.TarInfo) -> tarfile.TarInfo:
        item.uid = item.gid = 0
        item.uname = item.gname = ""
        return item

    draft = archive.with_suffix(".draft")
    with tarfile.open(draft, "w:xz", preset=9) as tar:
        for name in names:
            tar.add(folder / name, name, filter=plain)
    os.replace(draft, archive)
    print(f"{archive}: {archive.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
