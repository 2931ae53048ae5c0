"""The door stays open to Label Studio while others hold it, and what does not count is said."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack

from tests.integration.helpers import FRUIT, LabelProject, Seen, drawings
from tests.integration.test_broken_images import status
from tests.rig.servers import BackendServer
from tests.rig.waiting import wait_for

SLOW_CLIENTS = 20
HALF = b"POST /webhook HTTP/1.1\r\nHost: backend\r\nContent-Length: 1000\r\n\r\n{"
NO_CYCLE = {"budget": 1000}


def test_label_studio_is_heard_while_twenty_clients_never_finish_their_requests(
    make_project: Callable[..., LabelProject], backend: BackendServer, seen: Seen
) -> None:
    """It waits a second for a webhook and repeats none: one that found the door shut would be lost."""
    known = make_project(tasks=4).connected(backend.url, NO_CYCLE)
    known.wait_for_version()
    before = seen.pending(known)
    with ExitStack() as clients:
        for _ in range(SLOW_CLIENTS):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", backend.port)))
            client.sendall(HALF)
        (served,) = known.label_served(1)
        wait_for("the webhook", lambda: seen.pending(known) == before + 1)
        other = make_project(tasks=2).connected(backend.url, NO_CYCLE)  # health and setup, in time
    other.wait_for_version()
    known.annotate(next(task for task in known.tasks() if task != served), FRUIT[0], was_cancelled=True)
    known.upload(drawings(1, FRUIT))  # a reason to compare

    def ignored() -> object:
        return next(one for one in status(backend)["projects"] if one["title"] == known.info()["title"])[
            "ignored_annotations"
        ]

    wait_for("the skipped annotation", lambda: ignored() == {"skipped": 1})
