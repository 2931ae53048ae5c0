"""The module that predicts losses, its two pair losses, and when its gradient reaches the trunk (Yoo & Kweon, CVPR
2019, section 3; "learning loss v2" of TA-VAAL's supplement)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.data import ClassTargets, CycleData, Runtime
from models.losses.loss_prediction import (
    LossPrediction,
    LossPredictor,
    PairLoss,
    build_loss_predictor,
    margin_loss,
    pair_differences,
    ranking_loss,
)
from models.networks.classifier import Classifier, NetConfig
from models.tasks import CLASSIFICATION
from models.training.schedule import Recipe
from models.training.task_network import train_network

CPU = torch.device("cpu")
NOBODY = np.empty(0, dtype=np.int64)
LOSSES = torch.tensor([3.0, 0.5, 2.0, 1.0, 0.25, 4.0])  # pairs: (3, 4), (0.5, 0.25), (2, 1)


def margin_one(predicted: Tensor, losses: Tensor) -> Tensor:
    return margin_loss(predicted, losses, 1.0)


BOTH = pytest.mark.parametrize("pair_loss", [margin_one, ranking_loss])


def make_predictor(*tap_channels: int, width: int = 8) -> LossPredictor:
    return build_loss_predictor(tap_channels, width, torch.Generator().manual_seed(0))


def make_net(name: str = "resnet18", size: int = 8) -> Classifier:
    return CLASSIFICATION.build(NetConfig(name, 3, size, 4), 0)


def make_batch(count: int = 6, size: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1)), torch.arange(count) % 3


# --- the module ---


def test_the_papers_module_has_as_many_parameters_as_the_papers() -> None:
    """4 branches T -> 128 and 512 -> 1, with biases: (960 + 4) * 128 + 513 = 123,905."""
    assert sum(p.numel() for p in make_predictor(64, 128, 256, 512, width=128).parameters()) == 123_905


def test_it_is_a_linear_layer_and_relu_for_each_tap_and_a_linear_layer_on_all() -> None:
    predictor, taps = make_predictor(2, 5), [torch.randn(3, 2), torch.randn(3, 5)]
    weights = {key: value.double().numpy() for key, value in predictor.state_dict().items()}
    seen = [
        np.maximum(tap.double().numpy() @ weights[f"branches.{k}.weight"].T + weights[f"branches.{k}.bias"], 0.0)
        for k, tap in enumerate(taps)
    ]
    expected = np.concatenate(seen, axis=1) @ weights["last.weight"][0] + weights["last.bias"][0]
    np.testing.assert_allclose(predictor(taps).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_it_is_drawn_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again = make_predictor(2, 5), make_predictor(2, 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    other = build_loss_predictor((2, 5), 8, torch.Generator().manual_seed(1))
    assert not torch.equal(first.last.weight, other.last.weight)


@pytest.mark.parametrize(("name", "size"), [("resnet18", 8), ("vgg16-bn", 32)])
def test_it_reads_the_taps_of_every_task_network(name: str, size: int) -> None:
    net = make_net(name, size).eval()
    _, taps = net.features_and_taps(make_batch(size=size)[0])
    predicted = make_predictor(*net.tap_channels)(taps)
    assert (predicted.shape, predicted.dtype) == ((6,), torch.float32)


# --- the pairs ---


def test_pairs_are_the_batch_folded_in_the_middle() -> None:
    assert pair_differences(torch.tensor([1.0, 2.0, 4.0, 8.0])).tolist() == [-7.0, -2.0]


@BOTH
def test_the_middle_row_of_an_odd_batch_is_left_out(pair_loss: PairLoss) -> None:
    predicted = torch.randn(5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = pair_loss(predicted, LOSSES[:5])
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert gradient[2] == 0.0
    without = pair_loss(predicted[[0, 1, 3, 4]], LOSSES[[0, 1, 3, 4]])
    assert loss.item() == without.item() > 0.0


@BOTH
def test_a_single_row_has_no_partner_and_no_loss_but_can_be_stepped_on(pair_loss: PairLoss) -> None:
    predicted = torch.ones(1, requires_grad=True)
    loss = pair_loss(predicted, LOSSES[:1])
    loss.backward()
    assert loss.item() == 0.0
    assert predicted.grad is not None
    assert predicted.grad.item() == 0.0


@BOTH
def test_only_differences_of_predictions_count(pair_loss: PairLoss) -> None:
    predicted = torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert pair_loss(predicted + 3.0, LOSSES).item() == pytest.approx(pair_loss(predicted, LOSSES).item(), rel=1e-12)
    assert pair_loss(2.0 * predicted, LOSSES).item() != pytest.approx(pair_loss(predicted, LOSSES).item(), rel=0.01)


@BOTH
def test_only_the_order_of_losses_counts_and_they_get_no_gradient(pair_loss: PairLoss) -> None:
    predicted = torch.randn(6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    losses = LOSSES.clone().requires_grad_()
    loss = pair_loss(predicted, losses)
    assert loss.item() == pair_loss(predicted, LOSSES.exp()).item()
    loss.backward()
    assert losses.grad is None
    assert predicted.grad is not None


# --- the margin loss ---


def test_the_margin_loss_is_zero_exactly_where_all_pairs_are_in_order_and_a_margin_apart() -> None:
    apart = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0, 1.0])  # each pair in order, exactly ξ = 1 apart
    assert margin_one(apart, LOSSES).item() == 0.0
    assert margin_one(5.0 * apart, LOSSES).item() == 0.0
    assert margin_one(0.75 * apart, LOSSES).item() == 0.25


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0, 2.0])
def test_the_margin_loss_of_constants_is_the_margin_and_of_a_reversed_order_the_gap_more(margin: float) -> None:
    assert margin_loss(torch.full((6,), 7.0), LOSSES, margin).item() == margin
    gap = torch.tensor([2.0, 0.0, 0.0, 2.0, 2.0, 0.0])  # the wrong way round, 2 apart
    assert margin_loss(gap, LOSSES, margin).item() == margin + 2.0


def test_the_margin_loss_by_hand_and_equal_losses_count_as_smaller() -> None:
    """ξ = 1; pairs (2, 0) of losses 1 and 1: s = -1, so 2 + 1 = 3; (0.5, 0) of losses 2 and 1: -0.5 + 1."""
    predicted, losses = torch.tensor([2.0, 0.5, 0.0, 0.0]), torch.tensor([1.0, 2.0, 1.0, 1.0])
    assert margin_one(predicted, losses).item() == (3.0 + 0.5) / 2


# --- the ranking loss ---


def test_the_ranking_loss_of_constants_is_ln_2() -> None:
    assert ranking_loss(torch.full((6,), 7.0), LOSSES).item() == pytest.approx(math.log(2.0), rel=1e-6)


def test_the_ranking_loss_by_hand() -> None:
    """Two pairs: r = 2 over 0 with the larger loss, ln(1 + e^-2); r = 1 over 0 with the smaller, ln(1 + e)."""
    loss = ranking_loss(torch.tensor([2.0, 1.0, 0.0, 0.0]), torch.tensor([4.0, 1.0, 3.0, 2.0]))
    assert loss.item() == pytest.approx((math.log1p(math.exp(-2.0)) + math.log1p(math.e)) / 2, rel=1e-6)


@pytest.mark.parametrize("losses", [LOSSES, torch.tensor([1.0, 2.0, 3.0, 3.0, 1.0, 1.0])])  # with ties as well
def test_swapping_the_two_of_each_pair_leaves_the_ranking_loss(losses: Tensor) -> None:
    predicted = torch.randn(6, generator=torch.Generator().manual_seed(0))
    assert ranking_loss(predicted.flip(0), losses.flip(0)).item() == pytest.approx(
        ranking_loss(predicted, losses).item(), rel=1e-6
    )


def test_the_reversed_order_costs_the_mean_distance_more() -> None:
    """softplus(x) - softplus(-x) = x."""
    ordered = LOSSES.log()
    distance = pair_differences(ordered).abs().mean().item()
    reversed_, right = ranking_loss(-ordered, LOSSES).item(), ranking_loss(ordered, LOSSES).item()
    assert reversed_ == pytest.approx(right + distance, rel=1e-5)


def test_equal_losses_ask_the_ranking_loss_for_equal_predictions() -> None:
    predicted = torch.tensor([1.0, 0.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(ranking_loss(predicted, torch.ones(2)), predicted)
    assert gradient[0] == -gradient[1] > 0.0
    level = torch.zeros(2, requires_grad=True)
    assert torch.autograd.grad(ranking_loss(level, torch.ones(2)), level)[0].abs().max() == 0.0


# --- the objective ---


def gradients(objective: LossPrediction, net: Classifier, progress: float) -> Tensor:
    """Of the trunk, from the module's loss alone."""
    images, targets = make_batch()
    plain = functional.cross_entropy(net(images), targets)
    own = objective.loss(net, images, targets, progress) - plain
    return torch.cat([g.flatten() for g in torch.autograd.grad(own, list(net.trunk.parameters()))])


@BOTH
def test_the_loss_is_cross_entropy_and_weight_times_the_pairs(pair_loss: PairLoss) -> None:
    net, (images, targets) = make_net().eval(), make_batch()
    predictor = make_predictor(*net.tap_channels)
    with torch.no_grad():
        features, taps = net.features_and_taps(images)
        losses = functional.cross_entropy(net.head(features), targets, reduction="none")
        expected = losses.mean() + 0.3 * pair_loss(predictor(taps), losses)
        found = LossPrediction(predictor, pair_loss, weight=0.3).loss(net, images, targets, 0.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("epoch", "epochs", "flows"), [(0, 200, True), (120, 200, True), (121, 200, False), (199, 200, False), (3, 5, True)]
)
@BOTH
def test_the_gradient_reaches_the_trunk_up_to_epoch_120_of_200(
    pair_loss: PairLoss, epoch: int, epochs: int, flows: bool
) -> None:
    net = make_net().eval()
    objective = LossPrediction(make_predictor(*net.tap_channels), pair_loss)
    size = gradients(objective, net, epoch / epochs).abs().max().item()
    assert (size > 1e-4) == flows
    assert flows or size < 1e-6  # rounding of the subtraction


@pytest.mark.parametrize("progress", [0.0, 0.99])
def test_the_module_learns_in_every_epoch_and_its_loss_never_reaches_the_head(progress: float) -> None:
    net, (images, targets) = make_net().eval(), make_batch()
    predictor = make_predictor(*net.tap_channels)
    plain = torch.autograd.grad(functional.cross_entropy(net(images), targets), net.head.weight)[0]
    LossPrediction(predictor, ranking_loss).loss(net, images, targets, progress).backward()
    assert predictor.last.weight.grad is not None
    assert predictor.last.weight.grad.abs().max() > 0
    assert net.head.weight.grad is not None
    torch.testing.assert_close(net.head.weight.grad, plain)


def test_the_task_network_runs_once_for_a_batch() -> None:
    net, calls = make_net(), []
    net.trunk.conv1.register_forward_hook(lambda module, args, output: calls.append(len(output)))
    LossPrediction(make_predictor(*net.tap_channels), ranking_loss).loss(net, *make_batch(), 0.0)
    assert calls == [6]


def make_data(labels: int = 24) -> CycleData:
    pixels = np.random.default_rng(0).integers(0, 256, (labels, 8, 8, 3)).astype(np.uint8)
    return CycleData(pixels, np.arange(labels), NOBODY, ClassTargets(np.arange(labels) % 3), 3)


def test_the_module_is_trained_and_decays_by_the_task_networks_sgd() -> None:
    """With weight λ = 0 nothing but the decay moves it: lr 0.1 and decay 1 leave 0.9 of it after one plain step."""
    recipe = Recipe(epochs=1, batch_size=24, momentum=0.0, weight_decay=1.0)
    left = []
    for weight in (0.0, 1.0):
        net, predictor = make_net(), make_predictor(4, 8, 16, 32)
        before = predictor.last.weight.detach().clone()
        objective = LossPrediction(predictor, ranking_loss, weight)
        figures = train_network(net, make_data(), objective, recipe, Runtime(CPU, 0))
        rate = 0.1 * math.sqrt(16 / 24)  # 24 labels once are fewer steps than 300: batches of 16, at a lower rate
        assert (figures["steps"], figures["batch_size"]) == (2, 16)
        left.append(predictor.last.weight / (before * (1 - rate) ** 2))
        assert not predictor.training
    torch.testing.assert_close(left[0], torch.ones_like(left[0]))
    assert not torch.allclose(left[1], left[0], rtol=1e-3)


def test_taps_of_another_network_are_refused() -> None:
    objective = LossPrediction(make_predictor(4, 8), ranking_loss)
    with pytest.raises(ValueError, match=r"taps of \(4, 8\), the net has \(4, 8, 16, 32\)"):
        objective.begin(make_net(), make_data(), Runtime(CPU, 0))


@BOTH
def test_a_trained_module_ranks_images_it_has_not_seen(pair_loss: PairLoss) -> None:
    """The loss is a nonlinear function of two of the features tapped."""
    generator = torch.Generator().manual_seed(3)
    taps = [torch.rand(600, channels, generator=generator) for channels in (4, 8)]
    losses = taps[0][:, 0] + 2.0 * (taps[1][:, 3] - 0.5).abs()
    predictor = make_predictor(4, 8)
    optimizer = torch.optim.SGD(predictor.parameters(), lr=0.1, momentum=0.9)
    for _ in range(300):
        rows = torch.randperm(500, generator=generator)[:64]
        optimizer.zero_grad()
        pair_loss(predictor([tap[rows] for tap in taps]), losses[rows]).backward()
        optimizer.step()
    predicted = predictor([tap[500:] for tap in taps]).detach()
    top = predicted.argsort(descending=True)[:20]
    assert losses[500:][top].mean() > losses[500:].mean() + 0.8 * losses[500:].std()
    ranks = [values.argsort().argsort().double() for values in (predicted, losses[500:])]
    assert torch.corrcoef(torch.stack(ranks))[0, 1] > 0.7
