"""Networks of timm that stay as they are, with their batch normalizations folded into the convolutions before them.

In eval mode that is the same function but for float32's rounding, with a pass over each map less. Which convolution a
normalization follows is not said by timm's modules. So it is taken from the order in which they were made, and kept
only if the outputs for some images are the same. (Networks of our own say it: see `models.inference.fused`.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

TOLERANCE = 1e-3
"""The largest difference between the outputs of both, as a share of the largest output."""

NetT = TypeVar("NetT", bound=nn.Module)


def folded(net: NetT, outputs: Callable[[NetT], Sequence[Tensor]]) -> NetT:
    """A copy of `net`, which is in eval mode; `net` itself where its normalizations cannot be folded.

    outputs: what a network says of some images.
    """
    copied = copy.deepcopy(net)
    with torch.no_grad():
        _fold(copied)
        same = all(map(_alike, outputs(net), outputs(copied)))
    return copied if same else net


def fold(convolution: nn.Conv2d, normalization: nn.BatchNorm2d) -> bool:
    """Give the convolution, in place, what the batch normalization after it does in eval mode. Returns whether that can
    be: without running statistics it normalizes by the batch in eval mode too."""
    mean, spread = normalization.running_mean, normalization.running_var
    if mean is None or spread is None:
        return False
    known = (mean, spread, normalization.eps, normalization.weight, normalization.bias)
    convolution.weight, convolution.bias = fuse_conv_bn_weights(convolution.weight, convolution.bias, *known)
    return True


def _fold(net: nn.Module) -> None:
    """In place."""
    from timm.layers import BatchNormAct2d  # here: slow to import

    for parent in list(net.modules()):
        for (_, convolution), (name, after) in pairwise(list(parent.named_children())):
            if not isinstance(convolution, nn.Conv2d) or not isinstance(after, BatchNormAct2d | nn.BatchNorm2d):
                continue
            if after.num_features == convolution.out_channels and fold(convolution, after):
                parent.set_submodule(name, after.act if isinstance(after, BatchNormAct2d) else nn.Identity())


def _alike(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= TOLERANCE * one.abs().max())
