"""What is wrong with a project, or worth knowing, in sentences for its owner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Alert:
    """``level``: :data:`ERROR` if work does not go on because of it, else :data:`WARNING`. ``at``: when it was found,
    in seconds since the epoch, if that is known."""

    level: str
    words: str
    at: float | None = None


def alerts_of(found: Mapping[str, Any]) -> list[Alert]:
    """The alerts of a project, as :func:`backend.reporting.snapshot.snapshot` describes it."""
    alerts = [
        Alert(ERROR, found["last_error"] or ""),
        Alert(ERROR, found["hands_off"] or ""),
        Alert(WARNING, found["health"]),
        Alert(WARNING, found["queue_note"] or "", found["queue_noted_at"]),
    ]
    if unreadable := found["checkpoint_unreadable"]:
        alerts.append(Alert(WARNING, f"the newest version had to learn from the beginning: {unreadable}"))
    return [alert for alert in alerts if alert.words]
