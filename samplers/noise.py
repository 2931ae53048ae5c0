"""Noise that belongs to a row of the pool: the random order, and ties broken by chance.

A counter-based hash instead of a stream of draws, so that a row that joins the pool later gets a number of its own, and
neither the order nor the set of rows asked for changes any number. Axis letter: N rows asked for.
"""

from __future__ import annotations

import numpy as np


def uniform_noise(rows: np.ndarray, seed: int) -> np.ndarray:
    """(N,) float64 in (0, 1), never 0 or 1; one per (seed, row), distinct for distinct rows as far as 53 bits go."""
    # Two rounds: the seed is mixed before rows are added, so that neighbouring seeds do not give
    # shifted copies of one sequence.
    key = splitmix64(np.array([seed % 2**64], dtype=np.uint64))
    bits = splitmix64(rows.astype(np.uint64) + key)
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def logistic_noise(rows: np.ndarray, seed: int) -> np.ndarray:
    """(N,) float64 draws of the standard logistic distribution, made from `uniform_noise`."""
    uniform = uniform_noise(rows, seed)
    return np.log(uniform) - np.log1p(-uniform)


def gumbel_noise(rows: np.ndarray, seed: int) -> np.ndarray:
    """(N,) float64 draws of the standard Gumbel distribution, made from `uniform_noise`."""
    return -np.log(-np.log(uniform_noise(rows, seed)))


def power_acquisition(acquisition: np.ndarray, rows: np.ndarray, seed: int, inverse: float) -> np.ndarray:
    """log s + ε / β, (N,), for s = 1 / (1 + exp(-a)) of an acquisition a (N,) and a Gumbel draw ε of each row (Kirsch,
    Farquhar, Atighehchian, Jesson, Branchaud-Charron & Gal, Stochastic Batch Acquisition, TMLR 2023: "power").

    inverse: 1 / β. The first k of this order are k draws without replacement with probabilities proportional to s^β.
    s is one minus the score that is published, such as 1 - margin.
    """
    return -np.logaddexp(0.0, -acquisition) + inverse * gumbel_noise(rows, seed)


def splitmix64(values: np.ndarray) -> np.ndarray:
    """SplitMix64's output function (Steele, Lea & Flood 2014), a bijection of uint64 (wrapping)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
