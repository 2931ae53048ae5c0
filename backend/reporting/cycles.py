"""A cycle as plain data: its progress, how long its phases took, and how long it may still take."""

from __future__ import annotations

from typing import Any

from backend.state import Cycle


def cycle_summary(cycle: Cycle) -> dict[str, Any]:
    """A cycle as plain data. Once it is done, ``seconds`` has the duration of each phase."""
    summary: dict[str, Any] = {
        "cycle": cycle.number,
        "sampler": cycle.sampler,
        "status": cycle.status,
        "phase": cycle.phase,
        "done": cycle.done,
        "total": cycle.total,
        "labels": cycle.labels,
        "started_at": cycle.started_at,
        "finished_at": cycle.finished_at,
        "seconds": phase_seconds(cycle),
        "error": cycle.error,
    }
    summary["figures"] = {key: value for key, value in cycle.metrics.items() if key != "seconds"}
    return summary


def phase_seconds(cycle: Cycle) -> dict[str, float]:
    """The duration of each phase of a cycle, in seconds, in their order; empty unless it is done."""
    seconds = cycle.metrics.get("seconds")
    return {str(phase): float(spent) for phase, spent in seconds.items()} if isinstance(seconds, dict) else {}


def share_done(cycle: Cycle) -> float:
    """How much of the running phase is done, from 0 to 1."""
    return min(1.0, cycle.done / max(1, cycle.total))


def seconds_left(running: Cycle, last: Cycle | None, now: float) -> float | None:
    """How many seconds a running cycle may still take, if its phases take as long as those of the ``last`` one that was
    done; None if there is none to go by."""
    spent = phase_seconds(last) if last is not None else {}
    if not spent:
        return None
    phases = list(spent)
    if running.phase not in phases:
        return max(0.0, sum(spent.values()) - (now - running.started_at))
    place = phases.index(running.phase)
    return (1 - share_done(running)) * spent[running.phase] + sum(spent[phase] for phase in phases[place + 1 :])
