"""The plain records that :mod:`backend.state` returns. Times are in seconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CONNECTED, UNCHECKED, ASIDE, GONE = "connected", "unchecked", "aside", "gone"
"""A project's standing. Unchecked: announced by a request that Label Studio has not confirmed yet. Set aside: Label
Studio shows another project under its number. Gone: Label Studio says that it does not exist. Both are kept."""


@dataclass(frozen=True)
class Project:
    """A connected Label Studio project, and what is known of work that is waiting for it.

    ``id`` is ours, and what all of the state refers to. Label Studio knows the project by its ``number``, which is
    almost always the same. See :class:`backend.state.projects.Projects` for who is who.
    """

    id: int
    key: str
    title: str
    label_config: str
    extra_params: dict[str, Any]
    url: str
    token: str = field(repr=False)
    annotation_events: int
    refresh_seq: int
    refresh_seen: int
    train_seq: int
    train_seen: int
    new_annotations: int
    checked_at: float
    read_from: float | None
    read_under: str
    read_whole_at: float
    misfit: list[int] | None
    annotated_at: float
    lease_owner: str | None
    lease_expires: float
    failures: int
    retry_at: float
    last_error: str | None
    queue_ready: bool
    current_version_id: int | None
    number: int
    studio: str = ""
    standing: str = CONNECTED
    standing_since: float = 0.0
    standing_reason: str = ""
    folder: str = ""
    address: str = ""
    setups: int = 0
    connection_id: int | None = None
    connection_url: str = ""
    hands_off: str | None = None
    yields_to: int | None = None
    queue_note: str | None = None
    queue_noted_at: float | None = None
    overlap: int = 1
    queue_tab: int | None = None
    control: list[list[float]] | None = None
    preparation: dict[str, Any] | None = None
    replay_seq: int = 0
    replay_seen: int = 0
    replaying: dict[str, Any] | None = None
    acceptance: dict[str, Any] | None = None
    stored: str = ""

    @property
    def folder_key(self) -> str:
        """What its folder in ``MODEL_DIR`` is named after: see :func:`backend.files.project_folder`."""
        return self.folder or self.key

    @property
    def name(self) -> str:
        """What people call it: Label Studio's number, with the address where another project has that number too."""
        return str(self.number) if self.id == self.number else f"{self.number}@{self.studio}"

    @property
    def pending_annotations(self) -> int:
        """New annotations as last counted, plus the events since then: an upper estimate until the next count."""
        return self.new_annotations + self.annotation_events

    @property
    def train_requested(self) -> bool:
        """Whether training was requested that has not been done yet."""
        return self.train_seq > self.train_seen

    @property
    def replay_requested(self) -> bool:
        """Whether a replay was asked for that is not over yet."""
        return self.replay_seq > self.replay_seen


@dataclass(frozen=True)
class Version:
    """One order of a project's pool, published or about to be, and the model it comes from."""

    id: int
    project_id: int
    cycle: int
    name: str
    sampler: str
    status: str
    checkpoint: str | None
    classes: list[str]
    metrics: dict[str, Any]
    created_at: float
    published_at: float | None
    writing_since: float | None

    @property
    def labels(self) -> int:
        """How many labels its model learned from; 0 for a first order, which has none."""
        return int(self.metrics.get("labels", 0))


@dataclass(frozen=True)
class Cycle:
    """One cycle: see :func:`backend.cycle.run_cycle`. While it runs, ``done`` of the ``total`` steps of ``phase`` are
    done."""

    id: int
    project_id: int
    number: int
    sampler: str
    seed: int
    owner: str
    status: str
    phase: str
    done: int
    total: int
    labels: int
    started_at: float
    finished_at: float | None
    metrics: dict[str, Any]
    error: str | None


@dataclass(frozen=True)
class StoredPrediction:
    """What is stored of one task's prediction: its ``priority_score``, lowest first, and the predicted class and the
    confidence where there are any."""

    task_id: int
    version: str
    label: str | None
    confidence: float | None
    priority_score: float


@dataclass(frozen=True)
class BrokenImage:
    """A task whose image was set aside, why, and when it is due to be tried again.

    ``deaths``: how often a process died while it decoded the image. ``waiting``: it is not damaged, as far as is known,
    but its host asks to be asked later.
    """

    task_id: int
    source: str
    reason: str
    attempts: int
    retry_at: float
    deaths: int = 0
    waiting: bool = False


@dataclass(frozen=True)
class Mark:
    """What a task with a generated image is known by: the name of the version that the image was generated with, and
    what from."""

    batch: str
    seed: int


@dataclass(frozen=True)
class PlannedImage:
    """A generated image that is to become a task: its ``place`` among those of its batch, 0 first; ``digest``, of the
    address in the task's data, which holds the image; that address as ``image``, empty once it need not be sent any
    more. Its task has an id above ``after_task``. ``sent_at``: when it was sent, if it was. ``task_id``: as which it
    was found first.
    """

    mark: Mark
    place: int
    digest: str
    image: str
    after_task: int
    sent_at: float | None = None
    task_id: int | None = None


@dataclass(frozen=True)
class SyntheticTask:
    """A task with a generated image. ``planned``: by this state; None if another one planned it, which was lost.
    ``annotations``: how many it has, skipped ones included. ``labeled``: one of them says something. ``served``: Label
    Studio serves it to annotators, and is to, as far as is known."""

    task_id: int
    mark: Mark
    planned: PlannedImage | None
    annotations: int
    labeled: bool
    served: bool
