"""Dropout at several stages: masks, what training drops, and the figures against networks thinned one by one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import ClassTargets, CycleData, Runtime, targets_of
from models.inference.disagreement import StreamingBald, StreamingMaxEntropy
from models.inference.fused import scoring_copy
from models.inference.predictions import predict
from models.inference.stage_dropout import draw_stage_masks, predict_and_disagree, thinned_logits
from models.losses.dropout_cross_entropy import DropoutCrossEntropy
from models.networks.base import drop_channels
from models.networks.classifier import Classifier, NetConfig, build_classifier
from models.pixels import normalize
from models.tasks import CLASSIFICATION

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 3)
CLASSES, COUNT, DRAWS = 3, 20, 6
ROWS = np.arange(COUNT)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def make_pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)


def make_net() -> Classifier:
    net = CLASSIFICATION.build(NetConfig("resnet18", CLASSES, 16, 4), 0)
    assert isinstance(net, Classifier)
    with torch.no_grad():
        net(normalize(torch.from_numpy(make_pixels())))
        net.head.weight.mul_(4.0)
    return net.eval()


def make_data() -> CycleData:
    return CycleData(make_pixels(), ROWS[:8], ROWS[8:], ClassTargets(ROWS[:8] % CLASSES), CLASSES)


def by_hand(net: Classifier, images: Tensor, masks: list[Tensor]) -> Tensor:
    """Logits of ResNet-18, layer by layer: its stages' outputs times their masks, and the pooled features times the
    last one."""
    trunk = net.trunk
    x = trunk.relu(trunk.bn1(trunk.conv1(images)))
    x = trunk.layer1(x) * masks[0][:, :, None, None]
    x = trunk.layer2(x) * masks[1][:, :, None, None]
    x = trunk.layer3(x) * masks[2][:, :, None, None]
    return net.head(trunk.layer4(x).mean(dim=(2, 3)) * masks[3])


def opinions(net: Classifier, rate: float, seed: int = 3) -> np.ndarray:
    """Probabilities (K, N, C) float64 of one thinned network after the other."""
    masks = draw_stage_masks(net, DRAWS, rate, Runtime(CPU, seed).generator("dropout draws"))
    images = normalize(torch.from_numpy(make_pixels()))
    with torch.no_grad():
        logits = [by_hand(net, images, [mask[[draw]] for mask in masks]) for draw in range(DRAWS)]
    return torch.stack(logits).double().softmax(dim=-1).numpy()


def test_a_draw_is_one_mask_for_each_stage_and_one_for_the_features() -> None:
    """Channels of the first three stages of ResNet-18, and its features, which are those of the fourth."""
    masks = draw_stage_masks(make_net(), 500, 0.25, generator())
    assert [mask.shape for mask in masks] == [(500, 4), (500, 8), (500, 16), (500, 32)]
    for mask in masks:
        assert sorted(set(mask.flatten().tolist())) == pytest.approx([0.0, 4 / 3])
        error = 5 * (0.25 * 0.75 / mask.numel()) ** 0.5  # five standard errors of the share
        assert (mask == 0).double().mean().item() == pytest.approx(0.25, abs=error)


def test_channels_times_a_mask_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]], [[[5.0, 6.0]], [[7.0, 8.0]]]])
    alike, apart = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 2.0], [2.0, 0.0]])
    assert drop_channels(maps, alike).flatten(1).tolist() == [[0, 0, 6, 8], [0, 0, 14, 16]]
    assert drop_channels(maps, apart).flatten(1).tolist() == [[0, 0, 6, 8], [10, 12, 0, 0]]
    assert drop_channels(maps[:, :, 0, 0], alike).tolist() == [[0, 6], [0, 14]]


def test_maps_keep_their_type_and_layout_and_the_scale_is_that_of_float32() -> None:
    """In bfloat16 the nearest to 1 / 0.9 is 1.109375, by which 9 would be 9.98 and not 10."""
    maps = torch.full((2, 3, 4, 4), 9.0, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    dropped = drop_channels(maps, torch.full((1, 3), 1 / 0.9))
    assert dropped.dtype == torch.bfloat16
    assert dropped.is_contiguous(memory_format=torch.channels_last)
    assert (dropped == 10.0).all()


def test_scoring_in_bfloat16_stays_so_behind_what_is_dropped() -> None:
    """And in the memory layout of training; features leave in float32."""
    net, images = make_net().to(memory_format=torch.channels_last), normalize(torch.from_numpy(make_pixels()))
    masks = draw_stage_masks(net, 1, 0.3, generator())
    with torch.inference_mode():
        expected = by_hand(net, images, masks)
    copied = scoring_copy(net, Runtime(CPU, 0, score_dtype=torch.bfloat16))
    seen: list[tuple[torch.dtype, bool]] = []

    def look(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append((args[0].dtype, args[0].is_contiguous(memory_format=torch.channels_last)))

    for stage in (copied.trunk.layer2, copied.trunk.layer3, copied.trunk.layer4):
        stage.register_forward_pre_hook(look)
    with torch.inference_mode():
        logits = thinned_logits(copied, images, masks)
    assert seen == [(torch.bfloat16, True)] * 3
    assert logits.dtype == torch.float32
    assert 0 < (logits - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize("name", ["resnet18", "vgg16-bn"])
def test_masks_of_ones_leave_the_features_as_they_are_and_others_do_not(name: str) -> None:
    net = build_classifier(NetConfig(name, CLASSES, 32, 4), 0).eval()
    images = torch.randn(2, 3, 32, 32, generator=generator())
    ones = [torch.ones(1, channels) for channels in net.stage_channels]
    assert len(ones) == 3
    with torch.no_grad():
        plain = net.features(images)
        torch.testing.assert_close(net.thinned_features(images, ones), plain)
        for place in range(len(ones)):
            thinned = [one if other != place else 1.5 * one for other, one in enumerate(ones)]
            assert not torch.allclose(net.thinned_features(images, thinned), plain, rtol=1e-3), "each stage has a say"
    with pytest.raises(ValueError, match="shorter"):
        net.thinned_features(images, ones[:-1])


def test_the_figure_is_the_mutual_information_of_the_thinned_networks() -> None:
    """By NumPy: H of the mean over the draws, less the mean of H (Houlsby et al. 2011, equation 2)."""
    net = make_net()
    p = opinions(net, 0.3)
    mean = p.mean(axis=0)
    expected = -(mean * np.log(mean)).sum(axis=-1) + (p * np.log(p)).sum(axis=-1).mean(axis=0)
    predictions, values = predict_and_disagree(net, make_pixels(), ROWS, RUNTIME, StreamingBald, DRAWS, 0.3)
    np.testing.assert_allclose(values, expected, atol=1e-5)
    assert expected.min() > 0.01
    whole = predict(net, make_pixels(), ROWS, RUNTIME)
    assert (predictions.predicted == whole.predicted).all()
    np.testing.assert_allclose(predictions.confidence, whole.confidence)


def test_the_entropy_is_that_of_the_mean_over_the_draws() -> None:
    net = make_net()
    mean = opinions(net, 0.3).mean(axis=0)
    values = predict_and_disagree(net, make_pixels(), ROWS, RUNTIME, StreamingMaxEntropy, DRAWS, 0.3)[1]
    np.testing.assert_allclose(values, -(mean * np.log(mean)).sum(axis=-1), atol=1e-5)


def test_at_a_rate_near_zero_it_is_the_plain_network() -> None:
    net, images = make_net(), normalize(torch.from_numpy(make_pixels()))
    plain = predict_and_disagree(net, make_pixels(), ROWS, RUNTIME, StreamingBald, DRAWS, 0.0)[1]
    np.testing.assert_allclose(plain, 0.0, atol=1e-6)
    with torch.no_grad():
        p = net(images).softmax(dim=1).double().numpy()
    entropies = predict_and_disagree(net, make_pixels(), ROWS, RUNTIME, StreamingMaxEntropy, DRAWS, 1e-6)[1]
    np.testing.assert_allclose(entropies, -(p * np.log(p)).sum(axis=1), atol=1e-4)


def test_all_images_share_the_masks_whatever_the_batch_and_the_seed_decides() -> None:
    net = make_net()

    def values(rows: np.ndarray, seed: int = 3, batch: int = 0) -> np.ndarray:
        runtime = Runtime(CPU, seed, eval_batch_size=batch)
        return predict_and_disagree(net, make_pixels(), rows, runtime, StreamingBald, DRAWS, 0.3)[1]

    whole = values(ROWS)
    assert (values(ROWS) == whole).all()
    some = np.array([17, 4, 11])
    np.testing.assert_allclose(values(some, batch=2), whole[some], atol=1e-5)
    assert not np.isclose(values(ROWS, seed=4), whole).any()


def test_every_draw_is_reported_and_whoever_waits_may_stop_it_amid_a_batch() -> None:
    class Stopped(Exception):
        pass

    seen: list[int] = []

    def progress(phase: str, done: int, total: int) -> None:
        assert (phase, total) == ("score", COUNT)
        seen.append(done)
        if stops and done > 13:
            raise Stopped

    stops, runtime = False, Runtime(CPU, 0, progress, eval_batch_size=12)
    predict_and_disagree(make_net(), make_pixels(), ROWS, runtime, StreamingBald, DRAWS, 0.3)
    assert seen == [2, 4, 6, 8, 10, 12, 12, 13, 14, 16, 17, 18, 20, 20]
    stops, seen[:] = True, []
    with pytest.raises(Stopped):
        predict_and_disagree(make_net(), make_pixels(), ROWS, runtime, StreamingBald, DRAWS, 0.3)
    assert seen[-1] == 14, "in the second draw of the second batch"


def test_scoring_leaves_statistics_and_modes_as_they_are() -> None:
    net = make_net().train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    predict_and_disagree(net, make_pixels(), ROWS, RUNTIME, StreamingBald, 3, 0.5)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(module.training for module in net.modules())


def test_the_objective_is_cross_entropy_of_the_thinned_network() -> None:
    """Each image has masks of its own, and each step draws them anew."""
    data, net = make_data(), make_net()
    objective = DropoutCrossEntropy(0.5, stages=True)
    objective.begin(net, data, RUNTIME)
    images = normalize(torch.from_numpy(data.pixels[:8]))
    targets = torch.from_numpy(targets_of(data, ClassTargets).classes)
    first, second = (objective.loss(net, images, targets, 0.0) for _ in range(2))
    masks = draw_stage_masks(net, 8, 0.5, RUNTIME.generator("dropout"))
    assert all(len(mask.unique(dim=0)) > 1 for mask in masks)
    torch.testing.assert_close(first, functional.cross_entropy(by_hand(net, images, masks), targets))
    assert second != first
    plain = DropoutCrossEntropy(0.0, stages=True)
    plain.begin(net, data, RUNTIME)
    torch.testing.assert_close(plain.loss(net, images, targets, 0.0), functional.cross_entropy(net(images), targets))


def test_what_is_dropped_has_no_part_in_a_step() -> None:
    """The weights that read a channel get gradient from the images that kept it alone."""
    net, images = make_net().train(), normalize(torch.from_numpy(make_pixels()))
    masks = [torch.ones(1, channels) for channels in (*net.stage_channels, net.feature_channels)]
    masks[0][0, 2] = masks[1][0, 5] = masks[3][0, 7] = 0.0
    thinned_logits(net, images, masks).square().sum().backward()
    of_second, of_third = net.trunk.layer2[0].conv1.weight.grad, net.trunk.layer3[0].conv1.weight.grad
    for gradient, dropped in ((of_second, 2), (of_third, 5), (net.head.weight.grad, 7)):
        silent = [not gradient[:, channel].any() for channel in range(gradient.shape[1])]
        assert [channel for channel, zero in enumerate(silent) if zero] == [dropped]
