"""Dropout at several stages of a network: trained with it, asked through many fixed draws of it.

Gal & Ghahramani, Dropout as a Bayesian Approximation (ICML 2016) have dropout before every layer with weights; here it
is after each stage of the trunk and before the last layer. Whole channels are dropped (Tompson et al., Efficient Object
Localization Using Convolutional Networks, CVPR 2015, section 3.2), because pixels of a map that are next to each other
say nearly the same. A draw is one mask for each place, the same for all images, as in `models.inference.dropout`, so
that a score depends on the image and the seed alone. The price over dropout in the last place only: the whole network
runs once for each draw.

Axis letters: N rows asked for, B batch, C classes, F features, K draws, S_k channels of stage k.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from models.data import Runtime
from models.inference.disagreement import StreamingFigure
from models.inference.dropout import draw_masks
from models.inference.fused import scoring_copy
from models.inference.predictions import Predictions
from models.inference.several_devices import Through
from models.inference.streaming import map_rows
from models.networks.base import TaskNet, drop_channels
from models.pixels import inputs_of


def draw_stage_masks(net: TaskNet, count: int, rate: float, generator: torch.Generator) -> list[Tensor]:
    """`models.inference.dropout.draw_masks` in each place: (count, S_k) for each stage, then (count, F) of features."""
    return [draw_masks(count, channels, rate, generator) for channels in (*net.stage_channels, net.feature_channels)]


def thinned_logits(net: TaskNet, x: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """Logits (B, C, ...) of images (B, 3, H, W) with channels dropped in each place: masks of `draw_stage_masks`, a row
    for each image, or one row for all.
    """
    *of_stages, of_features = masks
    logits: Tensor = net.head(drop_channels(net.thinned_features(x, of_stages), of_features))
    return logits


def predict_and_disagree(
    net: TaskNet,
    pixels: np.ndarray,
    rows: np.ndarray,
    runtime: Runtime,
    figure: Callable[[], StreamingFigure],
    draws: int,
    rate: float,
) -> tuple[Predictions, np.ndarray]:
    """Predictions of the whole network and (N,) float64, the figure of `draws` thinned ones, from one reading of the
    rows; an image's figure is what the kind of task says (`models.tasks.base.Task.streaming`).

    The masks depend on the runtime's seed alone and are the same on every device. `rows` must not be empty. Calls
    runtime.progress("score", rows done, N) after every draw of a batch.
    """
    generator = runtime.generator("dropout draws", "cpu")  # a GPU's stream of the same seed is another one
    drawn = draw_stage_masks(net, draws, rate, generator)
    masks_on = _OnDevices(drawn)
    done, reporter = 0, threading.get_ident()

    def ask(copied: TaskNet, read: Tensor) -> tuple[Tensor, ...]:
        images, masks = inputs_of(read), masks_on(read.device)
        whole = copied.head(copied.features(images))
        streaming = net.task.streaming(figure)
        for draw in range(draws):
            streaming.add(thinned_logits(copied, images, [mask[draw : draw + 1] for mask in masks]))
            # A batch may take as long as many do elsewhere, and whoever waits may want to stop it.
            if threading.get_ident() == reporter:
                runtime.progress("score", min(len(rows), done + len(images) * (draw + 1) // draws), len(rows))
        return (*net.predict(whole), streaming.result())

    def gathered(*found: Tensor) -> tuple[Tensor, ...]:
        nonlocal done
        done += len(found[0])
        return found

    asking = Through(ask, [scoring_copy(net, runtime)])
    predicted, confidence, values = map_rows(net.reads(pixels, runtime), rows, runtime, gathered, through=asking)
    return Predictions(predicted, confidence.astype(np.float64)), values.astype(np.float64)


class _OnDevices:
    """Tensors on each device that they are asked for on: copied there once."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = tensors
        self._there: dict[torch.device, list[Tensor]] = {}

    def __call__(self, device: torch.device) -> list[Tensor]:
        if device not in self._there:
            self._there[device] = [one.to(device) for one in self._tensors]
        return self._there[device]
