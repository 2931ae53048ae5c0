"""The product's own head in a replay of a simulated owner: slower than a linear classifier, and the real thing."""

from __future__ import annotations

import numpy as np
import torch

from backend.replay.learning import Labels, LearnerTrain
from backend.settings.core import Settings
from benchmarks.replay.owners import Owner
from models.data import ClassTargets
from models.networks.backbones import dimensions_of

BACKBONE, SIDE = "test_resnet", 32  # the smallest of timm; nothing is ever put through it


def train_head(owner: Owner) -> LearnerTrain:
    """Trains heads on the owner's features, as if a backbone had said them."""
    overrides = {"task_net": BACKBONE, "weights": "none", "training": "head", "health": "off"}
    found = dimensions_of(BACKBONE)
    labels, width = owner.features.shape
    features = np.zeros((labels, found.features + sum(found.taps)), np.float16)
    features[:, :width] = owner.features
    pixels = np.broadcast_to(np.zeros((), np.uint8), (labels, SIDE, SIDE, 3))
    names = tuple(str(number) for number in range(owner.count))
    given = Labels(
        pixels, features, np.arange(labels), np.arange(labels), ClassTargets(owner.classes), owner.count, names
    )
    return LearnerTrain(Settings().for_project(overrides), given, torch.device("cpu"))
