"""A proxy between the backend and Label Studio that strikes at one precise request.

Label Studio behind it is the real one and stays untouched; what goes wrong is the way to it, or the backend itself.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HOST = "127.0.0.1"
Strike = Callable[[], None]


@dataclass(frozen=True)
class Passed:
    """One request that came by. ``status`` is Label Studio's; 0: it never got there, or did not answer."""

    method: str
    path: str
    body: str
    status: int
    at: float

    @property
    def writes_predictions(self) -> bool:
        single = self.path == "/api/predictions/"
        return self.method == "POST" and (single or self.path.endswith("/import/predictions"))


@dataclass
class Trap:
    """What is to happen to the ``nth`` request that matches, and (with ``stays``) to all that follow.

    ``before``: called when the request is here and not yet with Label Studio. ``after``: called when Label Studio has
    answered and the backend does not know yet. ``hold``: seconds that the request is kept before it goes on. ``cut``:
    "before" (Label Studio never gets it) or "after" (it is carried out) break the connection off; ``status`` with one
    of the two answers with that status instead, and with the HTML page ``answer`` if there is one. ``method`` "*": any.
    """

    method: str
    path: str
    body: str = ""
    nth: int = 1
    stays: bool = False
    before: Strike | None = None
    after: Strike | None = None
    hold: float = 0.0
    cut: str = ""
    status: int = 0
    answer: str = ""
    sprung: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    matched: int = 0

    def matches(self, method: str, path: str, body: str) -> bool:
        if self.method not in ("*", method) or not re.search(self.path, path) or not re.search(self.body, body):
            return False
        self.matched += 1
        return self.matched == self.nth or (self.stays and self.matched > self.nth)

    def wait(self, timeout: float = 60.0) -> None:
        """Until it has struck. Fails the test when it never does."""
        assert self.sprung.wait(timeout), f"no {self.method} {self.path} came within {timeout:.0f} s"


class Proxy:
    """Forwards to Label Studio at ``target``; ``requests`` is its memory. It listens at the address ``host``."""

    def __init__(self, target: str, host: str = HOST) -> None:
        self.target, self.host = target, host
        self.requests: list[Passed] = []
        self.traps: list[Trap] = []
        self._guard = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._open: set[socket.socket] = set()
        self.port = 0
        self.listen()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def listen(self) -> None:
        """(Again) on the same port."""
        self._server = _Server((self.host, self.port), _handler(self))
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def go_down(self) -> None:
        """From now on connections are refused, and those that are open break off."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        with self._guard:
            for connection in self._open:
                _break_off(connection)

    close = go_down

    def set(self, method: str, path: str, **how: Any) -> Trap:
        """``path`` and ``how["body"]`` are regular expressions, searched for."""
        trap = Trap(method, path, **how)
        with self._guard:
            self.traps.append(trap)
        return trap

    def clear(self) -> None:
        with self._guard:
            self.traps.clear()

    def writes(self, version: str = "") -> list[Passed]:
        """The requests that wrote predictions (of ``version``), whatever became of them."""
        return [item for item in list(self.requests) if item.writes_predictions and version in item.body]

    # -- inside ------------------------------------------------------------------------------------------------------

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("content-length") or 0)
        data = handler.rfile.read(length)
        body = data.decode(errors="replace")
        with self._guard:
            trap = next((trap for trap in self.traps if trap.matches(handler.command, handler.path, body)), None)
        if trap:
            self._strike(trap, trap.before)
            time.sleep(trap.hold)
        if trap and trap.cut == "before":
            self._note(handler, body, 0)
            self._end(handler, trap)
            return
        try:
            status, headers, answer = self._forward(handler, data)
        except OSError:  # Label Studio itself is away
            self._note(handler, body, 0)
            self._end(handler, trap)
            return
        self._note(handler, body, status)
        if trap:
            self._strike(trap, trap.after)
            trap.done.set()
        if trap and trap.cut:
            self._end(handler, trap)
            return
        handler.send_response(status)
        for name, value in headers:
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(answer)

    def _forward(self, handler: BaseHTTPRequestHandler, data: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        target = urlsplit(self.target)
        connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=120)
        try:
            skip = ("host", "connection", "content-length", "accept-encoding")
            headers = {name: value for name, value in handler.headers.items() if name.lower() not in skip}
            connection.request(handler.command, handler.path, data or None, headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        kept = ("content-type", "location", "etag", "last-modified")
        found = [(name, value) for name, value in response.getheaders() if name.lower() in kept]
        return response.status, [*found, ("content-length", str(len(answer)))], answer

    def _strike(self, trap: Trap, act: Strike | None) -> None:
        if act is not None:
            act()
        if act is not None or (trap.before is None and trap.after is None):
            trap.sprung.set()

    def _end(self, handler: BaseHTTPRequestHandler, trap: Trap | None) -> None:
        handler.close_connection = True
        if trap and trap.status:
            answer = trap.answer.encode() or json.dumps({"detail": "struck"}).encode()
            handler.send_response(trap.status)
            handler.send_header("content-type", "text/html" if trap.answer else "application/json")
            handler.send_header("content-length", str(len(answer)))
            handler.end_headers()
            handler.wfile.write(answer)
        else:
            _break_off(handler.connection)

    def _note(self, handler: BaseHTTPRequestHandler, body: str, status: int) -> None:
        self.requests.append(Passed(handler.command, urlsplit(handler.path).path, body, status, time.time()))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A backend that was killed does not read its answer."""


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            with proxy._guard:
                proxy._open.add(self.connection)

        def finish(self) -> None:
            with proxy._guard:
                proxy._open.discard(self.connection)
            super().finish()

        def handle_any(self) -> None:
            proxy._serve(self)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = handle_any

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def _break_off(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
