"""The tables of :mod:`backend.state`. What it returns of them stands in :mod:`backend.state.records`.

Times are floats, in seconds since the epoch, which works the same in SQLite and PostgreSQL.
"""

from __future__ import annotations

import time

import sqlalchemy as sa

from backend.plain import storable
from backend.state.records import CONNECTED

SCHEMA_VERSION = 9
"""Format 1 is that of 0.3.0: see :mod:`backend.state.upgrade`."""

metadata = sa.MetaData()


class Text(sa.TypeDecorator[str]):
    """Text that may come from outside: what no database can store of it is replaced."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else storable(value)


meta = sa.Table(
    "meta",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", Text, nullable=False),
)

projects = sa.Table(
    "projects",
    metadata,
    # Ours: Label Studio's number of the project where that is free, which it is with one Label Studio.
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    # Who it is: the address of its Label Studio and its key there, "<number>.<created>".
    sa.Column("studio", Text, nullable=False, default="", server_default=""),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("number", sa.Integer, nullable=False, default=0, server_default="0"),
    sa.Column("standing", sa.String(16), nullable=False, default=CONNECTED, server_default=CONNECTED),
    sa.Column("standing_since", sa.Float, nullable=False, default=0.0, server_default="0"),
    sa.Column("standing_reason", Text, nullable=False, default="", server_default=""),
    # The name of its folder in MODEL_DIR; empty: the key.
    sa.Column("folder", sa.String(160), nullable=False, default="", server_default=""),
    sa.Column("title", Text, nullable=False, default=""),
    sa.Column("label_config", Text, nullable=False),
    sa.Column("extra_params", sa.JSON, nullable=False, default=dict),
    sa.Column("url", Text, nullable=False, default=""),
    sa.Column("token", Text, nullable=False, default=""),
    sa.Column("connected_at", sa.Float, nullable=False, default=time.time),  # unused, but 0.3.0 requires it
    # Hints: counters that only increase, except for annotation_events. Work is due when a counter is ahead of its
    # "seen" counterpart.
    sa.Column("annotation_events", sa.Integer, nullable=False, default=0),
    sa.Column("refresh_seq", sa.Integer, nullable=False, default=1),
    sa.Column("refresh_seen", sa.Integer, nullable=False, default=0),
    sa.Column("train_seq", sa.Integer, nullable=False, default=0),
    sa.Column("train_seen", sa.Integer, nullable=False, default=0),
    # What the last comparison with Label Studio found.
    sa.Column("new_annotations", sa.Integer, nullable=False, default=0),
    sa.Column("checked_at", sa.Float, nullable=False, default=0.0),
    # From when on changes in Label Studio have to be read: its own clock at the last comparison. Null: read everything.
    sa.Column("read_from", sa.Float),
    # What the labels were read under (label config and settings), and when all of them were last read.
    sa.Column("read_under", sa.String(64), nullable=False, default="", server_default=""),
    sa.Column("read_whole_at", sa.Float, nullable=False, default=0.0, server_default="0"),
    # By how much Label Studio's counts exceeded ours then: see backend.worker.comparison.
    sa.Column("misfit", sa.JSON),
    # When the last webhook about an annotation arrived.
    sa.Column("annotated_at", sa.Float, nullable=False, default=0.0, server_default="0"),
    sa.Column("lease_owner", sa.String(128)),
    sa.Column("lease_expires", sa.Float, nullable=False, default=0.0),
    # How long the lease was taken or renewed for; 0: by an earlier version, which did not say.
    sa.Column("lease_seconds", sa.Float, nullable=False, default=0.0, server_default="0"),
    sa.Column("failures", sa.Integer, nullable=False, default=0),
    sa.Column("retry_at", sa.Float, nullable=False, default=0.0),
    sa.Column("last_error", Text),
    sa.Column("queue_ready", sa.Boolean, nullable=False, default=False),
    sa.Column("current_version_id", sa.Integer),
    # The address at which /setup last arrived, and how often it did: so a worker knows whether Label Studio's list of
    # connections leads here.
    sa.Column("address", sa.Text, nullable=False, default="", server_default=""),
    sa.Column("setups", sa.Integer, nullable=False, default=0, server_default="0"),
    # The connection in Label Studio that is ours, as it was last found there.
    sa.Column("connection_id", sa.Integer),
    sa.Column("connection_url", sa.Text, nullable=False, default="", server_default=""),
    # Why nothing is done for the project, in words; and the connection of the backend that has its queue instead.
    sa.Column("hands_off", sa.Text),
    sa.Column("yields_to", sa.Integer),
    # What was last found to order the queue other than it should, in words, and when.
    sa.Column("queue_note", sa.Text),
    sa.Column("queue_noted_at", sa.Float),
    # The tab of the Data Manager that shows the queue. Null: none is known.
    sa.Column("queue_tab", sa.Integer),
    # How far the training is of what the sampler learns apart from cycles: see backend.worker.preparing. Null: none is.
    sa.Column("preparation", sa.JSON(none_as_null=True)),
    # How many annotators a task gets, at most.
    sa.Column("overlap", sa.Integer, nullable=False, default=1, server_default="1"),
    # Since which annotation which fraction of what is served was drawn by chance: see backend.control. Null: none was.
    sa.Column("control", sa.JSON(none_as_null=True)),
    # Replays that were asked for, and those that are over; how far the one under way is, or why there was none: see
    # backend.worker.replaying.
    sa.Column("replay_seq", sa.Integer, nullable=False, default=0, server_default="0"),
    sa.Column("replay_seen", sa.Integer, nullable=False, default=0, server_default="0"),
    sa.Column("replaying", sa.JSON(none_as_null=True)),
    # How often people left pre-annotations as they were: see backend.worker.acceptance. Null: nothing tells.
    sa.Column("acceptance", sa.JSON(none_as_null=True)),
    # The manifest of its folder in the store that counts: see backend.store. Empty: none does.
    sa.Column("stored", sa.String(80), nullable=False, default="", server_default=""),
    sa.Index("projects_by_identity", "studio", "key", unique=True),
)

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("task_id", sa.Integer, primary_key=True),
    sa.Column("source", Text, nullable=False),
    sa.Column("labelled", sa.Boolean, nullable=False, default=False),
)

# How many tasks a project has, and how many of them are labeled, as counted after a comparison. No row: count them.
pool_counts = sa.Table(
    "pool_counts",
    metadata,
    sa.Column("project_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("tasks", sa.Integer, nullable=False),
    sa.Column("labelled", sa.Integer, nullable=False),
)

# What Label Studio held of each annotated task at the last comparison.
labels = sa.Table(
    "labels",
    metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("task_id", sa.Integer, primary_key=True),
    sa.Column("label", sa.JSON),  # in the form of the kind of task; null: no annotation is a label
    sa.Column("counted", sa.JSON, nullable=False),  # see StoredLabel.counted
    sa.Column("submitted", sa.Integer, nullable=False),  # how many annotations there are, skipped ones apart
    sa.Column("skipped", sa.Integer, nullable=False),
    # Fewer annotations than its overlap asks for: Label Studio serves the task to further annotators, first of all.
    sa.Column("unfinished", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.Column("ignored", sa.JSON(none_as_null=True)),  # reason → how many annotations are no labels; null: all are
    sa.Column("answers", sa.JSON(none_as_null=True)),  # see StoredLabel.answers; null: none is compared
    sa.Column("preannotated", sa.JSON(none_as_null=True)),  # see StoredLabel.preannotated
)

# How far annotators agree, as figured at the last comparison: see backend.worker.agreement.
agreements = sa.Table(
    "agreements",
    metadata,
    sa.Column("project_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("figures", sa.JSON, nullable=False),
)

# Labeled tasks that the owner wants one more annotator to label.
asked_again = sa.Table(
    "asked_again",
    metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("task_id", sa.Integer, primary_key=True),
    sa.Column("asked_at", sa.Float, nullable=False),
    sa.Column("annotations", sa.Integer, nullable=False),  # how many it had, skipped ones included: done with more
    sa.Column("placed_in", sa.Integer),  # the version in whose order it has the first place
    # For how many people Label Studio was to serve it, and whether it counted it as finished, before it was opened; and
    # for how many it was opened. Null: it was not.
    sa.Column("overlap", sa.Integer),
    sa.Column("finished", sa.Boolean),
    sa.Column("opened_for", sa.Integer),
    # Asked again by mistake: Label Studio is to serve it as before.
    sa.Column("withdrawn", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
)

# Tasks whose image has to be looked at again, because the address in their data has changed.
changed_images = sa.Table(
    "changed_images",
    metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("task_id", sa.Integer, primary_key=True),
)

seen_annotations = sa.Table(
    "seen_annotations",
    metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("annotation_id", sa.Integer, primary_key=True),
    sa.Column("updated_at", sa.String(64), nullable=False),
)

cycles = sa.Table(
    "cycles",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("project_id", sa.Integer, nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("sampler", sa.String(64), nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False, default=0),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("phase", sa.String(32), nullable=False, default=""),
    sa.Column("done", sa.Integer, nullable=False, default=0),
    sa.Column("total", sa.Integer, nullable=False, default=0),
    sa.Column("labels", sa.Integer, nullable=False, default=0),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("finished_at", sa.Float),
    sa.Column("metrics", sa.JSON, nullable=False, default=dict),
    sa.Column("error", Text),
)

versions = sa.Table(
    "versions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("project_id", sa.Integer, nullable=False, index=True),
    sa.Column("cycle", sa.Integer, nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("sampler", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("checkpoint", Text),
    sa.Column("classes", sa.JSON, nullable=False, default=list),
    sa.Column("metrics", sa.JSON, nullable=False, default=dict),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("published_at", sa.Float),
    # Set before a bulk write to Label Studio and cleared after it, so a value means that the outcome is unknown.
    sa.Column("writing_since", sa.Float),
    sa.UniqueConstraint("project_id", "name"),
)

# The scored tasks of each version: see backend.state.score_blocks.
score_blocks = sa.Table(
    "score_blocks",
    metadata,
    sa.Column("version_id", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("lowest", sa.Float(53), nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

# The scored tasks of a version whose prediction Label Studio is known to hold.
written_predictions = sa.Table(
    "written_predictions",
    metadata,
    sa.Column("version_id", sa.Integer, primary_key=True),
    sa.Column("task_id", sa.Integer, primary_key=True),
)

broken = sa.Table(
    "broken_images",
    metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("task_id", sa.Integer, primary_key=True),
    sa.Column("source", Text, nullable=False),
    sa.Column("reason", Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=1),
    sa.Column("retry_at", sa.Float, nullable=False),
    # How often a process died while it decoded the image.
    sa.Column("deaths", sa.Integer, nullable=False, default=0, server_default="0"),
    # Nothing is known to be wrong with it: its host asks to be asked later, or does not respond in time.
    sa.Column("waiting", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
)

# Images that a sampler generated and that are to become tasks: stored before Label Studio is told of them.
planned_images = sa.Table(
    "planned_images",
    metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("batch", sa.String(128), primary_key=True),  # the name of the version that they were generated with
    sa.Column("seed", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("place", sa.Integer, nullable=False),  # 0: to be asked for first
    sa.Column("digest", sa.String(64), nullable=False),  # of the address in the task's data, which holds the image
    sa.Column("image", Text, nullable=False),  # that address; empty: found in Label Studio, or not to be sent any more
    sa.Column("after_task", sa.Integer, nullable=False),  # their tasks have higher ids
    sa.Column("sent_at", sa.Float),  # set before they are sent, so the outcome of that may be unknown
    sa.Column("task_id", sa.Integer),  # as which it was found first
)

# Tasks of Label Studio that show a generated image, by what their data say.
synthetic_tasks = sa.Table(
    "synthetic_tasks",
    metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("task_id", sa.Integer, primary_key=True),
    sa.Column("batch", sa.String(128), nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
)

PER_PROJECT = (
    *(tasks, pool_counts, labels, changed_images, seen_annotations, cycles, broken),
    *(planned_images, synthetic_tasks, agreements, asked_again),
)
"""Tables with a ``project_id`` whose rows are deleted with their project. (Versions and scores are handled apart.)"""
