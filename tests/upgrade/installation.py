"""An installation of an earlier version: its MODEL_DIR, untouched, and what its Label Studio held at that moment.

:mod:`tests.upgrade.make_model_dir` keeps one in an archive; :func:`restore` gives it a Label Studio again. That one is
made to fit the MODEL_DIR, not the other way round: it gets the same ids and times, so that every digest and every id in
caches, masks, and the state is as the earlier version wrote it. Only what an upgrade on the spot would never see
different is rewritten in the state (:func:`move`): where the folder is, and the address and token of Label Studio.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from backend.events import project_key
from tests.integration.helpers import FAST, LabelProject, Studio
from tests.rig.processes import HOST
from tests.rig.servers import BackendServer

Json = Any
HERE = Path(__file__).parent
ARCHIVE = HERE / "model_dir_0.3.0.tar.xz"
CHECKPOINTS = HERE / "checkpoints_0.3.0.tar.xz"
"""See :mod:`tests.upgrade.old_checkpoints`."""
MODEL_DIR = "model-dir"
FACTS = "facts.json"

KINDS = ("segmentation", "classification")
"""The projects in the archive, by what they ask."""

ENVIRONMENT = {
    **{
        name: FAST[name]
        for name in ("DEVICE", "POLL_SECONDS", "RECONCILE_SECONDS", "OMP_NUM_THREADS", "CONTROL_FRACTION")
    },
    "CLEANUP_SECONDS": "1",
    # so little that networks which go on from the old ones are still the old ones afterwards
    "EPOCHS": "1",
    "LEARNING_RATE": "1e-9",
    "VAAL_LEARNING_RATE": "1e-9",
}
"""The present version's; what is not set here is set by the projects' own extra params."""

REQUESTS = 6
"""How often a task is asked about at most."""

PROJECT_FIELDS = ("title", "label_config", "show_collab_predictions")
QUEUE_FIELDS = ("sampling", "model_version")


@dataclass(frozen=True)
class Kept:
    """An archive, unpacked into ``folder``."""

    folder: Path

    @classmethod
    def unpacked(cls, folder: Path) -> Kept:
        unpack(ARCHIVE, folder)
        return cls(folder)

    @property
    def model_dir(self) -> Path:
        return self.folder / MODEL_DIR

    @property
    def database(self) -> Path:
        return self.model_dir / "state.sqlite3"

    @cached_property
    def facts(self) -> Json:
        """``projects``: task → what :func:`held_by` gave; ``status`` and ``answers`` of the earlier version;
        ``model_dir``: where it was; ``at``: when it was killed."""
        return json.loads((self.folder / FACTS).read_text())

    def project_folder(self, number: int) -> Path:
        """Of a project's caches and checkpoints; named by the key that the state holds."""
        ((key,),) = rows(self.database, "select key from projects where id = ?", number)
        return self.model_dir / "projects" / str(key).replace(".", "-")

    def scores(self, version: str) -> dict[int, dict[str, Any]]:
        """Task id → its row of ``scores``, with the class's name as ``label``."""
        ((number, classes),) = rows(self.database, "select id, classes from versions where name = ?", version)
        names = json.loads(classes)
        query = "select task_id, score, class_index, confidence, written from scores where version_id = ?"
        return {
            task: {
                "score": score,
                "label": None if index is None else names[index],
                "confidence": confidence,
                "written": bool(written),
            }
            for task, score, index, confidence, written in rows(self.database, query, number)
        }


def unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")


def rows(database: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What a query finds, in a SQLite database that others may be using."""
    with closing(sqlite3.connect(database, timeout=60)) as conn:
        return conn.execute(query, values).fetchall()


def change(database: Path, statement: str, *values: Any) -> int:
    """How many rows a statement changed, in a SQLite database that others may be using."""
    with closing(sqlite3.connect(database, timeout=60)) as conn, conn:
        return conn.execute(statement, values).rowcount


def move(kept: Kept, url: str, token: str) -> None:
    """Let the state be one of this folder, and of a Label Studio that sends ``url`` and ``token`` with ``/setup``; and
    let it have been left a minute ago, so that a test of next year sees what an upgrade sees."""
    late = time.time() - 60 - kept.facts["at"]
    here = str(kept.model_dir)
    change(kept.database, "update versions set checkpoint = replace(checkpoint, ?, ?)", kept.facts["model_dir"], here)
    change(kept.database, "update projects set url = ?, token = ?", url, token)
    for (table,) in rows(kept.database, "select name from sqlite_master where type = 'table'"):
        for _, column, kind, *_ in rows(kept.database, f"pragma table_info({table})"):
            if kind == "FLOAT" and column.endswith(("_at", "_since", "_expires")):
                change(kept.database, f"update {table} set {column} = {column} + ? where {column} > 0", late)


# -- Label Studio ------------------------------------------------------------------------------------------------------


def held_by(studio: Studio, number: int) -> Json:
    """All that Label Studio holds of a project and the backend has to do with."""
    info = studio.get(f"/api/projects/{number}/")
    fields = {"fields": "all", "include": "id,data,is_labeled", "resolve_uri": "false"}
    tasks = studio.get("/api/tasks/", project=number, page_size=1000, **fields)["tasks"]
    annotations = [
        {name: one[name] for name in ("id", "task", "result", "created_at", "updated_at")}
        for task in tasks
        if task["is_labeled"]
        for one in studio.get(f"/api/tasks/{task['id']}/annotations/")
    ]
    predictions = [
        {name: one[name] for name in ("task", "result", "score", "model_version")}
        for one in studio.get("/api/predictions/", project=number)
    ]
    (connection,) = studio.get("/api/ml/", project=number)
    return {
        **{name: info[name] for name in ("id", "created_at", *PROJECT_FIELDS, *QUEUE_FIELDS)},
        "tasks": sorted(({"id": task["id"], "data": task["data"]} for task in tasks), key=lambda task: task["id"]),
        "annotations": sorted(annotations, key=lambda one: one["id"]),
        "predictions": predictions,
        "tabs": [tab["data"] for tab in studio.get("/api/dm/views/", project=number)],
        "extra_params": connection["extra_params"],
    }


def restore(studio: Studio, held: Json, url: str) -> LabelProject:
    """A project that holds what :func:`held_by` gave, by the same ids and times, connected to a backend at ``url`` that
    somebody answers for. Its images are not there, only their addresses."""
    database = studio.server.directory / "label_studio.sqlite3"
    number_rows(database, project=held["id"])
    made = studio.post("/api/projects/", {name: held[name] for name in PROJECT_FIELDS})
    set_times(database, "project", held)
    project = LabelProject(studio, made["id"], (), ("", "", ""))
    project.import_tasks([{"data": task["data"]} for task in held["tasks"]])
    renumber_tasks(project, held["tasks"][0]["id"])
    for one in held["annotations"]:
        number_rows(database, task_completion=one["id"])
        studio.post(f"/api/tasks/{one['task']}/annotations/", {"result": one["result"], "lead_time": 1.0})
        set_times(database, "task_completion", one)
    studio.post(f"/api/projects/{held['id']}/import/predictions", held["predictions"])
    studio.patch(f"/api/projects/{held['id']}/", {name: held[name] for name in QUEUE_FIELDS})
    for data in held["tabs"]:
        studio.post("/api/dm/views/", {"project": held["id"], "data": data})
    project.connected(url, held["extra_params"])
    check(held_by(studio, held["id"]), held)
    return project


def number_rows(database: Path, **first: int) -> None:
    """Label Studio gives the next new row of each of these tables this id, and those after it the following ones."""
    for table, number in first.items():
        changed = change(database, "update sqlite_sequence set seq = ? where name = ?", number - 1, table)
        assert changed == 1, f"Label Studio's database numbers no table {table}"


def renumber_tasks(project: LabelProject, first: int) -> None:
    """Give the tasks of a project in which nothing happened yet the ids ``first`` and following: Label Studio takes the
    next free ones whatever its database numbers."""
    database = project.studio.server.directory / "label_studio.sqlite3"
    for number, task in enumerate(sorted(project.tasks()), first):
        change(database, "update task set id = ? where id = ?", number, task)


def set_times(database: Path, table: str, row: Mapping[str, Any]) -> None:
    """Give the row with this id its times, which no request can set."""
    for name in ("created_at", "updated_at"):
        if name in row:
            value = row[name].replace("T", " ").rstrip("Z")
            change(database, f"update {table} set {name} = ? where id = ?", value, row["id"])


def check(found: Json, held: Json) -> None:
    """Fails where ``found`` differs from what was ``held``, saying in what."""
    for name, value in held.items():
        if name == "predictions":
            assert sorted(map(_prediction, found[name])) == sorted(map(_prediction, value))
        elif name != "tabs":
            assert found[name] == value, f"{name}: {str(found[name])[:300]} is not {str(value)[:300]}"


def _prediction(one: Mapping[str, Any]) -> tuple[Any, ...]:
    return one["task"], one["model_version"], round(one["score"], 9), json.dumps(one["result"], sort_keys=True)


@contextmanager
def answered_for(url: str) -> Iterator[list[Json]]:
    """Somebody who takes connections at ``url`` like a backend that is up; the bodies of ``/setup`` that came."""
    bodies: list[Json] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({"status": "UP", "versions": []})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or "{}")
            if self.path == "/setup":
                bodies.append(body)
            self._answer({"model_version": ""})

        def _answer(self, words: Json) -> None:
            data = json.dumps(words).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer((HOST, int(urlsplit(url).port or 0)), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield bodies
    finally:
        server.shutdown()
        server.server_close()


# -- the backend -------------------------------------------------------------------------------------------------------


def status(server: BackendServer) -> Json:
    """What ``status --json`` tells, of the version that ``server`` is of."""
    python, *_ = server.command()
    done = subprocess.run(
        [python, "-m", "backend", "status", "--json"],
        env=server.environment(),
        capture_output=True,
        text=True,
        **server.popen_options(),  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def predict(url: str, held: Json, tasks: Sequence[Mapping[str, Any]]) -> list[Json]:
    """What a backend at ``url`` answers when Label Studio asks it about ``tasks`` of a project, in their order. It is
    asked again while it has no answer to one: on a busy machine its model may be loaded too late for the first time."""
    body = {
        "tasks": list(tasks),
        "project": project_key(held, held["id"]),
        "label_config": held["label_config"],
        "params": {},
    }
    for _ in range(REQUESTS):
        answer = requests.post(f"{url}/predict", json=body, timeout=100)
        assert answer.ok, answer.text
        found: list[Json] = answer.json()["results"]
        if all(one["model_version"] for one in found):
            return found
        time.sleep(1)
    without = [task["id"] for task, one in zip(tasks, found, strict=True) if not one["model_version"]]
    raise AssertionError(f"no answer to the tasks {without}, after {REQUESTS} requests")
