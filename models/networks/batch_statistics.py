"""Batch statistics of an autoencoder that is never trained."""

from __future__ import annotations

import math
from contextlib import closing

import numpy as np
import torch
from torch import nn

from models.data import Runtime
from models.inference.streaming import stream_batches
from models.networks.vae import VAE, prepare

STATISTICS_BATCH = 128


def settle_statistics(vae: VAE, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> None:
    """Set the encoder's batch statistics to those of these rows (N,), in one pass, and change nothing else of it.

    Means over the batches of what each of them has, so every image counts the same but for the last batch's size.
    """
    normalizations = [layer for layer in vae.encoder.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in normalizations]
    parts = np.array_split(rows, math.ceil(len(rows) / STATISTICS_BATCH))
    vae.encoder.train()
    for layer in normalizations:
        layer.reset_running_stats()
        layer.momentum = None  # PyTorch's word for a plain mean over the batches
    with torch.no_grad(), closing(stream_batches(pixels, parts, runtime.device)) as batches:
        for images in batches:
            vae.encoder.means(prepare(images, vae.config.image_size))
    for layer, momentum in zip(normalizations, momenta, strict=True):
        layer.momentum = momentum
    vae.encoder.eval()
