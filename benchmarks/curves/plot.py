"""The picture of learning curves: one panel for each family of samplers, random in all of them."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from backend.reporting.learning_curves import BASELINE
from samplers import SAMPLERS
from samplers.families import FAMILIES

OTHERS = "others"

# Okabe & Ito's colors, told apart also by the color-blind
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_COLUMNS = 3

Curves = Mapping[str, Mapping[int, Sequence[float]]]


def panels(samplers: Sequence[str]) -> dict[str, list[str]]:
    """Family → its samplers among ``samplers``, random left out; families without one left out."""
    families: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for name in [name for name in SAMPLERS if name in samplers and name != BASELINE]:
        families.setdefault(SAMPLERS[name].family, []).append(name)
    families[OTHERS] = [name for name in samplers if name not in SAMPLERS]
    return {family: names for family, names in families.items() if names}


def picture(title: str, labels: Sequence[int], curves: Curves, words: str = "accuracy") -> bytes:
    """A PNG: the mean in per cent of what ``words`` names over labels, and one standard deviation around it, for each
    sampler."""
    families = panels(list(curves)) or {"": []}
    columns = min(_COLUMNS, len(families))
    rows = math.ceil(len(families) / columns)
    figure = Figure(figsize=(1.2 + 4.2 * columns, 0.8 + 3.4 * rows))  # drawn by Agg: needs no display
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (family, names) in zip(grid.flat, families.items(), strict=False):
        for place, name in enumerate(names):
            _draw(axes, labels, curves[name], name, COLORS[place % len(COLORS)], _MARKERS[place % len(_MARKERS)])
        if BASELINE in curves:
            _draw(axes, labels, curves[BASELINE], BASELINE, "black", "", width=2.6)
        axes.set_title(family, fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")
        axes.set_xlabel("labels")
    for axes in grid.flat[len(families) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, len(families) - columns) : len(families)]:
        axes.tick_params(labelbottom=True)  # also where nothing is below
    for line in grid:
        line[0].set_ylabel(f"test {words}, %")
    figure.suptitle(title, fontsize=12)
    figure.tight_layout()
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    return file.getvalue()


def _draw(
    axes: Axes,
    labels: Sequence[int],
    trials: Mapping[int, Sequence[float]],
    name: str,
    color: str,
    marker: str,
    width: float = 1.5,
) -> None:
    values = 100 * np.array(list(trials.values()))  # (T, K)
    mean, std = values.mean(axis=0), values.std(axis=0, ddof=1 if len(values) > 1 else 0)
    axes.plot(labels, mean, color=color, marker=marker, markersize=4, linewidth=width, label=name)
    axes.fill_between(labels, mean - std, mean + std, color=color, alpha=0.12, linewidth=0)
