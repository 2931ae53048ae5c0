"""How far DAST-AL's bound is from what explicit drawing finds: table 2 of its paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.curves.display import Display
from benchmarks.papers.study import Outcome, Places, Study
from benchmarks.papers.trained import labels_of
from benchmarks.speed.measuring import machine

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Gap(Study):
    """Of ``images`` unlabeled images, after training on ``labels`` of a data set: bound and drawn values, for each
    number of draws."""

    draws: tuple[int, ...] = (100, 1_000, 10_000, 100_000)
    small: tuple[str, int, int] = ("fashion-mnist", 500, 300)
    """Data set, labels, images."""
    paper_scale: tuple[str, int, int] = ("cifar10", 5_000, 1_000)
    settings: tuple[str, ...] = ()

    def make(self, scale: str, places: Places, display: Display) -> Outcome:
        bounds, changes, odds = self._drawn(scale, places, display)
        headings = ["", *(f"{count:,} draws" for count in self.draws)]
        rows = [
            ["bound − drawn 1 − p (equation 5)", *(_spread(bounds - drawn) for drawn in changes)],
            ["bound − drawn 1 / p − 1", *(_spread(bounds - drawn) for drawn in odds)],
            ["the same, as a share of the bound, size", *(_spread(abs(bounds - drawn) / bounds) for drawn in odds)],
            ["rank correlation of bound and drawn 1 − p", *(f"{_rank_correlation(bounds, d):.3f}" for d in changes)],
        ]
        of = self.small if scale == "small" else self.paper_scale
        notes = [f"Mean ± standard deviation over {of[2]:,} unlabeled images of {of[0]}, after training on {of[1]:,}."]
        return Outcome(headings, rows, notes, machine() | {"seeds": f"--seed {places.seed}, one network"})

    def _drawn(
        self, scale: str, places: Places, display: Display
    ) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """The bounds (N,), and for each number of draws the means of 1 − p and of 1 / p − 1, (N,), all float64."""
        import torch

        from backend.learning.learner import Learner
        from models.inference.predictions import measure

        size = self.small if scale == "small" else self.paper_scale
        given = labels_of(size, "dast-al", self.settings, places, display)
        display.say(f"Training on {size[1]:,} labels of {size[0]}")
        learner, _ = Learner.trained(given.settings, given.task.classes, given.data, given.runtime)
        net, data, runtime = learner.net, given.data, given.runtime
        (logits,) = measure(net, data.pixels, given.others, runtime, lambda _, found: (found,))
        spread = net.task.class_spread(net, data, runtime, learner.options["covariance"])
        wide = torch.from_numpy(logits).double()
        bounds = net.task.epmcm(wide, spread.table().double().cpu()).exp().numpy()
        factors, generator = spread.logit_factors().double().cpu(), torch.Generator().manual_seed(places.seed)
        changes, odds = [], []
        for count in self.draws:
            display.say(f"{count:,} draws")
            noise = torch.randn(count, logits.shape[1], generator=generator, dtype=torch.float64)
            changes.append(net.task.drawn_change(wide, factors, noise).exp().numpy())
            odds.append(_mean_odds(wide, factors, noise))
        return bounds, changes, odds


def _mean_odds(logits: Tensor, factors: Tensor, noise: Tensor) -> np.ndarray:
    """Means (N,) of 1 / p − 1 of the predicted class over the draws ``noise`` (M, C), for ``logits`` (N, C)."""
    found = []
    for row in logits:  # each has M draws, which fill the memory by themselves
        predicted = int(row.argmax())
        drawn = row + noise @ factors[predicted].T
        against = drawn - drawn[:, predicted, None]
        against[:, predicted] = -np.inf
        found.append(float(against.logsumexp(dim=1).exp().mean()))
    return np.array(found)


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():.3g} ± {values.std(ddof=1):.2g}".replace("-", "−")


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    first, second = (np.argsort(np.argsort(values)) - (len(values) - 1) / 2 for values in (one, other))
    return float((first * second).mean() / (first * first).mean())
