"""The head of an order: the next tasks that annotators are served, which is all that a large pool needs published.

Publishing costs Label Studio 0.05 s a prediction, and so does removing it. A pool of ten thousand tasks of which fifty
are served before the next order is therefore published as its head, which is filled up as it is used. The others
have their predictions here, where ``/predict`` finds them.
"""

from __future__ import annotations

from backend.settings.core import Settings
from backend.state import Project, State, Version

AHEAD = 3
"""Times the shortlist: while a cycle trains, the head is filled up once fewer tasks than that are ready."""

WHOLE_POOL = 1_000
"""``publish`` is "auto": a pool of up to so many tasks is published whole."""

SHORTEST_HEAD = 200

SMALL_FIRST_ORDER = 100
"""A first order of fewer tasks is rebuilt, not extended, when many join it: somebody may be labeling a larger one."""

FIRST_ORDER_GROWTH = 0.1
"""What many are: more than this share of the unlabeled tasks."""


def head_size(state: State, settings: Settings, version: Version) -> int | None:
    """How many tasks at the beginning of the order of ``version`` are published; None: all."""
    if settings.publish == "all":
        return None
    if settings.publish == "auto" and not state.tasks.has_unlabeled(version.project_id, WHOLE_POOL + 1):
        return None
    return max(SHORTEST_HEAD, 2 * settings.budget_after(version.labels))


def size_to_write(state: State, settings: Settings, project: Project, version: Version) -> int | None:
    """Like :func:`head_size`, and one more for each annotation that may have been made since the last comparison:
    the state does not know yet which tasks it has used up."""
    size = head_size(state, settings, version)
    return None if size is None else size + project.annotation_events


def tasks_left(state: State, settings: Settings, project: Project, version: Version) -> int | None:
    """How many tasks of the head are written and, as far as is known, not labeled; None: all of the order is
    published."""
    size = size_to_write(state, settings, project, version)
    return None if size is None else _left_and_missing(state, project, version, size)[0]


def is_short(state: State, settings: Settings, project: Project, version: Version, times: float = AHEAD) -> bool:
    """Whether fewer than so many ``times`` the shortlist are left of the head, and there are more; or, where all of the
    order is published, whether anything is missing."""
    size = size_to_write(state, settings, project, version)
    if size is None:
        return state.scores.has_unwritten(version)
    left, missing = _left_and_missing(state, project, version, size)
    return missing > 0 and left < times * settings.shortlist


def is_used_up(state: State, settings: Settings, project: Project, version: Version) -> bool:
    """Whether predictions of the current version have to be written: less than half of its head is left, or, where
    all of the order is published, anything of it."""
    size = size_to_write(state, settings, project, version)
    if size is None:
        return state.scores.has_unwritten(version)
    left, missing = _left_and_missing(state, project, version, size)
    return missing > 0 and left < (size - project.annotation_events) / 2


def _left_and_missing(state: State, project: Project, version: Version, size: int) -> tuple[int, int]:
    """Of the first ``size`` tasks: how many are written and not labeled, and how many are not written."""
    written, missing = state.scores.head(version, size)
    return written - project.annotation_events, missing


def is_outgrown(state: State, version: Version, unlabeled: int) -> bool:
    """Whether a small first order lacks so many of the ``unlabeled`` tasks that it has to be rebuilt."""
    if version.checkpoint is not None or state.scores.count(version) >= SMALL_FIRST_ORDER:
        return False
    missing = len(state.tasks.unscored(version.project_id, version, unfinished=False))
    broken = len(state.tasks.broken_images(version.project_id))
    return missing - broken > FIRST_ORDER_GROWTH * unlabeled
