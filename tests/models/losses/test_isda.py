"""Class covariances, the table Q and ISDA's loss, against NumPy, brute force, chance and the paper's identities.

Wang et al. (ISDA) and Chen et al. (DAST-AL), as cited in models/isda.py.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.data import ClassTargets, CycleData, Runtime
from models.losses import isda
from models.losses.isda import ISDA, CovarianceEstimator, class_covariance, isda_loss, semantic_table
from models.losses.objectives import CrossEntropy
from models.networks.classifier import Classifier, NetConfig
from models.tasks import CLASSIFICATION
from models.training.schedule import Recipe
from models.training.task_network import train_network

CPU = torch.device("cpu")
KINDS = pytest.mark.parametrize("kind", ["diag", "full"])
CLASSES, FEATURES = 5, 7  # class 3 is seen once, class 4 never


def make_rows(count: int = 200, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Correlated features whose mean and spread differ from class to class, and their classes."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 3, (count,), generator=generator)
    targets[count // 2] = 3
    noise = torch.randn(count, FEATURES, generator=generator, dtype=torch.float64)
    mixing = torch.randn(CLASSES, FEATURES, FEATURES, generator=generator, dtype=torch.float64)
    features = (noise[:, None] @ mixing[targets]).squeeze(1) + 2.0 * targets[:, None]
    return features.to(dtype), targets


def numpy_covariance(features: Tensor, targets: Tensor, kind: str) -> np.ndarray:
    """Of each class by NumPy; zero where a class has no row."""
    full = np.zeros((CLASSES, FEATURES, FEATURES))
    for index in range(CLASSES):
        if (targets == index).any():
            full[index] = np.cov(features[targets == index].double().numpy().T, bias=True)
    return full if kind == "full" else full.diagonal(axis1=1, axis2=2)


def estimate(batches: list[tuple[Tensor, Tensor]], kind: str, dtype: torch.dtype) -> CovarianceEstimator:
    estimator = CovarianceEstimator(CLASSES, FEATURES, kind, dtype=dtype)
    for features, targets in batches:
        estimator.update(features, targets)
    return estimator


def in_batches(features: Tensor, targets: Tensor, sizes: list[int]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(features.split(sizes), targets.split(sizes), strict=True))


# --- the estimator ---


@KINDS
@pytest.mark.parametrize("sizes", [[200], [1, 1, 2, 60, 7, 129], [1] * 200])
def test_the_estimate_is_the_biased_covariance_of_all_rows_seen(kind: str, sizes: list[int]) -> None:
    """ISDA's supplement derives the online update as exact, for any split into batches."""
    features, targets = make_rows()
    estimator = estimate(in_batches(features, targets, sizes), kind, torch.float64)
    np.testing.assert_allclose(estimator.covariance.numpy(), numpy_covariance(features, targets, kind), atol=1e-11)
    for index in range(4):
        expected = features[targets == index].mean(dim=0)
        torch.testing.assert_close(estimator.mean[index], expected, rtol=1e-12, atol=1e-12)
    assert estimator.count.tolist() == torch.bincount(targets, minlength=CLASSES).tolist()


@KINDS
def test_a_class_seen_once_or_never_has_no_covariance(kind: str) -> None:
    estimator = estimate([make_rows()], kind, torch.float32)
    assert estimator.covariance[0].abs().max() > 0.0
    assert estimator.covariance[3].abs().max() == 0.0
    assert estimator.covariance[4].abs().max() == 0.0
    assert estimator.mean[4].abs().max() == 0.0


@KINDS
def test_the_order_of_updates_does_not_matter(kind: str) -> None:
    features, targets = make_rows()
    forward = in_batches(features, targets, [50] * 4)
    shuffled = torch.randperm(len(features), generator=torch.Generator().manual_seed(1))
    first = estimate(forward, kind, torch.float64)
    for other in (forward[::-1], in_batches(features[shuffled], targets[shuffled], [31, 9, 160])):
        again = estimate(other, kind, torch.float64)
        torch.testing.assert_close(again.covariance, first.covariance, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(again.mean, first.mean, rtol=1e-10, atol=1e-12)


@KINDS
def test_single_precision_is_enough_far_from_the_origin(kind: str) -> None:
    """E[x²] - E[x]² would have lost everything here: 1e8 times float32's 6e-8 is more than the variances."""
    features, targets = make_rows(600)
    estimator = estimate(in_batches((features + 1e4).float(), targets, [100] * 6), kind, torch.float32)
    expected = numpy_covariance(features, targets, kind)
    np.testing.assert_allclose(estimator.covariance.numpy(), expected, atol=2e-3 * expected.max())


def test_full_covariances_are_symmetric_and_positive_semidefinite() -> None:
    covariance = estimate(in_batches(*make_rows(40), [9, 1, 30]), "full", torch.float64).covariance
    torch.testing.assert_close(covariance, covariance.transpose(1, 2), rtol=0, atol=1e-12)
    assert torch.linalg.eigvalsh(covariance).min() > -1e-10


@KINDS
def test_few_classes_at_a_time_give_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows()
    whole = estimate([rows], kind, torch.float64).covariance
    monkeypatch.setattr(isda, "CHUNK", 1)
    torch.testing.assert_close(estimate([rows], kind, torch.float64).covariance, whole, rtol=0, atol=1e-13)


@KINDS
def test_the_direct_covariance_equals_the_estimate(kind: str) -> None:
    features, targets = make_rows()
    direct = class_covariance(features, targets, CLASSES, kind)
    np.testing.assert_allclose(direct.numpy(), numpy_covariance(features, targets, kind), atol=1e-12)
    assert class_covariance(features[:0], targets[:0], CLASSES, kind).abs().sum() == 0.0


def test_another_kind_of_covariance_is_refused() -> None:
    for make in (lambda: CovarianceEstimator(2, 2, "banded"), lambda: ISDA(0.5, "banded")):
        with pytest.raises(ValueError, match="'banded': choose one of diag, full"):
            make()
    for strength in (-0.1, math.nan):
        with pytest.raises(ValueError, match="strength of ISDA must be 0 or more"):
            ISDA(strength)


# --- the table ---


def make_problem() -> tuple[Tensor, Tensor, Tensor]:
    """Weights (C, F), full covariances (C, F, F), biases (C,)."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(CLASSES, FEATURES, generator=generator, dtype=torch.float64)
    root = torch.randn(CLASSES, FEATURES, FEATURES, generator=generator, dtype=torch.float64)
    return weight, root @ root.transpose(1, 2) / 40, torch.randn(CLASSES, generator=generator, dtype=torch.float64)


def by_loops(weight: Tensor, covariance: Tensor) -> Tensor:
    """The definition, Q[k, j] = (w_j - w_k)ᵀ Σ_k (w_j - w_k)."""
    table = torch.empty(CLASSES, CLASSES, dtype=torch.float64)
    for k in range(CLASSES):
        for j in range(CLASSES):
            table[k, j] = (weight[j] - weight[k]) @ covariance[k] @ (weight[j] - weight[k])
    return table


def test_the_table_is_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, full, _ = make_problem()
    variances = full.diagonal(dim1=1, dim2=2)
    for chunk in (isda.CHUNK, 1):
        monkeypatch.setattr(isda, "CHUNK", chunk)
        torch.testing.assert_close(semantic_table(weight, full), by_loops(weight, full))
        torch.testing.assert_close(semantic_table(weight, variances), by_loops(weight, torch.diag_embed(variances)))


def test_diagonal_equals_full_with_diagonal_matrices() -> None:
    weight, full, _ = make_problem()
    variances = full.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(semantic_table(weight, variances), semantic_table(weight, torch.diag_embed(variances)))
    assert not torch.allclose(semantic_table(weight, variances), semantic_table(weight, full))


@KINDS
def test_the_table_has_a_zero_diagonal_and_nothing_negative_even_in_single_precision(kind: str) -> None:
    weight, full, _ = make_problem()
    weight = (weight + 300.0).float()  # nearly parallel rows: differences are a hundredth of the sizes
    weight[1] = weight[0]
    covariance = full if kind == "full" else full.diagonal(dim1=1, dim2=2)
    table = semantic_table(weight, covariance.float())
    assert table.diagonal().abs().max() == 0.0
    assert table.min() >= 0.0
    assert table[0, 1] == 0.0
    exact = semantic_table(weight.double(), covariance)
    torch.testing.assert_close(table.double(), exact, rtol=1e-2, atol=1e-4)


# --- the loss ---


def test_the_loss_by_hand() -> None:
    """Two classes, one feature: w = (0, 1), Σ_0 = 4, so Q[0, 1] = 4. At z = (0, 0), y = 0 and λ = 1 the augmented
    logits are (0, 2) and the loss is log(1 + e²).
    """
    table = semantic_table(torch.tensor([[0.0], [1.0]]), torch.tensor([[4.0], [9.0]]))
    assert table.tolist() == [[0.0, 4.0], [9.0, 0.0]]
    loss = isda_loss(torch.zeros(1, 2), torch.tensor([0]), table, 1.0)
    assert loss.item() == pytest.approx(math.log1p(math.exp(2.0)), rel=1e-6)


def make_batch(count: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Features, logits and targets for the problem above."""
    weight, _, bias = make_problem()
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(count, FEATURES, generator=generator, dtype=torch.float64)
    return features, features @ weight.T + bias, torch.randint(0, CLASSES, (count,), generator=generator)


@KINDS
def test_no_strength_is_cross_entropy_and_more_strength_is_never_less_loss(kind: str) -> None:
    """Q >= 0 adds to the other classes' logits only: the loss rises with λ (ISDA, section 3.3)."""
    weight, full, _ = make_problem()
    table = semantic_table(weight, full if kind == "full" else full.diagonal(dim1=1, dim2=2))
    _, logits, targets = make_batch()
    losses = [isda_loss(logits, targets, table, strength).item() for strength in (0.0, 0.1, 0.5, 1.0, 5.0, 50.0)]
    assert losses[0] == functional.cross_entropy(logits, targets).item()
    assert all(low < high for low, high in itertools.pairwise(losses))


def test_the_loss_bounds_the_mean_over_drawn_augmentations() -> None:
    """E[ CE(a) ] over a ~ N(f, λ Σ_y) lies below the loss (Jensen, ISDA equation 6), and E[ exp CE(a) ] is
    exactly exp(loss) for a single sample (moment-generating function, DAST-AL equation 7).
    """
    weight, full, bias = make_problem()
    features, logits, targets = make_batch(4)
    strength, draws = 0.5, 200_000
    generator = torch.Generator().manual_seed(4)
    for row in range(4):
        target = targets[row : row + 1]
        root = torch.linalg.cholesky(full[target[0]] + 1e-12 * torch.eye(FEATURES, dtype=torch.float64))
        noise = torch.randn(draws, FEATURES, generator=generator, dtype=torch.float64)
        around = features[row] + math.sqrt(strength) * noise @ root.T
        drawn = functional.cross_entropy(around @ weight.T + bias, target.expand(draws), reduction="none")
        bound = isda_loss(logits[row : row + 1], target, semantic_table(weight, full), strength).item()
        assert drawn.mean().item() + 5 * drawn.std().item() / math.sqrt(draws) < bound
        ratio = (drawn - bound).exp()
        assert abs(ratio.mean().item() - 1.0) < 5 * ratio.std().item() / math.sqrt(draws)


@KINDS
def test_gradients_reach_the_weight_also_through_the_table(kind: str) -> None:
    weight, full, bias = make_problem()
    covariance = full if kind == "full" else full.diagonal(dim1=1, dim2=2)
    features, _, targets = make_batch()

    def loss_of(features: Tensor, weight: Tensor) -> Tensor:
        return isda_loss(features @ weight.T + bias, targets, semantic_table(weight, covariance), 0.7)

    weight.requires_grad_()
    features.requires_grad_()
    assert torch.autograd.gradcheck(loss_of, (features, weight))  # against finite differences
    whole = torch.autograd.grad(loss_of(features, weight), weight)[0]
    constant = semantic_table(weight, covariance).detach()
    through_logits = torch.autograd.grad(isda_loss(features @ weight.T + bias, targets, constant, 0.7), weight)[0]
    assert not torch.allclose(whole, through_logits, rtol=0.1)


# --- the objective ---


def tiny() -> Classifier:
    return CLASSIFICATION.build(NetConfig("resnet18", 3, 16, 4), 0)


def make_data(count: int = 48) -> CycleData:
    """Noisy images whose class is the channel that is bright."""
    rng = np.random.default_rng(0)
    targets = rng.permutation(np.arange(count) % 3)
    pixels = rng.integers(0, 120, (count, 16, 16, 3))
    pixels[np.arange(count), :, :, targets] += 100
    return CycleData(pixels.astype(np.uint8), np.arange(count), np.empty(0, dtype=np.int64), ClassTargets(targets), 3)


@KINDS
def test_the_objective_is_cross_entropy_in_the_first_epoch_and_then_grows(kind: str) -> None:
    net, data, runtime = tiny().train(), make_data(), Runtime(CPU, 0)
    objective = ISDA(0.5, kind)
    objective.begin(net, data, runtime)
    images = torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(24) % 3
    with torch.no_grad():
        features = net.features(images)
        logits = net.head(features)
    covariance = class_covariance(features, targets, 3, kind)
    plain = CrossEntropy().loss(net, images, targets, 0.0).item()
    assert objective.loss(net, images, targets, 0.0).item() == plain
    assert objective.estimator is not None
    torch.testing.assert_close(objective.estimator.covariance, covariance)  # learned in the first epoch too
    table = semantic_table(net.head.weight, covariance)
    for progress in (0.25, 0.75):  # the same batch again leaves its own covariance
        expected = isda_loss(logits, targets, table, 0.5 * progress).item()
        assert objective.loss(net, images, targets, progress).item() == pytest.approx(expected, rel=1e-5)
        assert expected > plain


def test_features_get_gradient_through_the_logits_only() -> None:
    net, data = tiny().train(), make_data()
    images = torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(24) % 3
    objective = ISDA(50.0)
    objective.begin(net, data, Runtime(CPU, 0))
    objective.loss(net, images, targets, 0.5).backward()
    seen = net.trunk.conv1.weight.grad.clone()  # type: ignore[union-attr]
    assert objective.estimator is not None
    assert not objective.estimator.covariance.requires_grad
    table = semantic_table(net.head.weight, objective.estimator.covariance).detach()
    net.zero_grad()
    isda_loss(net(images), targets, table, 25.0).backward()
    torch.testing.assert_close(seen, net.trunk.conv1.weight.grad, rtol=1e-4, atol=1e-6)  # type: ignore[union-attr]


def test_each_training_begins_with_an_empty_estimate() -> None:
    net, data, runtime = tiny(), make_data(), Runtime(CPU, 0)
    objective = ISDA(0.5)
    with pytest.raises(RuntimeError, match="begin"):
        objective.loss(net, torch.zeros(2, 3, 16, 16), torch.tensor([0, 1]), 0.0)
    for _ in range(2):
        figures = train_network(net, data, objective, Recipe(epochs=2), runtime)
        assert objective.estimator is not None
        assert objective.estimator.count.sum() == 2 * 48  # every augmented view once, none of the last training
        assert np.isfinite(figures["loss"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@KINDS
def test_on_cuda_a_step_does_not_wait_and_the_estimate_is_the_same(kind: str) -> None:
    cuda = torch.device("cuda")
    net, data = tiny().to(cuda).train(), make_data()
    objective = ISDA(0.5, kind)
    objective.begin(net, data, Runtime(cuda, 0))
    images, targets = torch.randn(24, 3, 16, 16, device=cuda), (torch.arange(24) % 3).to(cuda)
    objective.loss(net, images, targets, 0.0).backward()  # fills caches
    torch.cuda.set_sync_debug_mode("error")
    try:
        objective.loss(net, images, targets, 0.5).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    features, targets = make_rows()
    estimator = CovarianceEstimator(CLASSES, FEATURES, kind, cuda, torch.float64)
    for batch, their_targets in in_batches(features.to(cuda), targets.to(cuda), [60, 140]):
        estimator.update(batch, their_targets)
    expected = numpy_covariance(features, targets, kind)
    np.testing.assert_allclose(estimator.covariance.cpu().numpy(), expected, atol=1e-11)
