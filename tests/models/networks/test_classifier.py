"""models.networks.classifier: sizes against published counts, torchvision as the reference, warm starts by class
name."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor
from torch.nn import functional

from models.networks.base import PretrainedUnavailable
from models.networks.carry_over import carry_over
from models.networks.classifier import (
    Classifier,
    NetConfig,
    build_classifier,
    load_torchvision_state,
)
from models.networks.residual import HalvingShortcut, ResidualBlock


def parameters(config: NetConfig) -> int:
    return sum(parameter.numel() for parameter in build_classifier(config, 0).parameters())


@pytest.mark.parametrize(
    ("name", "num_classes", "count"),
    [
        # Counted on the papers' networks; VGG-16-BN with one linear layer 512 -> C as in DAST-AL's code.
        ("resnet18", 10, 11_173_962),
        ("resnet18", 100, 11_220_132),
        ("vgg16-bn", 10, 14_728_266),
        ("vgg16-bn", 100, 14_774_436),
    ],
)
def test_parameter_counts_of_the_papers(name: str, num_classes: int, count: int) -> None:
    assert parameters(NetConfig(name, num_classes, 32)) == count


def test_parameter_count_of_torchvisions_resnet18() -> None:
    expected = sum(p.numel() for p in torchvision.models.resnet18(num_classes=1000).parameters())
    assert expected == 11_689_512  # torchvision's documentation
    assert parameters(NetConfig("resnet18", 1000, 224)) == expected


def test_large_resnet18_computes_what_torchvisions_does() -> None:
    reference = torchvision.models.resnet18(num_classes=7).eval()
    config = NetConfig("resnet18", 7, 96)
    net = build_classifier(config, 0).eval()
    load_torchvision_state(net, config, reference.state_dict())
    net.head.load_state_dict(reference.fc.state_dict())
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(net(images), reference(images), rtol=1e-4, atol=1e-5)


def test_an_undilated_block_is_torchvisions() -> None:
    """The same function with the same gradients and batch statistics, under the same names."""
    shortcut = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 1, stride=2, bias=False), torch.nn.BatchNorm2d(5))
    reference = torchvision.models.resnet.BasicBlock(3, 5, 2, shortcut).double()
    block = ResidualBlock(3, 5, stride=2).double()
    block.load_state_dict(reference.state_dict())
    images = torch.randn(4, 3, 9, 9, dtype=torch.float64)
    outputs = [one(images) for one in (block, reference)]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for (name, one), (other_name, other) in zip(block.named_parameters(), reference.named_parameters(), strict=True):
        assert name == other_name
        torch.testing.assert_close(one.grad, other.grad)
    for one, other in zip(block.buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_vgg_features_are_the_mean_of_torchvisions() -> None:
    reference = torchvision.models.vgg16_bn(num_classes=7).eval()
    config = NetConfig("vgg16-bn", 7, 64)
    net = build_classifier(config, 0).eval()
    load_torchvision_state(net, config, reference.state_dict())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(net.features(images), reference.features(images).mean((2, 3)))


def test_pretrained_weights_leave_the_small_stem_and_the_head_fresh() -> None:
    state = torchvision.models.resnet18().state_dict()
    config = NetConfig("resnet18", 10, 32)
    fresh, net = build_classifier(config, 3), build_classifier(config, 3)
    load_torchvision_state(net, config, state)
    same = {key for key, value in net.state_dict().items() if torch.equal(value, fresh.state_dict()[key])}
    assert {"trunk.conv1.weight", "trunk.bn1.weight", "head.weight", "head.bias"} <= same
    assert torch.equal(net.trunk.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])
    assert torch.equal(net.trunk.layer4[1].bn2.running_var, state["layer4.1.bn2.running_var"])
    assert not torch.equal(net.trunk.layer4[1].conv2.weight, fresh.trunk.layer4[1].conv2.weight)


def test_pretrained_needs_the_full_width() -> None:
    with pytest.raises(PretrainedUnavailable, match="task_width 64 only, not for 16"):
        build_classifier(NetConfig("resnet18", 10, 32, 16, pretrained=True), 0)


def test_pretrained_that_cannot_be_downloaded_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))  # an empty cache, whatever this machine has
    # nothing listens on this port: a real refused connection
    monkeypatch.setattr(type(weights), "url", property(lambda self: "http://127.0.0.1:1/resnet18-f37072fd.pth"))
    with pytest.raises(PretrainedUnavailable, match=r"could not be downloaded.*pretrained to false"):
        build_classifier(NetConfig("resnet18", 10, 32, pretrained=True), 0)


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 16), ("resnet18", 32), ("resnet18", 65), ("vgg16-bn", 32), ("vgg16-bn", 80)]
)
@pytest.mark.parametrize("num_classes", [1, 2, 1000])
def test_shapes(name: str, size: int, num_classes: int) -> None:
    net = build_classifier(NetConfig(name, num_classes, size, 4), 0).eval()
    images = torch.zeros(3, 3, size, size)
    features = net.features(images)
    assert features.shape == (3, 32)
    assert features.dtype == torch.float32
    assert net.head.in_features == 32
    assert torch.equal(net(images), net.head(features))
    assert net(images).shape == (3, num_classes)


@pytest.mark.parametrize("name", ["resnet18", "vgg16-bn"])
def test_every_parameter_learns(name: str) -> None:
    net = build_classifier(NetConfig(name, 3, 32, 4), 0)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    functional.cross_entropy(net(images), torch.tensor([0, 1, 2, 0])).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


def test_initialization_depends_on_the_seed_alone() -> None:
    config = NetConfig("resnet18", 5, 32, 8)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_classifier(config, 7).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = build_classifier(config, 7).state_dict(), build_classifier(config, 8).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["trunk.layer4.1.conv2.weight"], other["trunk.layer4.1.conv2.weight"])
    assert not torch.equal(first["head.bias"], other["head.bias"])
    assert all(torch.isfinite(value).all() for value in first.values())


def test_initialization_is_he_fan_out() -> None:
    weight = build_classifier(NetConfig("resnet18", 5, 32, 32), 0).trunk.layer3[1].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (NetConfig("resnet50", 10, 32), "choose one of resnet18, vgg16-bn"),
        (NetConfig("vgg16-bn", 10, 28), "32 px or more"),
        (NetConfig("resnet18", 0, 32), "at least 1"),
        (NetConfig("resnet18", 10, 32, 0), "at least 1"),
    ],
)
def test_networks_that_do_not_exist_are_refused(config: NetConfig, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_classifier(config, 0)


def test_config_round_trip() -> None:
    config = NetConfig("vgg16-bn", 3, 224, 8, pretrained=True)
    assert NetConfig.from_dict(config.to_dict()) == config


# --- carrying weights over ---


def tiny(num_classes: int, seed: int, width: int = 4, name: str = "resnet18") -> Classifier:
    return build_classifier(NetConfig(name, num_classes, 32, width), seed)


def logits_of(net: Classifier, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return net.eval()(images)


def test_carry_over_follows_class_names() -> None:
    old, new = tiny(3, 0), tiny(4, 1)
    fresh = {key: value.clone() for key, value in new.state_dict().items()}
    old.trunk.bn1.running_mean.fill_(0.25)  # buffers travel too
    assert carry_over(old.state_dict(), ["cat", "dog", "fox"], new, ["fox", "ant", "cat", "bee"]) == ""
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before, after = logits_of(old, images), logits_of(new, images)
    torch.testing.assert_close(after[:, 0], before[:, 2])
    torch.testing.assert_close(after[:, 2], before[:, 0])
    for row in (1, 3):  # classes that were not there keep their fresh rows
        assert torch.equal(new.head.weight[row], fresh["head.weight"][row])
        assert torch.equal(new.head.bias[row], fresh["head.bias"][row])


def test_carried_weights_are_copies() -> None:
    old, new = tiny(2, 0), tiny(2, 1)
    carry_over(old.state_dict(), ["a", "b"], new, ["a", "b"])
    with torch.no_grad():
        new.trunk.conv1.weight.zero_()
    assert old.trunk.conv1.weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("old", "words"),
    [
        (tiny(2, 0, width=8).state_dict(), "another architecture"),
        (tiny(2, 0, name="vgg16-bn").state_dict(), "another architecture"),
        (tiny(3, 0).state_dict(), "head does not match"),
        (tiny(2, 0).state_dict() | {"head.bias": torch.tensor([0.0, torch.nan])}, "not finite"),
        ({}, "another architecture"),
    ],
)
def test_what_does_not_fit_is_reported_and_leaves_the_net_fresh(old: dict[str, Tensor], words: str) -> None:
    net, fresh = tiny(2, 1), tiny(2, 1).state_dict()
    assert words in carry_over(old, ["a", "b"], net, ["a", "b"])
    assert all(torch.equal(value, fresh[key]) for key, value in net.state_dict().items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_features_and_logits_are_float32_and_close_to_the_cpus() -> None:
    net = tiny(3, 0, width=16)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = logits_of(net, images)
    net.cuda()
    torch.testing.assert_close(logits_of(net, images.cuda()).cpu(), expected, rtol=2e-2, atol=2e-2)
    net.train()
    assert net.features(images.cuda()).dtype == torch.float32
    assert net(images.cuda()).dtype == torch.float32


@pytest.mark.parametrize("width", [4, 8, 16])
def test_training_narrow_networks_on_large_images_on_the_cpu(width: int) -> None:
    """A crash of the whole process, if anything, in the backward pass of the strided shortcut."""
    net = build_classifier(NetConfig("resnet18", 3, 224, width), 0).to(memory_format=torch.channels_last)
    images = torch.randn(6, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    net(images).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())


def test_the_halving_shortcut_is_a_strided_convolution() -> None:
    shortcut = HalvingShortcut(5, 7)
    for side in (8, 9):
        x = torch.randn(2, 5, side, side)
        torch.testing.assert_close(shortcut(x), functional.conv2d(x, shortcut.weight, stride=2))


@pytest.mark.parametrize("name", ["resnet18", "vgg16-bn"])
def test_taps_are_the_channel_means_of_the_stages(name: str) -> None:
    net = build_classifier(NetConfig(name, 3, 32, 4), 0).eval()
    images = torch.randn(2, 3, 32, 32)
    features, taps = net.features_and_taps(images)
    torch.testing.assert_close(features, net.features(images))
    torch.testing.assert_close(taps[-1], features)  # the last stage's output is what the head reads
    assert tuple(tap.shape for tap in taps) == tuple((2, channels) for channels in net.tap_channels)
    if name == "resnet18":
        stem = net.trunk.relu(net.trunk.bn1(net.trunk.conv1(images)))
        torch.testing.assert_close(taps[0], net.trunk.layer1(stem).mean(dim=(2, 3)))
