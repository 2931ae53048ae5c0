"""What a backend asks of a Label Studio while it is connected, and what a real one never does on request: hang, or
show another project under the same number."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.rig.json_server import JsonServer

CONFIG = """<View><Image name="pic" value="$image"/><Choices name="what" toName="pic">
<Choice value="cat"/><Choice value="dog"/></Choices></View>"""
TAGS_CONFIG = CONFIG.replace("<Choices ", '<Choices choice="multiple" ')
MASKS_CONFIG = """<View><Image name="pic" value="$image"/><BrushLabels name="paint" toName="pic">
<Label value="cat"/><Label value="dog"/></BrushLabels><PolygonLabels name="outline" toName="pic">
<Label value="cat"/><Label value="dog"/></PolygonLabels></View>"""
CREATED = 1_700_000_000


class SmallLabelStudio:
    """A server on this machine. ``mode``: "well", "refuses" every token, "hangs", "elsewhere" (no such project)."""

    def __init__(self) -> None:
        self.mode = "well"
        self.asked: list[tuple[str, str]] = []
        """Path and Authorization header of every request."""
        self.let_go = threading.Event()
        self.hangs_at = ""
        """Paths that begin with this are never answered, whatever the mode."""
        self._server = JsonServer(self._hear)
        self.url = self._server.url

    def _hear(self, request: BaseHTTPRequestHandler) -> tuple[int, dict[str, Any]] | None:
        self.asked.append((request.path.split("?")[0], request.headers.get("Authorization", "")))
        if self.mode == "hangs" or (self.hangs_at and request.path.startswith(self.hangs_at)):
            self.let_go.wait(30)
            return None
        return self._answer(request.path)

    def _answer(self, path: str) -> tuple[int, dict[str, Any]]:
        if self.mode == "refuses":
            return 401, {"detail": "Invalid token."}
        if path.startswith("/api/current-user/whoami"):
            return 200, {"id": 1}
        if path.startswith("/api/projects/?"):
            return 200, {"results": [], "next": None}
        if path.startswith("/api/projects/") and self.mode == "well":
            number = int(path.split("/")[3])
            fields = ("finished_task_number", "total_annotations_number", "skipped_annotations_number", "task_number")
            return 200, {
                "id": number,
                "created_at": "2023-11-14T22:13:20.5Z",  # CREATED and a half
                "title": "Pets",
                "label_config": CONFIG,
                "model_version": "",
                "sampling": "Sequential sampling",
                **dict.fromkeys(fields, 0),
            }
        return 404, {"detail": "Not found."}

    def close(self) -> None:
        self.let_go.set()
        self._server.close()


@contextmanager
def small_label_studio(mode: str = "well") -> Iterator[SmallLabelStudio]:
    studio = SmallLabelStudio()
    studio.mode = mode
    try:
        yield studio
    finally:
        studio.close()


def project_key(number: int) -> str:
    """As Label Studio names a project in its requests."""
    return f"{number}.{CREATED}"
