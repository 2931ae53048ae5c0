"""TA-VAAL: a ranker trained with the task network, and VAAL played with its ranks (Kim et al., CVPR 2021; algorithm 1
of the supplement).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.data import Runtime
from models.inference.predictions import predict
from models.losses.loss_prediction import LossPrediction, ranking_loss
from models.networks.classifier import NetConfig
from models.networks.discriminator import Discriminator
from models.networks.vae import VAE, prepare
from models.pixels import normalize
from models.tasks import CLASSIFICATION
from models.training.schedule import Recipe
from models.training.task_network import train_network
from samplers.ta_vaal import TaVaalSampler, rank_conditions
from tests.samplers.novelty import LABELED, NET, UNLABELED, make_data, make_sampler

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 0)
KINDS = pytest.mark.parametrize("kind", ["sigmoid", "raw"])


def ta_vaal(**options: Any) -> TaVaalSampler:
    sampler = make_sampler("ta-vaal", **options)
    assert isinstance(sampler, TaVaalSampler)
    return sampler


def test_what_decoder_and_discriminator_are_given() -> None:
    """σ(log 3) = ¾, σ(0) = ½; only the authors' code has the raw rank, and only for the discriminator."""
    ranks = torch.tensor([math.log(3.0), 0.0])
    for kind, of_discriminator in (("sigmoid", [0.75, 0.5]), ("raw", [math.log(3.0), 0.0])):
        decoder, discriminator = rank_conditions(ranks, kind)
        assert decoder.shape == discriminator.shape == (2, 1)
        assert decoder[:, 0].tolist() == pytest.approx([0.75, 0.5])
        assert discriminator[:, 0].tolist() == pytest.approx(of_discriminator)


def test_the_task_network_trains_with_the_ranking_loss() -> None:
    sampler = ta_vaal(learning_loss_weight=0.2, learning_loss_stop=0.5)
    objective = sampler.objective(NET, make_data(), RUNTIME)
    assert isinstance(objective, LossPrediction)
    assert (objective.pair_loss, objective.weight, objective.stop) == (ranking_loss, 0.2, 0.5)
    assert objective.predictor.width == 8


@KINDS
def test_the_score_is_minus_the_logit_with_the_rank_beside_the_code(kind: str) -> None:
    data, sampler = make_data(), ta_vaal(ta_vaal_rank=kind)
    sampler.fit(NET, data, RUNTIME)
    vae, discriminator, ranker = sampler.part(VAE), sampler.part(Discriminator), sampler.ranker(NET)
    pixels = torch.from_numpy(data.pixels[data.unlabeled])
    with torch.no_grad():
        _, taps = NET.eval().features_and_taps(normalize(pixels))
        rank = ranker(taps)[:, None]
        mean = vae.eval().encoder.means(prepare(pixels, 32))
        expected = -discriminator(mean, rank if kind == "raw" else rank.sigmoid())
        other = -discriminator(mean, rank + 1.0)
    scores = sampler.score(NET, data.pixels, data.unlabeled, RUNTIME).acquisition
    np.testing.assert_allclose(scores, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert not np.allclose(scores, other.numpy(), atol=1e-3)  # the rank has a say


def test_one_pass_gives_ranks_in_the_fit_and_scores_and_answers_after_it() -> None:
    """In the fit a second one measures the discriminator."""
    data, sampler = make_data(), ta_vaal()
    rows_seen: list[int] = []

    def count(module: nn.Module, args: tuple[Any, ...]) -> None:
        rows_seen.append(len(args[0]))

    hook = NET.trunk.conv1.register_forward_pre_hook(count)
    try:
        sampler.fit(NET, data, RUNTIME)
        assert sum(rows_seen) == 2 * (LABELED + UNLABELED)
        rows_seen.clear()
        scored = sampler.score(NET, data.pixels, data.unlabeled, Runtime(CPU, 0, eval_batch_size=25))
    finally:
        hook.remove()
    assert rows_seen == [25, 15]
    expected = predict(NET, data.pixels, data.unlabeled, RUNTIME)
    assert scored.predictions is not None
    assert (scored.predictions.predicted == expected.predicted).all()
    np.testing.assert_allclose(scored.predictions.confidence, expected.confidence, rtol=1e-5)


@KINDS
def test_ranks_are_those_of_the_rows_in_their_places(kind: str) -> None:
    data, sampler = make_data(), ta_vaal(ta_vaal_rank=kind)
    sampler.fit(NET, data, RUNTIME)
    conditions = sampler._conditions(NET, data, RUNTIME)
    with torch.no_grad():
        _, taps = NET.eval().features_and_taps(normalize(torch.from_numpy(data.pixels)))
        ranks = sampler.ranker(NET)(taps)[:, None]
    normalized = ranks.sigmoid()
    states = ranks if kind == "raw" else normalized
    expected = (normalized[:LABELED], normalized[LABELED:], states[:LABELED], states[LABELED:])
    for own, wanted in zip(conditions, expected, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-4, atol=1e-5)


def test_ranker_and_task_network_stand_still_in_the_fit() -> None:
    data, sampler = make_data(), ta_vaal()
    objective = sampler.objective(NET, data, RUNTIME)
    assert isinstance(objective, LossPrediction)
    before = {name: value.clone() for name, value in objective.predictor.named_parameters()}
    net = {name: value.clone() for name, value in NET.state_dict().items()}
    sampler.fit(NET, data, RUNTIME)
    ranker = sampler.ranker(NET)
    assert ranker is objective.predictor
    assert all(torch.equal(value, before[name]) for name, value in ranker.named_parameters())
    assert all(torch.equal(value, net[name]) for name, value in NET.state_dict().items())
    assert all(parameter.grad is None for one in (ranker, NET) for parameter in one.parameters())


def test_the_ranker_is_trained_with_the_task_network_and_travels_with_the_state() -> None:
    data, sampler = make_data(28), ta_vaal(size=28)
    net = CLASSIFICATION.build(NetConfig("resnet18", 2, 28, 4), 0)
    objective = sampler.objective(net, data, RUNTIME)
    assert isinstance(objective, LossPrediction)
    before = {name: value.clone() for name, value in objective.predictor.named_parameters()}
    train_network(net, data, objective, Recipe(epochs=1, batch_size=8, learning_rate=0.01), RUNTIME)
    trained = dict(sampler.ranker(net).named_parameters())
    assert not torch.equal(trained["branches.0.weight"], before["branches.0.weight"])
    sampler.fit(net, data, RUNTIME)
    restored = ta_vaal(size=28)
    restored.load_state_dict(sampler.state_dict())
    assert all(torch.equal(value, trained[name]) for name, value in restored.ranker(net).named_parameters())
    rows = data.unlabeled
    scores = [one.score(net, data.pixels, rows, RUNTIME).acquisition for one in (sampler, restored)]
    assert (scores[0] == scores[1]).all()


def test_the_supplements_discriminator_has_five_layers_and_another_depth_is_not_taken_over() -> None:
    """Of latent + 1, 512 four times, and 1: with a latent of 6 that is 8 * 512 + 3 * 513 * 512 + 513 weights."""
    data, deep = make_data(), ta_vaal(ta_vaal_discriminator_layers=5)
    deep.fit(NET, data, RUNTIME)
    discriminator = deep.part(Discriminator)
    assert sum(isinstance(layer, nn.Linear) for layer in discriminator.layers) == 5
    assert sum(weight.numel() for weight in discriminator.parameters()) == 8 * 512 + 3 * 513 * 512 + 513
    again, shallow = ta_vaal(ta_vaal_discriminator_layers=5), ta_vaal()
    again.load_state_dict(deep.state_dict())
    scores = [one.score(NET, data.pixels, data.unlabeled, RUNTIME).acquisition for one in (deep, again)]
    assert (scores[0] == scores[1]).all()
    shallow.load_state_dict(deep.state_dict())
    assert shallow.vae is None, "its networks begin anew"
    assert shallow.ranker(NET) is not None, "the ranker does not"


def test_states_from_before_there_was_a_choice_of_layers_are_taken_over() -> None:
    data, sampler = make_data(), ta_vaal()
    sampler.fit(NET, data, RUNTIME)
    state = sampler.state_dict()
    del state["layers"]
    restored = ta_vaal()
    restored.load_state_dict(state)
    assert restored.vae is not None


def test_a_wasserstein_autoencoder_is_trained_scored_and_taken_over() -> None:
    data, sampler = make_data(), ta_vaal(ta_vaal_autoencoder="wasserstein")
    metrics = sampler.fit(NET, data, RUNTIME)
    assert "mmd_loss" in metrics
    assert "kl_loss" not in metrics
    restored = ta_vaal(ta_vaal_autoencoder="wasserstein")
    restored.load_state_dict(sampler.state_dict())
    scores = [one.score(NET, data.pixels, data.unlabeled, RUNTIME).acquisition for one in (sampler, restored)]
    assert (scores[0] == scores[1]).all()
    restored.fit(NET, data, RUNTIME)  # goes on, with its optimizer, which knows nothing of the variances
