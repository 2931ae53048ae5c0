"""A pool in which what is novel is known, for the samplers that tell labelled from unlabelled images."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.data import CycleData
from models.networks.classifier import NetConfig, build_classifier
from samplers import SAMPLERS
from samplers.adversarial_base import AdversarialSampler

NAMES = ("vaal", "vaal-no-vae", "vaal-frozen-vae", "vaal-wasserstein", "ta-vaal", "sraal")
LABELLED, UNLABELLED = 20, 40
NOBODY = np.empty(0, dtype=np.int64)
NET = build_classifier(NetConfig("resnet18", 2, 32, 4), 0)
SMALL = {"vaal_width": 4, "vaal_iterations": 2, "vaal_batch_size": 8, "learning_loss_width": 8}
LATENT = {"vaal_latent": 6, "ta_vaal_latent": 6, "sraal_latent": 6}


def make_data(size: int = 32, labelled: int = LABELLED, unlabelled: int = UNLABELLED) -> CycleData:
    """Labelled images are bright; of the unlabelled ones every other is bright and every other dark."""
    count = labelled + unlabelled
    pixels = np.random.default_rng(0).integers(160, 220, (count, size, size, 3))
    pixels[labelled + 1 :: 2] -= 140
    rows = np.arange(count)
    return CycleData(pixels.astype(np.uint8), rows[:labelled], np.zeros(labelled, dtype=np.int64), rows[labelled:], 2)


def make_sampler(name: str, size: int = 32, **options: Any) -> AdversarialSampler:
    """A small one; options that it does not have are left out, except those given."""
    kind = SAMPLERS[name]
    known = {key: value for key, value in (SMALL | LATENT).items() if hasattr(kind.Options, key)}
    sampler = kind(kind.Options(**(known | options)), num_classes=2, image_size=size)
    assert isinstance(sampler, AdversarialSampler)
    return sampler


def novel_first(scores: np.ndarray) -> float:
    """Share of pairs (dark row, bright row) of all rows in which the dark one has the higher score."""
    dark, bright = scores[LABELLED + 1 :: 2], np.concatenate([scores[:LABELLED], scores[LABELLED::2]])
    return float((dark[:, None] > bright).mean())
