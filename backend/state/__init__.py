"""What the backend knows, in one database: projects, leases, cycles, versions and published scores.

The only room that speaks SQL. SQLite in ``MODEL_DIR`` by default, PostgreSQL by ``DATABASE_URL``. There is no
queue: what is due is computed from these rows (see :func:`backend.events.due`), so any process may be killed at any
instant. A worker owns a project by a lease with an expiry; every change that the owner makes to a project's cycle or
version re-checks the lease in the same transaction, so that a worker that slept through its lease cannot write.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backend.state.cycles import Cycles
from backend.state.last_seen import LastSeen
from backend.state.projects import Projects
from backend.state.schema import Answer, BrokenImage, Cycle, Project, Version
from backend.state.versions import Versions

if TYPE_CHECKING:
    from backend.settings.core import Settings

__all__ = ["Answer", "BrokenImage", "Cycle", "Project", "State", "Version"]


class State(Projects, LastSeen, Cycles, Versions):
    """All of it. One object per process; its methods are grouped by file."""

    @classmethod
    def for_settings(cls, settings: Settings) -> State:
        if settings.database_url:
            return cls(settings.database_url)
        folder = Path(settings.model_dir).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{(folder / 'state.sqlite3').resolve()}")
