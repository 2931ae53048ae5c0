"""Trains a plain autoencoder of the pool's images, whose codes say which images are alike.

Axis letters: B batch, Z code, S side of the working size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.vae import VAE, VAEConfig, build_vae
from models.training.in_pieces import InPieces

RATE = 1e-3  # of Adam


class AutoencoderTraining(InPieces):
    """Encoder and decoder of VAAL's autoencoder, trained to draw each image again from the mean of its code: the mean
    squared error, and nothing else. Its codes are compared by their distance."""

    phase = "autoencoder"
    batch, batches = 64, 1

    def __init__(self, vae: VAE, seed: int) -> None:
        """Trains `vae` in place, on the device that it is on."""
        super().__init__(seed)
        self.vae = vae
        self._steps = torch.optim.Adam(vae.parameters(), lr=RATE)

    @property
    def size(self) -> int:
        return self.vae.config.image_size

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.vae,)

    def iterate(self, real: Iterator[Tensor], noise: torch.Generator) -> Tensor:
        images = next(real)
        loss = functional.mse_loss(self.vae.decoder(self.vae.encoder.means(images)), images)
        self._steps.zero_grad(set_to_none=True)
        loss.backward()
        self._steps.step()
        return loss.detach()[None]

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the training needs, as tensors and plain Python only."""
        plain = {"config": self.vae.config.to_dict(), "seed": self.seed, "taken": self.taken, "seconds": self.seconds}
        return plain | {"vae": self.vae.state_dict(), "steps": self._steps.state_dict()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], device: torch.device) -> Self:
        """What `state_dict` gave, on `device`."""
        vae = build_vae(VAEConfig.from_dict(state["config"]), torch.Generator())
        training = cls(vae.to(device).eval(), state["seed"])
        vae.load_state_dict(state["vae"])
        training._steps.load_state_dict(state["steps"])
        training.taken, training.seconds = state["taken"], state["seconds"]
        return training


def codes(vae: VAE, images: Tensor) -> Tensor:
    """The mean codes (B, Z) of images (B, 3, H, H) in [-1, 1], of any size."""
    side = vae.config.image_size
    if images.shape[2] != side:
        images = functional.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
    means: Tensor = vae.encoder.means(images)
    return means
