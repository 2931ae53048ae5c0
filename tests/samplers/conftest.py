"""Networks of half their depth for the tests of samplers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.models.shallow import shallow
from tests.samplers import worlds


@pytest.fixture(scope="module", autouse=True)  # of a package it would last until the end: there is no __init__.py
def shallow_networks() -> Iterator[None]:
    with shallow():
        worlds.forget()
        yield
    worlds.forget()
