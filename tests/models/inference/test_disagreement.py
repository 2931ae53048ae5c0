"""Disagreement of opinions: bounds and identities of the definitions, and values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.inference.disagreement import (
    StreamingBald,
    StreamingFigure,
    StreamingMaxEntropy,
    StreamingMeanStd,
    StreamingVariationRatio,
    StreamingVoteEntropy,
    entropy,
)
from tests.models.plain_figures import bald, consensus, max_entropy, mean_std, variation_ratio, vote_entropy

FIGURES = [max_entropy, bald, variation_ratio, vote_entropy, mean_std]
EVERY = pytest.mark.parametrize("figure", FIGURES)
SHAPES = pytest.mark.parametrize(("opinions", "classes"), [(2, 2), (3, 10), (25, 4), (100, 1000), (7, 1)])
STREAMED: list[tuple[Callable[[Tensor], Tensor], type[StreamingFigure]]] = [
    (max_entropy, StreamingMaxEntropy),
    (bald, StreamingBald),
    (variation_ratio, StreamingVariationRatio),
    (vote_entropy, StreamingVoteEntropy),
    (mean_std, StreamingMeanStd),
]


def opinions_on(opinions: int, classes: int, rows: int = 20, scale: float = 3.0, seed: int = 0) -> Tensor:
    """(K, B, C) log-probabilities with something in common, float64."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(1, rows, classes, generator=generator, dtype=torch.float64)
    own = torch.randn(opinions, rows, classes, generator=generator, dtype=torch.float64)
    return (scale * (common + own)).log_softmax(dim=-1)


def votes(*winners: int, classes: int) -> Tensor:
    """(K, 1, C): one-hot opinions, exact ones and zeros."""
    return torch.eye(classes, dtype=torch.float64).log()[list(winners)][:, None, :]


# --- by hand ---


def test_three_votes_by_hand() -> None:
    """Votes 0, 0, 2 of four classes: p̄ = (2/3, 0, 1/3, 0)."""
    log_p = votes(0, 0, 2, classes=4)
    spread = math.log(3) - 2 / 3 * math.log(2)
    assert max_entropy(log_p).item() == pytest.approx(spread, rel=1e-12)
    assert bald(log_p).item() == pytest.approx(spread, rel=1e-12)  # each of them is sure
    assert vote_entropy(log_p).item() == pytest.approx(spread, rel=1e-12)
    assert variation_ratio(log_p).item() == pytest.approx(1 / 3, rel=1e-12)
    # two of the classes have 2/3 once and 1/3 twice (or the other way round) around the mean: sqrt(2) / 3
    assert mean_std(log_p).item() == pytest.approx(2 * math.sqrt(2) / 3 / 4, rel=1e-12)


def test_two_soft_opinions_by_hand() -> None:
    """(0.9, 0.1) and (0.1, 0.9): sure, but of different classes; (0.5, 0.5) twice: equally uncertain. Only BALD and the
    figures of votes tell them apart."""
    log_p = torch.tensor([[[0.9, 0.1], [0.5, 0.5]], [[0.1, 0.9], [0.5, 0.5]]], dtype=torch.float64).log()
    own = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert max_entropy(log_p).tolist() == pytest.approx([math.log(2), math.log(2)])
    assert bald(log_p).tolist() == pytest.approx([math.log(2) - own, 0.0], abs=1e-12)
    assert mean_std(log_p).tolist() == pytest.approx([0.4, 0.0])
    assert variation_ratio(log_p).tolist() == [0.5, 0.0]
    assert vote_entropy(log_p).tolist() == pytest.approx([math.log(2), 0.0])


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_uniform_opinions_have_log_c_of_entropy_and_nothing_to_disagree_on(classes: int) -> None:
    log_p = torch.zeros(5, 3, classes, dtype=torch.float64).log_softmax(dim=-1)
    assert max_entropy(log_p).tolist() == pytest.approx([math.log(classes)] * 3, abs=1e-12)
    for figure in (bald, variation_ratio, vote_entropy, mean_std):
        assert figure(log_p).tolist() == pytest.approx([0.0] * 3, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 5, 50])
def test_as_many_certain_opinions_as_classes_all_different_disagree_most(classes: int) -> None:
    log_p = votes(*range(classes), classes=classes)
    assert bald(log_p).item() == pytest.approx(math.log(classes), rel=1e-12)
    assert vote_entropy(log_p).item() == pytest.approx(math.log(classes), rel=1e-12)
    assert variation_ratio(log_p).item() == pytest.approx(1 - 1 / classes, rel=1e-12)


# --- bounds and identities ---


@SHAPES
def test_bounds(opinions: int, classes: int) -> None:
    log_p = opinions_on(opinions, classes)
    spread, mutual = max_entropy(log_p), bald(log_p)
    assert (mutual >= 0).all()
    assert (mutual <= spread + 1e-12).all()
    assert (spread <= math.log(classes) + 1e-12).all()
    ratio, fewer = variation_ratio(log_p), min(opinions, classes)
    assert (ratio >= 0).all()
    assert (ratio <= 1 - 1 / fewer + 1e-12).all()
    assert (vote_entropy(log_p) <= math.log(fewer) + 1e-12).all()
    assert (mean_std(log_p) <= 0.5).all()
    if classes > 1:
        assert mutual.max() > 0.1
        assert ratio.max() > 0


@SHAPES
def test_bald_is_the_mean_divergence_from_the_consensus(opinions: int, classes: int) -> None:
    log_p = opinions_on(opinions, classes)
    divergence = (log_p.exp() * (log_p - log_p.exp().mean(dim=0).log())).sum(dim=-1).mean(dim=0)
    torch.testing.assert_close(bald(log_p), divergence.clamp_min(0.0), rtol=1e-9, atol=1e-12)


@EVERY
def test_the_order_of_the_opinions_does_not_matter(figure: Callable[[Tensor], Tensor]) -> None:
    log_p = opinions_on(9, 5)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(figure(log_p[order]), figure(log_p), rtol=1e-12, atol=1e-14)


@EVERY
def test_one_opinion_many_times_is_no_disagreement(figure: Callable[[Tensor], Tensor]) -> None:
    one = opinions_on(1, 6)
    found = figure(one.expand(8, -1, -1))
    if figure is max_entropy:
        torch.testing.assert_close(found, entropy(one[0]), rtol=1e-12, atol=1e-15)
    else:
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0.0, atol=1e-7)


@EVERY
def test_where_members_disagree_it_is_higher_than_where_they_agree(figure: Callable[[Tensor], Tensor]) -> None:
    agree, differ = votes(1, 1, 1, classes=3), votes(0, 1, 2, classes=3)
    found = figure(torch.cat([agree, differ], dim=1))
    assert found[0] < found[1]


# --- numbers at the edge ---


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_probabilities_of_zero_are_no_nan_and_certainty_is_exactly_none(
    figure: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4], [-1e30, 1e30, 0.0]], dtype=dtype)
    exact = torch.eye(3, dtype=dtype).log()[:2]
    log_p = torch.cat([logits.log_softmax(dim=-1), exact]).expand(4, -1, -1)
    assert figure(log_p).tolist() == [0.0] * 4


def test_the_consensus_of_tiny_probabilities_is_exact_to_the_last_digits() -> None:
    """Both opinions give class 1 less than float32's smallest number; the logarithm of their mean is still known."""
    log_p = torch.tensor([[[0.0, -200.0]], [[0.0, -300.0]]])
    assert consensus(log_p)[0, 1].item() == pytest.approx(-200.0 - math.log(2), rel=1e-6)


@EVERY
def test_a_broken_opinion_is_nan_in_its_own_row_only(figure: Callable[[Tensor], Tensor]) -> None:
    log_p = opinions_on(4, 3, rows=2)
    log_p[2, 1] = torch.nan
    assert figure(log_p).isnan().tolist() == [False, True]


# --- in parts ---


@pytest.mark.parametrize(("figure", "streaming"), STREAMED)
@pytest.mark.parametrize("part", [1, 3, 7, 20])
def test_in_parts_it_is_the_same(
    figure: Callable[[Tensor], Tensor], streaming: type[StreamingFigure], part: int
) -> None:
    log_p = opinions_on(20, 6)
    log_p[:, 0] = votes(*[2] * 20, classes=6)[:, 0]  # exact zeros too
    gathered = streaming()
    for some in log_p.split(part):
        gathered.add(some)
    assert gathered.opinions == 20
    torch.testing.assert_close(gathered.result(), figure(log_p), rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize(("figure", "streaming"), STREAMED)
def test_in_parts_a_broken_opinion_stays_visible(
    figure: Callable[[Tensor], Tensor], streaming: type[StreamingFigure]
) -> None:
    log_p = opinions_on(4, 3, rows=2)
    log_p[0, 1] = torch.nan
    gathered = streaming()
    for some in log_p.split(1):
        gathered.add(some)
    assert gathered.result().isnan().tolist() == [False, True]
