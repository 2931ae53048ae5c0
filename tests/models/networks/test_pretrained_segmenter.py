"""models.networks.pretrained_segmenter: what encoder and decoder make of images, and what belongs to a network."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.backbones import BUNDLED, NOTHING, _probed_stages, stages_of
from models.networks.base import PretrainedUnavailable
from models.networks.pretrained_segmenter import (
    Decoder,
    FinetunedSegmenter,
    FrozenSegmenter,
    PretrainedSegmenterConfig,
    build_pretrained_segmenter,
)
from models.tasks import SEGMENTATION

TINY = "test_efficientnet"  # of timm, 0.4 million parameters


def tiny(frozen: bool = True, num_classes: int = 3, enlarged: float = 1.0) -> FrozenSegmenter | FinetunedSegmenter:
    config = PretrainedSegmenterConfig.of(TINY, num_classes, 64, NOTHING, NOTHING, frozen)
    return build_pretrained_segmenter(dataclasses.replace(config, enlarged=enlarged), 0)


def pictures(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("frozen", [True, False])
def test_shapes(frozen: bool) -> None:
    net = tiny(frozen).eval()
    images = pictures(2, 3, 64, 96)
    with torch.inference_mode():
        features, taps = net.features_and_taps(images)
        logits = net(images)
        by_hand = functional.interpolate(net.head(features), (64, 96), mode="bilinear", align_corners=False)
    assert features.shape == (2, net.config.width, 64 // net.config.strides[0], 96 // net.config.strides[0])
    assert [tap.shape for tap in taps] == [(2, channels) for channels in net.tap_channels]
    assert logits.shape == (2, 3, 64, 96)
    assert {one.dtype for one in (features, logits, *taps)} == {torch.float32}
    torch.testing.assert_close(taps[-1], features.mean(dim=(2, 3)))
    torch.testing.assert_close(logits, by_hand)


def test_images_are_enlarged_and_their_sides_rounded_up_to_whole_strides() -> None:
    """(30, 50) doubled is (60, 100), and the multiples of 32 above those are 64 and 128."""
    net = tiny(enlarged=2.0).eval()
    with torch.inference_mode():
        assert net.features(pictures(1, 3, 30, 50)).shape[2:] == (64 // 8, 128 // 8)
        assert net(pictures(1, 3, 30, 50)).shape[2:] == (30, 50)


def test_small_images_are_enlarged_and_large_ones_are_not() -> None:
    factors = {
        side: PretrainedSegmenterConfig.of(BUNDLED, 2, side, NOTHING, NOTHING, True).enlarged for side in (48, 96, 1024)
    }
    assert factors == {48: 4.0, 96: 2.0, 1024: 1.0}


def test_the_decoder_adds_up_the_coarse_stages_and_puts_the_finest_beside_them() -> None:
    """2 · 2 and 1 · 3 from the coarse stages, and 10 · 1 from the finest: normalizations change nothing, and the 3 x 3
    convolution takes every pixel as it is."""
    decoder = Decoder((1, 1, 1), 1).eval()
    with torch.no_grad():
        for lateral, weight in zip(decoder.laterals, (2.0, 1.0), strict=True):
            assert isinstance(lateral, nn.Conv2d)
            lateral.weight.fill_(weight)
        decoder.detail[0].weight.fill_(1.0)
        kernel = decoder.refine[0].weight.zero_()
        kernel[0, :, 1, 1] = torch.tensor([1.0, 10.0])
        features = decoder([torch.ones(1, 1, 4, 4), torch.full((1, 1, 2, 2), 2.0), torch.full((1, 1, 1, 1), 3.0)])
    torch.testing.assert_close(features, torch.full((1, 1, 4, 4), 17.0), rtol=1e-4, atol=0.0)


def test_rows_that_were_kept_give_what_the_images_give() -> None:
    net = tiny().eval()
    images = pictures(3, 3, 64, 96)
    with torch.inference_mode():
        kept = net.keep(images)
        features, taps = net.features_and_taps(images)
        again, same_taps = net.features_and_taps(kept.float())
    assert kept.dtype == torch.float16
    torch.testing.assert_close(again, features, rtol=1e-2, atol=1e-2)
    for tap, same in zip(taps, same_taps, strict=True):
        torch.testing.assert_close(same, tap, rtol=1e-2, atol=1e-2)


def test_a_frozen_encoder_is_no_part_of_the_network_and_a_trained_one_is() -> None:
    frozen, trained = tiny(), tiny(frozen=False)
    assert not [key for key in frozen.state_dict() if key.startswith("encoder")]
    assert [key for key in trained.state_dict() if key.startswith("encoder")]
    assert frozen.encoder is tiny().encoder
    assert sum(value.numel() for value in frozen.parameters()) < 100_000
    rates = {group["share"] for group in trained.rate_groups()}
    assert rates == {FinetunedSegmenter.encoder_rate, FinetunedSegmenter.decoder_rate}
    assert not trained.keeps


def test_the_decoder_comes_first_where_the_encoder_is_trained_too() -> None:
    net = tiny(frozen=False)
    part = net.part_first()
    assert part is not None
    with part:
        assert net.keeps
        fresh = {id(one) for one in (*net.trunk.parameters(), *net.head.parameters())}
        assert {id(one) for group in net.rate_groups() for one in group["params"]} == fresh
        assert {group["share"] for group in net.rate_groups()} == {1.0}
    assert not net.keeps
    assert tiny().part_first() is None


def test_batch_statistics_of_the_encoder_stay_in_training() -> None:
    net = tiny(frozen=False).train()
    before = {key: value.clone() for key, value in net.state_dict().items() if "running" in key}
    net(pictures(2, 3, 64, 64))
    moved = {key for key, value in net.state_dict().items() if key in before and not torch.equal(value, before[key])}
    assert moved
    assert not [key for key in moved if key.startswith("encoder")]


@pytest.mark.parametrize("frozen", [True, False])
def test_the_configuration_survives_a_checkpoint_and_gives_the_same_network(frozen: bool) -> None:
    net = tiny(frozen).eval()
    config = SEGMENTATION.config_from_dict(net.config.to_dict())
    assert config == net.config
    again = SEGMENTATION.build(config.bare(), 1).eval()
    again.load_state_dict(net.state_dict())
    images = pictures(1, 3, 32, 64)
    with torch.inference_mode():
        torch.testing.assert_close(again(images), net(images))


def test_initialization_depends_on_the_seed_alone() -> None:
    config = tiny().config
    torch.manual_seed(1)
    first = build_pretrained_segmenter(config, 7).state_dict()
    torch.manual_seed(2)
    again, other = (build_pretrained_segmenter(config, seed).state_dict() for seed in (7, 8))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_what_is_known_of_the_installed_backbone_is_what_timm_says() -> None:
    assert stages_of(BUNDLED) == _probed_stages(BUNDLED)


def test_networks_without_stages_of_falling_resolution_are_refused() -> None:
    with pytest.raises(ValueError, match="take a convolutional network"):
        PretrainedSegmenterConfig.of("test_vit", 3, 64, NOTHING, NOTHING, True)


def test_a_mask_holds_no_more_than_255_classes() -> None:
    with pytest.raises(ValueError, match="1 to 255 classes"):
        build_pretrained_segmenter(dataclasses.replace(tiny().config, num_classes=256), 0)


def test_a_decoder_for_other_weights_is_refused() -> None:
    with pytest.raises(PretrainedUnavailable, match="trained on other weights"):
        dataclasses.replace(tiny().config, digest="0" * 64).check()
    tiny().config.check()
