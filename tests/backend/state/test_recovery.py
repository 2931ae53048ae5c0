"""A PostgreSQL that is killed and started again: what was committed is there, and whoever was connected goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from backend.errors import DatabaseUnavailable
from backend.state import State
from tests.rig.postgres import PostgresServer
from tests.rig.processes import children_of

pytestmark = pytest.mark.slow


@pytest.fixture
def own_postgres(postgres: object) -> Iterator[PostgresServer]:
    """One that may be killed; where there is none, the other fixture says so."""
    server = PostgresServer(durable=True)
    server.start()
    yield server
    server.stop()


def test_what_was_committed_survives_a_kill_and_the_next_query_is_answered(own_postgres: PostgresServer) -> None:
    state = State(own_postgres.create_database())
    state.projects.connect(1, "1.5", "<View/>", {}, "http://labels.example", "t")
    before = [own_postgres.pid, *children_of(own_postgres.pid)]
    for number in range(2, 5):
        state.projects.connect(number, f"{number}.5", "<View/>", {}, "http://labels.example", "t")
        own_postgres.kill()
        with pytest.raises(DatabaseUnavailable, match=r"cannot be reached .*refused"):
            state.projects.all()
        own_postgres.start()
        assert [project.id for project in state.projects.all()] == list(range(1, number + 1))
    for pid in before:
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            raise AssertionError(f"{pid} has survived")
    state.close()
