"""Networks whose convolutions may score in bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


class ReducedScoring(nn.Module):
    """A network of which the trunk, and nothing else, can score in bfloat16. It is float32 unless
    `models.inference.fused.scoring_copy` says otherwise of a copy.
    """

    score_dtype: torch.dtype = torch.float32

    def scoring_precision(self, x: Tensor) -> AbstractContextManager[object]:
        """Autocast to `score_dtype` in eval mode, where that is not float32; else what is in force stays so."""
        if self.training or self.score_dtype is torch.float32:
            return nullcontext()
        return torch.autocast(x.device.type, dtype=self.score_dtype)

    def flat_maps(self, trunk: nn.Module, x: Tensor) -> Tensor:
        """What the trunk makes of `x`, flat: (B, ...) -> (B, F) float32."""
        with self.scoring_precision(x):
            maps: Tensor = trunk(x)
        return maps.flatten(1).float()
