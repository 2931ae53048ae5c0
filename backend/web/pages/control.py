"""What the page of a project shows of its control arm: see :mod:`backend.reporting.control`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backend.reporting.accuracy import Accuracy
from backend.reporting.control import Control, LabelsSaved, control_of
from backend.reporting.facts import Facts
from backend.reporting.outlook import CONTROL
from backend.web.pages.charts import Chart, learning_curves
from backend.web.pages.figures import Point, ahead_of


@dataclass(frozen=True)
class ControlCard:
    """``now``: of the version in use, None before a cycle. ``points``: the network on random labels that nothing
    learned from, cycle by cycle; ``alone``: heads that learned from random labels alone. ``charts``: both, for wide and
    for narrow screens; none without a point."""

    now: Control | None
    saved: LabelsSaved
    fraction: float
    points: Sequence[Point]
    alone: Sequence[Point]
    charts: Sequence[Chart]


def control_card(facts: Facts) -> ControlCard | None:
    """None where the project has no control arm, and had none."""
    fraction = facts.settings.control_fraction if facts.settings else 0.0
    if not fraction and facts.control is None:
        return None
    points, alone = [], []
    for cycle in reversed(facts.cycles):
        found = control_of(cycle.metrics) if cycle.status == "done" else None
        if found is None:
            continue
        if found.value is not None:
            accuracy = Accuracy(found.value, found.low, found.high, found.n, found.measure)
            points.append(Point(cycle.labels, accuracy, cycle.number))
        if found.difference is not None:
            drawn = Accuracy(found.compared["drawn"], n=found.compared["asked"])
            alone.append(Point(found.compared["labels"], drawn, cycle.number))
    points = [point for point in points if point.accuracy.measure == points[-1].accuracy.measure]
    ahead = ahead_of(facts, CONTROL)
    charts = learning_curves(points, ahead, alone)
    return ControlCard(facts.control, facts.labels_saved, fraction, points, alone, charts)
