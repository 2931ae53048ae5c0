"""The state of the backend, in one database: projects, leases, tasks, cycles, versions and their scores.

This is the only package that uses SQL: SQLite in ``MODEL_DIR`` by default, PostgreSQL if ``DATABASE_URL`` says so.
There is no queue of work. What is due is computed from these rows (see :func:`backend.events.due`), so any process may
be killed at any moment. A worker owns a project through a lease that expires. Every change it makes to the project's
cycles or versions checks the lease in the same transaction, so that a worker whose lease has expired cannot write.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backend.state.cycles import Cycles
from backend.state.database import Database, database_file
from backend.state.hints import Hints
from backend.state.keys import Keys
from backend.state.labels import Labels, StoredLabel
from backend.state.leases import Leases
from backend.state.notes import Notes
from backend.state.private import private_database, private_folder
from backend.state.projects import Projects
from backend.state.records import (
    BrokenImage,
    Cycle,
    Mark,
    PlannedImage,
    Project,
    StoredPrediction,
    SyntheticTask,
    Version,
)
from backend.state.replays import Replays
from backend.state.scores import Scores
from backend.state.synthetic import Synthetic
from backend.state.tasks import Tasks
from backend.state.team import Asked, Team
from backend.state.versions import Versions

if TYPE_CHECKING:
    from backend.settings.core import Settings

__all__ = [
    "Asked",
    "BrokenImage",
    "Cycle",
    "Mark",
    "PlannedImage",
    "Project",
    "State",
    "StoredLabel",
    "StoredPrediction",
    "SyntheticTask",
    "Version",
]


class State:
    """The whole state, with one attribute per subject. One object per process; safe to share between threads."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.projects = Projects(self.database)
        self.hints = Hints(self.database)
        self.leases = Leases(self.database)
        self.labels = Labels(self.database)
        self.cycles = Cycles(self.database)
        self.scores = Scores(self.database)
        self.tasks = Tasks(self.database, self.scores)
        self.versions = Versions(self.database, self.scores, self.labels)
        self.notes = Notes(self.database)
        self.synthetic = Synthetic(self.database)
        self.keys = Keys(self.database)
        self.replays = Replays(self.database)
        self.team = Team(self.database)

    @classmethod
    def for_settings(cls, settings: Settings) -> State:
        """The state in the database that the settings name; the tables are created if they are missing. Its files, and
        those of ``MODEL_DIR``, become private; tokens that a key of our own makes useless are forgotten."""
        folder = Path(settings.model_dir).expanduser()
        if not settings.database_url:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        private_folder(folder)
        url = cls.url_for(settings)
        if path := database_file(url):
            private_database(path)
        state = cls(url)
        if settings.label_studio_api_key:
            state.projects.forget_tokens()
        return state

    @staticmethod
    def url_for(settings: Settings) -> str:
        """The address of the database that the settings name."""
        file = Path(settings.model_dir).expanduser() / "state.sqlite3"
        return settings.database_url or f"sqlite:///{file.resolve()}"

    def now(self) -> float:
        """The database's clock: see :meth:`backend.state.database.Database.now`."""
        return self.database.now()

    def close(self) -> None:
        self.database.close()
