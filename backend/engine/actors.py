"""The processes that compute: as many as the cluster has room for, kept from pass to pass while nobody else wants their
place, since each takes seconds to start and to load torch.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

import backend
from backend.engine.running import Computing
from backend.errors import OwnerError

KEEP_SECONDS = 600.0
"""How long actors stay after a pass, on the processors of a Ray that serves one worker."""


@dataclass(frozen=True)
class Kind:
    """What an actor computes with, and what it reserves. Each has as many threads as the worker, by which the order of
    float additions may depend."""

    device: str
    threads: int
    cpus: int
    gpus: int


def room(device: str, threads: int) -> tuple[Kind, int]:
    """The kind of actor for a worker's device, and how many of it the cluster has room for. Raises OwnerError if the
    worker has a GPU, and no node has one."""
    nodes = [node["Resources"] for node in alive_nodes().values()]
    if device == "cuda":
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        if not gpus:
            raise OwnerError(
                "The worker has a GPU, and no node of the Ray cluster has one: start them with --num-gpus, or set "
                "EXECUTOR=local."
            )
        return Kind(device, threads, 0, 1), gpus
    cores = [int(node.get("CPU", 0)) for node in nodes]
    size = max(1, min(threads, max(cores, default=1)))
    return Kind(device, threads, size, 0), max(1, sum(found // size for found in cores))


def alive_nodes() -> dict[str, dict[str, Any]]:
    """The cluster's nodes by their id."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


@dataclass(eq=False)
class Actor:
    """``starting``: a reference to what `Computing.node` will give, until it has; ``node``: that, then."""

    kind: Kind
    handle: Any
    starting: Any
    node: str = ""

    @classmethod
    def start(cls, kind: Kind) -> Actor:
        options = {"num_cpus": kind.cpus, "num_gpus": kind.gpus}
        made: Any = ray.remote(Computing).options(**options).remote(kind.device, kind.threads, backend.__version__)
        return cls(kind, made, made.node.remote())


class ActorPool:
    """Several passes may use it at a time, in threads of their own, and share its actors."""

    def __init__(self, keep_seconds: float) -> None:
        self._keep_seconds = keep_seconds
        self._lock = threading.Lock()
        self._actors: list[Actor] = []
        self._users = 0
        self._release: threading.Timer | None = None

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """The actors stay meanwhile, and for a while after."""
        with self._lock:
            self._users += 1
            if self._release is not None:
                self._release.cancel()
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._keep_seconds and not self._users:
                    self._release = threading.Timer(self._keep_seconds, self.release)
                    self._release.daemon = True
                    self._release.start()
            if not self._keep_seconds:
                self.release()

    def actors(self, device: str, threads: int) -> list[Actor]:
        """Those that live, and new ones for which there is room. Some may be starting."""
        nodes = alive_nodes()
        kind, count = room(device, threads)
        with self._lock:
            for other in [one for one in self._actors if one.kind != kind and self._users == 1]:
                self._end(other)  # its place is needed
            mine = [one for one in self._actors if one.kind == kind and (not one.node or one.node in nodes)]
            started = [Actor.start(kind) for _ in range(count - len(mine))]
            self._actors += started
            return mine + started

    def end(self, actors: Collection[Actor]) -> None:
        """End actors that are lost, or compute what nobody waits for any more."""
        with self._lock:
            for one in actors:
                self._end(one)

    def release(self) -> None:
        """Give the place of all actors back, unless a pass uses them."""
        with self._lock:
            if not self._users:
                for one in list(self._actors):
                    self._end(one)

    def _end(self, actor: Actor) -> None:
        if actor in self._actors:
            self._actors.remove(actor)
        with contextlib.suppress(RayError, ValueError):  # it is dead, or Ray has ended
            ray.kill(actor.handle)
