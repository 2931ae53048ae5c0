"""Networks of half their depth for the tests of samplers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch import nn

from models.networks import classifier, drn
from models.networks.residual import residual_stage
from tests.samplers import worlds


def _first_block(*shape: int, **options: int) -> nn.Sequential:
    return residual_stage(*shape, **options)[:1]


@pytest.fixture(scope="module", autouse=True)  # of a package it would last until the end: there is no __init__.py
def shallow_networks() -> Iterator[None]:
    """One residual block a stage in place of two. What a sampler does depends on what a network gives, not on how deep
    it is, and most of the time of these tests is networks that are built, trained and run."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (classifier, drn):
            patch.setattr(module, "residual_stage", _first_block)
        worlds.forget()
        yield
    worlds.forget()
