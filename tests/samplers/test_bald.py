"""BALD: mutual information between the answer and the head under dropout (Houlsby et al. 2011, equation 2)."""

from __future__ import annotations

import numpy as np
import torch

from models.data import ClassTargets, CycleData, Runtime
from models.inference.dropout import draw_masks
from models.inference.predictions import embed, predict
from models.losses.dropout_cross_entropy import DropoutCrossEntropy
from models.networks.classifier import Classifier, NetConfig
from models.pixels import normalize
from models.tasks import CLASSIFICATION
from samplers.bald import BaldSampler
from samplers.dropout_base import DropoutOptions
from samplers.mc_dropout import McDropoutOptions, McDropoutSampler

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 3)
COUNT, CLASSES, DRAWS = 40, 3, 10
ROWS = np.arange(COUNT)


def make_pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)


def make_net() -> Classifier:
    net = CLASSIFICATION.build(NetConfig("resnet18", CLASSES, 16, 4), 0)
    with torch.no_grad():
        net(normalize(torch.from_numpy(make_pixels())))
        net.head.weight.mul_(4.0)
    return net.eval()


def score(net: Classifier, rate: float = 0.5) -> np.ndarray:
    sampler = BaldSampler(DropoutOptions(rate, DRAWS), task="classification", num_classes=CLASSES, image_size=16)
    return sampler.score(net, make_pixels(), ROWS, RUNTIME).acquisition


def test_it_is_the_mutual_information_of_the_thinned_heads() -> None:
    """By NumPy, from the probabilities of one thinned head after the other."""
    net = make_net()
    masks = draw_masks(DRAWS, 32, 0.5, RUNTIME.generator("dropout draws")).numpy()
    features = embed(net, make_pixels(), ROWS, RUNTIME).astype(np.float64)
    weight, bias = (part.detach().double().numpy() for part in (net.head.weight, net.head.bias))
    raised = np.exp(np.einsum("nf,kf,cf->knc", features, masks, weight) + bias)
    p = raised / raised.sum(axis=-1, keepdims=True)
    mean = p.mean(axis=0)
    expected = -(mean * np.log(mean)).sum(axis=-1) + (p * np.log(p)).sum(axis=-1).mean(axis=0)
    np.testing.assert_allclose(score(net), expected, atol=1e-6)
    assert expected.min() > 0.01


def test_it_is_at_most_the_entropy_of_the_same_draws() -> None:
    net = make_net()
    whole = McDropoutSampler(McDropoutOptions(0.5, DRAWS), task="classification", num_classes=CLASSES, image_size=16)
    entropies = whole.score(net, make_pixels(), ROWS, RUNTIME).acquisition
    assert (score(net) <= entropies + 1e-6).all()
    assert (entropies <= np.log(CLASSES) + 1e-6).all()


def test_a_row_on_which_the_draws_disagree_beats_one_that_is_equally_unsure_for_all() -> None:
    """Two rows with features (8, 8) and (0, 0), and classes that read one feature each: whichever feature a mask drops,
    the first row's answer is the other's class; the second row's is one half each time."""
    net = make_net()
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.weight[0, :16] = 1.0
        net.head.weight[1, 16:] = 1.0
        net.head.bias.copy_(torch.tensor([0.0, 0.0, -50.0]))
    strong, silent = torch.full((1, 32), 8.0), torch.zeros(1, 32)
    net.features = lambda x: torch.cat([strong, silent])[: len(x)]  # type: ignore[method-assign]
    sampler = BaldSampler(DropoutOptions(0.5, 200), task="classification", num_classes=CLASSES, image_size=16)
    first, second = sampler.score(net, make_pixels(), np.arange(2), RUNTIME).acquisition
    assert second == 0.0
    assert 0.5 < first < np.log(2) + 1e-6


def test_without_dropout_there_is_nothing_to_learn() -> None:
    np.testing.assert_allclose(score(make_net(), rate=0.0), 0.0, atol=1e-6)


def test_answers_are_the_whole_heads_and_it_trains_with_dropout() -> None:
    net, pixels = make_net(), make_pixels()
    sampler = BaldSampler(DropoutOptions(0.9, 3), task="classification", num_classes=CLASSES, image_size=16)
    scored, expected = sampler.score(net, pixels, ROWS, RUNTIME), predict(net, pixels, ROWS, RUNTIME)
    assert scored.predictions is not None
    assert (scored.predictions.confidence == expected.confidence).all()
    data = CycleData(pixels, np.arange(6), np.arange(6, COUNT), ClassTargets(np.arange(6) % 3), CLASSES)
    objective = sampler.objective(net, data, RUNTIME)
    assert isinstance(objective, DropoutCrossEntropy)
    assert objective.rate == 0.9
    assert sampler.state_dict() == {}
