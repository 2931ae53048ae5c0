"""How many rows a pass over the pool computes at a time."""

from __future__ import annotations

import pytest
import torch

from models.data import Runtime
from models.inference.streaming import eval_batch_size


@pytest.mark.parametrize(
    ("frame", "rows"),
    [
        ((16, 16), 128),
        ((32, 32), 128),
        ((64, 64), 32),
        ((65, 65), 16),
        ((112, 112), 16),
        ((224, 224), 8),
        ((112, 448), 8),
        ((320, 320), 4),
        ((512, 512), 2),
        ((4_096, 4_096), 1),
    ],
)
def test_a_processor_is_given_what_its_caches_hold(frame: tuple[int, int], rows: int) -> None:
    assert eval_batch_size(Runtime(torch.device("cpu"), 0), frame) == rows


@pytest.mark.parametrize(("side", "rows"), [(32, 1024), (224, 256), (512, 49), (1_024, 12)])
def test_a_gpu_is_filled(side: int, rows: int) -> None:
    assert eval_batch_size(Runtime(torch.device("cuda"), 0), (side, side)) == rows


def test_who_says_how_many_gets_them() -> None:
    assert eval_batch_size(Runtime(torch.device("cpu"), 0, eval_batch_size=7), (224, 224)) == 7
