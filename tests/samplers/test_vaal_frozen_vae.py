"""VAAL's second ablation: a discriminator on the codes of an autoencoder that is never trained (Sinha et al., extended
abstract, section 3).
"""

from __future__ import annotations

import torch

from models.data import Runtime
from models.networks.discriminator import Discriminator
from models.networks.vae import VAE
from tests.samplers.novelty import NET, make_data, make_sampler

CPU = torch.device("cpu")


def test_the_autoencoder_is_as_it_was_initialized_and_the_discriminator_is_not() -> None:
    """From cycle to cycle, batch statistics and all, also where the second cycle has another seed."""
    data, sampler = make_data(), make_sampler("vaal-frozen-vae")
    untrained = make_sampler("vaal")
    untrained.fit(NET, data, Runtime(CPU, 0))  # the same generator, so the same initial weights but for its training
    fresh = sampler.build(sampler.config(4), Runtime(CPU, 0).generator("vaal weights", "cpu"))["vae"]
    figures = sampler.fit(NET, data, Runtime(CPU, 0))
    weights = dict(sampler.part(VAE).named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in fresh.named_parameters())
    assert not all(torch.equal(value, weights[name]) for name, value in untrained.part(VAE).named_parameters())
    everything = {name: value.clone() for name, value in sampler.part(VAE).state_dict().items()}
    first = {name: value.clone() for name, value in sampler.part(Discriminator).state_dict().items()}
    sampler.fit(NET, data, Runtime(CPU, 1))
    assert all(torch.equal(value, everything[name]) for name, value in sampler.part(VAE).state_dict().items())
    assert all(not torch.equal(value, first[name]) for name, value in sampler.part(Discriminator).state_dict().items())
    assert "reconstruction_loss" not in figures


def test_batch_statistics_come_from_the_images_once() -> None:
    data, sampler = make_data(), make_sampler("vaal-frozen-vae")
    sampler.fit(NET, data, Runtime(CPU, 0))
    vae = sampler.part(VAE)
    assert not torch.equal(vae.encoder.trunk[1].running_mean, torch.zeros(4))
    assert int(vae.encoder.trunk[1].num_batches_tracked) == 1  # 60 images are one batch
    sampler.fit(NET, data, Runtime(CPU, 0))
    assert int(vae.encoder.trunk[1].num_batches_tracked) == 1
