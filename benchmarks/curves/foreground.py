"""The control that knows where there is something to draw: random order, images with more foreground than most first.

Active segmentation is easily better than a random order where most images are background. Lüth et al., nnActive (TMLR
2025), therefore compare with "Random 33 % FG" and "Random 66 % FG", which draw that share of their patches where the
truth has foreground; no method that they measure is reliably better. Here it is whole images, each equally likely among
those whose share of foreground is above the median of the unlabeled pool; those at or below it only come when no other
is left. The share is the predicted one: of the pixels of the map that the network of that training takes for another
class than the background. So nothing is known that has not been paid for. The first labels are those of ``random``.

Axis letters: N rows of the unlabeled pool, B batch, C classes, h w a map of logits.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from models.data import Runtime
from models.inference.predictions import measure
from models.networks.base import TaskNet

BACKGROUND = 0


def predicted_shares(net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> np.ndarray:
    """The share of foreground in what a segmenter predicts for ``rows`` (N,) of ``pixels`` (M, H, W, 3), (N,) float64,
    at the resolution of its features."""

    def of_batch(_: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
        return ((logits.argmax(dim=1) != BACKGROUND).double().mean(dim=(1, 2)),)

    shares: np.ndarray = measure(net, pixels, rows, runtime, of_batch)[0]
    return shares


def foreground_first(acquisition: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The order of ``acquisition`` (N,), higher = label sooner, with all rows before the others whose ``shares`` (N,)
    are above the median: (N,) float64, 0 for the last one."""
    order = np.lexsort((acquisition, shares > np.median(shares)))
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    return ranks
