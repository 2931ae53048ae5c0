"""Passes over the pool on Ray: tasks on this machine read rows, actors on all nodes compute batch after batch. A few
batches are under way for each actor, so that one is read and sent while another is computed, and reading waits where
computing is slower.

What a lost actor or node had begun is given to others. Ray Data would do as much, but starts its processes anew in each
pass, which took longer than a million rows of features do.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import RayError, RayTaskError

from backend.engine.actors import Actor, ActorPool, alive_nodes
from backend.engine.reading import Source, read, source_of
from backend.engine.running import checked
from backend.errors import BackendError, OwnerError
from models.inference.executors import Computed, Pass

log = logging.getLogger(__name__)

UNDER_WAY = 3
"""Batches that an actor has or will have next."""
LOOK_SECONDS = 1.0
"""How often the lease is looked at, and whether all nodes are there, while nothing comes."""
ATTEMPTS = 3
"""How often all actors may be lost without a result in between, until a pass fails. A node takes several at a time."""


def spread(work: Pass, compute: bytes, pool: ActorPool, *, here: bool) -> Computed:
    """The results of a pass whose computation is ``packed``, as they come.

    here: all processors are of this machine, so that actors read rows themselves: it costs less than a way through
    Ray's memory. For a GPU other processes read, so that it does not wait.
    """
    if work.device.type == "cuda":  # an actor may be on the same GPU
        torch.cuda.empty_cache()
    shipped, sources = ray.put(compute), [source_of(one) for one in work.sources]
    by_actors = here and work.device.type == "cpu"
    with pool.used():
        run = _Run(work, _Batches(work, shipped, sources, by_actors), pool)
        try:
            yield from run.results()
        finally:
            run.end()


@dataclass(frozen=True)
class _Batches:
    """How the batches of a pass are asked for."""

    work: Pass
    shipped: ray.ObjectRef[bytes]
    sources: Sequence[Source]
    by_actors: bool

    def ask(self, actor: Actor, number: int) -> ray.ObjectRef[Any]:
        rows = self.work.rows[self.work.parts[number]]
        name, compute = self.shipped.hex(), actor.handle.compute
        if self.by_actors:
            return compute.remote(name, [self.shipped], self.sources, rows, ())
        reader = read.options(label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()})
        return compute.remote(name, [self.shipped], (), rows, reader.remote(self.sources, rows))


class _Run:
    """One pass: which batches are still to be given out, and which are under way where."""

    def __init__(self, work: Pass, batches: _Batches, pool: ActorPool) -> None:
        self._work, self._batches, self._pool = work, batches, pool
        self._left = deque(range(len(work.parts)))
        self._under_way: dict[ray.ObjectRef[Any], tuple[Actor, int]] = {}
        self._losses = 0
        self._actors = self._renewed()

    def _renewed(self) -> list[Actor]:
        return self._pool.actors(self._work.device.type, torch.get_num_threads())

    def results(self) -> Computed:
        """Each batch once. Raises what computing raised, OwnerError for what the owner can mend, BackendError when
        actors are lost again and again."""
        while self._left or self._under_way:
            self._give_out()
            starting = {one.starting: one for one in self._actors if one.starting is not None}
            done, _ = ray.wait([*self._under_way, *starting], num_returns=1, timeout=LOOK_SECONDS)
            if not done:
                self._work.waiting()
                self._look_at_nodes()
            elif done[0] in starting:
                self._started(starting[done[0]])
            else:
                yield from self._finished(done[0])

    def _give_out(self) -> None:
        counts = dict.fromkeys(self._actors, 0)
        for actor, _ in self._under_way.values():
            counts[actor] = counts.get(actor, 0) + 1
        for _ in range(UNDER_WAY):
            for actor in self._actors:
                if self._left and not actor.starting and counts[actor] < UNDER_WAY:
                    number = self._left.popleft()
                    self._under_way[self._batches.ask(actor, number)] = actor, number
                    counts[actor] += 1

    def _started(self, actor: Actor) -> None:
        try:
            actor.node, actor.starting = checked(ray.get(actor.starting)), None
        except RayError as error:
            self._lost([actor], error)
        except Exception:
            self._pool.end([actor])  # the next pass tries another
            raise

    def _finished(self, asked: ray.ObjectRef[Any]) -> Generator[tuple[np.ndarray, tuple[np.ndarray, ...]], None, None]:
        actor, number = self._under_way[asked]
        try:
            values = tuple(np.copy(one) for one in checked(ray.get(asked)))  # out of Ray's memory
        except RayError as error:
            self._lost([actor], error)
            return
        del self._under_way[asked]
        self._losses = 0
        yield self._work.parts[number], values

    def _look_at_nodes(self) -> None:
        nodes = alive_nodes()
        if lost := [one for one in self._actors if one.node and one.node not in nodes]:
            self._lost(lost, RayError("a node of the cluster was lost"))
        else:  # another may have joined, or a pass with other actors may have ended
            self._actors = self._renewed()

    def _lost(self, actors: Collection[Actor], error: RayError) -> None:
        """Others compute what these had. Raises what another attempt cannot mend."""
        if (known := _known(error)) is not None:
            raise known from error
        self._losses += len(actors)
        words = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if self._losses >= ATTEMPTS * len(self._actors):
            raise BackendError(f"Ray could not compute a pass over {len(self._work.rows)} rows: {words}") from error
        again = {asked: number for asked, (actor, number) in self._under_way.items() if actor in actors}
        log.warning("Ray: %s; %d of %d batches are computed again", words, len(again), len(self._work.parts))
        for asked, number in again.items():
            del self._under_way[asked]
            self._left.appendleft(number)
        self._pool.end(actors)
        self._actors = self._renewed()

    def end(self) -> None:
        """Nobody waits any more for what is still under way: Ray ends it with the actors that compute it."""
        self._pool.end({actor for actor, _ in self._under_way.values()})


def _known(error: RayError) -> Exception | None:
    """What the owner can do about it, or that a task failed; None of what others can compute."""
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
    return error if isinstance(error, RayTaskError) else None
