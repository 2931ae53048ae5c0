"""A network as it scores: with each batch normalization folded into the convolution before it, and in eval mode.

In eval mode a batch normalization is a multiplication and an addition per channel, which the convolution's weights and
bias can do as well: the same function, without another pass over the maps. Every pass over the pool goes through
`scoring_copy`; training never does, and what is trained or saved is not touched.

Guaranteed is: the function is the same in exact arithmetic, and its rounding is float32's. So an order of the pool is
the same but for images whose scores are closer to each other than that rounding, as they may be on another machine too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from models.data import Runtime
from models.networks.folding import fold
from models.networks.precision import ReducedScoring
from models.networks.residual import HalvingShortcut
from models.networks.torchvision_segmenters import LoneImageBatchNorm

NetT = TypeVar("NetT", bound=nn.Module)

# By their exact types: what another subclass computes is not known here.
_CONVOLUTIONS = (nn.Conv2d, HalvingShortcut)
_NORMALIZATIONS = (nn.BatchNorm2d, LoneImageBatchNorm)


def scoring_copy(net: NetT, runtime: Runtime) -> NetT:
    """The network for one pass over rows of the pool: in eval mode, fused, its trunk in the runtime's `score_dtype`.

    A structure of its own on the same memory: only the weights of fused convolutions are new, in the memory layout of
    the old ones. `net` keeps its parameters, buffers and modes. A copy is for one pass: what `net` learns afterwards
    would reach it in part. Hooks of `net` are called with the copy's modules; what has a hook is not fused, so that the
    hook sees what it always saw.
    """
    copied = _copy(net, {})
    _fuse(copied)
    for module in copied.modules():
        if isinstance(module, ReducedScoring):
            module.score_dtype = runtime.score_dtype
    return copied


def placed_copy(net: NetT, device: torch.device) -> NetT:
    """A network of `scoring_copy` on another device, for one pass as well. `net` stays where it is."""
    return _copy(net, {}, lambda tensor: _placed(tensor, device))


def _placed(tensor: Tensor, device: torch.device) -> Tensor:
    moved = tensor.detach().to(device)
    return nn.Parameter(moved, requires_grad=False) if isinstance(tensor, nn.Parameter) else moved


def _copy(
    module: NetT, made: dict[int, nn.Module], tensor_of: Callable[[Tensor], Tensor] = lambda tensor: tensor
) -> NetT:
    """A copy in eval mode with dictionaries of its own for modules, parameters and buffers; without `tensor_of` these
    stay the same tensors. A module that is in several places is so in the copy."""

    def own(values: dict[str, Any]) -> dict[str, Any]:
        return {name: tensor_of(one) if isinstance(one, Tensor) else one for name, one in values.items()}

    copied = module.__new__(type(module))
    copied.__dict__ = own(module.__dict__) | {
        "training": False,
        "_parameters": own(module._parameters),
        "_buffers": own(module._buffers),
    }
    made[id(module)] = copied
    children = module._modules.items()
    copied._modules = {
        name: child and (made.get(id(child)) or _copy(child, made, tensor_of)) for name, child in children
    }
    return copied


@torch.no_grad()
def _fuse(net: nn.Module) -> None:
    """In place; `net` is in eval mode."""
    places = Counter(module for _, module in net.named_modules(remove_duplicate=False))
    for parent in list(net.modules()):
        for first, second in _pairs(parent):
            convolution, normalization = parent.get_submodule(first), parent.get_submodule(second)
            if type(convolution) not in _CONVOLUTIONS or type(normalization) not in _NORMALIZATIONS:
                continue
            assert isinstance(convolution, nn.Conv2d) and isinstance(normalization, nn.BatchNorm2d)
            hooks = [one._forward_hooks or one._forward_pre_hooks for one in (convolution, normalization)]
            in_one_place = places[convolution] == places[normalization] == 1
            # The copy's convolution is its own, though it begins with the weights of the original.
            if in_one_place and not any(hooks) and fold(convolution, normalization):
                parent.set_submodule(second, nn.Identity().eval())


def _pairs(parent: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of descendants of which the second is given the output of the first, and nothing else is.

    That is known of what `nn.Sequential` calls. Every other module says it of itself, in an attribute `feeds`.
    """
    if type(parent).forward is nn.Sequential.forward:
        yield from pairwise(parent._modules)
    yield from getattr(parent, "feeds", ())
