"""A cluster of Ray of two nodes, one of which is killed in the middle of a pass."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.engine.executor import RayExecutor
from backend.engine.session import QUIET, ROOT, RaySession
from benchmarks.speed.pool import trained_learner
from models.data import Runtime
from models.inference.streaming import map_rows
from tests.backend.engine.passes import CPU, WHOLE, Counting, assert_same_bits, pool_of_images, scores

pytestmark = [
    pytest.mark.slow,
    pytest.mark.machines,
    pytest.mark.filterwarnings("default"),  # Ray's own
    pytest.mark.skipif(find_spec("ray") is None, reason="requirements-ray.txt is not installed"),
]
RUNTIME = Runtime(CPU, seed=3)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Of a head with one core, and another node with one."""
    for name, value in {**QUIET, "PYTHONPATH": str(ROOT)}.items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


@pytest.fixture
def ray_of_two(cluster: Any) -> Iterator[RayExecutor]:
    session = RaySession(cluster.address)
    yield RayExecutor(session, fewest=(0, 0), warm=False)
    session.end()


def test_both_nodes_compute_and_what_a_killed_one_had_is_computed_by_the_other(
    cluster: Any, ray_of_two: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores to the bit as by one process, and each batch once."""
    monkeypatch.setattr("backend.engine.reading.BLOCK_BYTES", 1 << 18)
    monkeypatch.setattr("backend.engine.spreading.STALLED_SECONDS", 5.0)
    cache = pool_of_images(tmp_path, 6_000)
    learner, _ = trained_learner(cache, WHOLE)
    counted = Counting(ray_of_two)

    def kill_in_the_middle() -> None:
        if len(counted.batches) == 5:
            (other,) = cluster.worker_nodes
            cluster.remove_node(other, allow_graceful=False)

    counted.after_batch = kill_in_the_middle
    rows = np.arange(6_000)
    there = scores(learner, cache.pixels, rows, RUNTIME, counted)
    assert not cluster.worker_nodes
    assert sorted(np.concatenate(counted.batches).tolist()) == rows.tolist(), "every row, and none twice"
    assert_same_bits(there, scores(learner, cache.pixels, rows, RUNTIME, None))


def test_rows_go_to_the_other_node_and_not_paths(ray_of_two: RayExecutor, tmp_path: Path) -> None:
    """Both nodes compute, by the ids of their processes' parents."""

    def who(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        import time

        time.sleep(0.2)
        return images.sum(dim=(1, 2, 3)), torch.full((len(images),), os.getppid())

    cache = pool_of_images(tmp_path, 300)
    runtime = replace(RUNTIME, eval_batch_size=5, executor=ray_of_two)
    sums, parents = map_rows(cache.pixels, np.arange(300), runtime, who)
    assert sums.tolist() == cache.pixels.sum(axis=(1, 2, 3), dtype=np.int64).tolist()
    assert len(set(parents.tolist())) == 2
