"""What the backend knows, in one database: projects, leases, cycles, versions and published scores.

The only module that speaks SQL. SQLite in ``MODEL_DIR`` by default, PostgreSQL by ``DATABASE_URL``. There is no
queue: what is due is computed from these rows (see :func:`backend.events.due`), so any process may be killed at any
instant. A worker owns a project by a lease with an expiry; every change that the owner makes to a project's cycle or
version re-checks the lease in the same transaction, so that a worker that slept through its lease cannot write.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from backend.errors import BackendError, LeaseLost
from backend.schema import (
    PER_PROJECT,
    SCHEMA_VERSION,
    Answer,
    BrokenImage,
    Cycle,
    Project,
    Version,
    broken,
    cycles,
    meta,
    metadata,
    projects,
    scores,
    seen_annotations,
    tasks,
    versions,
)

if TYPE_CHECKING:
    from backend.settings import Settings

Record = TypeVar("Record")
CHUNK_ROWS = 5_000  # rows per transaction: a webhook must never wait long for SQLite's one writer
READ_CHUNK = 900  # SQLite's oldest limit of bound parameters is 999


class State:
    """One database; safe to share between threads, and between processes through the database itself."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.reader = self.engine.execution_options(writes=False)
        self._sqlite = self.engine.dialect.name == "sqlite"
        self._create_tables()

    @classmethod
    def for_settings(cls, settings: Settings) -> State:
        if settings.database_url:
            return cls(settings.database_url)
        folder = Path(settings.model_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{(folder / 'state.sqlite3').resolve()}")

    def close(self) -> None:
        self.engine.dispose()

    # -- projects and hints ------------------------------------------------------------------------------------------

    def connect(
        self, project_id: int, key: str, label_config: str, extra_params: Mapping[str, Any] | None, url: str, token: str
    ) -> None:
        """Record what ``/setup`` brought. A changed ``key`` is another project that got the same id: the old one
        goes."""
        values = {
            "key": key,
            "label_config": label_config,
            "extra_params": dict(extra_params or {}),
            "url": url,
            "token": token,
        }
        with self.engine.begin() as conn:
            known = conn.execute(sa.select(projects).where(projects.c.id == project_id)).mappings().first()
            if known is not None and known["key"] != key:
                _drop_project(conn, project_id)
                known = None
            if known is None:
                try:
                    with conn.begin_nested():
                        conn.execute(projects.insert().values(id=project_id, connected_at=self._now(conn), **values))
                    return
                except IntegrityError:  # the other of Label Studio's two /setup calls was quicker
                    known = conn.execute(sa.select(projects).where(projects.c.id == project_id)).mappings().one()
            changed = {name: value for name, value in values.items() if known[name] != value}
            if changed:
                # A correction by the owner: look again at once instead of waiting out the back-off.
                conn.execute(
                    projects.update()
                    .where(projects.c.id == project_id)
                    .values(**changed, refresh_seq=projects.c.refresh_seq + 1, retry_at=0.0)
                )

    def hint(
        self, project_id: int, *, annotations: int = 0, tasks: bool = False, config: bool = False, train: bool = False
    ) -> bool:
        """Note that something may have changed: one small UPDATE. False when the project is not connected."""
        change: dict[str, Any] = {"annotation_events": projects.c.annotation_events + annotations}
        if tasks or config or train:
            change["retry_at"] = 0.0
        if tasks or config:
            change["refresh_seq"] = projects.c.refresh_seq + 1
        if train:
            change["train_seq"] = projects.c.train_seq + 1
        with self.engine.begin() as conn:
            found = conn.execute(projects.update().where(projects.c.id == project_id).values(**change))
            return bool(found.rowcount)

    def project(self, project_id: int) -> Project | None:
        found = self._rows(sa.select(projects).where(projects.c.id == project_id), Project)
        return found[0] if found else None

    def projects(self) -> list[Project]:
        return self._rows(sa.select(projects).order_by(projects.c.id), Project)

    def update_project(self, project_id: int, owner: str | None = None, **values: Any) -> None:
        with self._owned(project_id, owner) as conn:
            conn.execute(projects.update().where(projects.c.id == project_id).values(**values))

    def settle_events(self, project_id: int, events: int) -> None:
        """The first ``events`` annotation events are counted exactly now; later ones stay."""
        with self.engine.begin() as conn:
            left = projects.c.annotation_events - events
            conn.execute(
                projects.update()
                .where(projects.c.id == project_id)
                .values(annotation_events=sa.case((left > 0, left), else_=0))
            )

    def remove_project(self, project_id: int) -> None:
        with self.engine.begin() as conn:
            _drop_project(conn, project_id)

    # -- leases ------------------------------------------------------------------------------------------------------

    def lease(self, project_id: int, owner: str, seconds: float) -> bool:
        """Take the project if nobody holds it, or its holder's lease has run out. One conditional UPDATE, so of several
        workers exactly one gets True. A cycle that a dead holder left running is marked interrupted."""
        with self.engine.begin() as conn:
            now = self._now(conn)
            free = sa.or_(
                projects.c.lease_owner.is_(None), projects.c.lease_owner == owner, projects.c.lease_expires < now
            )
            taken = conn.execute(
                projects.update()
                .where(projects.c.id == project_id, free)
                .values(lease_owner=owner, lease_expires=now + seconds)
            )
            if taken.rowcount:
                conn.execute(
                    cycles.update()
                    .where(cycles.c.project_id == project_id, cycles.c.status == "running")
                    .values(status="interrupted", finished_at=now, error="the worker that ran it went away")
                )
            return bool(taken.rowcount)

    def renew(self, project_id: int, owner: str, seconds: float) -> bool:
        with self.engine.begin() as conn:
            held = conn.execute(
                projects.update()
                .where(projects.c.id == project_id, projects.c.lease_owner == owner)
                .values(lease_expires=self._now(conn) + seconds)
            )
            return bool(held.rowcount)

    def release(self, project_id: int, owner: str) -> None:
        with self.engine.begin() as conn:
            conn.execute(
                projects.update()
                .where(projects.c.id == project_id, projects.c.lease_owner == owner)
                .values(lease_owner=None, lease_expires=0.0)
            )

    # -- truth as last seen ------------------------------------------------------------------------------------------

    def known_tasks(self, project_id: int) -> dict[int, str]:
        """Task id → image source of every task as last listed."""
        query = sa.select(tasks.c.task_id, tasks.c.source).where(tasks.c.project_id == project_id)
        with self.reader.connect() as conn:
            return {row.task_id: row.source for row in conn.execute(query)}

    def replace_tasks(self, project_id: int, added: Mapping[int, str], removed: Iterable[int]) -> None:
        """Add or correct tasks, and forget deleted ones together with their scores and broken images."""
        gone = list(removed)
        for part in _chunks(gone, READ_CHUNK):
            with self.engine.begin() as conn:
                mine = sa.select(versions.c.id).where(versions.c.project_id == project_id)
                conn.execute(scores.delete().where(scores.c.version_id.in_(mine), scores.c.task_id.in_(part)))
                for table in (tasks, broken):
                    conn.execute(table.delete().where(table.c.project_id == project_id, table.c.task_id.in_(part)))
        rows = [{"project_id": project_id, "task_id": task, "source": source} for task, source in added.items()]
        for part in _chunks(rows, CHUNK_ROWS):
            with self.engine.begin() as conn:
                self._upsert(conn, tasks, part, ("source",))

    def set_labelled(self, project_id: int, labelled: Iterable[int]) -> None:
        """Make the ``labelled`` flags say exactly this."""
        mine = tasks.c.project_id == project_id
        with self.reader.connect() as conn:
            before = set(conn.scalars(sa.select(tasks.c.task_id).where(mine, tasks.c.labelled)))
        after = set(labelled)
        for flag, changed in ((True, after - before), (False, before - after)):
            for part in _chunks(sorted(changed), READ_CHUNK):
                with self.engine.begin() as conn:
                    conn.execute(tasks.update().where(mine, tasks.c.task_id.in_(part)).values(labelled=flag))

    def unlabelled_tasks(self, project_id: int) -> list[int]:
        query = sa.select(tasks.c.task_id).where(tasks.c.project_id == project_id, sa.not_(tasks.c.labelled))
        with self.reader.connect() as conn:
            return list(conn.scalars(query.order_by(tasks.c.task_id)))

    def seen_annotations(self, project_id: int) -> dict[int, str]:
        """Annotation id → its ``updated_at``, as the last finished cycle saw them."""
        query = sa.select(seen_annotations).where(seen_annotations.c.project_id == project_id)
        with self.reader.connect() as conn:
            return {row.annotation_id: row.updated_at for row in conn.execute(query)}

    def set_broken(self, project_id: int, found: Iterable[tuple[int, str, str]], retry_seconds: float) -> None:
        """Set images aside: (task id, source, reason). A later failure of the same task counts up."""
        with self.engine.begin() as conn:
            retry_at = self._now(conn) + retry_seconds
            rows = [
                {"project_id": project_id, "task_id": task, "source": source, "reason": reason, "retry_at": retry_at}
                for task, source, reason in found
            ]
            for part in _chunks(rows, CHUNK_ROWS):
                again = {"attempts": broken.c.attempts + 1}
                self._upsert(conn, broken, part, ("source", "reason", "retry_at"), again)

    def clear_broken(self, project_id: int, task_ids: Iterable[int]) -> None:
        for part in _chunks(list(task_ids), READ_CHUNK):
            with self.engine.begin() as conn:
                conn.execute(broken.delete().where(broken.c.project_id == project_id, broken.c.task_id.in_(part)))

    def broken_images(self, project_id: int) -> list[BrokenImage]:
        columns = [c for c in broken.c if c.name != "project_id"]
        query = sa.select(*columns).where(broken.c.project_id == project_id).order_by(broken.c.task_id)
        return self._rows(query, BrokenImage)

    # -- cycles ------------------------------------------------------------------------------------------------------

    def next_cycle_number(self, project_id: int) -> int:
        """0 is the cold start's; every later cycle, finished or not, takes the next number."""
        with self.reader.connect() as conn:
            last = conn.scalar(sa.select(sa.func.max(cycles.c.number)).where(cycles.c.project_id == project_id))
        return 0 if last is None else int(last) + 1

    def start_cycle(self, project_id: int, owner: str, number: int, sampler: str, seed: int) -> int:
        with self._owned(project_id, owner) as conn:
            values = {"project_id": project_id, "owner": owner, "number": number, "sampler": sampler, "seed": seed}
            done = conn.execute(cycles.insert().values(**values, status="running", started_at=self._now(conn)))
            return int(done.inserted_primary_key[0])

    def report(self, cycle_id: int, phase: str, done: int, total: int, **values: Any) -> None:
        with self.engine.begin() as conn:
            where = (cycles.c.id == cycle_id, cycles.c.status == "running")
            conn.execute(cycles.update().where(*where).values(phase=phase, done=done, total=total, **values))

    def finish_cycle(
        self,
        cycle_id: int,
        project_id: int,
        owner: str,
        *,
        status: str,
        metrics: Mapping[str, Any] | None = None,
        error: str | None = None,
        seen: Mapping[int, str] | None = None,
        train_seen: int | None = None,
    ) -> None:
        """Close a cycle. A done one also records the truth it saw (``seen``), which is what "new" is counted from."""
        with self._owned(project_id, owner) as conn:
            conn.execute(
                cycles.update()
                .where(cycles.c.id == cycle_id)
                .values(status=status, finished_at=self._now(conn), metrics=dict(metrics or {}), error=error)
            )
            if seen is not None:
                mine = seen_annotations.c.project_id == project_id
                conn.execute(seen_annotations.delete().where(mine))
                rows = [
                    {"project_id": project_id, "annotation_id": number, "updated_at": stamp}
                    for number, stamp in seen.items()
                ]
                for part in _chunks(rows, CHUNK_ROWS):
                    conn.execute(seen_annotations.insert(), part)
                conn.execute(projects.update().where(projects.c.id == project_id).values(new_annotations=0))
            if train_seen is not None:
                conn.execute(projects.update().where(projects.c.id == project_id).values(train_seen=train_seen))

    def cycles(self, project_id: int, limit: int = 20) -> list[Cycle]:
        query = sa.select(cycles).where(cycles.c.project_id == project_id)
        return self._rows(query.order_by(cycles.c.id.desc()).limit(limit), Cycle)

    def running(self) -> list[Cycle]:
        return self._rows(sa.select(cycles).where(cycles.c.status == "running"), Cycle)

    # -- versions and scores -----------------------------------------------------------------------------------------

    def add_version(
        self,
        project_id: int,
        owner: str,
        *,
        cycle: int,
        name: str,
        sampler: str,
        checkpoint: str | None,
        classes: Sequence[str],
        metrics: Mapping[str, Any],
        task_ids: np.ndarray,
        published: np.ndarray,
        class_index: np.ndarray | None,
        confidence: np.ndarray | None,
    ) -> Version:
        """A new version with its scores, (N,) each. It stays a draft until the last row is in: a process killed half
        way leaves a draft, which :meth:`drop_drafts` removes."""
        with self._owned(project_id, owner) as conn:
            values = {
                "project_id": project_id,
                "cycle": cycle,
                "name": name,
                "sampler": sampler,
                "checkpoint": checkpoint,
                "classes": list(classes),
                "metrics": dict(metrics),
            }
            made = conn.execute(versions.insert().values(**values, status="draft", created_at=self._now(conn)))
            number = int(made.inserted_primary_key[0])
        self.add_scores(number, task_ids, published, class_index, confidence)
        with self._owned(project_id, owner) as conn:
            conn.execute(versions.update().where(versions.c.id == number).values(status="scored"))
        version = self.version(number)
        assert version is not None
        return version

    def add_scores(
        self,
        version_id: int,
        task_ids: np.ndarray,
        published: np.ndarray,
        class_index: np.ndarray | None,
        confidence: np.ndarray | None,
    ) -> None:
        nothing: list[None] = [None] * len(task_ids)
        rows = [
            {"version_id": version_id, "task_id": task, "score": score, "class_index": index, "confidence": sure}
            for task, score, index, sure in zip(
                task_ids.tolist(),
                published.tolist(),
                nothing if class_index is None else class_index.tolist(),
                nothing if confidence is None else confidence.tolist(),
                strict=True,
            )
        ]
        for part in _chunks(rows, CHUNK_ROWS):
            with self.engine.begin() as conn:
                self._upsert(conn, scores, part, ("score", "class_index", "confidence"))

    def drop_drafts(self, project_id: int, owner: str) -> None:
        with self._owned(project_id, owner) as conn:
            drafts = sa.select(versions.c.id).where(versions.c.project_id == project_id, versions.c.status == "draft")
            conn.execute(scores.delete().where(scores.c.version_id.in_(drafts)))
            conn.execute(versions.delete().where(versions.c.project_id == project_id, versions.c.status == "draft"))

    def version(self, version_id: int) -> Version | None:
        found = self._rows(sa.select(versions).where(versions.c.id == version_id), Version)
        return found[0] if found else None

    def versions(self, project_id: int) -> list[Version]:
        """Newest first; drafts are nobody's business."""
        query = sa.select(versions).where(versions.c.project_id == project_id, versions.c.status != "draft")
        return self._rows(query.order_by(versions.c.id.desc()), Version)

    def current_version(self, project_id: int) -> Version | None:
        query = sa.select(versions).join(projects, projects.c.current_version_id == versions.c.id)
        found = self._rows(query.where(projects.c.id == project_id), Version)
        return found[0] if found else None

    def unpublished_version(self, project_id: int) -> Version | None:
        """The newest version that is scored but not yet wholly published."""
        for version in self.versions(project_id):
            if version.status in ("scored", "publishing"):
                return version
            if version.status == "current":
                return None
        return None

    def update_version(self, version: Version, owner: str, **values: Any) -> Version:
        with self._owned(version.project_id, owner) as conn:
            conn.execute(versions.update().where(versions.c.id == version.id).values(**values))
        fresh = self.version(version.id)
        assert fresh is not None
        return fresh

    def switch_to(self, version: Version, owner: str) -> None:
        """From now on this version answers ``/predict``. The older ones are superseded, the backfill may still
        follow."""
        with self._owned(version.project_id, owner) as conn:
            older = (versions.c.project_id == version.project_id, versions.c.id != version.id)
            live = versions.c.status.in_(("scored", "publishing", "current"))
            conn.execute(versions.update().where(*older, live).values(status="superseded"))
            conn.execute(versions.update().where(versions.c.id == version.id).values(published_at=self._now(conn)))
            conn.execute(
                projects.update().where(projects.c.id == version.project_id).values(current_version_id=version.id)
            )

    def drop_scores(self, version: Version, owner: str) -> None:
        """A removed version keeps its row, as history, and loses its scores."""
        with self._owned(version.project_id, owner) as conn:
            conn.execute(versions.update().where(versions.c.id == version.id).values(status="removed"))
            conn.execute(scores.delete().where(scores.c.version_id == version.id))

    def unwritten(self, version: Version) -> list[Answer]:
        """What Label Studio is not known to hold yet, in the order in which it is to be served."""
        return self._answers(version, sa.not_(scores.c.written))

    def all_scores(self, version: Version) -> list[Answer]:
        return self._answers(version)

    def mark_written(self, version: Version, task_ids: Sequence[int] | None, written: bool = True) -> None:
        """``None``: every row of the version, in one statement."""
        mine = scores.c.version_id == version.id
        with self.engine.begin() as conn:
            if task_ids is None:
                conn.execute(scores.update().where(mine, scores.c.written != written).values(written=written))
                return
            for part in _chunks(list(task_ids), READ_CHUNK):
                conn.execute(scores.update().where(mine, scores.c.task_id.in_(part)).values(written=written))

    def has_rows(self, version: Version, *, written: bool) -> bool:
        """Is there any score of ``version`` that Label Studio is known to hold (``written``), or not known to hold?"""
        query = sa.select(scores.c.task_id).where(scores.c.version_id == version.id, scores.c.written == written)
        with self.reader.connect() as conn:
            return conn.scalar(query.limit(1)) is not None

    def scored_task_ids(self, version: Version) -> set[int]:
        with self.reader.connect() as conn:
            return set(conn.scalars(sa.select(scores.c.task_id).where(scores.c.version_id == version.id)))

    def answers(self, project_id: int, task_ids: Sequence[int]) -> dict[int, Answer]:
        """The current version's answers for those of ``task_ids`` that it has scored."""
        version = self.current_version(project_id)
        if version is None:
            return {}
        found: dict[int, Answer] = {}
        for part in _chunks(list(task_ids), READ_CHUNK):
            found.update((answer.task_id, answer) for answer in self._answers(version, scores.c.task_id.in_(part)))
        return found

    def counts(self, project_id: int) -> dict[str, int]:
        """``tasks``, ``labelled``, ``scored`` (by the current version) and ``broken``."""
        mine = tasks.c.project_id == project_id
        version = sa.select(projects.c.current_version_id).where(projects.c.id == project_id).scalar_subquery()
        count = sa.func.count()
        queries = {
            "tasks": sa.select(count).select_from(tasks).where(mine),
            "labelled": sa.select(count).select_from(tasks).where(mine, tasks.c.labelled),
            "scored": sa.select(count).select_from(scores).where(scores.c.version_id == version),
            "broken": sa.select(count).select_from(broken).where(broken.c.project_id == project_id),
        }
        with self.reader.connect() as conn:
            return {name: int(conn.scalar(query) or 0) for name, query in queries.items()}

    # -- inside ------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """The clock that leases are measured by: the database's, so that workers on several machines agree."""
        with self.reader.connect() as conn:
            return self._now(conn)

    def _now(self, conn: sa.Connection) -> float:
        if self._sqlite:  # one machine by nature
            return time.time()
        return float(conn.scalar(sa.text("select extract(epoch from clock_timestamp())")) or 0.0)

    def _answers(self, version: Version, *where: sa.ColumnElement[bool]) -> list[Answer]:
        query = sa.select(scores).where(scores.c.version_id == version.id, *where).order_by(scores.c.score)
        classes = version.classes
        with self.reader.connect() as conn:
            return [
                Answer(
                    row.task_id,
                    version.name,
                    None if row.class_index is None else classes[row.class_index],
                    row.confidence,
                    row.score,
                )
                for row in conn.execute(query)
            ]

    def _rows(self, query: sa.Select[Any], record: type[Record]) -> list[Record]:
        with self.reader.connect() as conn:
            return [record(**row) for row in conn.execute(query).mappings()]

    @contextmanager
    def _owned(self, project_id: int, owner: str | None) -> Iterator[sa.Connection]:
        """A transaction that fails with :class:`LeaseLost` unless ``owner`` (when given) still holds the project."""
        with self.engine.begin() as conn:
            if owner is not None:
                query = sa.select(projects.c.lease_owner).where(projects.c.id == project_id)
                holder = conn.scalar(query if self._sqlite else query.with_for_update())
                if holder != owner:
                    raise LeaseLost(f"project {project_id} is held by {holder or 'nobody'}, no longer by {owner}")
            yield conn

    def _upsert(
        self,
        conn: sa.Connection,
        table: sa.Table,
        rows: Sequence[Mapping[str, Any]],
        update: Sequence[str],
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        if not rows:
            return
        insert = sqlite.insert(table) if self._sqlite else postgresql.insert(table)
        changes = {name: insert.excluded[name] for name in update} | dict(extra or {})
        keys = [column.name for column in table.primary_key]
        conn.execute(insert.on_conflict_do_update(index_elements=keys, set_=changes), list(rows))

    def _create_tables(self) -> None:
        try:
            metadata.create_all(self.engine)
        except (OperationalError, ProgrammingError, IntegrityError):
            metadata.create_all(self.engine)  # another process was creating them at the same moment
        with self.engine.begin() as conn:
            row = {"name": "schema", "value": str(SCHEMA_VERSION)}
            insert = sqlite.insert(meta) if self._sqlite else postgresql.insert(meta)
            conn.execute(insert.on_conflict_do_nothing(), [row])
            found = conn.scalar(sa.select(meta.c.value).where(meta.c.name == "schema"))
        if found != str(SCHEMA_VERSION):
            raise BackendError(
                f"The database holds state of format {found}; this version of the backend reads format {SCHEMA_VERSION}. "
                "Start the version that wrote it, or give an empty MODEL_DIR or DATABASE_URL."
            )


def _drop_project(conn: sa.Connection, project_id: int) -> None:
    mine = sa.select(versions.c.id).where(versions.c.project_id == project_id)
    conn.execute(scores.delete().where(scores.c.version_id.in_(mine)))
    conn.execute(versions.delete().where(versions.c.project_id == project_id))
    for table in PER_PROJECT:
        conn.execute(table.delete().where(table.c.project_id == project_id))
    conn.execute(projects.delete().where(projects.c.id == project_id))


def _chunks(items: Sequence[Record], size: int) -> Iterator[Sequence[Record]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _engine(url: str) -> sa.Engine:
    if url.startswith(("postgres://", "postgresql://")):
        url = "postgresql+psycopg://" + url.split("://", 1)[1]
    if not url.startswith("sqlite"):
        return sa.create_engine(url, pool_pre_ping=True)
    engine = sa.create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # Readers never wait for the writer (WAL), and a transaction that will write takes the write lock at its start
        # (BEGIN IMMEDIATE below), so that two of them queue up instead of failing half way.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @sa.event.listens_for(engine, "begin")
    def _begin(conn: sa.Connection) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE" if conn.get_execution_options().get("writes", True) else "BEGIN")

    return engine
