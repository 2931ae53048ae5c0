"""The door of the web process: reads requests without spending a thread on any, and closes on those that never end.

waitress reads all connections in one loop, and passes on a request once it is complete. So a client that sends half a
request, or a byte every few seconds, costs a file descriptor and no thread, and only for a limited time. gunicorn keeps
the process running: it starts another one if it dies or hangs.

| a connection that | is closed after |
|---|---|
| sends nothing | :data:`IDLE_SECONDS` |
| has not sent the whole head of a request | :data:`HEAD_SECONDS` |
| has not sent the whole request | :data:`REQUEST_SECONDS` |
| does not take its response | :data:`RESPONSE_SECONDS` |

Too many connections, in all or from one address, close the one of them that has waited longest without a complete
request, so that whoever holds connections open keeps nobody out, from the same address either.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.workers.base import Worker
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask

from backend.web.body import BODY_BYTES
from backend.web.lanes import Lanes
from backend.web.pages.guard import FORWARDED, is_forwarded

log = logging.getLogger(__name__)

IDLE_SECONDS = 15.0
HEAD_SECONDS = 10.0
REQUEST_SECONDS = 30.0
RESPONSE_SECONDS = 60.0
HEAD_BYTES = 32 * 1024
CONNECTIONS, CONNECTIONS_PER_ADDRESS = 400, 100
"""At a time. Label Studio has one for each request that it makes; a reverse proxy is one address for everybody."""

_LOOK_SECONDS = 0.5


class Refusal(ErrorTask):
    """The response to what is no request, as JSON like all other errors."""

    def execute(self) -> None:
        error = self.request.error
        self.status = f"{error.code} {error.reason}"
        body = json.dumps({"error": f"{error.reason}: {error.body}"}).encode()
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Line(HTTPChannel):
    """One connection, and how long it has been waited for."""

    error_task_class = Refusal

    _begun = 0.0
    """When the first byte of an incomplete request arrived; 0.0: there is none."""

    def received(self, data: bytes) -> Any:
        if self.request is None:
            self._begun = time.time()
        found = super().received(data)
        if self.request is None:
            self._begun = 0.0
        return found

    def waited_since(self) -> float | None:
        """Since when the client has been expected to send something; None while a request of it is being served."""
        if self.requests:
            return None
        return self._begun or self.last_activity

    def is_late(self, now: float) -> bool:
        """Whether to stop waiting for the client."""
        if self.total_outbufs_len:
            return bool(now - self.last_activity > RESPONSE_SECONDS)
        since = self.waited_since()
        if since is None:
            return False
        if self.request is None:
            return now - since > IDLE_SECONDS
        return now - since > (REQUEST_SECONDS if self.request.headers_finished else HEAD_SECONDS)


class Door(TcpWSGIServer):
    """One listening socket, and the connections that came in by it."""

    channel_class = Line

    def maintenance(self, now: float) -> None:
        """Called about once a second."""
        for line in list(self.active_channels.values()):
            if line.is_late(now):
                log.debug("Closing a connection from %s that sends no request", line.addr[0])
                line.handle_close()

    def handle_accept(self) -> None:
        super().handle_accept()
        lines = list(self.active_channels.values())
        if not lines:
            return
        address = lines[-1].addr[0]
        same = [line for line in lines if line.addr[0] == address]
        if len(same) > CONNECTIONS_PER_ADDRESS:
            _close_longest_waiting(same)
        elif len(lines) > CONNECTIONS:
            _close_longest_waiting(lines)


def _close_longest_waiting(lines: Iterable[Line]) -> None:
    """Close the connection that was waited for longest; if all are being served, the newest."""
    every = list(lines)
    waiting = [line for line in every if line.waited_since() is not None]
    chosen = min(waiting, key=lambda line: line.waited_since() or 0.0) if waiting else every[-1]
    log.debug("Too many connections, closing one from %s", chosen.addr[0])
    chosen.handle_close()


class Doors:
    """All listening sockets of a process, the connections that came in by them, and the threads that serve them."""

    def __init__(self, application: Callable[..., Any], sockets: Iterable[socket.socket]) -> None:
        self._lanes = Lanes()
        self._connections: dict[int, Any] = {}
        limits = Adjustments(
            ident="",
            max_request_header_size=HEAD_BYTES,
            max_request_body_size=BODY_BYTES,
            connection_limit=4 * CONNECTIONS,  # ours closes connections; waitress's would let nobody in any more
            cleanup_interval=1,
            backlog=2048,
            clear_untrusted_proxy_headers=True,
        )
        self._doors = [
            Door(
                application,
                self._connections,
                True,
                one,
                dispatcher=self._lanes,
                adj=limits,
                sockinfo=(one.family, one.type, one.proto, one.getsockname()),
                bind_socket=False,
            )
            for one in sockets
        ]
        for door in self._doors:
            door.application = _noting_proxies(door.application)

    def look(self, seconds: float) -> None:
        """Accept, read and write what is there, waiting for it at most so long."""
        wasyncore.loop(timeout=seconds, use_poll=True, map=self._connections, count=1)

    def close(self) -> None:
        """Accept nothing more. The sockets are the supervisor's: what comes now waits there for the next process."""
        for door in self._doors:
            door.accepting = False

    @property
    def idle(self) -> bool:
        """Whether every complete request is answered, and the answer is on its way."""
        lines = (line for door in self._doors for line in door.active_channels.values())
        return self._lanes.idle and not any(line.total_outbufs_len for line in lines)


def _noting_proxies(application: Callable[..., Any]) -> Callable[..., Any]:
    """The same application, told which requests came through a proxy: waitress removes the headers that say so, because
    anybody could send them."""

    def noted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ[FORWARDED] = is_forwarded(environ)
        return application(environ, start_response)

    return noted


class DoorWorker(Worker):
    """Runs the doors in a process of gunicorn."""

    def run(self) -> None:
        doors = Doors(self.wsgi, [listener.sock for listener in self.sockets])
        while self.alive and self.ppid == os.getppid():
            self.notify()
            doors.look(_LOOK_SECONDS)
        doors.close()
        until = time.monotonic() + self.cfg.graceful_timeout * 0.8
        while time.monotonic() < until and not doors.idle:
            self.notify()
            doors.look(0.05)
