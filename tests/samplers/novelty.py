"""A pool in which what is novel is known, for the samplers that tell labeled from unlabeled images."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.data import ClassTargets, CycleData
from models.networks.classifier import NetConfig
from models.tasks import CLASSIFICATION
from samplers import SAMPLERS
from samplers.adversarial_base import AdversarialSampler

NAMES = ("vaal", "vaal-no-vae", "vaal-frozen-vae", "vaal-wasserstein", "ta-vaal", "sraal")
LABELED, UNLABELED = 20, 40
NOBODY = np.empty(0, dtype=np.int64)
NET = CLASSIFICATION.build(NetConfig("resnet18", 2, 32, 4), 0)
SMALL = {"vaal_width": 4, "vaal_iterations": 2, "vaal_batch_size": 8, "learning_loss_width": 8}
LATENT = {"vaal_latent": 6, "ta_vaal_latent": 6, "sraal_latent": 6}


def make_data(size: int = 32, labeled: int = LABELED, unlabeled: int = UNLABELED) -> CycleData:
    """Labeled images are bright; of the unlabeled ones every other is bright and every other dark."""
    count = labeled + unlabeled
    pixels = np.random.default_rng(0).integers(160, 220, (count, size, size, 3))
    pixels[labeled + 1 :: 2] -= 140
    rows = np.arange(count)
    return CycleData(
        pixels.astype(np.uint8), rows[:labeled], rows[labeled:], ClassTargets(np.zeros(labeled, dtype=np.int64)), 2
    )


def make_sampler(name: str, size: int = 32, **options: Any) -> AdversarialSampler:
    """A small one; options that it does not have are left out, except those given."""
    kind = SAMPLERS[name]
    known = {key: value for key, value in (SMALL | LATENT).items() if hasattr(kind.Options, key)}
    sampler = kind(kind.Options(**(known | options)), task="classification", num_classes=2, image_size=size)
    assert isinstance(sampler, AdversarialSampler)
    return sampler


def novel_first(scores: np.ndarray) -> float:
    """Share of pairs (dark row, bright row) of all rows in which the dark one has the higher score."""
    dark, bright = scores[LABELED + 1 :: 2], np.concatenate([scores[:LABELED], scores[LABELED::2]])
    return float((dark[:, None] > bright).mean())
