"""The metrics of several annotators, in Prometheus's text format. People are named by their ids only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from backend.reporting.agreement import Agreement, Share
from backend.reporting.relabeling import Relabeling
from backend.web.metric_names import PREFIX

SHARE = {"": "value", "_low": "low", "_high": "high", "_n": "n"}
"""Ending of a metric → the field of a share."""

WORDS = {
    "": "{what}; of several choices per image, the mean Jaccard index.",
    "_low": "Lower end of its exact 95 % interval.",
    "_high": "Upper end of its exact 95 % interval.",
    "_n": "Tasks that it was measured on.",
}

Known = Sequence[tuple[str, Agreement | None, Relabeling | None]]
"""(name of the project, what is known of it)."""


def team_metrics(known: Known) -> Iterator[Metric]:
    """Of each project, what is known."""
    agreed = [(name, found) for name, found, _ in known if found is not None]
    yield from _shares(
        "agreement",
        "Share of the tasks that several people labeled of which all said the same",
        ("project",),
        [((name,), found.together) for name, found in agreed],
    )
    yield from _shares(
        "annotator_agreement",
        "Share of their shared tasks of which an annotator says what most others say",
        ("project", "annotator"),
        [((name, str(one.id)), one.share) for name, found in agreed for one in found.annotators],
    )
    yield from _shares(
        "pair_agreement",
        "Share of the tasks that two annotators labeled of which they say the same",
        ("project", "annotator", "other"),
        [((name, *map(str, one.ids)), one.share) for name, found in agreed for one in found.pairs],
    )
    kappas = [((name, *map(str, one.ids)), one.kappa) for name, found in agreed for one in found.pairs]
    yield _gauge("pair_kappa", "Cohen's kappa of two annotators.", ("project", "annotator", "other"), kappas)
    alphas = [((name,), found.alpha) for name, found in agreed]
    yield _gauge("agreement_alpha", "Krippendorff's alpha of all annotators.", ("project",), alphas)
    differ = [((name,), float(found.disagreements)) for name, found in agreed]
    yield _gauge("disagreements", "Tasks of which annotators say different things.", ("project",), differ)
    asked = [((name,), float(len(found.asked))) for name, _, found in known if found is not None]
    yield _gauge("asked_again", "Labeled tasks that wait for one more annotator.", ("project",), asked)
    worth = [((name,), float(found.count)) for name, _, found in known if found is not None and found.of]
    yield _gauge("worth_asking_again", "Annotations of the next budget that are worth more there.", ("project",), worth)


def _shares(
    name: str, what: str, labels: tuple[str, ...], shares: Sequence[tuple[tuple[str, ...], Share]]
) -> Iterator[Metric]:
    for ending, field in SHARE.items():
        values = [(names, getattr(share, field)) for names, share in shares]
        yield _gauge(name + ending, WORDS[ending].format(what=what), labels, values)


def _gauge(
    name: str, words: str, labels: tuple[str, ...], values: Sequence[tuple[tuple[str, ...], float | None]]
) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, words, labels=labels)
    for names, value in values:
        if value is not None:
            family.add_metric(names, value)
    return family
