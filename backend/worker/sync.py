"""Brings the state in line with Label Studio, the source of truth, and says what there is to learn from.

What is read of tasks and annotations is the matter of :mod:`backend.worker.comparison`. Everything else works on the
state.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from backend.control import Arm, first_annotations, history_after
from backend.labelstudio.records import ProjectInfo
from backend.state import StoredLabel
from backend.tasks import kind_of
from backend.tasks.base import AnyTaskKind
from backend.tasks.records import Label
from backend.tasks.votes import answers_from
from backend.worker import acceptance, agreement, consensus
from backend.worker.comparison import Comparison
from backend.worker.job import Job
from backend.worker.truth import ControlTruth, SyntheticTruth, Truth

OVERLAP_SECONDS = 60.0
"""How far a read reaches back before the one before: longer than a transaction of Label Studio may stay open."""

WHOLE_SECONDS = 6 * 3600.0
"""How often everything is read although nothing seems to be missing."""

FORMAT = 4
"""Increased whenever annotations are understood differently, so that all of them are read again."""


def read_truth(job: Job, *, whole: bool = False, quick: bool = False, info: ProjectInfo | None = None) -> Truth:
    """Read what changed in Label Studio, and update the state's tasks, labels and counters.

    ``whole``: read everything. That takes 0.3 ms for each task and 1.7 ms for each label, in pages with pauses.
    ``quick``: only what was annotated, where Label Studio's counts say that this is all; the next comparison still
    looks at everything since the one before. ``info``: the project, if it was read a moment ago.

    Raises:
        LabelConfigError, SettingsError, LabelStudioRefused: the owner has to act.
        LabelStudioUnavailable: try again later.
    """
    started = time.monotonic()
    # A hint that has come since the settings of this job were read may be about them: it is not seen to by this read.
    heard = job.project.refresh_seq
    job = job.reread()
    project, state = job.project, job.state
    info = job.gateway.project(project.number) if info is None else info
    kind = kind_of(info.label_config, job.settings)
    under = _read_under(info, job)
    now = state.now()
    clock = now if info.clock is None else info.clock
    whole = whole or project.read_from is None or project.read_from > clock or project.read_under != under
    whole = whole or not 0 <= now - project.read_whole_at < WHOLE_SECONDS
    asked = frozenset(one.task_id for one in state.team.asked(project.id))
    comparison = Comparison(job, kind, info.overlap, asked)
    quick = quick and not whole and not kind.draws and comparison.read_annotations(info)
    whole, misfit = (False, project.misfit) if quick else comparison.run(info, whole)
    stored = consensus.decided(job, kind, state.labels.all(project.id))
    agreement.keep_agreement(job, kind, stored, fresh=whole)
    state.team.forget_answered(project.id)
    truth = replace(_truth_of_state(job, kind, stored, started), refresh_seq=heard)
    state.tasks.keep_counts(project.id, job.owner, len(truth.unlabeled) + len(truth.labels), len(truth.labels))
    # What an order has to last for, and so how many of its tasks get more than a score, follows from the budget.
    kind.settings = replace(kind.settings, budget=kind.settings.budget_after(len(truth.labels)))
    state.projects.update(
        project.id,
        job.owner,
        title=info.title,
        label_config=info.label_config,
        overlap=info.overlap,
        checked_at=project.checked_at if quick else state.now(),
        new_annotations=truth.new_annotations,
        read_from=project.read_from if quick else clock - OVERLAP_SECONDS,
        read_under=under,
        misfit=misfit,
        control=truth.control.arm.history or None,
        acceptance=acceptance.figures(stored, state.versions.cycles_by_name(project.id)),
        read_whole_at=now if whole else project.read_whole_at,
    )
    state.hints.settle(project.id, truth.events)
    return truth


def _read_under(info: ProjectInfo, job: Job) -> str:
    """A digest of everything that decides what annotations mean. If it changes, all of them are read again."""
    decisive = [FORMAT, info.label_config, sorted(job.settings.options().items()), info.overlap, info.cohort]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def _truth_of_state(job: Job, kind: AnyTaskKind, stored: Sequence[StoredLabel], started: float) -> Truth:
    state, project = job.state, job.project
    tasks, labeled = state.tasks.ids(project.id)
    annotations = {int(number): str(stamp) for one in stored for number, stamp, *_ in one.counted}
    generated = state.synthetic.ids(project.id)
    apart = frozenset(generated.tolist())
    real = [one for one in stored if one.task_id not in apart and one.label is not None]
    control = _control(job, real, max(annotations, default=0))
    only_measures = 0 < len(real) == len(control.held_out)
    return Truth(
        kind,
        tasks,
        np.setdiff1d(tasks[~labeled], generated),
        np.array([one.task_id for one in real if one.unfinished], dtype=np.int64),
        {one.task_id: kind.label_from(one.label) for one in real},
        annotations,
        # labels that only measure make no cycle due: it would have nothing to learn
        0 if only_measures else consensus.new_annotations(stored, state.labels.seen(project.id)),
        project.refresh_seq,
        project.train_seq,
        project.annotation_events,
        time.monotonic() - started,
        _of_generated(kind, generated, [one for one in stored if one.task_id in apart]),
        label_seconds(real),
        control,
        consensus.stamps(stored),
        {one.task_id: answers_from(one.answers) for one in real if one.answers},
    )


def label_seconds(stored: Sequence[StoredLabel]) -> float | None:
    """The median of what Label Studio measured for an annotation: somebody who leaves a task open over lunch does not
    count for more than others. None where it measured none, as of annotations that were imported or made by its API."""
    known = [float(more[0]) for one in stored for _, _, *more in one.counted if more and more[0] is not None]
    return median(known) if known else None


def _control(job: Job, labeled: Sequence[StoredLabel], newest: int) -> ControlTruth:
    """What counts as drawn by chance, going by the order in use. ``newest``: the highest id of an annotation."""
    current = job.state.versions.current(job.project.id)
    history = job.project.control or []
    if current is not None:
        history = history_after(history, current.metrics.get("control_fraction", 0.0), newest)
    arm = Arm(job.project.folder_key, job.settings.control_fraction, history)
    return ControlTruth.of(arm, first_annotations((one.task_id, one.counted) for one in labeled))


def _of_generated(kind: AnyTaskKind, tasks: np.ndarray, stored: Sequence[StoredLabel]) -> SyntheticTruth:
    labels: dict[int, Label] = {}
    unrecognized = []
    for one in stored:
        label = None if one.label is None else kind.label_from(one.label)
        if label is not None and not kind.shows_nothing(label):
            labels[one.task_id] = label
        elif label is not None or one.skipped:
            unrecognized.append(one.task_id)
    return SyntheticTruth(tasks, labels, unrecognized)
