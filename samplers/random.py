"""Random order: the baseline that every other sampler has to beat."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from models.classifier import Classifier
from models.data import Runtime
from samplers.base import Sampler, Scored


class RandomSampler(Sampler):
    """A number per row that depends on (seed, row) only."""

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "random order, the baseline"

    def _score(self, net: Classifier, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """Standard logistic noise (N,), so that 1 / (1 + exp(a)) is uniform in (0, 1).

        A counter-based hash instead of a stream of draws: a row that joins the pool later gets a number of
        its own, and neither the order nor the set of rows asked for changes any number. The task network is
        not run.
        """
        return Scored(logistic_noise(rows, runtime.seed))


def logistic_noise(rows: np.ndarray, seed: int) -> np.ndarray:
    """(N,) float64 draws of the standard logistic distribution, one per (seed, row); distinct
    for distinct rows as far as the 53 bits of the uniform number behind them go.
    """
    # Two rounds: the seed is mixed before rows are added, so that neighbouring seeds do not give
    # shifted copies of one sequence.
    key = splitmix64(np.array([seed % 2**64], dtype=np.uint64))
    bits = splitmix64(rows.astype(np.uint64) + key)
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1), never 0 or 1
    return np.log(uniform) - np.log1p(-uniform)


def splitmix64(values: np.ndarray) -> np.ndarray:
    """SplitMix64's output function (Steele, Lea & Flood 2014), a bijection of uint64 (wrapping)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
