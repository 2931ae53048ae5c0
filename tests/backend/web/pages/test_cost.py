"""A page costs the same for a large pool as for a small one: counted in queries and in steps of the database's machine,
which no busy machine changes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from backend.state import State
from tests.backend.web.pages.conftest import Site
from tests.backend.web.pages.world import add_cycle, connect, fill_tasks

SMALL, LARGE = 300, 6_000
STEP = 50
OVERVIEW, PAGE = 6, 16
"""Queries of the overview, however many projects it shows, and of the page of a project."""


class Cost:
    """What a page asked of the database: queries, and steps of its virtual machine."""

    queries = 0
    steps = 0


@contextmanager
def counted(state: State) -> Any:
    cost = Cost()

    def query(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        cost.queries += statement.lstrip().upper().startswith(("SELECT", "WITH"))

    def step() -> int:
        cost.steps += STEP
        return 0

    def watch(connection: Any, *_: Any) -> None:
        connection.set_progress_handler(step, STEP)

    engine = state.database.engine
    sa.event.listen(engine, "before_cursor_execute", query)
    sa.event.listen(engine, "checkout", watch)
    try:
        yield cost
    finally:
        sa.event.remove(engine, "before_cursor_execute", query)
        sa.event.remove(engine, "checkout", watch)
        with engine.connect() as conn:
            conn.connection.driver_connection.set_progress_handler(None, 0)  # type: ignore[union-attr]


def filled(site: Site, number: int, tasks: int) -> None:
    """A project of so many tasks, 100 of them labeled, that has a learned order."""
    connect(site.state, number, f"Pets {number}")
    pool = range(1, tasks + 1)
    fill_tasks(site.state, number, pool, ["cat", "dog"] * 50)
    for labels in (0, 50, 100):
        add_cycle(site.state, number, labels=labels, pool=pool, accuracy=0.8 if labels else None)


def cost_of(site: Site, path: str) -> Cost:
    site.text(path)  # what is made once: the key of the pages
    with counted(site.state) as cost:
        site.text(path)
    return cost  # type: ignore[no-any-return]


@pytest.mark.parametrize("path", ["/", "/?part=now", "/projects/1", "/projects/1?part=now"])
def test_a_page_costs_the_same_for_a_large_pool(path: str, make_site: Callable[..., Site]) -> None:
    costs = []
    for tasks in (SMALL, LARGE):
        site = make_site()
        filled(site, 1, tasks)
        costs.append(cost_of(site, path))
    small, large = costs
    assert small.queries == large.queries
    assert large.steps <= 1.1 * small.steps + 10 * STEP, (small.steps, large.steps)


def test_the_measure_sees_a_query_that_grows(make_site: Callable[..., Site]) -> None:
    """Without kept counts the tasks are counted, and a page for many of them costs more."""
    steps = []
    for tasks in (SMALL, LARGE):
        site = make_site()
        filled(site, 1, tasks)
        site.state.tasks.put(1, {1: "changed.png"})
        steps.append(cost_of(site, "/").steps)
    assert steps[1] > 5 * steps[0]


def test_the_overview_asks_as_many_questions_for_six_projects_as_for_one(site: Site) -> None:
    filled(site, 1, 20)
    one = cost_of(site, "/").queries
    for number in range(2, 7):
        filled(site, number, 20)
    assert cost_of(site, "/").queries == one <= OVERVIEW


def test_the_page_of_a_project_asks_a_few_questions_whatever_its_cycles(site: Site) -> None:
    filled(site, 1, 20)
    few = cost_of(site, "/projects/1").queries
    for labels in range(101, 121):
        add_cycle(site.state, 1, labels=labels, pool=range(1, 21), accuracy=0.8)
    assert cost_of(site, "/projects/1").queries == few <= PAGE
