"""models.networks.torchvision_segmenters: the same functions as torchvision's networks, and where they differ on
purpose."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import segmentation
from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights, LRASPP_MobileNet_V3_Large_Weights

from models.networks.classifier import PretrainedUnavailable
from models.networks.segmenter import Segmenter, SegmenterConfig, build_segmenter
from models.networks.torchvision_segmenters import LoneImageBatchNorm, load_torchvision_state

CLASSES = 21


@pytest.fixture(scope="module")
def deeplab() -> Segmenter:
    return build_segmenter(SegmenterConfig("deeplabv3-resnet50", CLASSES), 0)


@pytest.fixture(scope="module")
def lite() -> Segmenter:
    return build_segmenter(SegmenterConfig("lraspp-mobilenetv3", CLASSES), 0)


def picture(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_parameter_counts_of_torchvision(deeplab: Segmenter, lite: Segmenter) -> None:
    """The published DeepLab has an auxiliary classifier: 1024 -> 256 by 3 x 3, normalized, 256 -> 21.

    Lite R-ASPP has two 1 x 1 convolutions to the classes, and a bias for each.
    """
    published = DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1.meta["num_params"]
    auxiliary = 1024 * 256 * 9 + 2 * 256 + 256 * CLASSES + CLASSES
    assert parameters(deeplab) == published - auxiliary == 39_638_869
    published = LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1.meta["num_params"]
    assert parameters(lite) == published - CLASSES == 3_221_517


def test_deeplab_computes_what_torchvisions_does(deeplab: Segmenter) -> None:
    reference = segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True
    ).eval()
    load_torchvision_state(deeplab.trunk, reference.state_dict())
    deeplab.head.load_state_dict(reference.classifier[-1].state_dict())
    deeplab.eval()
    images = picture(1, 3, 40, 49)
    with torch.inference_mode():
        expected = reference(images)["out"]
        torch.testing.assert_close(deeplab(images), expected, rtol=1e-3, atol=1e-4)
    assert expected.std() > 1e-3


def test_lite_raspp_computes_what_torchvisions_does(lite: Segmenter) -> None:
    reference = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES).eval()
    load_torchvision_state(lite.trunk, reference.state_dict())
    low, high = reference.classifier.low_classifier, reference.classifier.high_classifier
    with torch.no_grad():
        lite.head.weight.copy_(torch.cat([low.weight, high.weight], dim=1))
        lite.head.bias.copy_(low.bias + high.bias)
    lite.eval()
    images = picture(2, 3, 45, 64)
    with torch.inference_mode():
        torch.testing.assert_close(lite(images), reference(images)["out"], rtol=1e-3, atol=1e-4)


def test_one_image_alone_trains(deeplab: Segmenter, lite: Segmenter) -> None:
    """torchvision's DeepLab raises here: its pooled map has one value for each channel."""
    for net in (deeplab, lite):
        net.train()
        net.zero_grad()
        target = torch.arange(40 * 48).view(1, 40, 48) % CLASSES
        functional.cross_entropy(net(picture(1, 3, 40, 48)), target).backward()
        for key, parameter in net.named_parameters():
            assert parameter.grad is not None, key
            assert torch.isfinite(parameter.grad).all(), key


def test_training_draws_nothing(deeplab: Segmenter) -> None:
    """Dropout would draw from the global generator, and a training would not follow from its seed."""
    deeplab.train()
    before = torch.get_rng_state()
    with torch.no_grad():
        deeplab(picture(2, 3, 16, 16))
    assert torch.equal(torch.get_rng_state(), before)


def test_normalization_of_one_image_uses_the_running_statistics() -> None:
    layer = LoneImageBatchNorm(2)
    assert layer.running_mean is not None and layer.running_var is not None
    layer.running_mean.copy_(torch.tensor([1.0, -2.0]))
    layer.running_var.copy_(torch.tensor([4.0, 1.0]))
    alone = torch.tensor([5.0, 0.0]).view(1, 2, 1, 1)
    # (5 - 1) / 2 and (0 + 2) / 1
    torch.testing.assert_close(layer(alone).flatten(), torch.tensor([2.0, 2.0]))
    assert layer.running_mean.tolist() == [1.0, -2.0]
    pair = torch.cat([alone, alone + 2])
    torch.testing.assert_close(layer(pair)[:, 0].flatten(), torch.tensor([-1.0, 1.0]), rtol=1e-4, atol=1e-4)
    assert layer.running_mean.tolist() == pytest.approx([1.5, -1.7])  # a tenth of the way to (6, 1)


def test_other_widths_are_refused() -> None:
    for name in ("deeplabv3-resnet50", "lraspp-mobilenetv3"):
        with pytest.raises(ValueError, match="one width only"):
            build_segmenter(SegmenterConfig(name, 3, 16), 0)


def test_pretrained_that_cannot_be_downloaded_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    weights = LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))  # an empty cache, whatever this machine has
    # nothing listens on this port: a real refused connection
    monkeypatch.setattr(type(weights), "url", property(lambda self: "http://127.0.0.1:1/lraspp-d234d4ea.pth"))
    with pytest.raises(PretrainedUnavailable, match=r"could not be downloaded.*pretrained to false"):
        build_segmenter(SegmenterConfig("lraspp-mobilenetv3", 3, pretrained=True), 0)


def test_pretrained_weights_go_into_the_trunk_alone(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """A file of the published one's form in the place of the download."""
    published = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).state_dict()
    weights = LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1
    torch.save(published, tmp_path / "published-00000000.pth")
    monkeypatch.setattr(
        type(weights), "get_state_dict", lambda self, **_: torch.load(tmp_path / "published-00000000.pth")
    )
    config = SegmenterConfig("lraspp-mobilenetv3", 3, pretrained=True)
    net = build_segmenter(config, 5)
    fresh = build_segmenter(SegmenterConfig("lraspp-mobilenetv3", 3), 5)
    assert torch.equal(net.head.weight, fresh.head.weight)
    for key, value in net.trunk.state_dict().items():
        assert torch.equal(value, published[key]), key
