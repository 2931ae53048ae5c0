"""What the upgrade tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.upgrade.installation import Kept

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """The installation as the old version left it; nothing works on it."""
    return Kept.unpacked(tmp_path_factory.mktemp("left"))
