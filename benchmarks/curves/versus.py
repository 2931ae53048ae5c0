"""The part of a page that compares: against random with corrected tests, everybody with everybody, the first orders,
and what was bought."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np

from backend.reporting.comparison import (
    Comparison,
    Curves,
    Interval,
    compared,
    holm,
    paired_interval,
    signed_rank_p,
    wins,
)
from backend.reporting.learning_curves import BASELINE, area_under_curve
from benchmarks.curves.plan import WHOLE, Plan
from benchmarks.curves.purchases import COLUMNS
from benchmarks.curves.store import Line

AT = 400
"""Labels at whose accuracy labels are counted, where the curves come so far; else where they end."""
OWN_FIRST = "own+random"
"""The arm that shows the product's first order alone."""


def at_of(labels: Sequence[int]) -> int:
    return AT if AT in labels else labels[-1]


def sections(plan: Plan, curves: Curves, lines: Sequence[Line], words: str) -> list[str]:
    """All of it as lines of Markdown; where there are too few trials to compare, only what candidates cost."""
    labels = plan.labels()
    found = compared(labels, curves, at_of(labels))
    if not found:
        return _candidates(labels, curves)
    return [
        *_against_random(found, at_of(labels), words),
        *_first_orders(plan, curves),
        *_candidates(labels, curves),
        *_everybody(labels, curves),
        *_bought(curves, lines),
    ]


def _against_random(found: Sequence[Comparison], at: int, words: str) -> list[str]:
    rows = sorted(found, key=lambda one: -one.gain.mean)
    table = [
        [
            one.arm,
            f"{signed(100 * one.gain.mean)} [{signed(100 * (one.gain.mean - one.gain.margin))},"
            f" {signed(100 * (one.gain.mean + one.gain.margin))}]",
            f"{one.p:.4f}",
            f"{one.corrected:.4f}",
            one.verdict,
            "never" if one.reached is None else f"{one.reached:,.0f}",
            saved(one.saved),
        ]
        for one in rows
    ]
    headings = ["", "area less random's, points", "p", "p after Holm", "", f"labels for random's at {at}", "saved"]
    return [
        *("## Against random", ""),
        *markdown(headings, table),
        "",
        "The difference of the areas is paired by trial; in brackets the 95 % interval of its mean (Student's t). p:",
        f"Wilcoxon's signed-rank test, two-sided; corrected by Holm for the {len(rows)} comparisons. + and −: ahead of",
        f"random and behind it by the corrected test at 5 %; ~: neither. *Saved*: the share of {at} labels that need",
        f"not be given for the {words} that random has with {at}, read off the mean curves, with a 95 % interval from",
        "resampled trials; 0 % where it is not reached.",
        "",
    ]


def first_order_gains(plan: Plan, curves: Curves) -> dict[int, tuple[float, float, Interval]]:
    """Labels -> accuracy of the product's first order, of a random one, and the paired difference, while there are only
    first labels."""
    ours, randoms = curves.get(OWN_FIRST, {}), curves.get(BASELINE, {})
    common = sorted(ours.keys() & randoms.keys())
    found = {}
    for place, count in enumerate(plan.labels()[: len(plan.early) + 1]):
        if len(common) > 1:
            pair = np.array([(ours[trial][place], randoms[trial][place]) for trial in common])
            own, chance = pair.mean(axis=0)
            found[count] = (float(own), float(chance), paired_interval(pair[:, 0] - pair[:, 1]))
    return found


def _first_orders(plan: Plan, curves: Curves) -> list[str]:
    gains = first_order_gains(plan, curves)
    if not gains:
        return []
    table = [
        [f"{count:,}", f"{100 * own:.1f}", f"{100 * chance:.1f}", points(gain)]
        for count, (own, chance, gain) in gains.items()
    ]
    headings = ["labels", "the product's first order, %", "random, %", "difference, points"]
    return [
        *("## The first order", ""),
        *markdown(headings, table),
        "",
        "Before any purchase; paired by trial, with the 95 % interval of the mean (Student's t).",
        "",
    ]


def candidate_losses(labels: Sequence[int], curves: Curves) -> dict[str, tuple[Interval, float]]:
    """Arm -> the area under its curve less that of the same sampler on the whole pool, paired by trial, and p of
    Wilcoxon's signed-rank test, before any correction."""
    found = {}
    for name, trials in curves.items():
        whole = curves.get(f"{name.partition('@')[0]}@{WHOLE}", {})
        common = sorted(whole.keys() & trials.keys())
        if "@" in name and not name.endswith(f"@{WHOLE}") and len(common) > 1:
            pairs = [(area_under_curve(labels, trials[one]), area_under_curve(labels, whole[one])) for one in common]
            difference = np.array([ours - theirs for ours, theirs in pairs])
            found[name] = (paired_interval(difference), signed_rank_p(difference))
    return found


def _candidates(labels: Sequence[int], curves: Curves) -> list[str]:
    losses = candidate_losses(labels, curves)
    if not losses:
        return []
    corrected = holm({name: p for name, (_, p) in losses.items()})
    table = [[name, points(gain), f"{p:.4f}", f"{corrected[name]:.4f}"] for name, (gain, p) in losses.items()]
    return [
        *("## What candidates cost", ""),
        *markdown(["", "area less the whole pool's, points", "p", "p after Holm"], table),
        "",
        "A part of the pool (`subset`) is scored, chosen as the setting `candidates` after the @ says, against the",
        "same sampler on the whole pool; paired by trial, with the 95 % interval of the mean (Student's t) and",
        "Wilcoxon's test.",
        "",
    ]


def _everybody(labels: Sequence[int], curves: Curves) -> list[str]:
    names, shares = wins(labels, curves)
    table = [
        [name, *("" if math.isnan(share) else f"{100 * share:.0f}" for share in row)]
        for name, row in zip(names, shares, strict=True)
    ]
    return [
        *("## Everybody against everybody", ""),
        *markdown(["%", *names], table),
        "",
        "The share of the trials in which the one of the row has the larger area than the one of the column.",
        "",
    ]


def _bought(curves: Curves, lines: Sequence[Line]) -> list[str]:
    table = []
    for name in curves:
        own = [line for line in lines if line["sampler"] == name and "picked_classes" in line]
        if own:
            classes, *shares = (fmean(line[key] for line in own if key in line) for key in COLUMNS if key in own[0])
            table.append([name, f"{classes:.1f}", *(f"{100 * share:.1f}" for share in shares)])
    if not table:
        return []
    return [
        *("## What was bought", ""),
        *markdown(["", *list(COLUMNS.values())[: len(table[0]) - 1]], table),
        "",
        "Means over all purchases. *Effective classes*: exp of the entropy of the class counts of a purchase. *Error*:",
        "of the network that chose. *Near-duplicates*: of a redundant pool, picks of which a copy is labeled; else",
        "picks whose features are closer to another label than 95 % of the pool's are to their nearest neighbor.",
        "",
    ]


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table, line by line."""
    return ["| " + " | ".join(row) + " |" for row in (headings, ["---"] * len(headings), *rows)]


def signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def points(gain: Interval) -> str:
    """A difference in points with its interval."""
    return f"{signed(100 * gain.value)} [{signed(100 * gain.low)}, {signed(100 * gain.high)}]"


def saved(share: Interval) -> str:
    return f"{100 * share.value:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"
