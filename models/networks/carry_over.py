"""A task network that goes on from the last cycle's, although classes came, went or changed their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.networks.base import TaskNet


def carry_over(
    old_state: Mapping[str, Tensor],
    old_classes: Sequence[str],
    net: TaskNet,
    new_classes: Sequence[str],
    offset: int = 0,
) -> str:
    """Start `net` from an earlier network's state; rows of the head follow the class names.

    The first `offset` rows of the head have no name and always stay: that of the background, which an owner's own
    label may well be called. A class that was not there keeps its fresh row, one that is gone vanishes, renamed order
    is followed. All or nothing: when the state does not fit, `net` stays fresh.

    Returns "" when it was carried over, else the reason in words.
    """
    own = net.state_dict()
    body = [key for key in own if not key.startswith("head.")]
    if any(key not in old_state or old_state[key].shape != own[key].shape for key in body):
        return "the earlier network has another architecture, width or image size"
    weight, bias = old_state.get("head.weight"), old_state.get("head.bias")
    outputs = offset + len(old_classes)
    fits = (
        weight is not None
        and bias is not None
        and weight.shape == (outputs, *own["head.weight"].shape[1:])
        and len(bias) == outputs
    )
    if weight is None or bias is None or not fits:
        return "the earlier network's head does not match its classes"
    if not all(bool(torch.isfinite(value).all()) for value in old_state.values() if value.is_floating_point()):
        return "the earlier network's weights are not finite"
    row_of = {name: offset + place for place, name in enumerate(old_classes)}
    kept = [(offset + place, row_of[name]) for place, name in enumerate(new_classes) if name in row_of]
    with torch.no_grad():
        for key in body:
            own[key].copy_(old_state[key])
        for row, old_row in [*((row, row) for row in range(offset)), *kept]:
            own["head.weight"][row].copy_(weight[old_row])
            own["head.bias"][row].copy_(bias[old_row])
    return ""
