"""Figures of an image from figures of its pixels: every pixel of a map is a row for the function that knows rows.

No formula of a figure is written here. A map (B, C, h, w) of logits or features is read a few pixels at a time as rows
(B p, C), contiguous in memory whatever the map's layout, so that a pixel's value depends on neither its neighbors nor
how many are read at a time. The values of all pixels, one for each, are then reduced in float64.

Chen et al., When Active Learning Meets Implicit Semantic Data Augmentation (ECCV 2022), section 4.2, average equation 7
over the pixels; Gal, Islam & Ghahramani (ICML 2017) and the methods of `models.inference.disagreement` are averaged
alike.

Axis letters: B batch, C classes, h w map (P = h w pixels, p read at a time).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from models.inference import epmcm
from models.inference.disagreement import ImageFigure, StreamingFigure

CHUNK = 1 << 20  # elements of the rows that are read at a time


def pixel_rows(maps: Tensor, step: int) -> Iterator[Tensor]:
    """The pixels of maps (B, C, h, w) or (B, C, P) as contiguous rows (B p, C), `step` of each image at a time.

    Image by image within a part: unflatten(0, (B, p)) brings the images' axis back.
    """
    for part in maps.flatten(2).split(step, dim=2):
        yield part.transpose(1, 2).flatten(0, 1).contiguous()


def pixels_at_a_time(chunk: int, *maps: Tensor) -> int:
    """How many pixels of each image give rows of about `chunk` elements, over all maps; at least 1."""
    return max(1, chunk // max(1, sum(one.shape[0] * one.shape[1] for one in maps)))


def pixel_values(measure: Callable[..., Tensor], *maps: Tensor, chunk: int = CHUNK) -> Tensor:
    """What `measure` says of each pixel, (B, P) in its dtype.

    measure: rows (B p, C), one tensor for each of the maps -> (B p,), a row's value independent of the others. The
    maps (B, C, h, w) may differ in C only.
    """
    step = pixels_at_a_time(chunk, *maps)
    parts = zip(*(pixel_rows(one, step) for one in maps), strict=True)
    return torch.cat([measure(*rows).unflatten(0, (len(maps[0]), -1)) for rows in parts], dim=1)


def mean_over_pixels(measure: Callable[..., Tensor], *maps: Tensor, chunk: int = CHUNK) -> Tensor:
    """(1/P) sum of `measure` over the pixels, (B,) float64; see `pixel_values`."""
    return pixel_values(measure, *maps, chunk=chunk).double().mean(dim=1)


def log_mean_over_pixels(log_measure: Callable[..., Tensor], *maps: Tensor, chunk: int = CHUNK) -> Tensor:
    """log (1/P) sum exp(log_measure) over the pixels, (B,) float64: the mean of what may be too large or too small
    for a float. See `pixel_values`.
    """
    values = pixel_values(log_measure, *maps, chunk=chunk).double()
    return values.logsumexp(dim=1) - math.log(values.shape[1])


def log_odds_of_mean(log_odds: Callable[..., Tensor], *maps: Tensor, chunk: int = CHUNK) -> Tensor:
    """log(m / (1 - m)) for the mean m over the pixels of u = 1 / (1 + exp(-log_odds)), (B,) float64.

    For what is measured as the log-odds of a share u: one minus the confidence, or one minus the margin. What is
    averaged is u and not its log-odds, as in the literature; sums of u and of 1 - u are taken apart, so that neither
    very confident images nor very uncertain ones come out equal. See `pixel_values`.
    """
    return log_odds_of_shares(pixel_values(log_odds, *maps, chunk=chunk).double())


def log_odds_of_shares(log_odds: Tensor) -> Tensor:
    """log(m / (1 - m)) for the mean m of the u = 1 / (1 + exp(-log_odds)) of a row: (B, P) -> (B,)."""
    return functional.logsigmoid(log_odds).logsumexp(dim=1) - functional.logsigmoid(-log_odds).logsumexp(dim=1)


def log_bound(logits: Tensor, table: Tensor, chunk: int = CHUNK) -> Tensor:
    """Logarithm of the mean over the pixels of the bound of the expected partial model change, (B,) float64.

    logits (B, C, h, w) with C >= 2; table (C, C) of `models.losses.isda.semantic_table`, gathered by the class
    predicted at each pixel: 2 B P C numbers, never B C P C. With UB_p = sum_j exp( z_pj - z_pŷ + ½ Q[ŷ, j] ) - 1
    (equation 7) it is

        log (1/P) sum_p UB_p = logsumexp_p( log UB_p ) - log P

    The paper averages "of each pixel" and names no resolution. Meant here is that of the features: there is the 1 x 1
    convolution that acts as the last layer, and there are the features whose covariance Q holds; logits between them
    are interpolated. Logits at full resolution do as well, at a multiple of the cost. Raises ValueError for C < 2.
    """
    return log_mean_over_pixels(lambda rows: epmcm.log_bound(rows, table), logits, chunk=chunk)


def streaming_over_pixels(figure: Callable[[], StreamingFigure], chunk: int = CHUNK) -> ImageFigure:
    """A figure of `models.inference.disagreement`, averaged over the pixels, for opinions (B, C, h, w) that come one by
    one.
    """

    def rows(logits: Tensor) -> Iterator[Tensor]:
        return pixel_rows(logits, pixels_at_a_time(chunk, logits))

    return ImageFigure(figure, rows, lambda values: values.mean(dim=1))
