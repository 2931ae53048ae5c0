"""models.networks.drn: counts by hand and against the published ones, stride and dilation by what a pixel can reach."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.networks.drn import DilatedResidualTrunk
from models.networks.segmenter import SegmenterConfig, build_segmenter


def conv(channels_in: int, channels: int, kernel: int = 3) -> int:
    """Parameters of a convolution without bias and of the normalization behind it."""
    return channels_in * channels * kernel**2 + 2 * channels


def test_parameter_count_stage_by_stage() -> None:
    """Yu et al. 2017, figure 5, DRN-D-22: 16 16 32 | 64 128 256 512 | 512 512 channels."""
    with torch.device("meta"):
        trunk = DilatedResidualTrunk()
    counted = {name: sum(p.numel() for p in stage.parameters()) for name, stage in trunk.named_children()}
    assert counted == {
        "layer0": conv(3, 16, 7),
        "layer1": conv(16, 16),
        "layer2": conv(16, 32),
        "layer3": conv(32, 64) + 3 * conv(64, 64) + conv(32, 64, 1),
        "layer4": conv(64, 128) + 3 * conv(128, 128) + conv(64, 128, 1),
        "layer5": conv(128, 256) + 3 * conv(256, 256) + conv(128, 256, 1),
        "layer6": conv(256, 512) + 3 * conv(512, 512) + conv(256, 512, 1),
        "layer7": conv(512, 512),
        "layer8": conv(512, 512),
    }
    assert sum(counted.values()) == 15_880_752
    # The published 16.39 million are with ImageNet's 1,000 classes.
    assert sum(counted.values()) + 512 * 1000 + 1000 == 16_393_752


def test_layers_of_the_name() -> None:
    """22 = 1 + 1 + 1 plain, 4 * 4 residual, 1 + 1 plain, 1 classifier; shortcuts do not count."""
    net = build_segmenter(SegmenterConfig("drn-d-22", 19, 4), 0)
    convolutions = [name for name, part in net.named_modules() if isinstance(part, nn.Conv2d)]
    assert sum("downsample" not in name for name in convolutions) == 22
    assert sum("downsample" in name for name in convolutions) == 4


def test_dilations_of_the_paper() -> None:
    with torch.device("meta"):
        trunk = DilatedResidualTrunk(1)
    dilations = {
        name: {part.dilation for part in stage.modules() if isinstance(part, nn.Conv2d) and part.kernel_size != (1, 1)}
        for name, stage in trunk.named_children()
    }
    assert {name for name, found in dilations.items() if found == {(1, 1)}} == {
        *("layer0", "layer1", "layer2", "layer3", "layer4", "layer8")
    }
    assert (dilations["layer5"], dilations["layer6"], dilations["layer7"]) == ({(2, 2)}, {(4, 4)}, {(2, 2)})


def test_what_a_feature_sees() -> None:
    """The field of view, from the kernels: a 3 x 3 convolution adds 2 * dilation * (pixels between neighbors).

    layer0 to 2: 7 + 2 + 2; layer3: 4 + 3 * 8; layer4: 8 + 3 * 16; layer5: 4 * 32; layer6: 4 * 64; layer7: 32;
    layer8: 16. In all 527.
    """
    trunk = DilatedResidualTrunk(1).double().eval()
    for parameter in trunk.parameters():
        nn.init.constant_(parameter, 0.01 if parameter.dim() == 4 else 1.0)
    image = torch.ones(1, 3, 640, 16, dtype=torch.float64, requires_grad=True)
    maps = trunk(image, lambda maps: maps)
    assert maps.shape == (1, 32, 80, 2)
    maps[0, :, 40].sum().backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(dim=(0, 2)).nonzero().flatten()
    assert len(seen) == 527
    assert (int(seen[0]) + int(seen[-1])) // 2 == 40 * 8


@pytest.mark.parametrize(
    ("size", "map_size"), [((64, 64), (8, 8)), ((33, 70), (5, 9)), ((32, 64), (4, 8)), ((1, 9), (1, 2))]
)
def test_the_map_is_an_eighth_rounded_up(size: tuple[int, int], map_size: tuple[int, int]) -> None:
    trunk = DilatedResidualTrunk(2).eval()
    with torch.inference_mode():
        assert trunk(torch.zeros(1, 3, *size), lambda maps: maps).shape == (1, 64, *map_size)
