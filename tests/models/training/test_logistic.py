"""Logistic regression on features, against scikit-learn's, and the choice of its penalty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.training import logistic
from models.training.calibration import LeftOut
from models.training.logistic import STRENGTHS, USUAL_STRENGTH, Scale, cross_validated, fold_of, minimum, row_losses

CLASSES, FEATURES = 4, 30


def clusters(count: int, noise: float, seed: int = 0, features: int = FEATURES) -> tuple[Tensor, Tensor]:
    """Features (L, F) around a center per class, and classes (L,)."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(count) % CLASSES
    centers = torch.randn(CLASSES, features, generator=torch.Generator().manual_seed(77))
    return centers[classes] + noise * torch.randn(count, features, generator=generator), classes


def solved(features: Tensor, targets: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    classes = CLASSES if targets.ndim == 1 else targets.shape[1]
    weight, bias, _ = minimum(
        lambda w, b: row_losses(functional.linear(features, w, b), targets).sum(),
        Scale.of(features),
        classes,
        strength,
        len(features),
        lambda: False,
    )
    return weight, bias


@pytest.mark.parametrize("strength", [1e-2, 1.0])
def test_the_minimum_is_scikit_learns(strength: float) -> None:
    """On standardized features, with its C: it does not penalize the bias, and ours hardly."""
    from sklearn.linear_model import LogisticRegression  # here: slow to import

    features, classes = clusters(200, 2.0)
    standard = Scale.of(features).standardized(features)
    reference = LogisticRegression(C=strength, tol=1e-8, max_iter=5000).fit(standard.numpy(), classes.numpy())
    weight, bias = solved(features, classes, strength)
    ours = functional.linear(features, weight, bias).softmax(dim=1).numpy()
    np.testing.assert_allclose(ours, reference.predict_proba(standard.numpy()), atol=5e-3)


def test_a_regression_per_class_is_scikit_learns_of_that_class() -> None:
    from sklearn.linear_model import LogisticRegression  # here: slow to import

    features, classes = clusters(200, 2.0)
    chosen = functional.one_hot(classes, CLASSES).float()
    standard = Scale.of(features).standardized(features).numpy()
    weight, bias = solved(features, chosen, 0.1)
    ours = functional.linear(features, weight, bias).sigmoid().numpy()
    for index in range(CLASSES):
        own = LogisticRegression(C=0.1, tol=1e-8, max_iter=5000).fit(standard, chosen[:, index].numpy())
        np.testing.assert_allclose(ours[:, index], own.predict_proba(standard)[:, 1], atol=5e-3)


@pytest.mark.parametrize("count", [24, 90])  # fewer rows than features, and more
@pytest.mark.parametrize("exclusive", [True, False])
def test_all_problems_at_once_are_solved_like_each_alone(
    count: int, exclusive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logistic, "COMPARING_STEPS", 400)
    features, classes = clusters(count, 1.0)
    features = Scale.of(features).standardized(features)
    wide = functional.one_hot(classes, CLASSES).float()
    learned = torch.rand(2, count, generator=torch.Generator().manual_seed(1)) < 0.7
    variances = torch.tensor([0.003, 0.1])
    rows, squares = logistic.in_own_directions(features)
    found = logistic.solved(rows, squares, wide, learned, variances, exclusive)
    nothing = Scale(torch.zeros(FEATURES), torch.ones(FEATURES))
    for place in range(2):
        own, said = features[learned[place]], (classes if exclusive else wide)[learned[place]]
        weight, bias, _ = minimum(
            lambda w, b, own=own, said=said: row_losses(functional.linear(own, w, b), said).sum(),
            nothing,
            CLASSES,
            float(variances[place]),
            len(own),
            lambda: False,
        )
        np.testing.assert_allclose(found[place], functional.linear(features, weight, bias), atol=0.02)


def test_noise_asks_for_a_stronger_penalty_than_plain_classes() -> None:
    def chosen(noise: float) -> float:
        features, classes = clusters(160, noise)
        wide = functional.one_hot(classes, CLASSES).float()
        standard = Scale.of(features).standardized(features)
        return cross_validated(standard, wide, True, np.random.default_rng(0)).strength

    assert chosen(12.0) < chosen(0.3)
    assert {chosen(12.0), chosen(0.3)} <= set(STRENGTHS)


def test_too_few_labels_and_too_many_classes_are_not_compared() -> None:
    features, classes = clusters(6, 1.0)
    rng = np.random.default_rng(0)
    few = cross_validated(features, functional.one_hot(classes, CLASSES).float(), True, rng)
    assert (few.strength, few.left_out) == (USUAL_STRENGTH, None)
    many = torch.eye(1000)
    strength = cross_validated(torch.randn(1000, 600), many, True, rng).strength
    assert strength == pytest.approx(USUAL_STRENGTH * 0.3)


def test_labels_that_are_each_the_only_one_of_their_class_say_nothing() -> None:
    features = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    found = cross_validated(features, torch.eye(12), True, np.random.default_rng(0))
    assert (found.strength, found.left_out) == (USUAL_STRENGTH, None)


@pytest.mark.parametrize("count", [60, 400])
def test_labels_are_told_by_heads_that_did_not_learn_from_them(count: int) -> None:
    """Classes that features have nothing to do with, but fit, are told about as by chance; those of clusters about as
    well as of rows that nobody has labeled."""
    features = torch.randn(count, 500, generator=torch.Generator().manual_seed(1))
    classes = torch.arange(count) % CLASSES
    random = cross_validated(features, functional.one_hot(classes, CLASSES).float(), True, np.random.default_rng(0))
    assert random.left_out is not None and len(random.left_out.logits) == count
    assert accuracy_of(random.left_out) < 0.4

    features, classes = clusters(count, 2.0)
    standard = Scale.of(features).standardized(features)
    told = cross_validated(standard, functional.one_hot(classes, CLASSES).float(), True, np.random.default_rng(0))
    others, their_classes = clusters(1000, 2.0, seed=1)
    weight, bias = solved(features, classes, told.strength)
    unseen = functional.linear(others, weight, bias).argmax(dim=1) == their_classes
    assert told.left_out is not None
    assert accuracy_of(told.left_out) == pytest.approx(float(unseen.float().mean()), abs=0.1)


def accuracy_of(told: LeftOut) -> float:
    return float((told.logits.argmax(dim=1) == told.targets.argmax(dim=1)).float().mean())


def test_folds_have_about_as_many_of_each_class() -> None:
    targets = np.eye(3)[np.repeat([0, 1, 2], [20, 10, 5])]
    fold = fold_of(targets, 5, np.random.default_rng(0), exclusive=True)
    for index, count in enumerate((20, 10, 5)):
        sizes = np.bincount(fold[targets[:, index] == 1], minlength=5)
        assert sizes.max() - sizes.min() <= 1
        assert sizes.sum() == count


def test_a_class_without_labels_keeps_a_small_probability() -> None:
    features, classes = clusters(60, 1.0)
    classes[classes == 3] = 0
    weight, bias = solved(features, classes, 0.01)
    unseen = functional.linear(features, weight, bias).softmax(dim=1)[:, 3]
    assert 1e-4 < float(unseen.mean()) < 0.05


def test_the_way_from_another_head_leads_to_the_same_minimum() -> None:
    features, classes = clusters(60, 2.0)
    loss = lambda w, b: row_losses(functional.linear(features, w, b), classes).sum()  # noqa: E731
    scale = Scale.of(features)
    weight, bias, steps = minimum(loss, scale, CLASSES, 0.1, 60, lambda: False)
    start = (weight + 0.01 * torch.randn_like(weight), bias + 0.1)
    again, bias_again, more = minimum(loss, scale, CLASSES, 0.1, 60, lambda: False, start)
    said, before = (functional.linear(features, *one).softmax(dim=1) for one in ((again, bias_again), (weight, bias)))
    np.testing.assert_allclose(said, before, atol=0.01)
    *_, none = minimum(loss, scale, CLASSES, 0.1, 60, lambda: False, (weight, bias))
    assert none <= 1 and more < steps


def test_what_varies_more_counts_more_but_not_in_proportion() -> None:
    """Deviations of 1 and 100: standardized, they would be 1 and 1; as they are, 1 and 100; here they are 1 and 10."""
    features = torch.tensor([[1.0, 100.0], [-1.0, -100.0]]) + torch.tensor([5.0, 7.0])
    scale = Scale.of(features)
    spread = scale.standardized(features).std(dim=0, correction=0)
    np.testing.assert_allclose(scale.standardized(features).mean(dim=0), [0, 0], atol=1e-6)
    np.testing.assert_allclose(spread[1] / spread[0], 10, rtol=1e-5)
    np.testing.assert_allclose(spread.square().mean(), 1, rtol=1e-5)


def test_features_that_never_vary_do_no_harm() -> None:
    features, classes = clusters(60, 1.0)
    features[:, 0] = 3.0
    weight, bias = solved(features, classes, 0.01)
    assert torch.isfinite(weight).all() and torch.isfinite(bias).all()
    constant, _ = solved(torch.zeros(8, 3), torch.arange(8) % CLASSES, 0.01)
    assert torch.isfinite(constant).all()


def test_it_ends_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "TOLERANCE", 1e-9)
    features, classes = clusters(60, 3.0)
    loss = lambda w, b: row_losses(functional.linear(features, w, b), classes).sum()  # noqa: E731
    *_, steps = minimum(loss, Scale.of(features), CLASSES, 1e5, 60, lambda: True)
    *_, all_steps = minimum(loss, Scale.of(features), CLASSES, 1e5, 60, lambda: False)
    assert steps <= 20 < all_steps
