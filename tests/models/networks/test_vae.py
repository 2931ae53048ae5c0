"""VAAL's autoencoder: sizes, initialization, and its losses against values worked out by hand.

Sinha et al. (VAAL), as cited in models/vae.py.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from models.data import Runtime
from models.networks.batch_statistics import settle_statistics
from models.networks.discriminator import Discriminator, build_discriminator
from models.networks.vae import (
    VAE,
    VAEConfig,
    build_vae,
    draw_latent,
    kl_divergence,
    negative_elbo,
    prepare,
    reconstruction_error,
    working_size,
)

TINY = VAEConfig(32, 4, 6)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


# --- networks ---


@pytest.mark.parametrize(
    ("latent", "of_vae", "of_discriminator"),
    [(32, 22_835_139, 280_065), (64, 23_621_635, 296_449), (128, 25_194_627, 329_217)],
)
def test_at_the_papers_size_it_has_the_papers_parameters(latent: int, of_vae: int, of_discriminator: int) -> None:
    """Counted on the authors' code. 22,835,139 + 280,065 floats are 88.18 MiB, DAST-AL's table 4 for VAAL."""
    with torch.device("meta"):
        vae, discriminator = VAE(VAEConfig(32, 128, latent)), Discriminator(latent)
    assert parameters(vae) == of_vae
    assert parameters(discriminator) == of_discriminator
    if latent == 32:
        assert parameters(vae.encoder.trunk) == 11_020_032
        assert parameters(vae.decoder) == 11_552_899
        assert (of_vae + of_discriminator) * 4 / 2**20 == pytest.approx(88.18, abs=0.005)


@pytest.mark.parametrize(("image_size", "expected"), [(8, 32), (28, 32), (32, 32), (33, 64), (64, 64), (224, 64)])
def test_images_of_any_size_go_in_and_come_back_at_the_working_size(image_size: int, expected: int) -> None:
    size = working_size(image_size)
    assert size == expected
    vae = build_vae(VAEConfig(size, 4, 6), seeded())
    images = torch.randint(0, 256, (3, image_size, image_size, 3), dtype=torch.uint8, generator=seeded())
    x = prepare(images, size)
    assert x.shape == (3, 3, size, size)
    assert vae.encoder.trunk(x).shape[2:] == (2, 2)
    coded = vae(x, seeded())
    assert coded.reconstruction.shape == x.shape
    assert coded.mean.shape == coded.log_variance.shape == coded.latent.shape == (3, 6)
    vae.eval()
    assert torch.equal(vae.encoder.means(x), vae.encoder(x)[0])


def test_preparing_keeps_a_plain_image_plain_and_averages_larger_ones() -> None:
    for side in (28, 32, 224):
        for value in (0, 255, 51):
            images = torch.full((1, side, side, 3), value, dtype=torch.uint8)
            expected = torch.full((1, 3, 32, 32), value / 127.5 - 1.0)
            torch.testing.assert_close(prepare(images, 32), expected, rtol=0, atol=1e-5)
    board = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    board[:, ::2, ::2] = 200  # one of the four pixels under each pixel of the result
    torch.testing.assert_close(prepare(board, 32), torch.full((1, 3, 32, 32), 50 / 127.5 - 1.0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("frame", [(32, 64), (64, 32), (32, 20), (20, 64), (28, 40)])
def test_images_that_are_not_square_are_compressed_to_a_square(frame: tuple[int, int]) -> None:
    """A left half in black stays the left half, whether a side is as long as the square's, longer or shorter."""
    images = torch.full((2, *frame, 3), 255, dtype=torch.uint8)
    images[:, :, : frame[1] // 2] = 0
    found = prepare(images, 32)
    assert found.shape == (2, 3, 32, 32)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found[..., :15], torch.full((2, 3, 32, 15), -1.0))
    torch.testing.assert_close(found[..., 17:], torch.full((2, 3, 32, 15), 1.0))


def test_weights_come_from_the_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (build_vae(TINY, seeded(seed)).state_dict() for seed in (0, 0, 1))
    codes = [build_discriminator(6, seeded(seed)).state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert all(torch.equal(codes[0][key], codes[1][key]) for key in codes[0])
    assert not torch.equal(first["encoder.mean.weight"], other["encoder.mean.weight"])
    assert not torch.equal(codes[0]["layers.0.weight"], codes[2]["layers.0.weight"])


def test_initialization_is_the_authors() -> None:
    vae, discriminator = build_vae(VAEConfig(32, 32, 32), seeded()), build_discriminator(32, seeded())
    second = vae.encoder.trunk[3].weight  # 32 -> 64 channels, 4 x 4: a fan in of 512
    assert second.std().item() == pytest.approx(math.sqrt(2 / 512), rel=0.03)
    assert vae.decoder.first.weight.std().item() == pytest.approx(math.sqrt(2 / 32), rel=0.03)
    assert vae.decoder.first.bias.abs().max() == 0.0
    assert discriminator.layers[2].weight.std().item() == pytest.approx(math.sqrt(2 / 512), rel=0.03)
    for module, reference in (
        (vae.decoder.layers[0], nn.ConvTranspose2d(256, 128, 4, bias=False)),  # PyTorch's defaults
        (vae.encoder.mean, nn.Linear(1024, 32)),
    ):
        for own, default in zip(module.parameters(), reference.parameters(), strict=True):
            assert own.abs().max().item() == pytest.approx(default.abs().max().item(), rel=0.1)
            assert own.std().item() == pytest.approx(default.std().item(), rel=0.35 if own.ndim == 1 else 0.02)


def test_impossible_networks_are_refused() -> None:
    for config in (VAEConfig(48, 4, 4), VAEConfig(32, 0, 4), VAEConfig(32, 4, 0)):
        with pytest.raises(ValueError, match="image_size must be one of"):
            build_vae(config, seeded())


def test_the_configuration_goes_through_a_dictionary() -> None:
    assert VAEConfig.from_dict(TINY.to_dict()) == TINY


# --- what TA-VAAL and SRAAL add ---


@pytest.mark.parametrize(
    ("latent", "of_vae", "of_discriminator"), [(32, 22_851_523, 280_577), (64, 23_638_019, 296_961)]
)
def test_with_a_rank_beside_the_latent_it_has_ta_vaals_parameters(
    latent: int, of_vae: int, of_discriminator: int
) -> None:
    """Counted on TA-VAAL's code: one input more at the decoder and at the discriminator."""
    with torch.device("meta"):
        vae, discriminator = VAE(VAEConfig(32, 128, latent, condition=1)), Discriminator(latent, 1)
    assert parameters(vae) == of_vae
    assert parameters(discriminator) == of_discriminator


@pytest.mark.parametrize(
    ("latent", "classes", "of_vae", "of_discriminator"),
    [(32, 10, 22_855_373, 805_377), (200, 100, 25_717_367, 891_393)],
)
def test_with_a_latent_in_halves_it_has_sraals_parameters(
    latent: int, classes: int, of_vae: int, of_discriminator: int
) -> None:
    """Counted on SRAAL's code, the classifier with the autoencoder; 200 and 100 are its CIFAR-100 configuration. The
    sum for 32 and 10 is 90.26 MiB, within a rounding of DAST-AL's table 4 for SRAAL (90.22).
    """
    with torch.device("meta"):
        vae, discriminator = VAE(VAEConfig(32, 128, latent, classes=classes)), Discriminator(latent, hidden=4)
    assert parameters(vae) == of_vae
    assert parameters(discriminator) == of_discriminator
    if latent == 32:
        assert (of_vae + of_discriminator) * 4 / 2**20 == pytest.approx(90.26, abs=0.005)


def test_a_condition_reaches_the_reconstruction_and_not_the_codes() -> None:
    vae = build_vae(VAEConfig(32, 4, 6, condition=1), seeded()).eval()
    x = torch.randn(3, 3, 32, 32, generator=seeded(1))
    low, high = (vae(x, seeded(2), torch.full((3, 1), value)) for value in (0.1, 0.9))
    assert (low.reconstruction - high.reconstruction).abs().amax(dim=(1, 2, 3)).min() > 1e-4
    assert torch.equal(low.mean, high.mean)
    assert torch.equal(low.log_variance, high.log_variance)
    assert torch.equal(low.latent, high.latent)
    discriminator = build_discriminator(6, seeded(), condition=1)
    assert (discriminator(low.mean, torch.zeros(3, 1)) != discriminator(low.mean, torch.ones(3, 1))).all()


@pytest.mark.parametrize("latent", [2, 6, 7])
def test_the_halves_of_the_latent_go_to_decoder_and_classifier(latent: int) -> None:
    """Shown by gradients: of the reconstruction at the first half, of the class logits at the second."""
    config = VAEConfig(32, 4, latent, classes=3)
    first = (latent + 1) // 2
    vae = build_vae(config, seeded())
    coded = vae(torch.randn(4, 3, 32, 32, generator=seeded(1)), seeded(2))
    (of_decoder,) = torch.autograd.grad(coded.reconstruction.square().sum(), coded.latent, retain_graph=True)
    assert (of_decoder[:, :first] != 0).any(dim=0).all()
    assert (of_decoder[:, first:] == 0).all()
    logits = vae.classify(coded.latent)
    assert logits.shape == (4, 3)
    (of_classifier,) = torch.autograd.grad(logits.square().sum(), coded.latent)
    assert (of_classifier[:, :first] == 0).all()
    assert (of_classifier[:, first:] != 0).any()


def test_classes_want_a_classifier_and_two_values_of_the_latent() -> None:
    with pytest.raises(ValueError, match="two values or more"):
        build_vae(VAEConfig(32, 4, 1, classes=3), seeded())
    with pytest.raises(ValueError, match="without classes"):
        build_vae(TINY, seeded()).classify(torch.zeros(2, 6))


def test_settled_statistics_are_those_of_the_images() -> None:
    """The first layer's by hand: mean and variance of its convolution over all rows and places."""
    vae = build_vae(TINY, seeded())
    pixels = torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8, generator=seeded(1)).numpy()
    rows = np.arange(5, 35)
    weights = {name: value.clone() for name, value in vae.named_parameters()}
    settle_statistics(vae, pixels, rows, Runtime(torch.device("cpu"), 0))
    with torch.no_grad():
        maps = vae.encoder.trunk[0](prepare(torch.from_numpy(pixels[rows]), 32))
    layer = vae.encoder.trunk[1]
    torch.testing.assert_close(layer.running_mean, maps.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.running_var, maps.var(dim=(0, 2, 3)), rtol=1e-3, atol=1e-5)
    assert layer.momentum == 0.1
    assert not vae.encoder.training
    assert all(torch.equal(value, weights[name]) for name, value in vae.named_parameters())


# --- losses ---


def test_divergence_from_the_prior_by_hand() -> None:
    """½ (μ² + σ² - 1 - log σ²) a dimension: 0 at (0, 0); ½ at μ = 1; ½ (e - 2) at log σ² = 1."""
    mean = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 2.0]])
    log_variance = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    half = (math.e - 2) / 2
    assert kl_divergence(mean, log_variance).tolist() == pytest.approx([0.0, 0.5, half, 2.5 + 2 * half], rel=1e-6)


def test_divergence_equals_pytorchs() -> None:
    mean, log_variance = torch.randn(9, 5, generator=seeded(0)), torch.randn(9, 5, generator=seeded(1))
    posterior = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)
    assert (expected > 0).all()


def test_reconstruction_error_is_the_mean_squared_error_of_each_image() -> None:
    one, other = torch.randn(4, 3, 8, 8, generator=seeded(0)), torch.randn(4, 3, 8, 8, generator=seeded(1))
    errors = reconstruction_error(one, other)
    assert errors.tolist() == pytest.approx([functional.mse_loss(a, b).item() for a, b in zip(one, other, strict=True)])


def test_without_beta_the_elbo_is_the_reconstruction() -> None:
    errors, kl = torch.tensor([0.25, 0.75]), torch.tensor([3.0, 5.0])
    assert negative_elbo(errors, kl, 3072, 8, 0.0, "mean").item() == 3072 * 0.5
    assert negative_elbo(errors, kl, 3072, 8, 0.0, "sum").item() == 0.5
    assert negative_elbo(errors, kl, 3072, 8, 0.0, "elements").item() == 0.5


def test_the_reductions_by_hand() -> None:
    """mean, sum over pixels and over the latent, mean over the batch: 3072 * 0.5 + 2 * 4.
    sum, as VAAL's code: 0.5 + 2 * (3 + 5). elements, as TA-VAAL's, for a latent of 8: 0.5 + 2 * (3 + 5) / (2 * 8).
    """
    errors, kl = torch.tensor([0.25, 0.75], dtype=torch.float64), torch.tensor([3.0, 5.0], dtype=torch.float64)
    assert negative_elbo(errors, kl, 3072, 8, 2.0, "mean").item() == pytest.approx(1544.0, rel=1e-12)
    assert negative_elbo(errors, kl, 3072, 8, 2.0, "sum").item() == pytest.approx(16.5)
    assert negative_elbo(errors, kl, 3072, 8, 2.0, "elements").item() == pytest.approx(1.5)
    with pytest.raises(ValueError, match="'max': choose one of mean, sum, elements"):
        negative_elbo(errors, kl, 3072, 8, 2.0, "max")


@pytest.mark.parametrize(("reduction", "times"), [("mean", 1), ("elements", 1), ("sum", 2)])
def test_of_the_reductions_only_the_sum_depends_on_the_batch(reduction: str, times: int) -> None:
    """VAAL's sum over the batch weighs the KL twice when the same images come twice."""
    errors, kl = torch.tensor([0.25, 0.75]), torch.tensor([3.0, 5.0])
    plain = negative_elbo(errors, kl, 3072, 8, 0.0, reduction).item()
    once = negative_elbo(errors, kl, 3072, 8, 1.0, reduction).item()
    twice = negative_elbo(errors.repeat(2), kl.repeat(2), 3072, 8, 1.0, reduction).item()
    assert once > plain
    assert twice - plain == pytest.approx(times * (once - plain), rel=1e-4)


def test_draws_have_the_posteriors_moments_and_come_from_the_generator() -> None:
    mean = torch.tensor([1.0, -2.0]).expand(100_000, 2)
    log_variance = torch.tensor([math.log(4.0), math.log(0.25)]).expand(100_000, 2)
    before = torch.get_rng_state()
    drawn = draw_latent(mean, log_variance, seeded(0))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn, draw_latent(mean, log_variance, seeded(0)))
    assert not torch.equal(drawn, draw_latent(mean, log_variance, seeded(1)))
    assert drawn.mean(dim=0).tolist() == pytest.approx([1.0, -2.0], abs=0.04)  # six standard errors of 0.0063
    assert drawn.std(dim=0).tolist() == pytest.approx([2.0, 0.5], rel=0.02)
