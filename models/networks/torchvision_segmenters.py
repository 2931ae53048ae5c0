"""torchvision's segmentation networks as trunks: all of them but the last 1 x 1 convolution.

DeepLabV3 on ResNet-50: Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation (2017). Lite R-ASPP
on MobileNetV3-Large: Howard et al., Searching for MobileNetV3 (ICCV 2019). Parameters are named as in torchvision, so
that its published weights fit.

Axis letters: B batch, C classes, F features, H W pixels, h w their eighth.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.base import PretrainedUnavailable
from models.networks.drn import Tap
from models.networks.residual import HalvingShortcut

_WEIGHTS = {  # by name: an import of torchvision costs a process seconds, and few processes need one of these networks
    "deeplabv3-resnet50": "DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1",
    "lraspp-mobilenetv3": "LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1",
}


class DeepLabTrunk(nn.Module):
    """DeepLabV3-ResNet-50: (B, 3, H, W) -> (B, 256, h, w), h = ceil(H / 8). Tapped after ResNet's four stages.

    Three layers are not torchvision's. The normalization behind the global pooling copes with a batch of one image.
    There is no dropout after the pyramid: it would draw from the global generator. And the shortcut of stride 2 is
    the one that is safe on a CPU.
    """

    def __init__(self) -> None:
        from torchvision.models.resnet import Bottleneck
        from torchvision.models.segmentation import deeplabv3_resnet50

        super().__init__()
        model = deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=False)
        pyramid, *refine, _ = model.classifier  # the last is the 1 x 1 convolution to the classes
        pooling = pyramid.convs[-1]
        pooling[2] = LoneImageBatchNorm(pooling[2].num_features)
        pyramid.project[-1] = nn.Identity()
        shortcut = model.backbone["layer2"][0].downsample
        shortcut[0] = HalvingShortcut(shortcut[0].in_channels, shortcut[0].out_channels)
        self.backbone = model.backbone
        self.classifier = nn.Sequential(pyramid, *refine)
        blocks = [name for name, block in self.backbone.named_modules() if isinstance(block, Bottleneck)]
        self.feeds = (  # see `models.inference.fused`
            ("backbone.conv1", "backbone.bn1"),
            *((f"backbone.{block}.conv{n}", f"backbone.{block}.bn{n}") for block in blocks for n in (1, 2, 3)),
            ("classifier.0.convs.4.1", "classifier.0.convs.4.2"),  # behind the global pooling
        )
        self.stride = 8
        self.channels = 256
        self.tap_channels = (256, 512, 1024, 2048)

    def forward(self, x: Tensor, tap: Tap) -> Tensor:
        """(B, 3, H, W) -> (B, 256, h, w); each tapped stage's output goes through `tap`."""
        for name, layer in self.backbone.items():
            x = layer(x)
            if name.startswith("layer"):
                x = tap(x)
        maps: Tensor = self.classifier(x)
        return maps


class LiteRasppTrunk(nn.Module):
    """LR-ASPP-MobileNetV3-Large: (B, 3, H, W) -> (B, 168, h, w), h = ceil(H / 8).

    torchvision classifies 40 channels of an early stage and 128 of the last one apart and adds the logits. One 1 x 1
    convolution over both, one after the other, is the same function with one bias instead of two. Tapped after the
    stages of 24, 40, 112 and 160 channels.
    """

    def __init__(self) -> None:
        from torchvision.models.segmentation import lraspp_mobilenet_v3_large

        super().__init__()
        model = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
        self.backbone = model.backbone
        self.classifier = nn.ModuleDict({"cbr": model.classifier.cbr, "scale": model.classifier.scale})
        self._low = next(layer for layer, role in model.backbone.return_layers.items() if role == "low")
        self._taps = ("3", "6", "12", "15")  # the last blocks of their stages
        self.stride = 8
        self.channels = model.classifier.low_classifier.in_channels + model.classifier.high_classifier.in_channels
        self.tap_channels = tuple(model.backbone[name].out_channels for name in self._taps)

    def forward(self, x: Tensor, tap: Tap) -> Tensor:
        """(B, 3, H, W) -> (B, 168, h, w); each tapped stage's output goes through `tap`."""
        low = x
        for name, layer in self.backbone.items():
            x = layer(x)
            if name in self._taps:
                x = tap(x)
            if name == self._low:
                low = x
        high = self.classifier["cbr"](x) * self.classifier["scale"](x)
        high = functional.interpolate(high, size=low.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([low, high], dim=1)


class LoneImageBatchNorm(nn.BatchNorm2d):
    """Batch normalization of pooled maps (B, F, 1, 1). One image alone has no spread to be normalized by: in training,
    too, it is measured against the running statistics then, and leaves them as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, 1, 1) in and out."""
        if self.training and x.numel() == x.shape[1]:
            mean, variance = self.running_mean, self.running_var
            return functional.batch_norm(x, mean, variance, self.weight, self.bias, training=False, eps=self.eps)
        return super().forward(x)


def download_trunk_state(name: str) -> Mapping[str, Tensor]:
    """torchvision's weights of a whole network, trained on COCO's images of VOC's 20 classes.

    Raises PretrainedUnavailable when they cannot be fetched.
    """
    from torchvision.models import get_weight

    try:
        state: Mapping[str, Tensor] = get_weight(_WEIGHTS[name]).get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise PretrainedUnavailable(
            f"the pretrained weights of {name} could not be downloaded ({error}): "
            "connect to the internet once, or set pretrained to false"
        ) from error
    return state


def load_torchvision_state(trunk: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy what belongs to the trunk out of a state dict of torchvision's whole network."""
    trunk.load_state_dict({key: state[key] for key in trunk.state_dict()})
