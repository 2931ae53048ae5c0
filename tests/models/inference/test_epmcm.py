"""The bound of the expected partial model change: the paper's identities, checked exactly or by drawing.

Chen et al. (DAST-AL, ECCV 2022), equations 6 and 7; the identities follow from them and are derived where they stand.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.inference import epmcm
from models.inference.epmcm import log_bound, log_drawn
from models.losses.isda import ClassSpread, isda_loss, semantic_table

CLASSES, FEATURES = 5, 6


def make_problem(spread: float = 0.02) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features (B, F), weight (C, F), bias (C,), full covariances (C, F, F), all float64."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    root = draw(CLASSES, FEATURES, FEATURES)
    return draw(12, FEATURES), draw(CLASSES, FEATURES), draw(CLASSES), spread * root @ root.transpose(1, 2)


def make_scores(scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Logits (B, C) and the table for the problem above, its covariances times `scale`."""
    features, weight, bias, covariance = make_problem()
    return features @ weight.T + bias, semantic_table(weight, scale * covariance)


def test_by_hand() -> None:
    """z = (2, 0, 1), Q[0] = (0, 1, 4): UB = exp(-2 + 1/2) + exp(-1 + 2)."""
    table = torch.tensor([[0.0, 1.0, 4.0], [9.0, 0.0, 9.0], [9.0, 9.0, 0.0]], dtype=torch.float64)
    bound = log_bound(torch.tensor([[2.0, 0.0, 1.0]], dtype=torch.float64), table).exp()
    assert bound.tolist() == pytest.approx([math.exp(-1.5) + math.exp(1.0)], rel=1e-12)


def test_without_covariance_it_is_plain_confidence() -> None:
    """Q = 0: sum_j exp(z_j - z_ŷ) - 1 = 1 / p_ŷ - 1."""
    logits, table = make_scores()
    confidence = logits.softmax(dim=1).amax(dim=1)
    bound = log_bound(logits, torch.zeros_like(table))
    torch.testing.assert_close(bound.exp(), 1.0 / confidence - 1.0)
    torch.testing.assert_close(1.0 / (1.0 + bound.exp()), confidence)  # what is published
    assert (bound.argsort() == confidence.argsort(descending=True)).all()


def test_it_is_expm1_of_isdas_loss_at_the_predicted_class() -> None:
    """log(1 + UB) = -log softmax_ŷ( z_j + ½ Q[ŷ, j] ), ISDA's loss for target ŷ at λ = 1."""
    logits, table = make_scores()
    predicted = logits.argmax(dim=1)
    for row in range(len(logits)):
        loss = isda_loss(logits[row : row + 1], predicted[row : row + 1], table, 1.0)
        assert log_bound(logits[row : row + 1], table).exp().item() == pytest.approx(loss.expm1().item(), rel=1e-9)


def test_drawing_confirms_the_closed_form_and_that_it_is_a_bound() -> None:
    """With p = p_ŷ(ã), ã ~ N(a, Σ_ŷ): E[1/p - 1] = UB exactly (equation 7's middle lines); E[1 - p], the quantity of
    equation 6, is smaller, and by exactly E[(1 - p)² / p], because 1/x - 1 - (1 - x) = (1 - x)² / x.
    """
    features, weight, bias, covariance = make_problem()
    logits, table = make_scores()
    bounds = log_bound(logits, table).exp()
    draws, generator = 200_000, torch.Generator().manual_seed(1)
    for row in range(3):
        predicted = int(logits[row].argmax())
        root = torch.linalg.cholesky(covariance[predicted] + 1e-12 * torch.eye(FEATURES, dtype=torch.float64))
        noise = torch.randn(draws, FEATURES, generator=generator, dtype=torch.float64)
        p = ((features[row] + noise @ root.T) @ weight.T + bias).softmax(dim=1)[:, predicted]

        def error(values: Tensor) -> float:  # five standard errors
            return 5 * values.std().item() / math.sqrt(draws)

        odds, change, gap = 1 / p - 1, 1 - p, (1 - p).square() / p
        bound = bounds[row].item()
        assert abs(odds.mean().item() - bound) < error(odds)
        assert change.mean().item() + error(change) < bound
        assert abs(bound - change.mean().item() - gap.mean().item()) < error(odds) + error(change) + error(gap)


def test_the_gradient_of_the_bias_is_what_is_bounded() -> None:
    """∂CE/∂b = p - e_y, whose L1 norm is 2 (1 - p_y): equation 6 keeps 1 - p_y of it."""
    logits, _ = make_scores()
    bias = torch.zeros(CLASSES, dtype=torch.float64, requires_grad=True)
    predicted = logits.argmax(dim=1)
    for row in range(len(logits)):
        loss = functional.cross_entropy(logits[row] + bias, predicted[row])
        (gradient,) = torch.autograd.grad(loss, bias)
        plain = log_bound(logits[row : row + 1], torch.zeros(CLASSES, CLASSES, dtype=torch.float64)).exp().item()
        assert gradient.abs().sum().item() == pytest.approx(2 * plain / (1 + plain), rel=1e-9)


def test_it_grows_with_the_covariance() -> None:
    """v'Σv >= 0 enters every exponent with a positive sign."""
    bounds = [log_bound(*make_scores(scale)) for scale in (0.0, 0.1, 1.0, 3.0, 100.0)]
    for low, high in itertools.pairwise(bounds):
        assert (high > low).all()


def test_a_constant_added_to_all_biases_changes_nothing() -> None:
    logits, table = make_scores()
    torch.testing.assert_close(log_bound(logits + 17.0, table), log_bound(logits, table))
    weights_shifted = semantic_table(make_problem()[1] + 5.0, make_problem()[3])
    torch.testing.assert_close(log_bound(logits, weights_shifted), log_bound(logits, table))


def test_diagonal_and_full_agree_for_diagonal_covariances() -> None:
    features, weight, bias, covariance = make_problem()
    variances = covariance.diagonal(dim1=1, dim2=2)
    logits = features @ weight.T + bias
    diagonal = log_bound(logits, semantic_table(weight, variances))
    torch.testing.assert_close(diagonal, log_bound(logits, semantic_table(weight, torch.diag_embed(variances))))


def test_only_the_predicted_class_row_of_the_table_counts() -> None:
    logits, table = make_scores()
    expected = log_bound(logits, table)
    for row in range(len(logits)):
        other = torch.full_like(table, 100.0)
        predicted = int(logits[row].argmax())
        other[predicted] = table[predicted]
        assert log_bound(logits[row : row + 1], other).item() == expected[row].item()


def test_rows_do_not_depend_on_their_batch() -> None:
    logits, table = make_scores()
    whole = log_bound(logits, table)
    for size in (1, 5, 11):
        assert torch.equal(torch.cat([log_bound(part, table) for part in logits.split(size)]), whole)


def test_very_confident_rows_keep_their_order_in_single_precision() -> None:
    """At z = (g, 0) UB = exp(-g). Through 1 - p or log1p, all of these would be zero or equal in float32."""
    gaps = torch.tensor([20.0, 40.0, 90.0, 120.0, 5000.0])
    logits = torch.stack([gaps, torch.zeros(5)], dim=1)
    assert log_bound(logits, torch.zeros(2, 2)).tolist() == pytest.approx((-gaps).tolist())
    naive = torch.logsumexp(logits - gaps[:, None], dim=1).expm1()
    assert naive[1:].unique().tolist() == [0.0]  # what the test guards against


def test_large_covariances_do_not_overflow() -> None:
    """exp(CE) - 1, as in the authors' code, is infinite in float32 from CE = 89 on."""
    table = torch.tensor([[0.0, 1e4, 2e4], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert log_bound(torch.tensor([[1.0, 0.0, 0.0]]), table).tolist() == pytest.approx([1e4 - 1.0])


def test_broken_logits_stay_visible_and_one_class_is_refused() -> None:
    assert log_bound(torch.tensor([[math.nan, 0.0], [0.0, math.nan]]), torch.zeros(2, 2)).isnan().all()
    with pytest.raises(ValueError, match="two classes"):
        log_bound(torch.zeros(3, 1), torch.zeros(1, 1))


@pytest.mark.parametrize("kind", ["diag", "full"])
def test_drawn_logits_spread_as_those_of_drawn_features(kind: str) -> None:
    """W Σ_k Wᵀ, also where there are fewer features than classes, so that it has no full rank."""
    _, weight, _, covariance = make_problem()
    weight, covariance = weight[:, :3], covariance[:, :3, :3]
    if kind == "diag":
        covariance = covariance.diagonal(dim1=1, dim2=2)
    full = torch.diag_embed(covariance) if kind == "diag" else covariance
    factors = ClassSpread(weight, covariance, 0).logit_factors().double()
    torch.testing.assert_close(factors @ factors.mT, weight @ full @ weight.T, rtol=1e-5, atol=1e-6)


def test_what_is_drawn_is_the_change_that_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equation 5 with features that are drawn one by one, and the bound above it; however many rows go at a time."""
    features, weight, bias, covariance = make_problem()
    logits, table = make_scores()
    noise = torch.randn(100_000, CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    factors = ClassSpread(weight, covariance, 0).logit_factors().double()
    drawn = log_drawn(logits, factors, noise).exp()
    assert (drawn < log_bound(logits, table).exp()).all()
    generator = torch.Generator().manual_seed(2)
    for row in range(len(logits)):
        predicted = int(logits[row].argmax())
        root = torch.linalg.cholesky(covariance[predicted] + 1e-12 * torch.eye(FEATURES, dtype=torch.float64))
        apart = torch.randn(100_000, FEATURES, generator=generator, dtype=torch.float64)
        change = 1 - ((features[row] + apart @ root.T) @ weight.T + bias).softmax(dim=1)[:, predicted]
        assert drawn[row].item() == pytest.approx(change.mean().item(), abs=6 * change.std().item() / 300)
    monkeypatch.setattr(epmcm, "DRAWN_AT_A_TIME", 1)
    torch.testing.assert_close(log_drawn(logits[:3], factors, noise).exp(), drawn[:3])


def test_without_covariance_what_is_drawn_is_one_minus_the_confidence_however_sure() -> None:
    logits = torch.tensor([[0.0, 1.0], [0.0, 80.0], [3.0, 0.0]])
    drawn = log_drawn(logits, torch.zeros(2, 2, 2), torch.randn(7, 2))
    torch.testing.assert_close(drawn, torch.nn.functional.logsigmoid(torch.tensor([-1.0, -80.0, -3.0])))
