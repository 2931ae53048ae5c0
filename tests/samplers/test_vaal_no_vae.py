"""VAAL's first ablation: a discriminator on images (Sinha et al., extended abstract, section 3)."""

from __future__ import annotations

import numpy as np
import torch

from models.data import Runtime
from models.networks.discriminator import ImageDiscriminator
from models.networks.vae import prepare
from tests.samplers.novelty import NET, make_data, make_sampler

RUNTIME = Runtime(torch.device("cpu"), 0)


def test_it_has_a_discriminator_and_nothing_else() -> None:
    sampler = make_sampler("vaal-no-vae")
    figures = sampler.fit(NET, make_data(), RUNTIME)
    assert sampler.networks is not None
    assert list(sampler.networks) == ["discriminator"]
    assert "reconstruction_loss" not in figures
    assert figures["discriminator_loss"] > 0


def test_the_score_is_minus_the_logit_of_the_image() -> None:
    data, sampler = make_data(), make_sampler("vaal-no-vae")
    sampler.fit(NET, data, RUNTIME)
    discriminator = sampler.part(ImageDiscriminator)
    with torch.no_grad():
        logits = discriminator.eval()(prepare(torch.from_numpy(data.pixels[data.unlabeled]), 32))
    scores = sampler.score(NET, data.pixels, data.unlabeled, RUNTIME).acquisition
    np.testing.assert_allclose(scores, -logits.numpy(), rtol=1e-4, atol=1e-5)
    assert len(np.unique(scores)) == len(scores)
