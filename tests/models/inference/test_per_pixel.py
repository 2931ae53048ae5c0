"""Figures of images by their pixels: equal to the figures of rows for maps of one pixel, and plain means otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.inference import epmcm
from models.inference import per_pixel as dense
from models.inference.disagreement import (
    StreamingBald,
    StreamingFigure,
    StreamingMaxEntropy,
    StreamingMeanStd,
    StreamingVariationRatio,
    StreamingVoteEntropy,
)
from models.inference.dropout import as_linear, disagreement_over_pixels, draw_masks, thinned_opinions
from models.inference.per_pixel import log_odds_of_mean, mean_over_pixels, streaming_over_pixels
from samplers.entropy import predictive_entropy
from samplers.least_confidence import log_odds_of_error
from samplers.margin import log_odds_of_no_margin
from tests.models.plain_figures import bald, max_entropy, mean_std, variation_ratio, vote_entropy

CLASSES, FEATURES, HEIGHT, WIDTH = 5, 6, 3, 7
STREAMINGS: list[tuple[Callable[[Tensor], Tensor], type[StreamingFigure]]] = [
    (max_entropy, StreamingMaxEntropy),
    (bald, StreamingBald),
    (variation_ratio, StreamingVariationRatio),
    (vote_entropy, StreamingVoteEntropy),
    (mean_std, StreamingMeanStd),
]
STREAMED = pytest.mark.parametrize(("figure", "streaming"), STREAMINGS)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def make_table(dtype: torch.dtype = torch.float32) -> Tensor:
    """(C, C), nothing negative, zero on the diagonal."""
    return draw(CLASSES, CLASSES, seed=9, dtype=dtype).square() * (1.0 - torch.eye(CLASSES, dtype=dtype))


def committee(logits: Tensor, chunk: int) -> Tensor:
    gathered = streaming_over_pixels(StreamingBald, chunk)
    for opinion in (logits, 2.0 * logits, logits.flip(1)):
        gathered.add(opinion)
    return gathered.result()


def thinned(logits: Tensor, chunk: int) -> Tensor:
    head = nn.Conv2d(CLASSES, 4, 1)
    with torch.no_grad():
        head.weight.copy_(draw(4, CLASSES, 1, 1, seed=3))
        head.bias.copy_(draw(4, seed=4))
    masks = draw_masks(6, CLASSES, 0.5, torch.Generator().manual_seed(5))
    return disagreement_over_pixels(logits, as_linear(head), masks, StreamingMaxEntropy, chunk)


# maps (B, 5, h, w), chunk -> (B,)
FIGURES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "epmcm": lambda maps, chunk: dense.log_bound(maps, make_table(maps.dtype), chunk),
    "entropy": lambda maps, chunk: mean_over_pixels(predictive_entropy, maps, chunk=chunk),
    "least-confidence": lambda maps, chunk: log_odds_of_mean(log_odds_of_error, maps, chunk=chunk),
    "margin": lambda maps, chunk: log_odds_of_mean(log_odds_of_no_margin, maps, chunk=chunk),
    "committee": committee,
    "dropout": thinned,
}
EVERY = pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES.keys())


# --- what holds for every figure ---


@EVERY
def test_pixels_twice_are_the_same_image(figure: Callable[[Tensor, int], Tensor]) -> None:
    maps = draw(2, CLASSES, HEIGHT, WIDTH)
    whole = figure(maps, dense.CHUNK)
    assert whole.shape == (2,)
    assert whole.dtype == torch.float64
    torch.testing.assert_close(figure(maps.repeat(1, 1, 2, 1), dense.CHUNK), whole, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(figure(maps.repeat_interleave(3, dim=3), dense.CHUNK), whole, rtol=1e-6, atol=1e-7)


@EVERY
def test_the_places_of_the_pixels_do_not_matter(figure: Callable[[Tensor, int], Tensor]) -> None:
    maps = draw(2, CLASSES, HEIGHT, WIDTH)
    order = torch.randperm(HEIGHT * WIDTH, generator=torch.Generator().manual_seed(1))
    moved = maps.flatten(2)[:, :, order].unflatten(2, (WIDTH, HEIGHT))  # another shape, too
    torch.testing.assert_close(figure(moved, dense.CHUNK), figure(maps, dense.CHUNK), rtol=1e-6, atol=1e-7)


@EVERY
def test_how_much_is_read_at_a_time_and_beside_what_and_how_it_lies_in_memory(
    figure: Callable[[Tensor, int], Tensor],
) -> None:
    maps = draw(3, CLASSES, HEIGHT, WIDTH)
    whole = figure(maps, dense.CHUNK)
    for chunk in (1, 15, 4 * 15, 11 * 15):  # a pixel of each image at a time, the same, 4, 11 of 21
        torch.testing.assert_close(figure(maps, chunk), whole, rtol=1e-6, atol=1e-7)
    alone = torch.cat([figure(maps[row : row + 1], dense.CHUNK) for row in range(3)])
    torch.testing.assert_close(alone, whole, rtol=1e-6, atol=1e-7)
    last = maps.to(memory_format=torch.channels_last)
    torch.testing.assert_close(figure(last, dense.CHUNK), whole, rtol=1e-6, atol=1e-7)


@EVERY
def test_a_broken_pixel_is_nan_in_its_own_image_only(figure: Callable[[Tensor, int], Tensor]) -> None:
    maps = draw(2, CLASSES, HEIGHT, WIDTH)
    maps[1, 2, 1, 3] = torch.nan
    assert figure(maps, 40).isnan().tolist() == [False, True]


@EVERY
def test_logits_of_ten_thousand_overflow_nowhere(figure: Callable[[Tensor, int], Tensor]) -> None:
    maps = draw(2, CLASSES, HEIGHT, WIDTH).sign() * 1e4
    assert figure(maps, dense.CHUNK).isfinite().all()


def test_no_more_is_read_at_a_time_than_asked_for() -> None:
    """So neither (B, C, h, w, C) numbers nor copies of a whole map exist at once."""
    seen: list[int] = []

    def measure(rows: Tensor, others: Tensor) -> Tensor:
        assert rows.is_contiguous()
        seen.append(rows.numel() + others.numel())
        return rows[:, 0]

    maps = draw(2, CLASSES, HEIGHT, WIDTH)
    values = dense.pixel_values(measure, maps, maps[:, :2], chunk=60)
    assert torch.equal(values, maps[:, 0].flatten(1))
    assert max(seen) <= 60
    assert sum(seen) == 2 * HEIGHT * WIDTH * (CLASSES + 2)


# --- partial model change ---


def test_the_bound_by_hand() -> None:
    """Two pixels, z = (0, 0) and (log 3, 0), both predicted as class 0. Without covariance UB = 1 and 1/3, mean 2/3;
    with Q[0, 1] = 2 log 3 both terms are three times as large.
    """
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]], dtype=torch.float64).view(1, 2, 1, 2)
    table = torch.zeros(2, 2, dtype=torch.float64)
    assert dense.log_bound(logits, table).exp().tolist() == pytest.approx([2 / 3], rel=1e-12)
    table[0, 1] = 2.0 * math.log(3.0)
    assert dense.log_bound(logits, table).exp().tolist() == pytest.approx([2.0], rel=1e-12)


def test_of_a_map_of_one_pixel_it_is_exactly_that_of_the_row() -> None:
    logits, table = 3.0 * draw(40, CLASSES), make_table()
    assert torch.equal(dense.log_bound(logits[:, :, None, None], table), epmcm.log_bound(logits, table).double())


def test_it_is_the_logarithm_of_the_mean_of_the_bounds() -> None:
    """UB = expm1( logsumexp_j( z_j - z_ŷ + ½ Q[ŷ, j] ) ) at each pixel, and their plain mean, in float64."""
    logits, table = draw(2, CLASSES, HEIGHT, WIDTH, dtype=torch.float64), make_table(torch.float64)
    top, predicted = logits.max(dim=1, keepdim=True)
    exponents = logits - top + 0.5 * table[predicted.squeeze(1)].movedim(-1, 1)
    naive = torch.expm1(exponents.logsumexp(dim=1)).mean(dim=(1, 2))
    torch.testing.assert_close(dense.log_bound(logits, table), naive.log(), rtol=1e-12, atol=1e-12)


def test_far_outside_of_floats_it_is_still_exact() -> None:
    """z = (1e4, -1e4) has log UB = -2e4 + ½ Q[0, 1]; next to a pixel in doubt, UB = 1, it adds nothing."""
    sure, doubt = [1e4, -1e4], [0.0, 0.0]
    logits = torch.tensor([[sure, sure], [sure, doubt]]).transpose(1, 2)[:, :, None]
    table = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
    expected = [-2e4 + 1.0, 1.0 - math.log(2.0)]
    assert dense.log_bound(logits, table).tolist() == pytest.approx(expected, rel=1e-12)
    table[0, 1] = 6e4  # log UB = 1e4 of the sure one and 3e4 of the other: exp of neither is a float
    expected = [1e4, 3e4 - math.log(2.0)]
    assert dense.log_bound(logits, table).tolist() == pytest.approx(expected, rel=1e-12)


def test_one_class_cannot_change() -> None:
    with pytest.raises(ValueError, match="two classes"):
        dense.log_bound(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1))


# --- one opinion ---


def test_the_mean_entropy_by_hand() -> None:
    """A pixel that is open between two classes and one that is sure: half of log 2."""
    logits = torch.tensor([[0.0, 1e4], [0.0, -1e4]]).view(1, 2, 2, 1)
    assert mean_over_pixels(predictive_entropy, logits).tolist() == pytest.approx([0.5 * math.log(2.0)], rel=1e-6)


def test_log_odds_are_those_of_the_mean_share() -> None:
    logits = draw(2, CLASSES, HEIGHT, WIDTH, dtype=torch.float64)
    best = logits.softmax(dim=1).topk(2, dim=1).values
    error = (1.0 - best[:, 0]).mean(dim=(1, 2))
    closeness = (1.0 - best[:, 0] + best[:, 1]).mean(dim=(1, 2))
    torch.testing.assert_close(log_odds_of_mean(log_odds_of_error, logits).sigmoid(), error)
    torch.testing.assert_close(log_odds_of_mean(log_odds_of_no_margin, logits).sigmoid(), closeness)
    reverse = log_odds_of_mean(lambda rows: -log_odds_of_error(rows), logits)
    assert torch.equal(reverse, -log_odds_of_mean(log_odds_of_error, logits))  # max-prob


@pytest.mark.parametrize("log_odds", [log_odds_of_error, log_odds_of_no_margin])
def test_log_odds_of_one_pixel_are_its_own(log_odds: Callable[[Tensor], Tensor]) -> None:
    logits = torch.cat([30.0 * draw(20, CLASSES), torch.zeros(1, CLASSES), 1e4 * torch.eye(CLASSES)])
    found = log_odds_of_mean(log_odds, logits[:, :, None, None])
    torch.testing.assert_close(found, log_odds(logits), rtol=1e-12, atol=1e-12)


def test_very_sure_images_keep_their_order() -> None:
    """1 - p of e^-1000 and e^-1001 is 0 in any float; their log-odds differ by 1."""
    logits = torch.tensor([[1000.0, 0.0], [1001.0, 0.0]])[:, :, None, None].expand(-1, -1, 2, 3)
    assert log_odds_of_mean(log_odds_of_error, logits).tolist() == pytest.approx([-1000.0, -1001.0], rel=1e-12)


# --- several opinions ---


@STREAMED
@pytest.mark.parametrize("chunk", [1, 33, dense.CHUNK])
def test_opinions_one_by_one_are_the_mean_over_the_pixels(
    figure: Callable[[Tensor], Tensor], streaming: type[StreamingFigure], chunk: int
) -> None:
    opinions = 2.0 * draw(4, 2, CLASSES, HEIGHT, WIDTH, dtype=torch.float64)
    gathered = streaming_over_pixels(streaming, chunk)
    for logits in opinions:
        gathered.add(logits)
    rows = opinions.log_softmax(dim=2).flatten(3).movedim(3, 2).flatten(1, 2)  # (K, B P, C)
    expected = figure(rows).unflatten(0, (2, -1)).mean(dim=1)
    torch.testing.assert_close(gathered.result(), expected, rtol=1e-10, atol=1e-12)


@STREAMED
@pytest.mark.parametrize("chunk", [1, 100, dense.CHUNK])
def test_a_mask_drops_the_same_channels_in_all_pixels(
    figure: Callable[[Tensor], Tensor], streaming: type[StreamingFigure], chunk: int
) -> None:
    """Against the convolution itself on the thinned map, one mask after the other."""
    head = nn.Conv2d(FEATURES, CLASSES, 1).double()
    features = 3.0 * draw(2, FEATURES, HEIGHT, WIDTH, dtype=torch.float64)
    masks = draw_masks(7, FEATURES, 0.5, torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        maps = torch.stack([head(features * mask[:, None, None]) for mask in masks])
    rows = maps.log_softmax(dim=2).flatten(3).movedim(3, 2).flatten(1, 2)
    expected = figure(rows).unflatten(0, (2, -1)).mean(dim=1)
    found = disagreement_over_pixels(features, as_linear(head), masks, streaming, chunk)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-7)


def test_thinned_opinions_on_a_map_of_one_pixel_are_those_on_the_row() -> None:
    head, features = nn.Linear(FEATURES, CLASSES), draw(8, FEATURES)
    convolution = nn.Conv2d(FEATURES, CLASSES, 1)
    convolution.load_state_dict({"weight": head.weight[:, :, None, None], "bias": head.bias})
    masks = draw_masks(9, FEATURES, 0.5, torch.Generator().manual_seed(2))
    gathered = StreamingBald()
    with torch.no_grad():
        for log_p in thinned_opinions(features, head, masks):
            gathered.add(log_p)
    found = disagreement_over_pixels(features[:, :, None, None], as_linear(convolution), masks, StreamingBald)
    torch.testing.assert_close(found, gathered.result().double(), rtol=1e-6, atol=1e-7)
