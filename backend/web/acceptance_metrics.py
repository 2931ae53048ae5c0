"""The metrics of pre-annotations that people left as they were, in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from backend.reporting.acceptance import Acceptance
from backend.web.metric_names import PREFIX

GAUGES = {
    "preannotations_accepted": ("value", "Share of the pre-annotations that were accepted unchanged."),
    "preannotations_accepted_low": ("low", "Lower end of its exact 95 % interval."),
    "preannotations_accepted_high": ("high", "Upper end of its exact 95 % interval."),
    "preannotations_accepted_n": ("n", "Tasks that it was measured on."),
}
"""Metric → its key among the figures, and its help text."""

NEWEST = "newest_"
"""Before the name of the same figures of those of the newest version that has any."""


def acceptance_metrics(known: Sequence[tuple[str, Acceptance | None]]) -> Iterator[Metric]:
    """Of each project, (name, what is known of it)."""
    found = [(name, one) for name, one in known if one is not None]
    for prefix, words in (("", ""), (NEWEST, "Of the newest version that has any: ")):
        for name, (key, help) in GAUGES.items():
            family = GaugeMetricFamily(PREFIX + prefix + name, words + help, labels=("project",))
            for project, one in found:
                share = one.newest.share if prefix else one.together
                family.add_metric((project,), share.as_json()[key])
            yield family
