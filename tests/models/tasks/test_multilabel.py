"""Several classes an image: values worked out by hand, and what sums over classes have to keep."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import ClassTargets, CycleData, DataError, MultilabelTargets, Runtime
from models.inference.disagreement import (
    StreamingBald,
    StreamingFigure,
    StreamingMaxEntropy,
    StreamingMeanStd,
    StreamingVariationRatio,
    StreamingVoteEntropy,
)
from models.inference.dropout import draw_masks, predict_and_disagree
from models.inference.predictions import predict
from models.losses.binary_cross_entropy import BinaryCrossEntropy
from models.losses.dropout_cross_entropy import DropoutCrossEntropy
from models.losses.loss_prediction import LossPrediction, build_loss_predictor, ranking_loss
from models.networks.classifier import Classifier, NetConfig
from models.pixels import MEAN, STD
from models.tasks import CLASSIFICATION, MULTILABEL
from models.tasks.base import UnsupportedTask
from models.training.committee import predict_and_disagree as ask_committee
from models.training.rows import epoch_positions
from models.training.schedule import Recipe
from models.training.task_network import train_network
from samplers.entropy import predictive_entropy
from samplers.least_confidence import log_odds_of_error
from samplers.margin import log_odds_of_no_margin
from samplers.sraal import uncertainty
from tests.models.plain_figures import bald, max_entropy, mean_std, variation_ratio, vote_entropy

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 0)
NOBODY = np.empty(0, dtype=np.int64)
HALF_AND_THREE_QUARTERS = torch.tensor([[0.0, math.log(3.0)]])  # p = 1/2 and 3/4
FIGURES: list[tuple[Callable[[Tensor], Tensor], type[StreamingFigure]]] = [
    (max_entropy, StreamingMaxEntropy),
    (bald, StreamingBald),
    (variation_ratio, StreamingVariationRatio),
    (vote_entropy, StreamingVoteEntropy),
    (mean_std, StreamingMeanStd),
]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny(num_classes: int = 2, seed: int = 0) -> Classifier:
    return MULTILABEL.build(NetConfig("resnet18", num_classes, 16, 4), seed)


def make_data(count: int = 24, num_classes: int = 2, seed: int = 0) -> CycleData:
    """Noisy images; a class is chosen where its channel is bright, whatever the other channel is. As many labeled
    rows as others."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, 2, (2 * count, num_classes)).astype(np.uint8)
    pixels = rng.integers(0, 120, (2 * count, 16, 16, 3))
    for label in range(num_classes):
        pixels[:, :, :, label % 3] += 100 * chosen[:, label, None, None]
    rows = np.arange(2 * count)
    return CycleData(
        pixels.astype(np.uint8), rows[:count], rows[count:], MultilabelTargets(chosen[:count]), num_classes
    )


def as_opinions(logits: Tensor) -> Tensor:
    """log (1 - p, p) of each class from logits (K, B, C): (K, B C, 2), by the definition of σ."""
    p = torch.sigmoid(logits.double()).flatten(1)
    return torch.stack([1.0 - p, p], dim=2).log()


# --- what an image's uncertainty is ---


def test_the_entropy_is_the_sum_of_those_of_the_classes() -> None:
    """H(1/2) = log 2; H(3/4) = log 4 - 3/4 log 3."""
    found = MULTILABEL.per_image(predictive_entropy, HALF_AND_THREE_QUARTERS)
    assert found.item() == pytest.approx(math.log(2.0) + math.log(4.0) - 0.75 * math.log(3.0), rel=1e-6)


def test_the_entropy_is_that_of_all_combinations_of_independent_classes() -> None:
    """Of 2³ combinations, each with the product of its probabilities."""
    logits = 2.0 * draw(5, 3)
    p = torch.sigmoid(logits.double())
    combinations = torch.cartesian_prod(*[torch.tensor([False, True])] * 3)  # (8, 3)
    joint = torch.where(combinations, p[:, None], 1.0 - p[:, None]).prod(dim=2)
    torch.testing.assert_close(MULTILABEL.per_image(predictive_entropy, logits), torch.special.entr(joint).sum(dim=1))


def test_the_error_and_the_margin_are_averaged_over_the_classes() -> None:
    """1 - p_ŷ is 1/2 and 1/4, hence 3/8 on average, whose odds are 3 to 5. The margin |2 p - 1| is 0 and 1/2: 1/4."""
    log_odds = MULTILABEL.per_image(log_odds_of_error, HALF_AND_THREE_QUARTERS, reduce="log_odds_of_mean")
    assert log_odds.item() == pytest.approx(math.log(3 / 5), rel=1e-6)
    log_odds = MULTILABEL.per_image(log_odds_of_no_margin, HALF_AND_THREE_QUARTERS, reduce="log_odds_of_mean")
    assert log_odds.item() == pytest.approx(math.log(3.0), rel=1e-6)


def test_a_share_stays_within_its_bounds_when_it_is_averaged() -> None:
    """SRAAL's indicator of two classes is 1 - max(p, 1 - p): 1/2 and 1/4."""
    found = MULTILABEL.per_image(lambda rows: uncertainty(rows.softmax(dim=1)), HALF_AND_THREE_QUARTERS, reduce="mean")
    assert found.item() == pytest.approx(3 / 8, rel=1e-6)


@pytest.mark.parametrize("measure", [predictive_entropy, log_odds_of_error, log_odds_of_no_margin])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_one_class_is_a_choice_between_two(measure: Callable[[Tensor], Tensor], sign: float) -> None:
    """Whatever the figure; and it does not matter which of the two answers is called yes."""
    logits = 3.0 * draw(7, 1)
    two_way = CLASSIFICATION.per_image(measure, torch.cat([torch.zeros(7, 1), logits], dim=1)).double()
    torch.testing.assert_close(MULTILABEL.per_image(measure, sign * logits), two_way, rtol=1e-5, atol=1e-7)


def test_sure_answers_neither_tie_nor_overflow() -> None:
    logits = torch.tensor([[40.0, 900.0], [41.0, 900.0], [1e4, 900.0]])
    values = MULTILABEL.per_image(log_odds_of_error, logits, reduce="log_odds_of_mean")
    assert values.isfinite().all()
    assert values[0] - values[1] == pytest.approx(1.0, abs=1e-6)
    assert values.diff().max() < 0


def test_the_order_of_the_classes_and_the_other_images_do_not_matter() -> None:
    logits = draw(6, 5)
    for reduce in ("total", "log_odds_of_mean"):
        whole = MULTILABEL.per_image(log_odds_of_error, logits, reduce=reduce)
        alone = torch.cat([MULTILABEL.per_image(log_odds_of_error, one[None], reduce=reduce) for one in logits])
        torch.testing.assert_close(alone, whole, rtol=1e-12, atol=0.0)
        torch.testing.assert_close(MULTILABEL.per_image(log_odds_of_error, logits.flip(1), reduce=reduce), whole)


# --- predictions ---


def test_predictions_are_probabilities_and_how_sure_they_are_on_average() -> None:
    probabilities, confidence = MULTILABEL.predict(torch.cat([HALF_AND_THREE_QUARTERS, -HALF_AND_THREE_QUARTERS]))
    assert probabilities.flatten().tolist() == pytest.approx([0.5, 0.75, 0.5, 0.25])
    assert confidence.tolist() == pytest.approx([5 / 8, 5 / 8])
    assert probabilities.dtype == torch.float32


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_a_broken_class_shows_in_the_confidence_of_its_own_image(broken: float) -> None:
    logits = draw(3, 4)
    logits[1, 2] = broken
    _, confidence = MULTILABEL.predict(logits)
    assert confidence.isnan().tolist() == [False, True, False]


def test_predictions_of_a_pool_do_not_depend_on_batches_or_order() -> None:
    net, data = tiny(3), make_data(num_classes=3)
    whole = predict(net, data.pixels, data.unlabeled, RUNTIME)
    assert whole.predicted.shape == (24, 3)
    assert (whole.predicted.dtype, whole.confidence.dtype) == (np.float32, np.float64)
    odd = predict(net, data.pixels, data.unlabeled[::-1].copy(), Runtime(CPU, 0, eval_batch_size=5))
    np.testing.assert_allclose(odd.predicted[::-1], whole.predicted, rtol=1e-5)
    np.testing.assert_allclose(odd.confidence[::-1], whole.confidence, rtol=1e-6)
    nothing = predict(net, data.pixels, NOBODY, RUNTIME)
    assert (nothing.predicted.shape, nothing.predicted.dtype) == ((0, 3), np.float32)


# --- several opinions ---


@pytest.mark.parametrize(("figure", "streaming"), FIGURES)
def test_opinions_are_compared_class_by_class_and_added_up(
    figure: Callable[[Tensor], Tensor], streaming: type[StreamingFigure]
) -> None:
    opinions = 2.0 * draw(5, 4, 3)  # K, B, C
    gathered = MULTILABEL.streaming(streaming)
    for logits in opinions:
        gathered.add(logits)
    expected = figure(as_opinions(opinions)).unflatten(0, (4, 3)).sum(dim=1)
    assert gathered.result().dtype == torch.float64
    torch.testing.assert_close(gathered.result(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("figure", "streaming"), FIGURES)
def test_dropout_is_the_same_through_masks_of_the_features(
    figure: Callable[[Tensor], Tensor], streaming: type[StreamingFigure]
) -> None:
    """Against the head itself on the thinned features, one mask after the other."""
    head, features = nn.Linear(8, 3), 2.0 * draw(6, 8)
    masks = draw_masks(7, 8, 0.5, torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = figure(as_opinions(torch.stack([head(features * mask) for mask in masks])))
        found = MULTILABEL.thinned_disagreement(features, head, masks, streaming)
        alone = torch.cat([MULTILABEL.thinned_disagreement(one[None], head, masks, streaming) for one in features])
    torch.testing.assert_close(found, expected.unflatten(0, (6, 3)).sum(dim=1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(alone, found, rtol=1e-5, atol=1e-6)


def test_two_sure_networks_that_disagree_on_one_class_have_one_bit_between_them() -> None:
    """p = 0 and 1 of the first class, both 1 of the second: BALD is log 2, the variation ratio 1/2."""
    opinions = torch.tensor([[[90.0, 90.0]], [[-90.0, 90.0]]])
    for streaming, expected in ((StreamingBald, math.log(2.0)), (StreamingVariationRatio, 0.5)):
        gathered = MULTILABEL.streaming(streaming)
        for logits in opinions:
            gathered.add(logits)
        assert gathered.result().item() == pytest.approx(expected, rel=1e-6)


def test_draws_and_committees_of_a_network_are_asked_by_the_kind_of_task() -> None:
    """A rate of 0 and a committee of one network twice: no disagreement, and the sum of the entropies as consensus."""
    net, data = tiny(3), make_data(num_classes=3)
    rows = data.unlabeled
    for ask in (
        lambda figure: predict_and_disagree(net, data.pixels, rows, RUNTIME, figure, 3, 0.0),
        lambda figure: ask_committee(net, [net], data.pixels, rows, RUNTIME, figure),
    ):
        predictions, disagreement = ask(StreamingBald)
        p = predictions.predicted.astype(np.float64)
        np.testing.assert_allclose(disagreement, 0.0, atol=1e-6)
        entropies = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(axis=1)
        np.testing.assert_allclose(ask(StreamingMaxEntropy)[1], entropies, rtol=1e-4)


# --- losses and training ---


def test_binary_cross_entropy_by_hand_and_by_torch() -> None:
    """Chosen and not: log 2 for p = 1/2; -log 3/4 and -log 1/4 for p = 3/4. Means over the classes."""
    logits, targets = HALF_AND_THREE_QUARTERS.repeat(2, 1), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    mean, losses = MULTILABEL.losses(logits, targets, None)
    by_hand = [(math.log(2.0) - math.log(0.75)) / 2, (math.log(2.0) - math.log(0.25)) / 2]
    assert losses.tolist() == pytest.approx(by_hand, rel=1e-6)
    assert mean.item() == pytest.approx(sum(by_hand) / 2, rel=1e-6)
    logits, targets = 3.0 * draw(8, 5), (draw(8, 5, seed=1) > 0).float()
    mean, losses = MULTILABEL.losses(logits, targets, None)
    torch.testing.assert_close(mean, functional.binary_cross_entropy(torch.sigmoid(logits), targets))
    for one, logit, target in zip(losses, logits, targets, strict=True):
        torch.testing.assert_close(one, functional.binary_cross_entropy(torch.sigmoid(logit), target))


def test_objectives_are_binary_cross_entropy_of_the_batch() -> None:
    net, images, targets = tiny(3), draw(4, 3, 16, 16), (draw(4, 3) > 0).float()
    expected = functional.binary_cross_entropy(torch.sigmoid(net(images)), targets)
    objective, thinned = MULTILABEL.cross_entropy(), MULTILABEL.dropout_cross_entropy(0.0)
    assert isinstance(objective, BinaryCrossEntropy)
    assert isinstance(thinned, DropoutCrossEntropy)
    thinned.begin(net, make_data(num_classes=3), RUNTIME)
    for one in (objective, thinned):
        torch.testing.assert_close(one.loss(net, images, targets, 0.0), expected, rtol=1e-5, atol=1e-6)
    dropped = MULTILABEL.dropout_cross_entropy(0.5)
    dropped.begin(net, make_data(num_classes=3), RUNTIME)
    features = net.features(images) * draw_masks(4, net.feature_channels, 0.5, RUNTIME.generator("dropout"))
    expected = functional.binary_cross_entropy_with_logits(net.head(features), targets)
    torch.testing.assert_close(dropped.loss(net, images, targets, 0.0), expected, rtol=1e-5, atol=1e-6)


def test_losses_to_be_predicted_are_those_of_the_images() -> None:
    net, images, targets = tiny(3).eval(), draw(6, 3, 16, 16), (draw(6, 3) > 0).float()
    predictor = build_loss_predictor(net.tap_channels, 8, torch.Generator().manual_seed(0))
    objective = LossPrediction(predictor, ranking_loss, weight=0.7)
    objective.begin(net, make_data(num_classes=3), RUNTIME)
    losses = functional.binary_cross_entropy_with_logits(net(images), targets, reduction="none").mean(dim=1)
    expected = losses.mean() + 0.7 * ranking_loss(predictor(net.features_and_taps(images)[1]), losses)
    torch.testing.assert_close(objective.loss(net, images, targets, 0.0), expected, rtol=1e-5, atol=1e-6)


def test_every_image_is_shown_with_its_own_choices() -> None:
    """A pixel of image i says i, and its choices are the binary digits of i."""
    count = 8
    pixels = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 16, 16, 3)).copy()
    rows = np.array([5, 2, 7, 0, 1, 6])
    chosen = (rows[:, None] >> np.arange(3) & 1).astype(np.uint8)
    data = CycleData(pixels, rows, NOBODY, MultilabelTargets(chosen), 3)
    examples = MULTILABEL.examples(tiny(3), data, Recipe(), RUNTIME)
    plan = epoch_positions(len(rows), 4, torch.Generator().manual_seed(0))
    seen = []
    for images, targets in examples.batches(plan):
        assert targets.dtype == torch.float32
        numbers = images.amax(dim=(1, 2, 3))  # what a crop pads with is 0
        assert targets.tolist() == [[float(number >> digit & 1) for digit in range(3)] for number in numbers.tolist()]
        seen += numbers.tolist()
    assert sorted(seen) == sorted(rows)


def test_training_learns_each_class_whatever_the_others_are() -> None:
    data, net = make_data(32, 2), tiny(2)
    figures = train_network(net, data, MULTILABEL.cross_entropy(), Recipe(epochs=20, batch_size=8), RUNTIME)
    assert figures["labels"] == 32
    predicted = predict(net, data.pixels, data.unlabeled, RUNTIME).predicted > 0.5
    truth = data.pixels[data.unlabeled].mean(axis=(1, 2))[:, :2] > 110
    assert (predicted == truth).mean() > 0.8  # by chance 0.5
    assert len(np.unique(truth, axis=0)) == 4  # every combination is there


def test_targets_of_one_class_an_image_are_refused() -> None:
    data = make_data()
    data = CycleData(data.pixels, data.labeled, NOBODY, ClassTargets(np.zeros(24, dtype=np.int64)), 2)
    with pytest.raises(DataError, match="needs targets of the kind multilabel"):
        train_network(tiny(), data, MULTILABEL.cross_entropy(), Recipe(epochs=1), RUNTIME)


def test_shares_of_the_chosen_classes_are_what_a_latent_learns() -> None:
    chosen = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=np.uint8)
    data = CycleData(np.zeros((3, 8, 8, 3), dtype=np.uint8), np.arange(3), NOBODY, MultilabelTargets(chosen), 4)
    found = MULTILABEL.latent_targets(data, RUNTIME)
    assert found.dtype == torch.float32
    assert found.tolist() == [[0.5, 0.0, 0.5, 0.0], [0.0] * 4, [0.0, 1.0, 0.0, 0.0]]


# --- what has no meaning ---


def test_what_needs_classes_that_exclude_each_other_is_refused_in_words() -> None:
    net, data = tiny(), make_data()
    for ask in (
        lambda: MULTILABEL.isda(0.5, "diag"),
        lambda: MULTILABEL.class_spread(net, data, RUNTIME, "diag"),
        lambda: MULTILABEL.epmcm(torch.zeros(1, 2), torch.zeros(2, 2)),
        lambda: MULTILABEL.drawn_change(torch.zeros(1, 2), torch.zeros(2, 2, 2), torch.zeros(3, 2)),
    ):
        with pytest.raises(UnsupportedTask, match="an image has several"):
            ask()


def test_images_are_normalized_as_everywhere() -> None:
    """The task changes what outputs mean, not what the network sees."""
    net, data = tiny(), make_data(2)
    images = (torch.from_numpy(data.pixels[data.unlabeled]).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.no_grad():
        expected = torch.sigmoid(net.eval()(images.permute(0, 3, 1, 2))).numpy()
    found = predict(net, data.pixels, data.unlabeled, RUNTIME).predicted
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
