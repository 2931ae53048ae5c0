"""``python -m backend …`` of the checkout in the current directory, with checkpoints that compress.

The weights of trained networks do not compress, and a drn-d-22 has a million of them even at its narrowest. So after a
training only the largest weights of every large tensor are kept, and what is small (normalization, biases, heads) is
trained once more around them: the network has learned something, and is nearly empty. What else goes into a checkpoint
is thinned out when that is written. Shapes, types, and names are those that the checkout gives them. Run by
:mod:`tests.upgrade.make_model_dir`, with the checkout's own Python; it is no part of the tests.
"""

from __future__ import annotations

import os
import sys
from typing import Any

sys.path[0] = os.getcwd()

import torch  # noqa: E402

from backend import learner  # noqa: E402
from backend.__main__ import main  # noqa: E402
from models import checkpoint  # noqa: E402

SMALL = 512
"""Values of a tensor that keeps all of them."""
KEPT = 0.015
"""Share of the values that stay of a larger one."""
BITS = 4
"""Of a mantissa."""

train, write = learner.train_network, checkpoint.save


def train_sparse(net: Any, *how: Any) -> dict[str, float]:
    """Train, thin out the large tensors, and train the others once more."""
    train(net, *how)
    large = [weight for weight in net.parameters() if weight.numel() > SMALL]
    for weight in large:
        weight.data.copy_(thinned(weight.data))
        weight.requires_grad_(False)
    figures: dict[str, float] = train(net, *how)
    for weight in large:
        weight.requires_grad_(True)
    return figures


def sparse(value: Any, where: str = "") -> Any:
    """``value`` with every tensor rounded, and large ones thinned out. An optimizer's are set to their mean, because it
    divides by them."""
    if isinstance(value, dict):
        return {name: sparse(one, f"{where}.{name}") for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(sparse(one, where) for one in value)
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.ndim == 0:
        return value
    if ".optimisers" in where:
        return torch.full_like(value, float(value.mean()))
    return rounded(value) if value.numel() <= SMALL else thinned(value)


def rounded(value: torch.Tensor) -> torch.Tensor:
    mantissa, exponent = torch.frexp(value)
    return torch.ldexp((mantissa * 2**BITS).round() / 2**BITS, exponent)


def thinned(value: torch.Tensor) -> torch.Tensor:
    """The largest values, as their sign times one size, so that the norm stays; else 0."""
    flat = value.flatten()
    if flat.count_nonzero() <= KEPT * len(flat):
        return value
    largest = flat.abs().topk(max(16, int(KEPT * len(flat)))).indices
    thin = torch.zeros_like(flat)
    thin[largest] = flat[largest].sign() * flat.norm() / len(largest) ** 0.5
    return thin.view(value.shape)


if __name__ == "__main__":
    learner.train_network = train_sparse
    checkpoint.save = lambda path, payload: write(path, sparse(payload))
    raise SystemExit(main(sys.argv[1:]))
