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
from backend.learning.learner import Learner
from models.data import Runtime
from models.inference.streaming import map_rows
from models.pixels import normalize
from tests.backend.engine.passes import CPU, WHOLE, Counting, pool_of_images
from tests.integration.helpers import FRUIT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.machines,
    pytest.mark.long,
    pytest.mark.filterwarnings("default"),  # Ray's own
    pytest.mark.skipif(find_spec("ray") is None, reason="requirements-ray.txt is not installed"),
]
ROWS = 4_800


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
    yield RayExecutor(session, fewest=(0, 0))
    session.end()


def test_both_nodes_compute_and_what_a_killed_one_had_is_computed_by_the_other(
    cluster: Any, ray_of_two: RayExecutor, tmp_path: Path
) -> None:
    """To the bit what one process computes, and each batch once. Which node computed a batch is known by the parent of
    the process; the other node is killed once both have brought some, while most are still to come."""
    cache = pool_of_images(tmp_path, ROWS)
    net = Learner.fresh(WHOLE, FRUIT, 32, CPU, seed=0).net.eval()

    def logits_and_node(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        import time

        time.sleep(0.1)
        return net(normalize(images)), torch.full((len(images),), os.getppid())

    nodes: set[int] = set()
    counted = Counting(ray_of_two)
    killed_after: list[int] = []

    def kill_in_the_middle(values: tuple[np.ndarray, ...]) -> None:
        nodes.update(values[1].tolist())
        if len(nodes) == 2 and not killed_after:
            killed_after.append(len(counted.batches))
            (other,) = cluster.worker_nodes
            cluster.remove_node(other, allow_graceful=False)

    counted.after_batch = kill_in_the_middle
    runtime = Runtime(CPU, seed=3, eval_batch_size=16)
    rows = np.arange(ROWS)
    there, _ = map_rows(cache.pixels, rows, replace(runtime, executor=counted), logits_and_node)
    assert killed_after and killed_after[0] < ROWS // 16 // 2 and not cluster.worker_nodes
    assert sorted(np.concatenate(counted.batches).tolist()) == rows.tolist(), "every row, and none twice"
    here, _ = map_rows(cache.pixels, rows, runtime, lambda images: (net(normalize(images)), images))
    assert there.tobytes() == here.tobytes()
