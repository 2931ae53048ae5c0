"""The chart of a replay: a mean curve for each sampler, as SVG. How it looks, page.css says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backend.reporting.accuracy import percent
from backend.reporting.learning_curves import BASELINE
from backend.reporting.replays import Replay, in_words, needed_in_words
from backend.web.pages.charts import NARROW, WIDE, Frame, Tick, round_up

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 52, 14, 12, 42, 220
_STEPS, _ROWS = (0.01, 0.02, 0.05, 0.1, 0.25), 4


@dataclass(frozen=True)
class Line:
    """A sampler's curve. ``look``: the class of its line, the same as in the legend."""

    sampler: str
    points: str
    look: str


@dataclass(frozen=True)
class ReplayChart(Frame):
    """Accuracy from bottom to top against labels from left to right, all in pixels."""

    lines: Sequence[Line]


def replay_values(replay: Replay | None) -> dict[str, Any]:
    """What the template names of the last replay, the sampler with the greatest gain first."""
    samplers = sorted(replay.samplers, key=lambda one: -(one.gain or 0.0)) if replay else []
    return {
        "replay": replay,
        "replayed": [(one, needed_in_words(one.needed)) for one in samplers],
        "replay_words": in_words(replay) if replay else "",
        "replay_charts": [replay_chart(replay, width) for width in (WIDE, NARROW)] if replay else [],
        "looks": looks(replay) if replay else {},
    }


def looks(replay: Replay) -> dict[str, str]:
    """Sampler -> the class of its line: the best, or else the project's own, stands out, and so does random."""
    best = replay.best
    first = best.sampler if best else replay.chosen_by
    return {
        one.sampler: "replay-random" if one.sampler == BASELINE else "line" if one.sampler == first else "replay-other"
        for one in replay.samplers
    }


def replay_chart(replay: Replay, width: int) -> ReplayChart:
    """The curves of all samplers, in an image of this width."""
    shares = [share for one in replay.samplers for share in one.curve]
    step = next(step for step in _STEPS if (max(shares) - min(shares)) / step <= _ROWS)
    bottom, top = math.floor(min(shares) / step + 1e-9), math.ceil(max(shares) / step - 1e-9)  # in steps
    bottom, top = (bottom, max(top, bottom + 2)) if (bottom + 2) * step <= 1 else (min(bottom, top - 2), top)
    most = round_up(replay.stages[-1])
    inner_width, inner_height = width - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(labels: float) -> float:
        return round(_LEFT + inner_width * labels / most, 1)

    def up(share: float) -> float:
        return round(_TOP + inner_height * (top - share / step) / (top - bottom), 1)

    look = looks(replay)
    lines = [
        Line(
            one.sampler,
            " ".join(f"{across(x)},{up(y)}" for x, y in zip(replay.stages, one.curve, strict=True)),
            look[one.sampler],
        )
        for one in replay.samplers
    ]
    rows = [place * step for place in range(bottom, top + 1)]
    return ReplayChart(
        width,
        _HEIGHT,
        _LEFT,
        width - _RIGHT,
        _HEIGHT - _BOTTOM,
        [Tick(up(share), percent(share)) for share in rows],
        [Tick(across(most * part / 4), f"{most * part / 4:,.0f}") for part in range(0, 5, 1 if width > 400 else 2)],
        sorted(lines, key=lambda line: line.look == "line"),  # drawn last, it is on top
    )
