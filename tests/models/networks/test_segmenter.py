"""models.networks.segmenter: the contract of all segmentation networks, their first weights, warm starts by label."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.networks.base import PretrainedUnavailable
from models.networks.segmenter import Segmenter, SegmenterConfig, build_segmenter
from models.tasks import SEGMENTATION

NAMES = ("drn-d-22", "deeplabv3-resnet50", "lraspp-mobilenetv3")
SMALL = {"drn-d-22": 4}  # the width where there is a choice


def small(name: str, num_classes: int = 3, seed: int = 0) -> Segmenter:
    return build_segmenter(SegmenterConfig(name, num_classes, SMALL.get(name, 0)), seed)


def pictures(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=NAMES)
def net(request: pytest.FixtureRequest) -> Segmenter:
    return small(request.param)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (37, 75), (32, 64)])
def test_shapes(net: Segmenter, height: int, width: int) -> None:
    net.eval()
    images = pictures(2, 3, height, width)
    with torch.inference_mode():
        features, taps = net.features_and_taps(images)
        logits = net(images)
    assert features.shape == (2, net.head.in_channels, -(-height // net.stride), -(-width // net.stride))
    assert features.dtype == torch.float32
    assert [tap.shape for tap in taps] == [(2, channels) for channels in net.tap_channels]
    assert len(taps) == 4
    assert {tap.dtype for tap in taps} == {torch.float32}
    assert logits.shape == (2, 3, height, width)
    assert logits.dtype == torch.float32


def test_features_are_those_beside_the_taps_and_give_the_logits(net: Segmenter) -> None:
    net.eval()
    images = pictures(1, 3, 24, 40)
    with torch.inference_mode():
        features = net.features(images)
        assert torch.equal(net.features_and_taps(images)[0], features)
        by_hand = functional.interpolate(net.head(features), (24, 40), mode="bilinear", align_corners=False)
        assert torch.equal(net(images), by_hand)


def test_masks_of_ones_leave_the_features_as_they_are_and_each_stage_has_a_say(net: Segmenter) -> None:
    net.eval()
    images = pictures(1, 3, 32, 32)
    ones = [torch.ones(1, channels) for channels in net.stage_channels]
    assert net.stage_channels == net.tap_channels
    with torch.inference_mode():
        plain = net.features(images)
        assert torch.equal(net.thinned_features(images, ones), plain)
        for place in range(len(ones)):
            thinned = [one if other != place else 0.0 * one for other, one in enumerate(ones)]
            assert not torch.equal(net.thinned_features(images, thinned), plain)
        with pytest.raises(ValueError, match="4 stages, and got 3 masks"):
            net.thinned_features(images, ones[1:])


def test_an_image_is_judged_alone_in_evaluation(net: Segmenter) -> None:
    net.eval()
    images = pictures(3, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(net(images)[1:2], net(images[1:2]), rtol=1e-3, atol=1e-4)


def test_taps_are_the_means_of_the_stages() -> None:
    net = small("drn-d-22").eval()
    images = pictures(2, 3, 32, 48)
    x, expected = images, []
    with torch.inference_mode():
        for name, stage in net.trunk.named_children():
            x = stage(x)
            if name in ("layer3", "layer4", "layer5", "layer6"):
                expected.append(x.mean(dim=(2, 3)))
        taps = net.features_and_taps(images)[1]
    for tap, mean in zip(taps, expected, strict=True):
        torch.testing.assert_close(tap, mean)
    assert net.tap_channels == (16, 32, 64, 128)


def test_taps_give_gradient_and_so_does_every_pixel_of_the_mask() -> None:
    net = small("drn-d-22").train()
    features, taps = net.features_and_taps(pictures(2, 3, 40, 24))
    loss = functional.cross_entropy(net.head(features), torch.zeros(2, 5, 3, dtype=torch.int64))
    (loss + sum(tap.square().mean() for tap in taps)).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


def test_drn_trains_on_one_image_at_width_4_in_the_layout_of_training() -> None:
    net = small("drn-d-22").to(memory_format=torch.channels_last).train()
    images = pictures(1, 3, 48, 64).contiguous(memory_format=torch.channels_last)
    target = torch.zeros(1, 48, 64, dtype=torch.int64)
    target[:, :, 32:] = 1
    images[:, :, :, 32:] += 1.0
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(12):
        loss = functional.cross_entropy(net(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(parameter.isfinite().all() for parameter in net.parameters())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_initialization_depends_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = small(name, seed=7).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = small(name, seed=7).state_dict(), small(name, seed=8).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert not torch.equal(first["head.bias"], other["head.bias"])
    drawn = [key for key, value in first.items() if value.dim() == 4]
    assert not [key for key in drawn if torch.equal(first[key], other[key])]
    assert all(torch.isfinite(value).all() for value in first.values())


def test_initialization_is_he_fan_out_and_modest_in_the_head() -> None:
    net = build_segmenter(SegmenterConfig("drn-d-22", 5, 8), 0)
    assert net.trunk.layer6[1].conv1.weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)
    # uniform within 1 / sqrt(256): its deviation is 1 / sqrt(3 * 256)
    assert net.head.weight.std().item() == pytest.approx((3 * 256) ** -0.5, rel=0.05)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (SegmenterConfig("unet", 3), "choose one of deeplabv3-resnet50, drn-d-22, lraspp-mobilenetv3"),
        (SegmenterConfig("drn-d-22", 0), "1 to 255 classes"),
        (SegmenterConfig("drn-d-22", 256), "1 to 255 classes"),  # 255 is no class
        (SegmenterConfig("drn-d-22", 3, -1), "at least 0"),
    ],
)
def test_networks_that_do_not_exist_are_refused(config: SegmenterConfig, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_segmenter(config, 0)


def test_there_are_no_pretrained_weights_for_drn() -> None:
    with pytest.raises(PretrainedUnavailable, match="set pretrained to false"):
        build_segmenter(SegmenterConfig("drn-d-22", 3, pretrained=True), 0)


def test_config_round_trip_and_the_published_width() -> None:
    config = SegmenterConfig("drn-d-22", 19, 0, pretrained=True)
    assert SegmenterConfig.from_dict(config.to_dict()) == config
    published = build_segmenter(SegmenterConfig("drn-d-22", 19), 0)
    assert published.head.in_channels == 512
    assert sum(p.numel() for p in published.parameters()) == 15_880_752 + 512 * 19 + 19


# --- carrying weights over ---


def logits_of(net: Segmenter, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return net.eval()(images)


def test_carry_over_follows_the_labels_and_keeps_the_background() -> None:
    old, new = small("drn-d-22", 4, 0), small("drn-d-22", 5, 1)
    fresh = {key: value.clone() for key, value in new.state_dict().items()}
    old.trunk.layer0[1].running_mean.fill_(0.25)  # buffers travel too
    assert SEGMENTATION.carry_over(old.state_dict(), ["car", "road", "sky"], new, ["sky", "tree", "car", "bus"]) == ""
    images = pictures(2, 3, 16, 24)
    before, after = logits_of(old, images), logits_of(new, images)
    for now, then in ((0, 0), (1, 3), (3, 1)):
        torch.testing.assert_close(after[:, now], before[:, then])
    for row in (2, 4):  # labels that were not there keep their fresh channels
        assert torch.equal(new.head.weight[row], fresh["head.weight"][row])
        assert torch.equal(new.head.bias[row], fresh["head.bias"][row])


def test_a_label_called_background_is_a_label() -> None:
    old, new = small("drn-d-22", 2, 0), small("drn-d-22", 3, 1)
    fresh = new.head.weight.detach().clone()
    assert SEGMENTATION.carry_over(old.state_dict(), ["car"], new, ["background", "car"]) == ""
    assert torch.equal(new.head.weight[0], old.head.weight[0])
    assert torch.equal(new.head.weight[1], fresh[1])
    assert torch.equal(new.head.weight[2], old.head.weight[1])


def test_carried_weights_are_copies() -> None:
    old, new = small("drn-d-22", 2, 0), small("drn-d-22", 2, 1)
    SEGMENTATION.carry_over(old.state_dict(), ["a"], new, ["a"])
    with torch.no_grad():
        new.head.weight.zero_()
        new.trunk.layer0[0].weight.zero_()
    assert old.head.weight.abs().sum() > 0
    assert old.trunk.layer0[0].weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("old", "words"),
    [
        (build_segmenter(SegmenterConfig("drn-d-22", 2, 2), 0).state_dict(), "another architecture"),
        (small("drn-d-22", 3).state_dict(), "head does not match"),
        (small("drn-d-22", 2).state_dict() | {"head.bias": torch.zeros(3)}, "head does not match"),
        (small("drn-d-22", 2).state_dict() | {"head.bias": torch.tensor([0.0, torch.nan])}, "not finite"),
        ({}, "another architecture"),
    ],
)
def test_what_does_not_fit_is_reported_and_leaves_the_net_fresh(old: dict[str, Tensor], words: str) -> None:
    net, fresh = small("drn-d-22", 2, 1), small("drn-d-22", 2, 1).state_dict()
    assert words in SEGMENTATION.carry_over(old, ["a"], net, ["a"])
    assert all(torch.equal(value, fresh[key]) for key, value in net.state_dict().items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", NAMES)
def test_features_are_float32_from_a_trunk_in_bfloat16(name: str) -> None:
    net = small(name).cuda().to(memory_format=torch.channels_last).train()
    images = pictures(2, 3, 32, 48).cuda()
    features, taps = net.features_and_taps(images)
    assert {features.dtype, *(tap.dtype for tap in taps)} == {torch.float32}
    functional.cross_entropy(net(images), torch.zeros(2, 32, 48, dtype=torch.int64, device="cuda")).backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())
