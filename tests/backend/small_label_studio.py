"""What a backend asks of a Label Studio while it is connected, and what a real one never does on request: hang, or
show another project under the same number."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
        studio = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                studio.asked.append((self.path.split("?")[0], self.headers.get("Authorization", "")))
                at = studio.hangs_at
                if studio.mode == "hangs" or (at and self.path.startswith(at)):
                    studio.let_go.wait(30)
                    return
                status, body = studio._answer(self.path)
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

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
        self._server.shutdown()
        self._server.server_close()


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
