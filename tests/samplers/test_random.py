"""The random baseline: numbers per (seed, row)."""

from __future__ import annotations

import numpy as np
import pytest

from samplers.noise import gumbel_noise, logistic_noise, power_acquisition, splitmix64


def test_splitmix64_reference_values() -> None:
    """The first outputs of Vigna's splitmix64.c for seed 1234567: state k gives output k + 1."""
    steps = np.array([0, 1, 2], dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1234567)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert splitmix64(steps).tolist() == expected


def test_a_number_depends_on_seed_and_row_only() -> None:
    rows = np.arange(1000)
    numbers = logistic_noise(rows, 3)
    order = np.random.default_rng(0).permutation(1000)[:100]
    assert (logistic_noise(order, 3) == numbers[order]).all()
    assert not np.isin(logistic_noise(rows, 4), numbers).any()
    assert (logistic_noise(rows, -1) == logistic_noise(rows, 2**64 - 1)).all()


def test_numbers_are_distinct_and_logistic() -> None:
    numbers = logistic_noise(np.arange(200_000), 0)
    assert len(np.unique(numbers)) == len(numbers)
    uniform = np.sort(1 / (1 + np.exp(numbers)))
    distance = np.abs(uniform - (np.arange(200_000) + 0.5) / 200_000).max()
    assert distance < 1.95 / np.sqrt(200_000)  # Kolmogorov-Smirnov, 0.1 % level; the numbers are fixed
    assert numbers.std() == pytest.approx(np.pi / np.sqrt(3), rel=0.01)


def test_neighboring_seeds_and_rows_are_unrelated() -> None:
    rows = np.arange(20_000)
    for other in (logistic_noise(rows, 1), logistic_noise(rows + 1, 0)):
        assert abs(np.corrcoef(logistic_noise(rows, 0), other)[0, 1]) < 0.03


def test_gumbel_noise_has_the_distributions_mean_and_spread() -> None:
    found = gumbel_noise(np.arange(100_000), 3)
    assert found.mean() == pytest.approx(0.5772, abs=0.02) and found.std() == pytest.approx(
        np.pi / np.sqrt(6), abs=0.02
    )


def test_power_acquisition_draws_by_the_power_of_the_score() -> None:
    """s = 3/4 and 1/4: the first comes first in 9 of 10 draws with β = 2, and in 3 of 4 with β = 1."""
    acquisition, rows = np.log([3.0, 1 / 3]), np.array([0, 1])
    for inverse, share in ((0.5, 0.9), (1.0, 0.75)):
        first = [np.argmax(power_acquisition(acquisition, rows, seed, inverse)) == 0 for seed in range(4000)]
        assert np.mean(first) == pytest.approx(share, abs=0.025)


def test_power_acquisition_of_a_row_depends_on_its_number_and_the_seed_alone() -> None:
    acquisition, rows = np.linspace(-3, 3, 9), np.arange(9)
    whole = power_acquisition(acquisition, rows, 1, 1.0)
    assert (power_acquisition(acquisition[3:5], rows[3:5], 1, 1.0) == whole[3:5]).all()
    assert (power_acquisition(acquisition, rows, 2, 1.0) != whole).all()
    np.testing.assert_array_equal(np.argsort(power_acquisition(acquisition, rows, 1, 0.0)), np.arange(9))
