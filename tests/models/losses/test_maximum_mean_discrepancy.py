"""The distance of codes from a normal distribution (Tolstikhin et al., Wasserstein Auto-Encoders, ICLR 2018)."""

from __future__ import annotations

import pytest
import torch

from models.losses.maximum_mean_discrepancy import maximum_mean_discrepancy


def test_two_codes_and_two_draws_by_hand() -> None:
    """One dimension, so c = 2. Within the codes k(0, 2) = 2 / 6, within the draws k(0, 1) = 2 / 3, each pair twice:
    (2/3 + 4/3) / 2 = 1. Across 1, 2/3, 1/3, 2/3, whose mean is 2/3. 1 - 2 * 2/3 = -1/3."""
    codes, draws = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [1.0]])
    assert float(maximum_mean_discrepancy(codes, draws)) == pytest.approx(-1 / 3)


def test_it_is_about_zero_for_draws_from_the_prior_and_grows_as_codes_leave_it() -> None:
    generator = torch.Generator().manual_seed(0)
    draws, codes = torch.randn((2, 400, 3), generator=generator).unbind()
    near, shifted, collapsed = (
        float(maximum_mean_discrepancy(points, draws)) for points in (codes, codes + 1.5, 0.1 * codes)
    )
    assert abs(near) < 0.01
    assert min(shifted, collapsed) > 0.1


def test_a_single_code_is_refused() -> None:
    with pytest.raises(ValueError, match="two or more codes"):
        maximum_mean_discrepancy(torch.zeros(1, 3), torch.zeros(1, 3))
