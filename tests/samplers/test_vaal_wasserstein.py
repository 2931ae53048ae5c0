"""VAAL's third ablation: the distance of a code from the labeled images' centroid (Sinha et al., extended abstract,
section 3).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.data import Runtime
from models.networks.centroid import Centroid
from models.networks.vae import VAE, prepare
from samplers.vaal_wasserstein import posterior, wasserstein_squared
from tests.samplers.novelty import NET, NOBODY, make_data, make_sampler

RUNTIME = Runtime(torch.device("cpu"), 0)


def test_the_distance_by_hand() -> None:
    """N((1, 2), diag(1, 1)) and N((0, 0), diag(4, 1)): 1 + 4 for the means, (1 - 2)² for the deviations."""
    mean, deviation = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0], [2.0, 1.0]])
    squared = wasserstein_squared(mean, deviation, torch.zeros(2), torch.tensor([2.0, 1.0]))
    assert squared.tolist() == [6.0, 0.0]


def test_the_distance_is_that_of_the_general_formula() -> None:
    """||μ - μ'||² + tr(Σ + Σ' - 2 (Σ'^½ Σ Σ'^½)^½), Givens & Shortt 1984, for diagonal Σ and Σ'."""
    generator = torch.Generator().manual_seed(0)
    mean, other = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64).unbind()
    deviation, other_deviation = torch.rand(2, 3, 5, generator=generator, dtype=torch.float64).unbind()
    for row in range(3):
        root = torch.diag(other_deviation[row])
        values = torch.linalg.eigvalsh(root @ torch.diag(deviation[row] ** 2) @ root)
        traces = (deviation[row] ** 2 + other_deviation[row] ** 2).sum() - 2 * values.sqrt().sum()
        expected = (mean[row] - other[row]).square().sum() + traces
        one = wasserstein_squared(mean[row : row + 1], deviation[row : row + 1], other[row], other_deviation[row])
        assert one.item() == pytest.approx(expected.item())


def test_the_centroid_has_the_least_squared_distances_to_the_labeled() -> None:
    data, sampler = make_data(), make_sampler("vaal-wasserstein")
    sampler.fit(NET, data, RUNTIME)
    with torch.no_grad():
        mean, deviation = posterior(sampler.part(VAE).eval().encoder, images(data.pixels[data.labeled]))
    centroid = sampler.part(Centroid)
    torch.testing.assert_close(centroid.mean, mean.mean(dim=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(centroid.deviation, deviation.mean(dim=0), rtol=1e-4, atol=1e-5)
    least = wasserstein_squared(mean, deviation, centroid.mean, centroid.deviation).sum()
    for shift in (0.1, -0.1):
        for moved in ((centroid.mean + shift, centroid.deviation), (centroid.mean, centroid.deviation + shift)):
            assert wasserstein_squared(mean, deviation, *moved).sum() > least


def test_the_score_is_the_logarithm_and_the_centroid_itself_has_one() -> None:
    data, sampler = make_data(), make_sampler("vaal-wasserstein")
    sampler.fit(NET, data, RUNTIME)
    centroid = sampler.part(Centroid)
    with torch.no_grad():
        mean, deviation = posterior(sampler.part(VAE).eval().encoder, images(data.pixels[data.unlabeled]))
        squared = wasserstein_squared(mean, deviation, centroid.mean, centroid.deviation)
    scores = sampler.score(NET, data.pixels, data.unlabeled, RUNTIME).acquisition
    np.testing.assert_allclose(np.exp(scores), squared.numpy(), rtol=1e-3)
    one = make_data(32, 1, 0)
    sampler.fit(NET, one, RUNTIME)
    assert np.isfinite(sampler.score(NET, one.pixels, one.labeled, RUNTIME).acquisition).all()
    assert len(one.unlabeled) == len(NOBODY)


def test_there_is_no_discriminator() -> None:
    sampler = make_sampler("vaal-wasserstein")
    figures = sampler.fit(NET, make_data(), RUNTIME)
    assert sampler.networks is not None
    assert list(sampler.networks) == ["vae", "centroid"]
    assert {"reconstruction_loss", "kl_loss"} < set(figures)
    assert not {"adversarial_loss", "discriminator_loss", "discriminator_accuracy"} & set(figures)


def images(pixels: np.ndarray) -> Tensor:
    return prepare(torch.from_numpy(pixels), 32)
