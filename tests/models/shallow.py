"""Networks of half their depth, for tests of what is done with a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch import nn

from models.networks import classifier, drn
from models.networks.residual import residual_stage


@contextmanager
def shallow() -> Iterator[None]:
    """One residual block a stage in place of two, in this process. What a sampler or a cycle does depends on what a
    network gives, not on how deep it is, and most of the time of such tests is networks that are built, trained and
    run."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (classifier, drn):
            patch.setattr(module, "residual_stage", _first_block)
        yield


def _first_block(*shape: int, **options: int) -> nn.Sequential:
    return residual_stage(*shape, **options)[:1]
