"""Dropout between the penultimate features and the linear head: trained with it, asked through many fixed masks of it.

Gal & Ghahramani, Dropout as a Bayesian Approximation (ICML 2016); Gal, Islam & Ghahramani (ICML 2017). They put dropout
into several layers and run the network K times, with new masks for each image. Here it is in one place, before the last
layer, and a draw is one mask for all images, as in the "consistent" dropout of BatchBALD (Kirsch, van Amersfoort & Gal,
NeurIPS 2019). So the trunk runs once instead of K times, the task network keeps its architecture, and a score depends
on the image and the seed alone, not on its neighbors. The price: only the last layer's weights are uncertain.

Axis letters: B batch, C classes, F features, K draws, h w map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from models.data import Runtime
from models.inference.disagreement import StreamingFigure
from models.inference.per_class import binary_rows
from models.inference.per_pixel import CHUNK as PIXEL_CHUNK
from models.inference.per_pixel import mean_over_pixels
from models.inference.predictions import Predictions, predict_and_measure
from models.networks.base import TaskNet

CHUNK = 1 << 22  # elements of the largest temporary tensor


def draw_masks(count: int, features: int, rate: float, generator: torch.Generator) -> Tensor:
    """`count` masks (K, F) float32 on the generator's device: 0 with probability `rate`, else 1 / (1 - rate).

    Their mean is 1, so that thinned features have the size of whole ones (inverted dropout).
    """
    kept = torch.rand(count, features, generator=generator, device=generator.device) >= rate
    return kept / (1.0 - rate)


def thinned_logits(features: Tensor, head: nn.Linear, masks: Tensor, chunk: int = CHUNK) -> Iterator[Tensor]:
    """Logits (k, B, C) of the head through the masks (K, F), in parts of about `chunk` elements.

    A masked feature is a masked column of the weights: features (B, F) meet k thinned heads in one product with
    (k C, F). A part holds one draw at least.
    """
    classes = head.out_features
    rows = max(len(features), head.in_features)  # of k C columns: the logits, and the thinned weights themselves
    for part in masks.split(max(1, chunk // (classes * rows))):
        weights = (part[:, None, :] * head.weight).flatten(0, 1)  # (k C, F)
        logits = (features @ weights.T).unflatten(1, (len(part), classes)) + head.bias  # (B, k, C)
        yield logits.transpose(0, 1)


def thinned_opinions(features: Tensor, head: nn.Linear, masks: Tensor, chunk: int = CHUNK) -> Iterator[Tensor]:
    """The same as log-probabilities of the classes, (k, B, C)."""
    for logits in thinned_logits(features, head, masks, chunk):
        yield logits.log_softmax(dim=-1)


def disagreement_of(features: Tensor, head: nn.Linear, masks: Tensor, figure: Callable[[], StreamingFigure]) -> Tensor:
    """A figure of the head's opinions through K masks: features (B, F), masks (K, F) -> (B,)."""
    streaming = figure()
    for log_p in thinned_opinions(features, head, masks):
        streaming.add(log_p)
    return streaming.result()


def disagreement_over_classes(
    features: Tensor, head: nn.Linear, masks: Tensor, figure: Callable[[], StreamingFigure]
) -> Tensor:
    """The sum over the classes of a figure of the head's opinions on each class alone, through K masks: features
    (B, F), masks (K, F) -> (B,) float64.
    """
    streaming = figure()
    for logits in thinned_logits(features, head, masks):
        rows = binary_rows(logits.flatten(0, 1)).unflatten(0, (len(logits), -1))  # (k, B C, 2)
        streaming.add(rows.log_softmax(dim=-1))
    return streaming.result().unflatten(0, (len(features), -1)).double().sum(dim=1)


def as_linear(head: nn.Linear | nn.Conv2d) -> nn.Linear:
    """The last layer as what it is for each row of features (F,): a linear layer on its memory, without gradient. That
    is a 1 x 1 convolution, too.
    """
    assert head.bias is not None
    weight = head.weight.detach().flatten(1)
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    linear.bias = nn.Parameter(head.bias.detach(), requires_grad=False)
    return linear


def disagreement_over_pixels(
    features: Tensor,
    head: nn.Linear,
    masks: Tensor,
    figure: Callable[[], StreamingFigure],
    chunk: int = PIXEL_CHUNK,
) -> Tensor:
    """A figure of the head's opinions through K masks, averaged over the pixels: (B,) float64.

    features (B, F, h, w); masks (K, F) of `draw_masks`. A mask drops whole channels: it is the same for all pixels and
    all images (the module's docstring says why), a draw of the head's weights and not of noise.
    """
    return mean_over_pixels(lambda rows: disagreement_of(rows, head, masks, figure), features, chunk=chunk)


def predict_and_disagree(
    net: TaskNet,
    pixels: np.ndarray,
    rows: np.ndarray,
    runtime: Runtime,
    figure: Callable[[], StreamingFigure],
    draws: int,
    rate: float,
) -> tuple[Predictions, np.ndarray]:
    """Predictions of the whole head and (N,) float64, the figure of `draws` thinned ones, from one pass of the
    trunk; an image's figure is what the kind of task says (`models.tasks.base.Task.thinned_disagreement`).

    The masks depend on the runtime's seed alone and are the same on every device. `rows` must not be empty.
    """
    # Drawn on the CPU: a GPU's stream of the same seed is another one.
    masks = draw_masks(draws, net.feature_channels, rate, runtime.generator("dropout draws", "cpu"))
    masks = masks.to(runtime.device)
    head = as_linear(net.head)

    def disagreement(features: Tensor, _: Tensor) -> Tensor:
        return net.task.thinned_disagreement(features, head, masks, figure)

    return predict_and_measure(net, pixels, rows, runtime, disagreement)
