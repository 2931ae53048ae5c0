"""models.inference.fused: the same function as the network, in less time, and nothing of the network is touched."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.data import Runtime
from models.inference.fused import scoring_copy
from models.networks import classifier, segmenter
from models.networks.classifier import NetConfig, build_classifier
from models.networks.discriminator import build_discriminator, build_image_discriminator
from models.networks.segmenter import SegmenterConfig, build_segmenter
from models.networks.torchvision_segmenters import LoneImageBatchNorm
from models.networks.two_classifiers import build_two_classifiers
from models.networks.vae import VAEConfig, build_vae

RUNTIME = Runtime(torch.device("cpu"), 0)
REDUCED = Runtime(torch.device("cpu"), 0, score_dtype=torch.bfloat16)
CLASSIFIERS = [(name, size) for name in classifier._TRUNKS for size in (32, 96)]
NORMS = (nn.BatchNorm2d, LoneImageBatchNorm)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def used(net: nn.Module) -> nn.Module:
    """With normalizations that do something, as after a training: fresh ones have mean 0 and variance 1."""
    draw = seeded()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(generator=draw)
            module.running_var.uniform_(0.3, 3.0, generator=draw)
            module.weight.data.uniform_(-1.5, 1.5, generator=draw)
            module.bias.data.normal_(generator=draw)
    return net.to(memory_format=torch.channels_last)


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=seeded()).contiguous(memory_format=torch.channels_last)


def everything_of(net: nn.Module) -> dict[str, Tensor]:
    """The state and what the state leaves out: parameters that are shared, under both names."""
    named = [*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)]
    return {name: tensor.detach().clone() for name, tensor in named}


def check_same(net: nn.Module, *inputs: Tensor) -> nn.Module:
    """The copy computes what the network does in eval mode, and the network is what it was. Returns the copy."""
    net.train()
    before, modes = everything_of(net), [module.training for module in net.modules()]
    parameters = [id(parameter) for parameter in net.parameters()]
    copied = scoring_copy(net, RUNTIME)
    expected = copy.deepcopy(net).eval()
    with torch.inference_mode():
        for one, other in zip(flat(copied(*inputs)), flat(expected(*inputs)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-5 * float(other.abs().max()))
    after = everything_of(net)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert [module.training for module in net.modules()] == modes
    assert [id(parameter) for parameter in net.parameters()] == parameters
    assert not any(module.training for module in copied.modules())
    return copied


def flat(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else outputs


def check_all_fused(copied: nn.Module) -> None:
    assert not any(isinstance(module, NORMS) for module in copied.modules())
    weights = [module.weight for module in copied.modules() if isinstance(module, nn.Conv2d)]
    assert weights and all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


@pytest.mark.parametrize(("name", "size"), CLASSIFIERS)
def test_classifiers(name: str, size: int) -> None:
    net = used(build_classifier(NetConfig(name, 5, size, 4), 0))
    check_all_fused(check_same(net, images(3, 3, size, size)))


@pytest.mark.parametrize("name", segmenter.NAMES)
def test_segmenters(name: str) -> None:
    net = used(build_segmenter(SegmenterConfig(name, 5, 4 if name == "drn-d-22" else 0), 0))
    check_all_fused(check_same(net, images(1, 3, 48, 64)))


@pytest.mark.parametrize("size", [32, 64])
def test_the_samplers_own_networks(size: int) -> None:
    config = VAEConfig(size, 4, 6)
    check_all_fused(check_same(used(build_vae(config, seeded())).get_submodule("encoder"), images(3, 3, size, size)))
    check_all_fused(check_same(used(build_image_discriminator(config, seeded())), images(3, 3, size, size)))
    check_same(build_discriminator(6, seeded()), torch.randn(3, 6))
    check_same(build_two_classifiers(8, 5, 3, 0.05, seeded()), torch.randn(3, 8))


@pytest.mark.parametrize("name", ["resnet18", "vgg16-bn", *segmenter.NAMES])
def test_taps_are_the_same(name: str) -> None:
    if name in segmenter.NAMES:
        net = used(build_segmenter(SegmenterConfig(name, 5, 4 if name == "drn-d-22" else 0), 0))
    else:
        net = used(build_classifier(NetConfig(name, 5, 32, 4), 0))
    copied, inputs = scoring_copy(net, RUNTIME), images(2, 3, 32, 32)
    assert isinstance(copied, classifier.Classifier | segmenter.Segmenter)
    with torch.inference_mode():
        features, taps = copied.features_and_taps(inputs)
        net.eval()
        assert isinstance(net, classifier.Classifier | segmenter.Segmenter)
        expected = net.features_and_taps(inputs)
    for one, other in zip((features, *taps), (expected[0], *expected[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-5 * float(other.abs().max()))


def test_weights_that_are_not_fused_are_the_same_memory() -> None:
    net = build_classifier(NetConfig("resnet18", 5, 32, 4), 0)
    assert scoring_copy(net, RUNTIME).head.weight is net.head.weight


# --- what must not be fused ---


class Pair(nn.Module):
    """Two convolutions and one normalization for both, or one of each that are called as they are declared."""

    feeds = (("first", "norm"), ("second", "norm"))

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.again = nn.Sequential(self.second, self.norm)

    def forward(self, x: Tensor) -> Tensor:
        normalized: Tensor = self.again(self.norm(self.first(x)))
        return normalized


def test_a_shared_normalization_stays() -> None:
    copied = check_same(used(Pair()), images(2, 3, 9, 9))
    assert isinstance(copied, Pair) and isinstance(copied.norm, nn.BatchNorm2d)
    assert copied.again[1] is copied.norm, "shared in the copy, too"


def test_a_shared_convolution_stays() -> None:
    shared = nn.Conv2d(3, 3, 3, padding=1)
    net = nn.Sequential(shared, nn.BatchNorm2d(3), nn.ReLU(), shared, nn.BatchNorm2d(3))
    copied = check_same(used(net), images(2, 3, 9, 9))
    assert sum(isinstance(module, nn.BatchNorm2d) for module in copied.modules()) == 2


def test_a_normalization_by_the_batch_stays() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    copied = check_same(net, images(2, 3, 9, 9))
    assert isinstance(copied.get_submodule("1"), nn.BatchNorm2d)


def test_only_neighbors_are_fused_and_only_where_their_own_wiring_is_known() -> None:
    class Backwards(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            for layer in reversed(self):
                x = layer(x)
            return x

    between = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3))
    backwards = Backwards(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    for net in (between, backwards):
        copied = check_same(used(net), images(2, 3, 9, 9))
        assert any(isinstance(module, nn.BatchNorm2d) for module in copied.modules())


def test_other_kinds_of_convolution_stay() -> None:
    class Doubled(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2.0 * super().forward(x)

    copied = check_same(used(nn.Sequential(Doubled(3, 4, 1), nn.BatchNorm2d(4))), images(2, 3, 9, 9))
    assert isinstance(copied.get_submodule("1"), nn.BatchNorm2d)


@pytest.mark.parametrize("place", ["trunk.conv1", "trunk.bn1", "trunk.layer2"])
def test_hooks_see_what_they_saw(place: str) -> None:
    net = build_classifier(NetConfig("resnet18", 5, 32, 4), 0)
    used(net)
    seen: list[Tensor] = []
    net.get_submodule(place).register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    inputs = images(2, 3, 32, 32)
    with torch.inference_mode():
        scoring_copy(net, RUNTIME)(inputs)
        net.eval()(inputs)
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-4, atol=1e-4)


def test_affine_is_no_condition() -> None:
    net = used_without_affine(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False)))
    check_all_fused(check_same(net, images(2, 3, 9, 9)))


def used_without_affine(net: nn.Sequential) -> nn.Module:
    norm = net[1]
    norm.running_mean.normal_(generator=seeded())
    norm.running_var.uniform_(0.3, 3.0, generator=seeded())
    return net.to(memory_format=torch.channels_last)


def test_dropout_that_is_switched_on_in_the_copy_drops_behind_a_fused_normalization() -> None:
    """As the draws of a Monte-Carlo dropout between the layers need it."""
    net = used(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))).train()
    copied = scoring_copy(net, RUNTIME)
    copied.get_submodule("2").train()
    inputs = images(64, 3, 9, 9)
    with torch.inference_mode():
        dropped, whole = copied(inputs), net.eval()(inputs)
    kept = dropped != 0
    assert 0.45 < kept.float().mean() < 0.55
    torch.testing.assert_close(dropped[kept], 2.0 * whole[kept], rtol=1e-4, atol=1e-4)


def test_a_network_that_diverged_stays_so() -> None:
    net = build_classifier(NetConfig("resnet18", 5, 32, 4), 0)
    net.get_submodule("trunk.bn1").running_var.fill_(torch.nan)
    assert scoring_copy(net, RUNTIME)(images(1, 3, 32, 32)).isnan().all()


# --- bfloat16 ---


@pytest.mark.parametrize(("name", "size"), CLASSIFIERS[:1])
def test_bfloat16_is_for_the_trunk_of_the_copy_alone(name: str, size: int) -> None:
    net = build_classifier(NetConfig(name, 5, size, 4), 0).eval()
    seen: list[torch.dtype] = []
    net.get_submodule("trunk.layer4").register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    copied, inputs = scoring_copy(net, REDUCED), images(2, 3, size, size)
    with torch.inference_mode():
        features = copied.features(inputs)
        logits = copied(inputs)
        net(inputs)
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert features.dtype == logits.dtype == torch.float32
    assert net.score_dtype == torch.float32 and scoring_copy(net, RUNTIME).score_dtype == torch.float32


def test_bfloat16_codes_leave_the_encoder_in_float32() -> None:
    encoder = build_vae(VAEConfig(32, 4, 6), seeded()).encoder.eval()
    copied, inputs = scoring_copy(encoder, REDUCED), images(4, 3, 32, 32)
    with torch.inference_mode():
        codes, exact = copied.means(inputs), encoder.means(inputs)
    assert codes.dtype == torch.float32 and not torch.equal(codes, exact)
    torch.testing.assert_close(codes, exact, rtol=0.1, atol=0.1 * float(exact.abs().max()))
    # all its digits are in use: the linear layer behind the trunk is not in bfloat16
    assert not np.array_equal(codes.numpy(), codes.to(torch.bfloat16).float().numpy())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_cuda(dtype: torch.dtype) -> None:
    """In float32 as unfused, save for what TF32 may round there; in bfloat16 to its eight bits."""
    net = used(build_classifier(NetConfig("resnet18", 5, 32, 16), 0)).cuda().eval()
    inputs = images(8, 3, 32, 32).cuda()
    with torch.inference_mode():
        found = scoring_copy(net, Runtime(torch.device("cuda"), 0, score_dtype=dtype))(inputs)
        expected = net(inputs)
    assert found.dtype == torch.float32
    share = 5e-2 if dtype is torch.bfloat16 else 5e-3
    torch.testing.assert_close(found, expected, rtol=share, atol=share * float(expected.abs().max()))
