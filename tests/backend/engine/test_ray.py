"""EXECUTOR=ray on this machine: the same bits as in one process, the lease's last word, and what is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.engine.executor import RayExecutor
from backend.engine.session import RaySession
from backend.errors import LeaseLost
from backend.learning.features import Features
from backend.learning.learner import Learner
from backend.tasks import KINDS
from benchmarks.speed.pool import trained_learner
from models.data import Runtime, no_progress
from models.inference.streaming import map_rows
from tests.backend.engine.passes import (
    CPU,
    HEAD,
    WHOLE,
    Counting,
    assert_same_bits,
    no_pixels,
    pool_of_features,
    pool_of_images,
    scores,
)
from tests.backend.tasks.examples import EXAMPLES
from tests.integration.helpers import FRUIT

pytestmark = [
    pytest.mark.machines,
    pytest.mark.long,  # Ray may end a process that has left it: see test_ray_alone.py, which `make test` runs
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # Ray's own
    pytest.mark.skipif(find_spec("ray") is None, reason="requirements-ray.txt is not installed"),
]

RUNTIME = Runtime(CPU, seed=3)


@pytest.fixture(scope="module")
def ray_here() -> Iterator[RayExecutor]:
    """A Ray of this machine with two processes that compute, which ends with the module."""
    session = RaySession("", cores=2)
    yield RayExecutor(session, fewest=(0, 0))
    session.end()


def test_a_head_on_features_scores_alike_to_the_bit(ray_here: RayExecutor, tmp_path: Path) -> None:
    """The rows are some columns of a mapped file, in no order, and fill the last of three batches in part."""
    learner = Learner.fresh(HEAD, FRUIT, 32, CPU, seed=0)
    features = pool_of_features(tmp_path, 10_000, learner.net_config.embedding)
    rows = np.random.default_rng(1).permutation(10_000)[:9_001]
    runtime, counted = replace(RUNTIME, features=features), Counting(ray_here)
    there = scores(learner, no_pixels(10_000), rows, runtime, counted)
    assert_same_bits(there, scores(learner, no_pixels(10_000), rows, runtime, None))
    assert counted.passes == 1
    assert sorted(np.concatenate(counted.batches).tolist()) == list(range(9_001))


@pytest.mark.parametrize(("sampler", "here"), [("margin", True), ("learning-loss", False)])
def test_a_network_that_reads_pixels_scores_alike_to_the_bit(
    ray_here: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str, here: bool
) -> None:
    """Also where a network of the sampler reads its hidden layers, and where rows go through Ray's memory, as they do
    to other machines."""
    ray_here.session.connect()
    from backend.engine import spreading  # here: Ray is imported by the session first

    spread = spreading.spread
    monkeypatch.setattr(spreading, "spread", lambda work, compute, pool, **_: spread(work, compute, pool, here=here))
    cache = pool_of_images(tmp_path, 300)
    learner, _ = trained_learner(cache, replace(WHOLE, sampler=sampler))
    rows, counted = np.arange(300)[::-1].copy(), Counting(ray_here)
    there = scores(learner, cache.pixels, rows, RUNTIME, counted)
    assert_same_bits(there, scores(learner, cache.pixels, rows, RUNTIME, None))
    assert counted.passes == 1


def test_images_are_embedded_alike_to_the_bit(ray_here: RayExecutor, tmp_path: Path) -> None:
    kind = KINDS["classification"].read(EXAMPLES["classification"].config(FRUIT), HEAD)
    tasks, counted, found = np.arange(1, 71), Counting(ray_here), []
    for name, executor in (("here", None), ("there", counted)):
        (tmp_path / name).mkdir()
        features = Features.open(kind, pool_of_images(tmp_path / name, 70), CPU, executor)
        assert features.fill(tasks, no_progress)
        assert features.present(tasks).tolist() == tasks.tolist()
        found.append(features.rows.tobytes())
    assert found[0] == found[1] and counted.passes == 1


def test_processes_stay_from_pass_to_pass_and_others_take_the_place_of_dead_ones(ray_here: RayExecutor) -> None:
    def who(images: torch.Tensor) -> tuple[torch.Tensor]:
        return (torch.full((len(images),), os.getpid()),)

    def computed_by() -> set[int]:
        runtime = replace(RUNTIME, eval_batch_size=1, executor=ray_here)
        (found,) = map_rows(np.zeros((40, 8, 8, 3), np.uint8), np.arange(40), runtime, who)
        assert len(found) == 40
        return set(found.tolist())

    first, again = computed_by(), computed_by()
    assert first & again and os.getpid() not in first | again
    for number in first | again:
        os.kill(number, signal.SIGKILL)
    assert not computed_by() & (first | again)


def test_who_lost_the_lease_stops_while_ray_computes(ray_here: RayExecutor) -> None:
    """Also before the first result."""

    def lost(phase: str, done: int, total: int) -> None:
        raise LeaseLost("the lease expired")

    def slow(images: torch.Tensor) -> tuple[torch.Tensor]:
        import time

        time.sleep(60)
        return (images.sum(dim=(1, 2, 3)),)

    pixels = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(LeaseLost):
        map_rows(pixels, np.arange(4), replace(RUNTIME, progress=lost, executor=ray_here), slow)


def test_what_fails_in_a_pass_fails_here_in_its_own_words(ray_here: RayExecutor) -> None:
    def broken(images: torch.Tensor) -> tuple[torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB")

    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        map_rows(np.zeros((4, 8, 8, 3), np.uint8), np.arange(4), replace(RUNTIME, executor=ray_here), broken)


def test_what_draws_at_random_stays_here(ray_here: RayExecutor) -> None:
    generator = torch.Generator().manual_seed(0)

    def noisy(images: torch.Tensor) -> tuple[torch.Tensor]:
        return (torch.rand(len(images), generator=generator),)

    counted = Counting(ray_here)
    map_rows(np.zeros((4, 8, 8, 3), np.uint8), np.arange(4), replace(RUNTIME, executor=counted), noisy)
    assert counted.passes == 0


def test_ray_leaves_the_process_as_it_was(ray_here: RayExecutor) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    mask = os.umask(0o077)
    try:
        ray_here.session.connect()
        assert os.umask(0o077) == 0o077
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    finally:
        os.umask(mask)
