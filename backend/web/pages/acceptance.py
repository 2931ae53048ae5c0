"""What the page of a project shows of pre-annotations that people left as they were: see
:mod:`backend.reporting.acceptance`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backend.reporting.acceptance import Acceptance, CycleAccepted, acceptance_of
from backend.reporting.accuracy import Accuracy
from backend.reporting.facts import Facts
from backend.web.pages.charts import Chart, learning_curves
from backend.web.pages.figures import CYCLES_SHOWN, Point


@dataclass(frozen=True)
class AcceptanceCard:
    """``charts``: the share against the labels that its version learned from, for wide and for narrow screens; none
    with fewer than two cycles. ``cycles``: the last of them, newest first."""

    found: Acceptance
    charts: Sequence[Chart]
    cycles: Sequence[CycleAccepted]


def acceptance_card(facts: Facts) -> AcceptanceCard | None:
    """None where nothing is known of pre-annotations."""
    found = acceptance_of(facts.project)
    if found is None:
        return None
    labels = {cycle.number: cycle.labels for cycle in facts.cycles if cycle.status == "done"}
    points = [
        Point(labels[one.cycle], Accuracy(one.share.value, one.share.low, one.share.high, one.share.n), one.cycle)
        for one in found.cycles
        if one.cycle in labels
    ]
    charts = learning_curves(points) if len(points) > 1 else []
    return AcceptanceCard(found, charts, found.cycles[: -CYCLES_SHOWN - 1 : -1])
