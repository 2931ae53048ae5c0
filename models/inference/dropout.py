"""Dropout between the penultimate features and the linear head: trained with it, asked through many fixed masks of it.

Gal & Ghahramani, Dropout as a Bayesian Approximation (ICML 2016); Gal, Islam & Ghahramani (ICML 2017). They put dropout
into several layers and run the network K times, with new masks for each image. Here it is in one place, before the last
layer, and a draw is one mask for all images, as in the "consistent" dropout of BatchBALD (Kirsch, van Amersfoort & Gal,
NeurIPS 2019). So the trunk runs once instead of K times, the task network keeps its architecture, and a score depends
on the image and the seed alone, not on its neighbours. The price: only the last layer's weights are uncertain.

Axis letters: B batch, C classes, F features, K draws, h w map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import CycleData, Runtime
from models.inference.disagreement import Gathering
from models.inference.per_pixel import CHUNK as PIXEL_CHUNK
from models.inference.per_pixel import mean_over_pixels
from models.inference.predictions import Answers, predict_and_measure
from models.losses.objectives import Objective
from models.networks.classifier import Classifier
from models.networks.task_net import TaskNet

CHUNK = 1 << 22  # elements of the largest temporary tensor


def draw_masks(count: int, features: int, rate: float, generator: torch.Generator) -> Tensor:
    """`count` masks (K, F) float32 on the generator's device: 0 with probability `rate`, else 1 / (1 - rate).

    Their mean is 1, so that thinned features have the size of whole ones (inverted dropout).
    """
    kept = torch.rand(count, features, generator=generator, device=generator.device) >= rate
    return kept / (1.0 - rate)


class DropoutCrossEntropy(Objective[Classifier]):
    """Mean cross entropy of the head on the labelled batch's features, a `rate` of which is dropped anew at each step.

    The masks come from the runtime, an own one for each image. The trunk is trained through what is left.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def begin(self, net: Classifier, data: CycleData, runtime: Runtime) -> None:
        self._generator = runtime.generator("dropout")

    def loss(self, net: Classifier, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        features = net.features(images)
        masks = draw_masks(len(features), features.shape[1], self.rate, self._generator)
        return functional.cross_entropy(net.head(features * masks), targets)


def thinned_opinions(features: Tensor, head: nn.Linear, masks: Tensor, chunk: int = CHUNK) -> Iterator[Tensor]:
    """Log-probabilities (k, B, C) of the head through the masks (K, F), in parts of about `chunk` elements.

    A masked feature is a masked column of the weights: features (B, F) meet k thinned heads in one product with
    (k C, F). A part holds one draw at least.
    """
    classes = head.out_features
    rows = max(len(features), head.in_features)  # of k C columns: the logits, and the thinned weights themselves
    for part in masks.split(max(1, chunk // (classes * rows))):
        weights = (part[:, None, :] * head.weight).flatten(0, 1)  # (k C, F)
        logits = (features @ weights.T).unflatten(1, (len(part), classes)) + head.bias  # (B, k, C)
        yield logits.transpose(0, 1).log_softmax(dim=-1)


def disagreement_of(features: Tensor, head: nn.Linear, masks: Tensor, figure: Callable[[], Gathering]) -> Tensor:
    """A figure of the head's opinions through K masks: features (B, F), masks (K, F) -> (B,)."""
    gathering = figure()
    for log_p in thinned_opinions(features, head, masks):
        gathering.add(log_p)
    return gathering.result()


def as_linear(head: nn.Conv2d) -> nn.Linear:
    """The 1 x 1 convolution (F, C) as what it is for each pixel: a linear layer on its memory, without gradient."""
    assert head.bias is not None
    linear = nn.Linear(head.in_channels, head.out_channels, device="meta")
    linear.weight = nn.Parameter(head.weight.detach().flatten(1), requires_grad=False)
    linear.bias = nn.Parameter(head.bias.detach(), requires_grad=False)
    return linear


def thinned_disagreement(
    features: Tensor, head: nn.Conv2d, masks: Tensor, figure: Callable[[], Gathering], chunk: int = PIXEL_CHUNK
) -> Tensor:
    """A figure of the head's opinions through K masks, averaged over the pixels: (B,) float64.

    features (B, F, h, w); masks (K, F) of `models.inference.dropout.draw_masks`. A mask drops whole channels: it is the
    same for all pixels and all images (`models.inference.dropout` says why), a draw of the head's weights and not of
    noise.
    """
    linear = as_linear(head)
    return mean_over_pixels(lambda rows: disagreement_of(rows, linear, masks, figure), features, chunk=chunk)


def predict_and_disagree(
    net: TaskNet,
    pixels: np.ndarray,
    rows: np.ndarray,
    runtime: Runtime,
    figure: Callable[[], Gathering],
    draws: int,
    rate: float,
) -> tuple[Answers, np.ndarray]:
    """Answers of the whole head and (N,) float64, the figure of `draws` thinned ones, from one pass of the trunk; a
    segmenter's figure is averaged over the pixels.

    The masks depend on the runtime's seed alone and are the same on every device. `rows` must not be empty.
    """
    # Drawn on the CPU: a GPU's stream of the same seed is another one.
    masks = draw_masks(draws, net.feature_channels, rate, runtime.generator("dropout draws", "cpu"))
    masks = masks.to(runtime.device)

    def disagreement(features: Tensor, _: Tensor) -> Tensor:
        if isinstance(net.head, nn.Conv2d):
            return thinned_disagreement(features, net.head, masks, figure)
        return disagreement_of(features, net.head, masks, figure)

    return predict_and_measure(net, pixels, rows, runtime, disagreement)
