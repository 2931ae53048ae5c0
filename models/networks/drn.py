"""Dilated residual network DRN-D-22, at any width: the trunk of the papers' segmentation network.

Yu, Koltun & Funkhouser, Dilated Residual Networks (CVPR 2017), section 4 and figure 5. A residual network that stops
halving the map at an eighth of the image and dilates its convolutions instead, by 2 and by 4, so that they see as much
of the image as before. Two plain convolutions of falling dilation (2, 1) follow, without shortcuts, which take out
the grid that the dilated ones leave.

The first stage has `width` channels, 16 in the paper, and the map 32 times as many. Parameters are named as in the
authors' published weights.

Axis letters: B batch, F features, H W pixels, h w their eighth.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from models.networks.residual import residual_stage

DRN_WIDTH = 16
STRIDE = 8

Tap = Callable[[Tensor], Tensor]  # the output of each tapped stage, in order -> what the next layer reads

_TAPPED = {"layer3": 4, "layer4": 8, "layer5": 16, "layer6": 32}  # the residual stages; channels ÷ width


class DilatedResidualTrunk(nn.Module):
    """DRN-D-22 without its classifier: (B, 3, H, W) -> (B, F, h, w), F = 32 * width, h = ceil(H / 8).

    Tapped after each of the four residual stages.
    """

    def __init__(self, width: int = DRN_WIDTH) -> None:
        super().__init__()
        self.stride = STRIDE
        self.channels = 32 * width
        self.tap_channels = tuple(factor * width for factor in _TAPPED.values())
        self.layer0 = _conv_stage(3, width, kernel=7)
        self.layer1 = _conv_stage(width, width)
        self.layer2 = _conv_stage(width, 2 * width, stride=2)
        self.layer3 = residual_stage(2 * width, 4 * width, stride=2)
        self.layer4 = residual_stage(4 * width, 8 * width, stride=2)
        self.layer5 = residual_stage(8 * width, 16 * width, dilation=2)
        self.layer6 = residual_stage(16 * width, 32 * width, dilation=4)
        self.layer7 = _conv_stage(32 * width, 32 * width, dilation=2)
        self.layer8 = _conv_stage(32 * width, 32 * width)

    def forward(self, x: Tensor, tap: Tap) -> Tensor:
        """(B, 3, H, W) -> (B, F, h, w); each tapped stage's output goes through `tap`."""
        for name, layer in self.named_children():
            x = layer(x)
            if name in _TAPPED:
                x = tap(x)
        return x


def _conv_stage(channels_in: int, channels: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(channels_in, channels, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
