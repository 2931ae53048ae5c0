"""Normalizations of timm's networks that are folded into convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from models.networks.backbones import BUNDLED, IMAGENET, NOTHING, Backbone, build_backbone
from models.networks.folding import folded
from models.networks.kept_backbones import kept_backbone

CPU = torch.device("cpu")
IMAGES = torch.randn(3, 3, 40, 40, generator=torch.Generator().manual_seed(1))


def normalizations(net: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())


@pytest.mark.parametrize(
    ("name", "weights", "left"),
    [
        (BUNDLED, IMAGENET, 0),
        ("test_efficientnet", NOTHING, 0),
        ("test_resnet", NOTHING, 1),
        ("densenet121", NOTHING, 62),
    ],
)
def test_what_is_said_of_an_image_is_the_same(name: str, weights: str, left: int) -> None:
    """Of a DenseNet, half of the normalizations come before their convolution; of the ResNet, one after several."""
    as_built = build_backbone(name, weights, 32)
    for module in as_built.modules():  # as if it had learned: new networks' normalizations change nothing
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and weights == NOTHING:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
    before = {key: value.clone() for key, value in as_built.state_dict().items()}

    def outputs(backbone: Backbone) -> Sequence[Tensor]:
        features, taps = backbone.features_and_taps(IMAGES)
        return [features, *taps]

    made = folded(as_built, outputs)
    assert made is not as_built and normalizations(made) == left < normalizations(as_built)
    with torch.inference_mode():
        for one, other in zip(outputs(as_built), outputs(made), strict=True):
            torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4 * float(one.abs().max()))
    assert all(torch.equal(value, before[key]) for key, value in as_built.state_dict().items())


class Misleading(nn.Module):
    """What normalizes was made after the convolution, and comes before it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3)
        self.normalization = nn.BatchNorm2d(3)
        nn.init.uniform_(self.normalization.running_mean, 0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.convolution(self.normalization(x))
        return found


def test_a_network_whose_order_misleads_stays_as_it_is() -> None:
    net = Misleading().eval()
    assert folded(net, lambda one: [one(IMAGES)]) is net and normalizations(net) == 1


def test_the_backbone_that_is_read_has_none_left() -> None:
    assert normalizations(kept_backbone("test_efficientnet", NOTHING, 32, CPU)) == 0
    assert normalizations(build_backbone("test_efficientnet", NOTHING, 32)) > 0
