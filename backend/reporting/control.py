"""What the control arm (:mod:`backend.control`) says of a version: how often it is right on the pool, and whether the
sampler's labels teach more than labels drawn by chance. All of it was measured by the cycle that made the version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backend.reporting.accuracy import ACCURACY, MEAN_IOU, percent, points
from backend.settings.core import Settings

BETTER, WORSE, NOT_TOLD_APART, UNKNOWN = "better", "worse", "not told apart", "unknown"
"""What is known of the sampler against chance, with 95 % confidence."""

NEEDED = 50
"""Control labels with which a comparison almost always begins: each half of them then has 20
(:data:`models.training.comparison.FEWEST`), however they fall."""


@dataclass(frozen=True)
class Control:
    """``value``: how good the network's answers are on ``n`` labels that were drawn by chance and that nothing learned
    from, by ``measure``; ``low`` and ``high``: the ends of the exact 95 % interval of a share. None where it is not
    known. ``labels``: of the whole arm. ``compared``: the figures of a
    :class:`models.training.comparison.Comparison`; empty, or with ``why``, where there is none."""

    labels: int
    n: int
    value: float | None
    low: float | None
    high: float | None
    measure: str
    compared: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """Whether the labels that the sampler chose teach more than as many drawn by chance."""
        if "low" not in self.compared:
            return UNKNOWN
        if self.compared["low"] > 0:
            return BETTER
        return WORSE if self.compared["high"] < 0 else NOT_TOLD_APART

    @property
    def difference(self) -> dict[str, float] | None:
        """Of the shares of right answers after as many ``labels`` of either, and its 95 % interval."""
        if self.verdict == UNKNOWN:
            return None
        found = self.compared
        keys = ("low", "high", "labels", "asked")
        return {"value": round(found["chosen"] - found["drawn"], 4)} | {key: found[key] for key in keys}

    @property
    def sentence(self) -> str:
        """The comparison in words, or why there is none."""
        if self.verdict == UNKNOWN:
            return self.why
        found = self.compared
        labels, asked = found["labels"], found["asked"]
        verdict = {
            BETTER: "The sampler is better than chance here",
            WORSE: "The sampler is worse than chance here",
            NOT_TOLD_APART: "It cannot be told that the sampler is better than chance here",
        }[self.verdict]
        return (
            f"{verdict}: its first {labels} labels teach {percent(found['chosen'])} of {asked} random images right, "
            f"{labels} random labels {percent(found['drawn'])} (95 % interval of the difference "
            f"{points(found['low'], 0)} to {points(found['high'], 0)} points)."
        )

    @property
    def why(self) -> str:
        """Why there is no comparison, in words; "" if there is one."""
        if self.verdict != UNKNOWN:
            return ""
        if why := self.compared.get("why"):
            return f"Not compared with chance: {why}."
        return f"{self.labels} control labels so far; about {NEEDED} are needed for a comparison with chance."

    def as_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in ("value", "low", "high", "n", "measure", "labels", "verdict")}
        model = None if self.difference is None else {name: self.compared[name] for name in ("chosen", "drawn")}
        return found | {"model": model, "difference": self.difference, "sentence": self.sentence}


@dataclass(frozen=True)
class LabelsSaved:
    """How many labels fewer of the sampler's teach what ``labels`` random ones do, and the ends of the 95 % interval;
    below 0: more of them. ``why``: in words, where that cannot be told."""

    value: int | None = None
    low: int | None = None
    high: int | None = None
    labels: int | None = None
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        if self.value is None:
            return {"why": self.why}
        return {name: getattr(self, name) for name in ("value", "low", "high", "labels")}


def control_of(metrics: Mapping[str, Any]) -> Control | None:
    """What the metrics of a version or a cycle say; None if there was no arm."""
    found = metrics.get("control")
    if not isinstance(found, Mapping):
        return None
    iou = found.get("mean_iou")
    value, measure = (found.get("accuracy"), ACCURACY) if iou is None else (iou, MEAN_IOU)
    return Control(
        int(found.get("labels", 0)),
        int(found.get("n", 0)),
        value,
        found.get("low"),
        found.get("high"),
        measure,
        found.get("compared") or {},
    )


def labels_saved_of(control: Control | None, settings: Settings | None) -> LabelsSaved:
    """By the comparison of a version. ``settings``: those of the project; None where they are refused."""
    if control is None:
        off = settings is not None and not settings.control_fraction
        return LabelsSaved(
            why="There is no control arm: control_fraction is 0." if off else "No cycle has measured it."
        )
    if control.why:
        return LabelsSaved(why=control.why)
    found = control.compared
    labels, last = found["labels"], found["sizes"][-1]
    if found["needed"] is None:
        return LabelsSaved(
            why=f"The first {last} labels that the sampler chose do not teach what {labels} random ones do."
        )
    if found["needed_high"] is None:
        words = f"What {labels} random labels teach, about {found['needed']:.0f} of the sampler's do, but the interval"
        return LabelsSaved(why=f"{words} is wider than the {last} labels that were compared.")
    value, low, high = (labels - round(found[name]) for name in ("needed", "needed_high", "needed_low"))
    return LabelsSaved(value, low, high, labels)
