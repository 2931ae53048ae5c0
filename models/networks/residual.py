"""The residual block of ResNet-18 and of DRN-D-22, and the shortcut of stride 2 that is safe on a CPU.

He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition (CVPR 2016), figure 2; dilated as by Yu, Koltun &
Funkhouser (CVPR 2017). Parameters are named as in torchvision, whose own block refuses to be dilated, and whose import
takes a process seconds.

Axis letters: B batch, H W map.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional


class HalvingShortcut(nn.Conv2d):
    """A 1 x 1 convolution of stride 2. On a CPU every second pixel is picked before it instead of within it: oneDNN's
    backward pass of the strided one writes outside of its memory for narrow, large, channels_last inputs (seen with
    torch 2.15: 8 channels at 56 x 56).
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(channels_in, channels, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels, ceil(H / 2), ceil(W / 2))."""
        if x.is_cuda:
            return super().forward(x)
        picked = x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
        return functional.conv2d(picked, self.weight, self.bias)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions of one dilation and a shortcut, which is a 1 x 1 convolution where the shape changes."""

    feeds: ClassVar[tuple[tuple[str, str], ...]] = (("conv1", "bn1"), ("conv2", "bn2"))
    """See `models.inference.fused`."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv3x3(channels_in, channels, stride, dilation)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, 1, dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride == 2:
            self.downsample = nn.Sequential(HalvingShortcut(channels_in, channels), nn.BatchNorm2d(channels))
        elif channels_in != channels:
            plain = nn.Conv2d(channels_in, channels, 1, bias=False)
            self.downsample = nn.Sequential(plain, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels, H, W), both halved where the stride is 2."""
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return functional.relu(out, inplace=True)


def residual_stage(channels_in: int, channels: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Two blocks, the first of which has the stride."""
    return nn.Sequential(
        ResidualBlock(channels_in, channels, stride, dilation), ResidualBlock(channels, channels, 1, dilation)
    )


def _conv3x3(channels_in: int, channels: int, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, 3, stride, dilation, dilation, bias=False)
