"""In words: what more labels would bring (:mod:`backend.reporting.outlook`), and whether labeling may stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backend.reporting.accuracy import percent
from backend.reporting.outlook import CONTROL


def may_stop(found: Mapping[str, Any], target: float) -> bool:
    """Whether even the upper end of what the next labels are expected to add is below the error of the measurement, and
    no ``target`` is ahead that is in sight; 0: there is none."""
    ahead = target > 0 and (found["target"] != target or (found["target_labels"] or 0) > found["labels"])
    return bool(found["rises"]) and found["high"] < found["error"] and not ahead


def in_words(found: Mapping[str, Any] | None, target: float) -> str:
    """One sentence or two; "" where nothing is known. ``target``: the accuracy that the project wants now; 0: none."""
    if not found:
        return ""
    on_random = found.get("by") == CONTROL
    if not found["rises"]:
        if on_random:
            return (
                "On random images the network has not become better by more than the error of that measurement: it "
                "does not tell what more labels would add."
            )
        return (
            "The curve has not risen by more than its error, as it can where the sampler picks ever harder images: it "
            "does not tell what more labels would add."
        )
    more, labels = found["next"], found["labels"]
    words = "On random images, the" if on_random else "The"
    words += f" next {more} labels{_time(found, more)} are expected to add {_points(found['gain'])} points"
    words += f" (95 % interval {_points(found['low'])} to {_points(found['high'])})"
    if may_stop(found, target):
        words += (
            f", less than the error of the measurement ({_points(found['error'])} points): labeling may stop here, "
            f"unless {_points(found['twice'])} points for {labels} more{_time(found, labels)} are worth it"
        )
    return f"{words}. {_target(found, target)}".strip()


def _target(found: Mapping[str, Any], target: float) -> str:
    if not target:
        return ""
    goal = f"The target of {percent(target)}"
    if found["target"] != target:
        return f"{goal} is new: the next cycle says when it will be met."
    if found["target_labels"] is None:
        return f"{goal} is not in sight on this curve."
    if found["target_labels"] <= found["labels"]:
        return f"{goal} is met."
    high = "no end in sight" if found["target_high"] is None else f"{found['target_high']:.0f}"
    missing = found["target_labels"] - found["labels"]
    return (
        f"{goal} is met with about {found['target_labels']:.0f} labels (95 % interval {found['target_low']:.0f} to "
        f"{high}){_time(found, missing, ', in ')}."
    )


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _time(found: Mapping[str, Any], labels: float, before: str = "") -> str:
    """How long so many labels take, where it is known."""
    if found["seconds"] is None:
        return ""
    hours = found["seconds"] / found["next"] * labels / 3600
    words = f"about {hours:.1f} h" if hours >= 1 else f"about {max(1, round(60 * hours))} min"
    return f"{before}{words}" if before else f" ({words})"
