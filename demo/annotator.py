"""A person in front of Label Studio, played through its HTTP API: makes a project, uploads, connects, labels.

Not the backend's own client (backend/labelstudio/): what checks the backend must not share its code.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import requests
from PIL import Image

UPLOAD_FILES = 250
"""In one request: a second or so of Label Studio's time, so that progress can be shown."""

IMPORT_TASKS = 500
"""In one request, likewise."""

NAME = "name"
"""The field of a task that holds its image itself where the image's file name stands."""

LOCKED_WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds. On SQLite, Label Studio refuses what comes while somebody else writes for long; nothing was changed then."""


class LabelStudioError(RuntimeError):
    """Label Studio refused a request or did not respond; the message says which, and what it replied."""


class PreannotationError(Exception):
    """A prediction's regions are not what the labeling editor could show; says what is wrong with them."""


@dataclass(frozen=True)
class Prediction:
    """What a version says of a task: ``result`` holds the regions that are shown with it."""

    task: int
    score: float
    result: list[dict[str, Any]]


class Annotator:
    """Label Studio's API with a personal access token. Every method raises LabelStudioError when it is refused."""

    def __init__(self, url: str, personal_access_token: str) -> None:
        self.url = url
        self._refresh_token = personal_access_token
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment must not see the loopback address

    def create_project(self, title: str, label_config: str) -> int:
        """A project without tasks; its id."""
        return int(self.call("POST", "/api/projects/", json={"title": title, "label_config": label_config})["id"])

    def upload(
        self, project: int, images: Iterable[tuple[str, bytes]], progress: Callable[[int], None] = lambda done: None
    ) -> None:
        """Uploads (file name, encoded image) pairs as tasks of their own; holds one request's images at a time."""
        rest, done = iter(images), 0
        while part := list(islice(rest, UPLOAD_FILES)):
            files = [(name, (name, content, "image/png")) for name, content in part]
            self.call("POST", f"/api/projects/{project}/import", files=files, timeout=300)
            done += len(part)
            progress(done)

    def add(
        self, project: int, images: Iterable[tuple[str, bytes]], progress: Callable[[int], None] = lambda done: None
    ) -> None:
        """Makes a task of each (file name, encoded PNG) that holds the image itself, as a data URI: Label Studio, which
        serves some 45 uploaded files a second, need not be asked for it again. One request's images are held at a time.
        """
        rest, done = iter(images), 0
        while part := list(islice(rest, IMPORT_TASKS)):
            tasks = [{"data": {"image": data_uri(content), NAME: name}} for name, content in part]
            self.call("POST", f"/api/projects/{project}/import", json=tasks, timeout=300)
            done += len(part)
            progress(done)

    def connect(self, project: int, backend_url: str, extra_params: Mapping[str, Any]) -> int:
        """What the dialog "Connect model" sends; the connection's id."""
        body = {"project": project, "url": backend_url, "title": "Active learning", "extra_params": dict(extra_params)}
        return int(self.call("POST", "/api/ml/", json=body)["id"])

    def project(self, project: int) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/api/projects/{project}/")
        return found

    def next_task(self, project: int) -> dict[str, Any] | None:
        """The task that "Label All Tasks" would open, or None when there is none left."""
        try:
            found: dict[str, Any] = self.call("GET", f"/api/projects/{project}/next/")
        except LabelStudioError as error:
            if "404" in str(error):
                return None
            raise
        return found

    def task(self, task: int) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/api/tasks/{task}/")
        return found

    def submit(self, task: int, result: Sequence[dict[str, Any]], shown: Sequence[Mapping[str, Any]] = ()) -> int:
        """Submits an annotation of these regions; its id. ``shown``: the predictions that came with the task, the first
        of which the editor would have begun it from."""
        body = {"result": list(result), "lead_time": 1.0, "parent_prediction": shown[0]["id"] if shown else None}
        return int(self.call("POST", f"/api/tasks/{task}/annotations/", json=body)["id"])

    def skip(self, task: int) -> int:
        """Submits that the annotator cannot say anything of a task; the annotation's id."""
        body = {"result": [], "was_cancelled": True, "lead_time": 1.0}
        return int(self.call("POST", f"/api/tasks/{task}/annotations/", json=body)["id"])

    def generated(self, project: int) -> set[int]:
        """The tasks whose image the backend generated."""
        filled = {
            "filter": "filter:tasks:data.synthetic_batch",
            "operator": "empty",
            "type": "String",
            "value": "False",
        }
        query = json.dumps({"filters": {"conjunction": "and", "items": [filled]}})
        params = {"project": project, "query": query, "page_size": 500, "include": "id"}
        return {int(task["id"]) for task in self.call("GET", "/api/tasks/", params=params)["tasks"]}

    def predictions(self, project: int, model_version: str) -> list[Prediction]:
        """Every prediction of a version, in the order in which their tasks are to be served."""
        every = self.call("GET", "/api/predictions/", params={"project": project}, timeout=300)
        mine = [
            Prediction(int(row["task"]), float(row["score"]), row["result"])
            for row in every
            if row["model_version"] == model_version
        ]
        return sorted(mine, key=lambda row: row.score)

    def call(self, method: str, path: str, *, timeout: float = 120.0, **body: Any) -> Any:
        """One request; the decoded JSON response, or None for an empty one. Renews the access token when it is old."""
        response = self._request(method, path, timeout, body)
        if response.status_code == 401:
            self._renew()
            response = self._request(method, path, timeout, body)
        if not response.ok:
            raise LabelStudioError(f"{method} {path}: {response.status_code} {response.text[:500]}")
        return response.json() if response.content else None

    def _request(self, method: str, path: str, timeout: float, body: dict[str, Any]) -> requests.Response:
        """On a connection of its own. Label Studio's server drops those that wait, sometimes just as the next request
        comes, and on one that is used again the second piece of a response waits 40 ms for a delayed acknowledgment.
        """
        for wait in (*LOCKED_WAITS, 0.0):
            try:
                response = self._session.request(method, self.url + path, timeout=timeout, **body)
            except requests.RequestException as error:
                raise LabelStudioError(f"{method} {path}: {error}") from error
            finally:
                self._session.close()  # its connections; it can go on
            if response.status_code != 500 or "database is locked" not in response.text:
                break
            time.sleep(wait)
        return response

    def _renew(self) -> None:
        """Personal access tokens are exchanged for access tokens, which live for minutes."""
        response = self._request("POST", "/api/token/refresh/", 30, {"json": {"refresh": self._refresh_token}})
        if not response.ok:
            words = f"{response.status_code} {response.text[:200]}"
            raise LabelStudioError(f"the personal access token was refused: {words}")
        self._session.headers["Authorization"] = f"Bearer {response.json()['access']}"


def as_png(pixels: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) uint8 as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def image_name(index: int) -> str:
    """The file name of image number ``index``."""
    return f"image-{index:05d}.png"


def image_index(task: dict[str, Any]) -> int:
    """The inverse, from a task's data: Label Studio puts a random prefix before the name of an uploaded file."""
    name = task["data"].get(NAME) or task["data"]["image"]
    return int(PurePosixPath(name).stem.rsplit("-", 1)[1])
