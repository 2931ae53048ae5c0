"""What samplers say of an image that is segmented, against plain means over its pixels by NumPy.

The pixels are those of the features' maps, as the network gives them; `models.inference.per_pixel` says why.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models import IGNORE
from models.data import CycleData, MaskTargets, Runtime, targets_of
from models.inference.dropout import draw_masks
from models.losses.loss_prediction import LossPrediction, ranking_loss
from models.networks.discriminator import Discriminator
from models.networks.segmenter import Segmenter
from models.networks.vae import HALF, VAE
from models.pixels import normalize
from models.tasks import SEGMENTATION
from models.training.adversarial_trainers import RelabelingTrainer
from samplers import build_sampler
from samplers.base import Sampler
from samplers.dast_al import DastAlSampler
from samplers.ensemble import EnsembleSampler
from samplers.learning_loss import LearningLossSampler
from samplers.qbc import QbcSampler
from samplers.sraal import SraalSampler, uncertainty
from samplers.ta_vaal import TaVaalSampler
from samplers.vaal import VaalSampler
from tests.models.plain_figures import bald, max_entropy, mean_std, variation_ratio
from tests.samplers.worlds import CPU, FRAME, OPTIONS, UNLABELED, fitted, make_masked_data, make_segmenter

CLASSES = 4
RUNTIME = Runtime(CPU, 3, eval_batch_size=5)


@cache
def world() -> tuple[Segmenter, CycleData]:
    """A network in training mode, which answers every class somewhere, and what it has labels of."""
    net, data = make_segmenter(CLASSES), make_masked_data(CLASSES)
    with torch.no_grad():
        net.head.weight.mul_(4.0)  # so that covariances matter
        net.head.bias.sub_(torch.from_numpy(maps_of(net, data.pixels)).mean(dim=(0, 2, 3)))
    assert set(maps_of(net, data.pixels).argmax(axis=1).flatten()) == set(range(CLASSES))
    return net.train(), data


def maps_of(net: Segmenter, pixels: np.ndarray, masks: Tensor | None = None) -> np.ndarray:
    """Logits (N, C, h, w) float64 of a plain pass in eval mode; with masks (K, F) of each of K thinned heads first."""
    features = torch.from_numpy(features_of(net, pixels))
    with torch.no_grad():
        if masks is None:
            return net.head(features).double().numpy()
        return torch.stack([net.head(features * mask[:, None, None]) for mask in masks]).double().numpy()


def features_of(net: Segmenter, pixels: np.ndarray) -> np.ndarray:
    """(N, F, h, w) float32; the network is afterwards as it was."""
    was = net.training
    net.eval()
    with torch.no_grad():
        features = net.features(normalize(torch.from_numpy(pixels))).numpy()
    net.train(was)
    return features


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the classes of logits (N, C, h, w)."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def pool_maps() -> np.ndarray:
    net, data = world()
    return maps_of(net, data.pixels[data.unlabeled])


def make(name: str, **options: object) -> Sampler[Any]:
    return build_sampler(
        name, OPTIONS | options, task="segmentation", num_classes=CLASSES, image_size=max(FRAME), device=CPU
    )


def score(sampler: Sampler[Any]) -> np.ndarray:
    net, data = world()
    return sampler.score(net, data.pixels, data.unlabeled, RUNTIME).acquisition


# --- one network's answers ---


def mean_entropy() -> np.ndarray:
    p = softmax(pool_maps())
    return -(p * np.log(p)).sum(axis=1).mean(axis=(1, 2))


def log_odds_of_mean_error() -> np.ndarray:
    error = (1.0 - softmax(pool_maps()).max(axis=1)).mean(axis=(1, 2))
    return np.log(error / (1.0 - error))


def log_odds_of_no_mean_margin() -> np.ndarray:
    p = np.sort(softmax(pool_maps()), axis=1)
    margin = (p[:, -1] - p[:, -2]).mean(axis=(1, 2))
    return np.log((1.0 - margin) / margin)


BY_HAND: dict[str, Callable[[], np.ndarray]] = {
    "entropy": mean_entropy,
    "least-confidence": log_odds_of_mean_error,
    "margin": log_odds_of_no_mean_margin,
    "max-prob": lambda: -log_odds_of_mean_error(),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_the_score_is_made_of_the_mean_over_the_pixels(name: str) -> None:
    expected = BY_HAND[name]()
    assert expected.shape == (UNLABELED,)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(score(make(name)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["entropy", "dast-al", "bald", "ensemble", "core-set", "learning-loss", "ta-vaal"])
def test_predictions_are_the_most_frequent_class_and_the_mean_confidence(name: str) -> None:
    """Whatever else is asked in the pass that gives them."""
    trained = fitted(name, 3, "segmentation")
    rows = trained.data.unlabeled
    predictions = trained.sampler.score(trained.net, trained.data.pixels, rows, RUNTIME).predictions
    assert predictions is not None
    assert isinstance(trained.net, Segmenter)
    maps = maps_of(trained.net, trained.data.pixels[rows])
    votes = np.stack([(maps.argmax(axis=1) == label).sum(axis=(1, 2)) for label in range(3)])
    assert (votes[predictions.predicted, np.arange(len(rows))] == votes.max(axis=0)).all()
    np.testing.assert_allclose(predictions.confidence, softmax(maps).max(axis=1).mean(axis=(1, 2)), rtol=1e-4)


# --- many networks' answers ---

RATE, DRAWS = 0.4, 9
FIGURES: dict[str, Callable[[Tensor], Tensor]] = {
    "max-entropy": max_entropy,
    "variation-ratio": variation_ratio,
    "mean-std": mean_std,
    "bald": bald,
}


def over_pixels(figure: Callable[[Tensor], Tensor], maps: np.ndarray) -> np.ndarray:
    """The mean over the pixels of a figure of opinions, whose logits are (K, N, C, h, w): (N,)."""
    rows = torch.from_numpy(maps).log_softmax(dim=2).movedim(2, -1)  # (K, N, h, w, C)
    return figure(rows.flatten(1, 3)).unflatten(0, rows.shape[1:4]).mean(dim=(1, 2)).numpy()


@pytest.mark.parametrize("kind", FIGURES)
def test_dropout_is_of_the_same_channels_in_all_pixels_and_images(kind: str) -> None:
    net, data = world()
    masks = draw_masks(DRAWS, net.feature_channels, RATE, RUNTIME.generator("dropout draws"))
    expected = over_pixels(FIGURES[kind], maps_of(net, data.pixels[data.unlabeled], masks))
    name = "bald" if kind == "bald" else "mc-dropout"
    sampler = make(name, dropout_rate=RATE, dropout_draws=DRAWS, mc_dropout_score=kind)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(score(sampler), expected, rtol=1e-4, atol=1e-6)


def committee_maps(sampler: EnsembleSampler | QbcSampler) -> np.ndarray:
    """(3, U, C, h, w) of the task network and two members, trained for a moment."""
    net, data = world()
    sampler.fit(net, data, RUNTIME)
    nets = [net, *sampler.committee()]
    assert len(nets) == 3
    maps = []
    for one in nets:
        assert isinstance(one, Segmenter)
        maps.append(maps_of(one, data.pixels[data.unlabeled]))
    return np.stack(maps)


def test_a_committee_votes_on_every_pixel() -> None:
    sampler = make("ensemble", ensemble_size=3)
    assert isinstance(sampler, EnsembleSampler)
    votes = committee_maps(sampler).argmax(axis=2)  # (3, U, h, w)
    for_mode = np.stack([(votes == label).sum(axis=0) for label in range(CLASSES)]).max(axis=0)
    expected = (1.0 - for_mode / 3).mean(axis=(1, 2))
    assert expected.std() > 1e-2
    np.testing.assert_allclose(score(sampler), expected, atol=1e-6)  # nothing random is added


@pytest.mark.parametrize("kind", ["vote-entropy", "consensus-entropy"])
def test_votes_and_consensus_are_those_of_pixels(kind: str) -> None:
    sampler = make("qbc", ensemble_size=3, qbc_score=kind)
    assert isinstance(sampler, QbcSampler)
    maps = committee_maps(sampler)
    if kind == "vote-entropy":
        share = np.stack([(maps.argmax(axis=2) == label).mean(axis=0) for label in range(CLASSES)], axis=1)
    else:
        share = np.stack([softmax(one) for one in maps]).mean(axis=0)
    logarithm = np.log(share, out=np.zeros_like(share), where=share > 0)
    np.testing.assert_allclose(score(sampler), -(share * logarithm).sum(axis=1).mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)


# --- partial model change ---


def table_by_definition(data: CycleData, kind: str) -> np.ndarray:
    """Q[k, j] = (w_j - w_k)' Σ_k (w_j - w_k), Σ_k of the pixels labeled k, their labels those in their middles."""
    net, _ = world()
    targets = targets_of(data, MaskTargets)
    features = features_of(net, data.pixels[data.labeled]).astype(np.float64)
    height, width = features.shape[2:]
    rows, columns = ((np.arange(cells) * 8 + 4) for cells in (height, width))  # the stride is 8
    labels = targets.masks[targets.rows][:, rows[:, None], columns]
    weight = net.head.weight.detach().double().flatten(1).numpy()
    table = np.zeros((CLASSES, CLASSES))
    for k in range(CLASSES):
        pixels = features.transpose(0, 2, 3, 1)[labels == k]
        if len(pixels) < 2:
            continue
        covariance = np.cov(pixels.T, bias=True)
        covariance = np.diag(np.diag(covariance)) if kind == "diag" else covariance
        for j in range(CLASSES):
            table[k, j] = (weight[j] - weight[k]) @ covariance @ (weight[j] - weight[k])
    return table


@pytest.mark.parametrize("kind", ["diag", "full"])
def test_the_bound_is_averaged_with_a_table_of_labeled_pixels(kind: str) -> None:
    net, data = world()
    sampler = make("dast-al", covariance=kind)
    assert isinstance(sampler, DastAlSampler)
    figures = sampler.fit(net, data, RUNTIME)
    table = table_by_definition(data, kind)
    assert table[:3].max() > 0.05 and (table[3] == 0).all()  # nobody has labeled a pixel of the last class
    assert figures["classes_without_covariance"] == 1.0
    np.testing.assert_allclose(sampler.table.numpy(), table, rtol=1e-4, atol=1e-6)
    z = pool_maps()
    predicted = z.argmax(axis=1)
    exponents = z - z.max(axis=1, keepdims=True) + 0.5 * table[predicted].transpose(0, 3, 1, 2)
    expected = np.log((np.exp(exponents).sum(axis=1) - 1.0).mean(axis=(1, 2)))
    np.testing.assert_allclose(score(sampler), expected, rtol=1e-4, atol=1e-5)


def test_a_mask_without_a_label_leaves_the_table_as_it_is() -> None:
    """Nor does it matter what is shown where nobody said anything."""
    net, data = world()
    targets = targets_of(data, MaskTargets)
    blank = int(np.flatnonzero((targets.masks == IGNORE).all(axis=(1, 2)))[0])
    assert blank in targets.rows
    without = np.flatnonzero(targets.rows != blank)
    less = dataclasses.replace(data, labeled=data.labeled[without], targets=targets.at(without))
    tables = []
    for one in (data, less):
        sampler = make("dast-al")
        assert isinstance(sampler, DastAlSampler)
        sampler.fit(net, one, RUNTIME)
        tables.append(sampler.table)
    torch.testing.assert_close(tables[0], tables[1], rtol=1e-5, atol=1e-7)


# --- features ---


def test_core_set_picks_by_mean_features() -> None:
    """Algorithm 1 by loops: each pick is the row farthest from all before it, and that distance is its score."""
    net, data = world()
    sampler = make("core-set", core_set_picks=6)
    sampler.fit(net, data, RUNTIME)
    mean = features_of(net, data.pixels).astype(np.float64).mean(axis=(2, 3))
    centers, picks = [mean[row] for row in data.labeled], []
    for _ in range(6):
        nearest = np.sqrt(((mean[data.unlabeled][:, None] - np.stack(centers)) ** 2).sum(axis=2)).min(axis=1)
        picks.append((int(nearest.argmax()), nearest.max()))
        centers.append(mean[data.unlabeled][picks[-1][0]])
    values = score(sampler)
    assert np.argsort(-values)[:6].tolist() == [pick for pick, _ in picks]
    np.testing.assert_allclose(np.exp(values[[pick for pick, _ in picks]]), [away for _, away in picks], rtol=1e-4)


# --- predicted losses ---


def test_losses_to_be_predicted_are_means_over_the_labeled_pixels_of_an_image() -> None:
    net, data = world()
    targets = targets_of(data, MaskTargets)
    sampler = make("learning-loss-v2", learning_loss_weight=0.7)
    objective = sampler.objective(net, data, RUNTIME)
    assert isinstance(objective, LossPrediction)
    weight = torch.linspace(0.5, 2.0, data.num_classes)
    weighted = dataclasses.replace(targets, class_weight=weight.numpy())
    objective.begin(net, dataclasses.replace(data, targets=weighted), RUNTIME)
    images = normalize(torch.from_numpy(data.pixels[data.labeled]))
    masks = torch.from_numpy(targets.masks[targets.rows])
    losses = []
    net.eval()  # so that images may go one by one
    try:
        with torch.no_grad():
            for image, mask in zip(images, masks, strict=True):
                if (mask == IGNORE).all():
                    losses.append(torch.zeros(()))
                else:
                    losses.append(functional.cross_entropy(net(image[None]), mask[None].long(), ignore_index=IGNORE))
            predicted = objective.predictor(net.features_and_taps(images)[1])
            found, net_logits = objective.loss(net, images, masks, 0.0), net(images)
    finally:
        net.train()
    own = torch.stack(losses)
    # The network's own loss is the mean over all pixels.
    expected = functional.cross_entropy(net_logits, masks.long(), weight, ignore_index=IGNORE)
    torch.testing.assert_close(found, expected + 0.7 * ranking_loss(predicted, own), rtol=1e-4, atol=1e-5)


def test_the_predicted_loss_is_that_of_the_mean_taps() -> None:
    trained = fitted("learning-loss", 3, "segmentation")
    sampler, net, data = trained.sampler, trained.net, trained.data
    assert isinstance(sampler, LearningLossSampler) and sampler.predictor is not None
    with torch.no_grad():
        taps = net.features_and_taps(normalize(torch.from_numpy(data.pixels[data.unlabeled])))[1]
        expected = sampler.predictor(taps).numpy()
    np.testing.assert_allclose(trained.score(data.unlabeled), expected, rtol=1e-4, atol=1e-5)


# --- codes of whole images ---


def test_shares_of_the_classes_are_what_sraals_classifier_learns() -> None:
    masks = np.full((3, 2, 4), IGNORE, dtype=np.uint8)
    masks[0] = 2
    masks[2, 0] = [0, 0, 1, IGNORE]
    pixels, order = np.zeros((4, 2, 4, 3), dtype=np.uint8), np.array([3, 0, 1])
    masks.setflags(write=False)  # as a mapped file
    data = CycleData(pixels, order, np.array([2]), MaskTargets(masks, np.array([2, 0, 1])), 3)
    found = SEGMENTATION.latent_targets(data, RUNTIME)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor([[2 / 3, 1 / 3, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))


def test_sraal_relabels_by_the_mean_uncertainty_of_the_pixels() -> None:
    net, data = world()
    sampler = make("sraal")
    assert isinstance(sampler, SraalSampler)
    sampler.fit(net, data, RUNTIME)
    trainer = sampler.trainer(net, data, sampler.options.recipe(), RUNTIME)
    assert isinstance(trainer, RelabelingTrainer)
    p = softmax(pool_maps())
    m, variance = p.max(axis=1), p.var(axis=1)
    smallest = (CLASSES * m - 1) ** 2 / (CLASSES**2 * (CLASSES - 1))
    expected = (1 - m * smallest / variance).mean(axis=(1, 2))
    np.testing.assert_allclose(trainer._uncertainty.numpy(), expected, rtol=1e-3, atol=1e-5)
    assert trainer._uncertainty.dtype == torch.float32
    first = uncertainty(torch.from_numpy(p[:, :, 0, 0])).numpy()
    assert not np.allclose(trainer._uncertainty.numpy(), first, rtol=0.05)  # not that of some pixel


@pytest.mark.parametrize("frame", [(64, 96), (96, 64), (40, 72)])
@pytest.mark.parametrize("name", ["vaal", "ta-vaal"])
def test_autoencoders_see_the_whole_image_compressed_to_a_square(name: str, frame: tuple[int, int]) -> None:
    """Also where one of its sides is as long as the square's already."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (10, *frame, 3), dtype=np.uint8)
    masks = rng.integers(0, CLASSES, (4, *frame)).astype(np.uint8)
    data = CycleData(pixels, np.arange(4), np.arange(4, 10), MaskTargets(masks, np.arange(4)), CLASSES)
    net, _ = world()
    sampler = build_sampler(name, OPTIONS, task="segmentation", num_classes=CLASSES, image_size=max(frame), device=CPU)
    assert isinstance(sampler, VaalSampler | TaVaalSampler)
    sampler.fit(net, data, RUNTIME)
    plain = normalize(torch.from_numpy(pixels), HALF, HALF)
    square = functional.interpolate(plain, size=(64, 64), mode="area")
    vae, discriminator = sampler.part(VAE).eval(), sampler.part(Discriminator).eval()
    with torch.no_grad():
        means = vae.encoder.means(square)
        if isinstance(sampler, TaVaalSampler):
            net.eval()
            taps = net.features_and_taps(normalize(torch.from_numpy(pixels)))[1]
            net.train()
            expected = -discriminator(means, torch.sigmoid(sampler.ranker(net)(taps))[:, None])
        else:
            expected = -discriminator(means)
    found = sampler.score(net, pixels, np.arange(10), RUNTIME).acquisition
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)
