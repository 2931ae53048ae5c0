"""What the annotations of each task said when they were last read, and which of them the newest model learned from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from backend.state.database import CHUNK_ROWS, READ_CHUNK, Database, chunks
from backend.state.schema import labels, pool_counts, projects, seen_annotations, synthetic_tasks, tasks


@dataclass(frozen=True)
class StoredLabel:
    """An annotated task: its ``label`` in the form of its kind of task, None if no annotation is one; ``counted``, the
    (annotation id, ``updated_at``, seconds spent or None) of those that are, which earlier versions stored without the
    last; how many annotations it has, submitted and skipped; whether it is ``unfinished``: has fewer than its overlap
    asks for, so that Label Studio serves it to further annotators; how many are ``ignored``, for each reason, None
    if none is; and the ``answers``, in the order in which they were given: (annotation id, id of the annotator or None,
    what they say in the form of the kind of task, whether they are marked as ground truth), None where the kind of task
    compares none, and for generated images; and, where the first label was begun from what was ``preannotated``, (its
    annotation's id, the name of the version that this was of, what this was, …): see
    :func:`backend.worker.acceptance.begun_from`."""

    task_id: int
    label: Any
    counted: Sequence[Sequence[Any]]
    submitted: int
    skipped: int
    unfinished: bool = False
    ignored: Mapping[str, int] | None = None
    answers: Sequence[Sequence[Any]] | None = None
    preannotated: Sequence[Any] | None = None


class Labels:
    """The labels of each project, as :mod:`backend.worker.sync` last read them."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def all(self, project_id: int) -> list[StoredLabel]:
        """Every annotated task, by id."""
        columns = [column for column in labels.c if column.name != "project_id"]
        query = sa.select(*columns).where(labels.c.project_id == project_id).order_by(labels.c.task_id)
        return self._db.rows(query, StoredLabel)

    def totals(self, project_id: int) -> tuple[int, int]:
        """How many annotations all tasks have: submitted ones, and skipped ones."""
        query = sa.select(sa.func.sum(labels.c.submitted), sa.func.sum(labels.c.skipped))
        with self._db.reader.connect() as conn:
            submitted, skipped = conn.execute(query.where(labels.c.project_id == project_id)).one()
        return int(submitted or 0), int(skipped or 0)

    def unfinished(self, project_id: int) -> frozenset[int]:
        """The annotated tasks that Label Studio still serves, to further annotators, before all others."""
        query = sa.select(labels.c.task_id).where(labels.c.project_id == project_id, labels.c.unfinished)
        return frozenset(self._db.integers(query)[:, 0].tolist())

    def ignored(self, project_id: int) -> dict[str, int]:
        """Reason → how many annotations do not count for it, the most frequent first."""
        query = sa.select(labels.c.ignored).where(labels.c.project_id == project_id, labels.c.ignored.is_not(None))
        total: Counter[str] = Counter()
        with self._db.reader.connect() as conn:
            for reasons in conn.scalars(query):
                total.update(reasons)
        return dict(total.most_common())

    def distinct(self, project_id: int, limit: int) -> list[tuple[Any, int]]:
        """(what the annotations of a task say, in the form of its kind of task; of how many tasks they say it), the
        most frequent first, at most ``limit`` of them. Tasks with a generated image are left out."""
        with self._db.reader.connect() as conn:
            found = conn.execute(_DISTINCT, {"project": project_id, "most": limit}).all()
        return [(json.loads(text), int(tasks)) for text, tasks in found if text not in (None, "null")]

    def among(self, project_id: int, task_ids: Iterable[int]) -> frozenset[int]:
        """Those of the tasks that have annotations, as far as is known."""
        found: set[int] = set()
        for part in chunks(list(task_ids), READ_CHUNK):
            query = sa.select(labels.c.task_id)
            query = query.where(labels.c.project_id == project_id, labels.c.task_id.in_(part))
            found.update(self._db.integers(query)[:, 0].tolist())
        return frozenset(found)

    def of(self, project_id: int, task_ids: Iterable[int]) -> dict[int, Any]:
        """Task → what its annotations say, in the form of its kind of task; None if none of them is a label. Tasks
        without an annotation are left out."""
        wanted = list(task_ids)
        if not wanted:
            return {}
        query = sa.select(labels.c.task_id, labels.c.label)
        query = query.where(labels.c.project_id == project_id, self._db.among(labels.c.task_id, wanted))
        with self._db.reader.connect() as conn:
            return {row.task_id: row.label for row in conn.execute(query)}

    def answered(self, project_id: int, task_ids: Iterable[int]) -> dict[int, tuple[Any, int]]:
        """Labeled task → what its annotations say, in the form of its kind of task, and how many people gave one, of
        whom it is known who they are."""
        found: dict[int, tuple[Any, int]] = {}
        for part in chunks(list(task_ids), READ_CHUNK):
            query = sa.select(labels.c.task_id, labels.c.label, labels.c.answers)
            query = query.where(labels.c.project_id == project_id, labels.c.task_id.in_(part))
            with self._db.reader.connect() as conn:
                for row in conn.execute(query):
                    if row.label is not None:
                        people = {who for _, who, *_ in row.answers or () if who is not None}
                        found[row.task_id] = (row.label, len(people))
        return found

    def preannotated(self, project_id: int, task_ids: Iterable[int]) -> dict[int, Sequence[Any]]:
        """Task → see :class:`StoredLabel`, of those tasks whose label was begun from a pre-annotation."""
        query = sa.select(labels.c.task_id, labels.c.preannotated)
        mine = (labels.c.project_id == project_id, self._db.among(labels.c.task_id, list(task_ids)))
        with self._db.reader.connect() as conn:
            found = conn.execute(query.where(*mine, labels.c.preannotated.is_not(None)))
            return {row.task_id: row.preannotated for row in found}

    def put(self, project_id: int, found: Iterable[StoredLabel]) -> None:
        """Store what the annotations of these tasks say now."""
        rows = [{"project_id": project_id, **asdict(label)} for label in found]
        for part in chunks(rows, READ_CHUNK):
            with self._db.engine.begin() as conn:
                values = (
                    "label",
                    "counted",
                    "submitted",
                    "skipped",
                    "unfinished",
                    "ignored",
                    "answers",
                    "preannotated",
                )
                self._db.upsert(conn, labels, part, values)
                for labeled in (True, False):
                    chosen = [row["task_id"] for row in part if (row["label"] is not None) == labeled]
                    self._flag(conn, project_id, chosen, labeled)

    def decide(self, project_id: int, labels_of: Mapping[int, Any]) -> None:
        """Set what labeled tasks say, task by task: several annotations were weighed anew."""
        for part in chunks(list(labels_of.items()), READ_CHUNK):
            with self._db.engine.begin() as conn:
                for task, label in part:
                    mine = (labels.c.project_id == project_id, labels.c.task_id == task)
                    conn.execute(labels.update().where(*mine).values(label=label))

    def reopen(self, project_id: int, task_id: int, unfinished: bool = True) -> None:
        """Note whether Label Studio serves an annotated task to further annotators."""
        mine = (labels.c.project_id == project_id, labels.c.task_id == task_id)
        with self._db.engine.begin() as conn:
            conn.execute(labels.update().where(*mine).values(unfinished=unfinished))

    def remove(self, project_id: int, task_ids: Iterable[int]) -> None:
        """Forget the labels of these tasks: they have no annotation any more."""
        for part in chunks(list(task_ids), READ_CHUNK):
            with self._db.engine.begin() as conn:
                conn.execute(labels.delete().where(labels.c.project_id == project_id, labels.c.task_id.in_(part)))
                self._flag(conn, project_id, part, False)

    def _flag(self, conn: sa.Connection, project_id: int, task_ids: Sequence[int], labeled: bool) -> None:
        if task_ids:
            mine = (tasks.c.project_id == project_id, tasks.c.task_id.in_(task_ids))
            conn.execute(tasks.update().where(*mine).values(labelled=labeled))
            conn.execute(pool_counts.delete().where(pool_counts.c.project_id == project_id))

    def seen(self, project_id: int) -> dict[int, str]:
        """Annotation id → its ``updated_at``, for the annotations that the newest model was trained on."""
        query = sa.select(seen_annotations).where(seen_annotations.c.project_id == project_id)
        with self._db.reader.connect() as conn:
            return {row.annotation_id: row.updated_at for row in conn.execute(query)}


def record_seen(
    database: Database, conn: sa.Connection, project_id: int, before: Mapping[int, str], seen: Mapping[int, str]
) -> None:
    """Count as new only annotations that are not in ``seen``: annotation id → its ``updated_at``. ``before``: what
    :meth:`Labels.seen` says now; only the difference is written."""
    mine = seen_annotations.c.project_id == project_id
    for part in chunks(sorted(before.keys() - seen.keys()), READ_CHUNK):
        conn.execute(seen_annotations.delete().where(mine, seen_annotations.c.annotation_id.in_(part)))
    rows = [
        {"project_id": project_id, "annotation_id": number, "updated_at": stamp}
        for number, stamp in seen.items()
        if before.get(number) != stamp
    ]
    for part_of_rows in chunks(rows, CHUNK_ROWS):
        database.upsert(conn, seen_annotations, part_of_rows, ("updated_at",))
    conn.execute(projects.update().where(projects.c.id == project_id).values(new_annotations=0))


def _distinct() -> sa.Select[str, int]:
    """The query of :meth:`Labels.distinct`, made once: making it takes longer than its answer."""
    project = sa.bindparam("project", type_=sa.Integer)
    said, count = sa.cast(labels.c.label, sa.Text), sa.func.count()
    generated = sa.select(synthetic_tasks.c.task_id).where(synthetic_tasks.c.project_id == project)
    mine = (labels.c.project_id == project, labels.c.task_id.not_in(generated))
    query = sa.select(said, count).where(*mine).group_by(said).order_by(count.desc(), said)
    return query.limit(sa.bindparam("most", type_=sa.Integer))


_DISTINCT = _distinct()
