"""The metrics of the control arm, in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from backend.reporting.facts import Facts
from backend.web.metric_names import PREFIX

CONTROL_GAUGES = {
    "control_value": (
        "value",
        "Share of right answers on random labels that nothing learned from; of masks, mean IoU.",
    ),
    "control_low": ("low", "Lower end of its exact 95 % interval."),
    "control_high": ("high", "Upper end of its exact 95 % interval."),
    "control_n": ("n", "Labels that it was measured on."),
    "control_labels": ("labels", "Labels of the control arm."),
}
"""Metric → its key among the figures of the arm, and its help text."""

DIFFERENCE_GAUGES = {
    "control_difference": ("value", "Right answers that the sampler's labels teach, less those that random ones do."),
    "control_difference_low": ("low", "Lower end of its 95 % interval."),
    "control_difference_high": ("high", "Upper end of its 95 % interval."),
}
SAVED_GAUGES = {
    "labels_saved": ("value", "Labels fewer of the sampler's that teach what the random ones do."),
    "labels_saved_low": ("low", "Lower end of its 95 % interval."),
    "labels_saved_high": ("high", "Upper end of its 95 % interval."),
    "labels_saved_of": ("labels", "Random labels that it was measured against."),
}


def control_metrics(known: Sequence[Facts]) -> Iterator[Metric]:
    """Of each project, what is known."""
    found = []
    for facts in known:
        control = facts.control
        figures = {} if control is None else control.as_json()
        found.append((facts.project.name, figures, figures.get("difference") or {}, facts.labels_saved.as_json()))
    for place, gauges in ((1, CONTROL_GAUGES), (2, DIFFERENCE_GAUGES), (3, SAVED_GAUGES)):
        for name, (key, help) in gauges.items():
            family = GaugeMetricFamily(PREFIX + name, help, labels=("project",))
            for one in found:
                value = one[place].get(key)  # type: ignore[union-attr]
                if value is not None:
                    family.add_metric((one[0],), value)
            yield family
