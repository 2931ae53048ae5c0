"""How far confidences can be believed, as a reliability diagram (Guo et al. 2017) in SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.reporting.accuracy import CONFIDENCE, percent
from backend.reporting.judged import Bin, Judged
from backend.web.pages.charts import NARROW, WIDE, Frame, Mark, Tick
from models.intervals import wilson_interval

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 52, 24, 12, 42, 260
_PARTS = 4


@dataclass(frozen=True)
class CalibrationChart(Frame):
    """The share of right predictions from bottom to top against their confidence from left to right, all in pixels.
    ``diagonal``: the line on which the two are the same. ``marks``: a bin of predictions each, lowest confidence
    first."""

    diagonal: str
    marks: Sequence[Mark]
    line: str


@dataclass(frozen=True)
class CalibrationCard:
    """``charts``: for wide and for narrow screens. ``rows``: the bins, each with the ends of its interval."""

    charts: Sequence[CalibrationChart]
    rows: Sequence[tuple[Bin, tuple[float, float]]]


def calibration_card(judged: Judged | None) -> CalibrationCard | None:
    """None where nothing is known of confidences."""
    if judged is None or not judged.reliability:
        return None
    bins = judged.reliability
    charts = [calibration_chart(bins, width) for width in (WIDE, NARROW)]
    return CalibrationCard(charts, list(zip(bins, intervals(bins), strict=True)))


def calibration_chart(bins: Sequence[Bin], width: int) -> CalibrationChart:
    """In an image of this width. The intervals are Wilson's at 95 %."""
    inner_width, inner_height = width - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(share: float) -> float:
        return round(_LEFT + inner_width * share, 1)

    def up(share: float) -> float:
        return round(_TOP + inner_height * (1 - share), 1)

    marks = []
    for one, (low, high) in zip(bins, intervals(bins), strict=True):
        words = f"Confidence {percent(one.confidence)}: {percent(one.right)} right, of {one.labels} labels"
        marks.append(Mark(across(one.confidence), up(one.right), up(low), up(high), words))
    shares = [place / _PARTS for place in range(_PARTS + 1)]
    return CalibrationChart(
        width,
        _HEIGHT,
        _LEFT,
        width - _RIGHT,
        _HEIGHT - _BOTTOM,
        [Tick(up(share), percent(share)) for share in shares],
        [Tick(across(share), percent(share)) for share in shares],
        f"{across(0)},{up(0)} {across(1)},{up(1)}",
        marks,
        " ".join(f"{mark.x},{mark.y}" for mark in marks),
    )


def intervals(bins: Sequence[Bin]) -> list[tuple[float, float]]:
    """The ends of the interval of each bin's share of right predictions."""
    right, labels = (np.array([getattr(one, name) for one in bins]) for name in ("right", "labels"))
    low, high = wilson_interval(right, labels, CONFIDENCE)
    return list(zip(low.tolist(), high.tolist(), strict=True))
