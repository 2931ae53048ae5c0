"""Query strategies, one a file, and the one table that names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import torch

from samplers.ads import AdsSampler
from samplers.bald import BaldSampler
from samplers.base import Sampler, UnknownSampler
from samplers.ceal import CealSampler
from samplers.core_set import CoreSetSampler
from samplers.dast_al import DastAlSampler
from samplers.ensemble import EnsembleSampler
from samplers.entropy import EntropySampler
from samplers.learning_loss import LearningLossSampler
from samplers.learning_loss_v2 import LearningLossV2Sampler
from samplers.least_confidence import LeastConfidenceSampler
from samplers.margin import MarginSampler
from samplers.max_prob import MaxProbSampler
from samplers.mc_dropout import McDropoutSampler
from samplers.qbc import QbcSampler
from samplers.random import RandomSampler
from samplers.sraal import SraalSampler
from samplers.ta_vaal import TaVaalSampler
from samplers.vaal import VaalSampler
from samplers.vaal_frozen_vae import VaalFrozenVaeSampler
from samplers.vaal_no_vae import VaalNoVaeSampler
from samplers.vaal_wasserstein import VaalWassersteinSampler

SAMPLERS: dict[str, type[Sampler]] = {
    "random": RandomSampler,
    "least-confidence": LeastConfidenceSampler,
    "margin": MarginSampler,
    "entropy": EntropySampler,
    "max-prob": MaxProbSampler,
    "ceal": CealSampler,
    "core-set": CoreSetSampler,
    "mc-dropout": McDropoutSampler,
    "bald": BaldSampler,
    "ensemble": EnsembleSampler,
    "qbc": QbcSampler,
    "learning-loss": LearningLossSampler,
    "learning-loss-v2": LearningLossV2Sampler,
    "ads": AdsSampler,
    "vaal": VaalSampler,
    "vaal-no-vae": VaalNoVaeSampler,
    "vaal-frozen-vae": VaalFrozenVaeSampler,
    "vaal-wasserstein": VaalWassersteinSampler,
    "ta-vaal": TaVaalSampler,
    "sraal": SraalSampler,
    "dast-al": DastAlSampler,
}


def build_sampler(
    name: str,
    options: Mapping[str, object],
    *,
    num_classes: int,
    image_size: int,
    device: torch.device | str = "cpu",
) -> Sampler:
    """The sampler of this name, given those of `options` that it knows and none of the others.

    Raises UnknownSampler.
    """
    if name not in SAMPLERS:
        raise UnknownSampler(f"unknown sampler {name!r}: choose one of {', '.join(SAMPLERS)}")
    sampler = SAMPLERS[name]
    known = {field.name: options[field.name] for field in fields(sampler.Options) if field.name in options}
    return sampler(sampler.Options(**known), num_classes=num_classes, image_size=image_size, device=device)
