"""Two classifiers on prototypes, their losses and their weights (ADS, Fu et al., AAAI 2021)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from models.networks.two_classifiers import (
    Pair,
    PrototypeClassifier,
    TwoClassifiers,
    agreement_loss,
    build_two_classifiers,
    disagreement,
    discrepancy_loss,
    one_vs_all_loss,
    uncertainty,
    weights,
)

CLASSES = pytest.mark.parametrize("num_classes", [1, 2, 10, 1000])


def make_classifiers(num_classes: int = 3, features: int = 8, prototypes: int = 3) -> TwoClassifiers:
    return build_two_classifiers(features, num_classes, prototypes, 0.05, torch.Generator().manual_seed(0))


def make_pair(num_classes: int = 3, count: int = 7, scale: float = 3.0) -> Pair:
    generator = torch.Generator().manual_seed(num_classes)
    first, second = scale * torch.randn(2, count, num_classes, generator=generator, dtype=torch.float64)
    return first, second


def logit(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).logit()[None]


# --- the classifiers ---


def test_a_classifier_is_the_cosine_to_the_nearest_prototype_of_each_class() -> None:
    classifier = make_classifiers().first
    features = torch.rand(4, 8, generator=torch.Generator().manual_seed(1))
    codes = 1.0 / (1.0 + np.exp(-(features.numpy() @ classifier.linear.weight.detach().numpy().T)))
    prototypes = classifier.prototypes.detach().numpy()
    for row, code in enumerate(codes):
        for c in range(3):
            cosines = [code @ p / np.linalg.norm(code) / np.linalg.norm(p) for p in prototypes[c]]
            assert classifier(features)[row, c].item() == pytest.approx(max(cosines) / 0.05, rel=1e-4)


@CLASSES
def test_logits_have_one_value_a_class_and_lie_within_one_over_alpha(num_classes: int) -> None:
    for logits in make_classifiers(num_classes)(torch.randn(5, 8)):
        assert logits.shape == (5, num_classes)
        assert logits.abs().max() <= 1 / 0.05


def test_the_length_of_a_prototype_does_not_matter() -> None:
    classifier, features = make_classifiers().first, torch.rand(4, 8)
    before = classifier(features)
    with torch.no_grad():
        classifier.prototypes *= 3.0
    torch.testing.assert_close(classifier(features), before)


def test_the_papers_numbers_of_parameters() -> None:
    """Two linear layers of 512 x 512 without bias and, for ten classes, 2 * 30 prototypes of 512."""
    classifiers = TwoClassifiers(512, 10)
    assert sum(p.numel() for p in classifiers.parameters()) == 2 * 512 * 512 + 2 * 30 * 512


def test_they_are_drawn_from_the_generator_alone_and_differ() -> None:
    before = torch.get_rng_state()
    first, again = make_classifiers(), make_classifiers()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.first.linear.weight, first.second.linear.weight)
    assert not torch.equal(first.first.prototypes, first.second.prototypes)
    assert isinstance(first.first, PrototypeClassifier)


# --- the labeled loss ---


def test_the_labeled_loss_by_hand() -> None:
    """ŷ¹ = (0.8, 0.4), ŷ² = (0.5, 0.5), class 0: -(ln 0.8 + ln 0.6) / 2 and ln 2."""
    loss = one_vs_all_loss((logit(0.8, 0.4), logit(0.5, 0.5)), torch.tensor([0]))
    assert loss.item() == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2 + math.log(2.0))


# --- the uncertainty ---


def test_the_uncertainty_by_hand() -> None:
    """ŷ¹ = (0.6, 0.2) is 3/4 and 1/4 of its sum: 2 - 3/4 log2 3 bits; ŷ² = (0.3, 0.3): one bit."""
    expected = 0.5 * ((2.0 - 0.75 * math.log2(3.0)) + 1.0)
    assert uncertainty((logit(0.6, 0.2), logit(0.3, 0.3))).item() == pytest.approx(expected)


@CLASSES
def test_the_uncertainty_is_largest_where_no_class_stands_out(num_classes: int) -> None:
    for level in (-30.0, -1.0, 0.0, 30.0):  # also where no class, or each, is claimed
        flat = torch.full((1, num_classes), level)
        assert uncertainty((flat, flat)).item() == pytest.approx(math.log2(num_classes), abs=1e-5)
    other = uncertainty(make_pair(num_classes))
    assert (other <= math.log2(num_classes)).all()
    assert (other > 0).all() or num_classes == 1


def test_the_uncertainty_of_certain_answers_is_zero_and_finite_for_all_logits() -> None:
    certain = torch.tensor([[20.0, -20.0, -20.0], [1e4, -1e4, -1e4]])
    assert uncertainty((certain, certain)).abs().max() < 1e-5
    far = torch.tensor([[-1e4, -1e4], [1e4, 1e4]])
    assert uncertainty((far, far)).tolist() == [1.0, 1.0]


def test_the_uncertainty_is_symmetric_and_blind_to_the_order_of_classes() -> None:
    first, second = make_pair()
    expected = uncertainty((first, second))
    torch.testing.assert_close(uncertainty((second, first)), expected)
    torch.testing.assert_close(uncertainty((first.flip(1), second)), expected)


# --- the weights ---


@pytest.mark.parametrize("count", [1, 7, 128])
def test_the_two_weights_of_a_sample_sum_to_one_nth_and_are_constants(count: int) -> None:
    uncertain = torch.rand(count, dtype=torch.float64, requires_grad=True)
    agree, disagree = weights(uncertain, 0.1)
    torch.testing.assert_close(agree + disagree, torch.full((count,), 1 / count, dtype=torch.float64))
    assert not agree.requires_grad
    assert not disagree.requires_grad


def test_the_certain_weigh_in_agreement_the_uncertain_in_discrepancy() -> None:
    agree, disagree = weights(torch.tensor([0.0, 0.1, 3.0], dtype=torch.float64), 0.1)
    assert agree[1].item() == disagree[1].item() == pytest.approx(0.5 / 3)
    assert disagree[2].item() == pytest.approx(1 / (1 + math.exp(-2.9)) / 3)
    assert agree[0] > agree[1] > agree[2]
    assert disagree[0] < disagree[1] < disagree[2]


# --- agreement and discrepancy ---


@CLASSES
def test_identical_classifiers_agree_wholly(num_classes: int) -> None:
    first, _ = make_pair(num_classes)
    assert disagreement((first, first)).abs().max() == 0.0
    assert agreement_loss((first, first), 0.1).item() == 0.0
    _, disagree = weights(uncertainty((first, first)), 0.1)
    assert discrepancy_loss((first, first), 0.1).item() == pytest.approx(disagree.sum().item())  # L_d' = 1


def test_opposite_classifiers_disagree_wholly() -> None:
    sure = torch.tensor([[1e3, -1e3], [-1e3, 1e3]])
    assert disagreement((sure, -sure)).tolist() == [1.0, 1.0]
    assert discrepancy_loss((sure, -sure), 0.1).item() == 0.0


def test_both_losses_by_hand() -> None:
    """One sample, ŷ¹ = (0.6, 0.2), ŷ² = (0.3, 0.3): L_a' = (0.3 + 0.1) / 2."""
    pair = logit(0.6, 0.2), logit(0.3, 0.3)
    agree = 1.0 - 1.0 / (1.0 + math.exp(-(0.5 * (3.0 - 0.75 * math.log2(3.0)) - 0.1)))
    assert disagreement(pair).item() == pytest.approx(0.2)
    assert agreement_loss(pair, 0.1).item() == pytest.approx(agree * 0.2)
    assert discrepancy_loss(pair, 0.1).item() == pytest.approx((1.0 - agree) * 0.8)


@CLASSES
def test_losses_are_means_of_the_batch_so_that_a_batch_twice_is_the_batch(num_classes: int) -> None:
    pair = make_pair(num_classes)
    twice = (pair[0].repeat(2, 1), pair[1].repeat(2, 1))
    for loss in (agreement_loss, discrepancy_loss):
        torch.testing.assert_close(loss(twice, 0.1), loss(pair, 0.1))


def test_losses_pull_the_classifiers_together_and_apart() -> None:
    first, second = (logits.requires_grad_() for logits in make_pair(scale=1.0))
    for loss, sign in ((agreement_loss, 1.0), (discrepancy_loss, -1.0)):
        gradient, opposite = torch.autograd.grad(loss((first, second), 0.1), (first, second))
        assert (gradient * sign * (first - second) > 0).all()
        assert (opposite * sign * (first - second) < 0).all()
