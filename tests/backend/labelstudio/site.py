"""Small web servers that answer as a test says."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass(frozen=True)
class Answer:
    """``pause``: seconds between two bytes of the body."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    pause: float = 0.0


class Site:
    """A web server on this machine; ``answer`` maps a request's path to what it answers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.answer: Callable[[str], Answer] = lambda path: Answer(200)
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append((self.command, self.path, dict(self.headers)))
                answer = site.answer(self.path)
                self.send_response(answer.status)
                for name, value in ({"Content-Length": str(len(answer.body))} | dict(answer.headers)).items():
                    self.send_header(name, value)
                self.end_headers()
                if not answer.pause:
                    self.wfile.write(answer.body)
                for byte in answer.body if answer.pause else b"":
                    self.wfile.write(bytes((byte,)))
                    time.sleep(answer.pause)

            def log_message(self, *_: Any) -> None:
                """Nothing on the terminal."""

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """Whoever asked does not wait for the rest."""

        self.server = Server(("0.0.0.0", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def sites() -> Iterator[list[Site]]:
    """Two of them."""
    made = [Site(), Site()]
    yield made
    for site in made:
        site.server.shutdown()
        site.server.server_close()
