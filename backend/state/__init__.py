"""What the backend knows, in one database: projects, leases, tasks, cycles, versions and their scores.

The only room that speaks SQL. SQLite in ``MODEL_DIR`` by default, PostgreSQL by ``DATABASE_URL``. There is no
queue: what is due is computed from these rows (see :func:`backend.events.due`), so any process may be killed at any
instant. A worker owns a project by a lease with an expiry; every change that the owner makes to a project's cycle or
version re-checks the lease in the same transaction, so that a worker that slept through its lease cannot write.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backend.state.cycles import Cycles
from backend.state.database import Database
from backend.state.leases import Leases
from backend.state.projects import Projects
from backend.state.schema import BrokenImage, Cycle, Project, StoredPrediction, Version
from backend.state.scores import Scores
from backend.state.tasks import Tasks
from backend.state.versions import Versions

if TYPE_CHECKING:
    from backend.settings.core import Settings

__all__ = ["BrokenImage", "Cycle", "Project", "State", "StoredPrediction", "Version"]


class State:
    """All of it, a part for each subject. One object per process, safe to share between threads."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.projects = Projects(self.database)
        self.leases = Leases(self.database)
        self.tasks = Tasks(self.database)
        self.cycles = Cycles(self.database)
        self.scores = Scores(self.database)
        self.versions = Versions(self.database, self.scores)

    @classmethod
    def for_settings(cls, settings: Settings) -> State:
        if settings.database_url:
            return cls(settings.database_url)
        folder = Path(settings.model_dir).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{(folder / 'state.sqlite3').resolve()}")

    def now(self) -> float:
        """The database's clock: see :meth:`backend.state.database.Database.now`."""
        return self.database.now()

    def close(self) -> None:
        self.database.close()
