"""Passes over the pool on Ray Data: tasks on this machine read rows, actors on all nodes load the network once and
compute batch after batch, and Ray Data holds the reading back where computing is slower.

Ray repeats what a lost node had begun. Should that not suffice, because what is left of the cluster has no room for the
lost node's actors, another run computes the batches that are missing.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from ray.data.exceptions import SystemException
from ray.exceptions import RayError

import backend
from backend.engine import running
from backend.engine.reading import Batches, source_of
from backend.errors import BackendError, OwnerError
from models.inference.executors import Computed, Pass

log = logging.getLogger(__name__)

RUN_BATCHES = 20_000
"""Batches of one run of Ray Data, whose plan is in memory."""
LOOK_SECONDS, STALLED_SECONDS = 1.0, 15.0
"""How often the lease is looked at; and how long nothing has to come, after a node was lost, for a new run to start."""
END_SECONDS = 5.0
ATTEMPTS = 3
"""Runs in a row that may bring nothing."""


def spread(work: Pass, compute: bytes, *, here: bool) -> Computed:
    """The results of a pass whose computation is ``packed``, as they come.

    here: all processors are of this machine, so that actors read rows themselves: it costs less than a way through
    Ray's memory. For a GPU other processes read, so that it does not wait.
    """
    direct = here and work.device.type == "cpu"
    missing = dict.fromkeys(range(len(work.parts)))
    shipped, sources = ray.put(compute), [source_of(one) for one in work.sources]
    failures = 0
    if work.device.type == "cuda":  # an actor may be on the same GPU
        torch.cuda.empty_cache()
    while missing:
        before, failure = len(missing), ""
        with_actors = Actors.of_cluster(work.device, torch.get_num_threads())
        run = _Run(work, sources, direct, list(missing)[:RUN_BATCHES], shipped, with_actors)
        try:
            for number, values in run.results(work.waiting):
                if number in missing:  # what was repeated counts once
                    del missing[number]
                    yield work.parts[number], values
        except (RayError, SystemException, NodeLost) as error:
            failure = _words(error)
        finally:
            run.end()
        failures = failures + 1 if len(missing) == before else 0
        if failures == ATTEMPTS:
            raise BackendError(f"Ray could not compute a pass over {len(work.rows)} rows: {failure}")
        if failure:
            log.warning("Ray: %s; %d of %d batches are computed again", failure, len(missing), len(work.parts))


class NodeLost(Exception):
    """A node of the cluster is gone, and nothing comes any more."""


@dataclass(frozen=True)
class Actors:
    """How many processes compute, and what each reserves. Each has as many threads as the worker, by which the order of
    float additions may depend."""

    count: int
    cpus: float
    gpus: int
    threads: int

    @classmethod
    def of_cluster(cls, device: torch.device, threads: int) -> Actors:
        """As many as there is room for. Raises OwnerError if the worker has a GPU, and no node has one."""
        nodes = [node["Resources"] for node in alive_nodes().values()]
        cores = [int(node.get("CPU", 0)) for node in nodes]
        if device.type == "cuda":
            gpus = sum(int(node.get("GPU", 0)) for node in nodes)
            if not gpus:
                raise OwnerError(
                    "The worker has a GPU, and no node of the Ray cluster has one: start them with --num-gpus, or set "
                    "EXECUTOR=local."
                )
            return cls(gpus, 0, 1, threads)
        size = max(1, min(threads, max(cores, default=1)))
        return cls(max(1, sum(found // size for found in cores)), size, 0, threads)


def alive_nodes() -> dict[str, dict[str, Any]]:
    """The cluster's nodes by their id."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


class _Run:
    """One execution of Ray Data, consumed by a thread, so that whoever waits can look at the lease meanwhile."""

    def __init__(
        self,
        work: Pass,
        sources: Sequence[Callable[[], np.ndarray]],
        direct: bool,
        numbers: Sequence[int],
        shipped: ray.ObjectRef[bytes],
        actors: Actors,
    ) -> None:
        self._numbers = len(numbers)
        self._nodes = set(alive_nodes())
        self._ended = False
        self._found: queue.Queue[Any] = queue.Queue(maxsize=64)
        here = ray.get_runtime_context().get_node_id()
        batches = Batches(work, () if direct else sources, numbers, actors.count)
        read = ray.data.read_datasource(
            batches,
            override_num_blocks=len(batches.tasks),
            concurrency=max(2, actors.count),
            num_cpus=0,
            label_selector={"ray.io/node-id": here},
        )
        self._set = read.map_batches(
            running.Computing,
            fn_constructor_args=(
                *(shipped, work.device.type, actors.threads, backend.__version__),
                sources if direct else (),
            ),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=actors.count),
            num_cpus=actors.cpus,
            num_gpus=actors.gpus,
        )
        self._thread = threading.Thread(target=self._consume, name="ray data", daemon=True)
        self._thread.start()

    def _consume(self) -> None:
        try:
            batches = self._set.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0)
            for batch in batches:
                self._put(list(zip(batch["number"].tolist(), batch["results"].tolist(), strict=True)))
                if self._ended:
                    break
            self._put(None)
        except BaseException as error:  # Ray also exits
            self._put(error)

    def _put(self, found: Any) -> None:
        while not self._ended:
            with contextlib.suppress(queue.Full):
                self._found.put(found, timeout=LOOK_SECONDS)
                return

    def results(self, waiting: Callable[[], None]) -> Generator[tuple[int, tuple[np.ndarray, ...]], None, None]:
        """The results of each batch, by its number. Raises NodeLost, or what computing raised."""
        since = time.monotonic()
        while True:
            try:
                found = self._found.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                waiting()
                if time.monotonic() - since > STALLED_SECONDS and self._nodes - set(alive_nodes()):
                    raise NodeLost("a node of the cluster was lost, and nothing comes any more") from None
                continue
            since = time.monotonic()
            if found is None:
                return
            if isinstance(found, BaseException):
                raise _known(found)
            for number, data in found:
                yield number, running.values_of(data)

    def end(self) -> None:
        """End what is still under way."""
        self._ended = True
        until = time.monotonic() + END_SECONDS
        while self._thread.is_alive() and time.monotonic() < until:  # it may be about to begin
            if (executor := getattr(self._set, "_current_executor", None)) is not None:
                executor.shutdown(force=True)
                return
            time.sleep(0.05)


def _known(error: BaseException) -> BaseException:
    """An error of Ray's, which another run may not meet; or what the owner can do about it."""
    said = str(error)
    if missing := re.search(r"No module named '[^']+'", said):
        return OwnerError(
            f"A node of Ray cannot run the backend ({missing[0]}): start Ray on every node from an installation of the "
            "same version, in its folder."
        )
    if missing := re.search(r"FileNotFoundError: .*'([^']+)'", said):
        return OwnerError(
            f"Ray's node on the worker's machine does not see the worker's file {missing[1]}: start it where MODEL_DIR "
            "is the same folder."
        )
    return error if isinstance(error, Exception) else BackendError(f"Ray ended: {error}")


def _words(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
