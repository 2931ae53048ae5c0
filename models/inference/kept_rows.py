"""Rows of kept features, read by number, for what goes through a large pool in its own order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.data import Runtime
from models.geometry.space import Read
from models.inference.streaming import read_rows
from models.networks.base import TaskNet
from models.pixels import inputs_of


def kept_rows(net: TaskNet, pixels: np.ndarray, runtime: Runtime) -> Read | None:
    """Numbers (B,) of rows of `pixels` -> the features (B, F) float32 that the network says of those images, on the
    CPU. None where that takes a pass of the network over the images: where no frozen backbone's features are kept.
    """
    source = net.reads(pixels, runtime)
    if source is pixels:
        return None
    kept = source[:, : net.feature_channels]

    @torch.inference_mode()
    def read(rows: np.ndarray) -> Tensor:
        features: Tensor = net.task.image_features(net.features(inputs_of(read_rows(kept, rows, torch.device("cpu")))))
        return features

    return read
