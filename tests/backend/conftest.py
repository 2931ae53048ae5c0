"""A state of its own for a test, in a folder of its own; and quick networks, for whole files of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.settings.core import Settings
from backend.state import State


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(model_dir=str(tmp_path))


@pytest.fixture
def state(settings: Settings) -> Iterator[State]:
    opened = State.for_settings(settings)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def shallow_networks() -> Iterator[None]:
    """For files all of whose networks are of this process."""
    from tests.models.shallow import shallow  # imports torch, which most tests of the backend do without

    with shallow():
        yield
