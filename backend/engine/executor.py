"""The executor of ``EXECUTOR=ray``. Ray is imported when there is a pass for it."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from backend.engine.session import RaySession
from models.inference.executors import Computed, Pass

if TYPE_CHECKING:
    from backend.engine.actors import ActorPool

log = logging.getLogger(__name__)

FEWEST_IMAGES, FEWEST_FEATURES = 5_000, 4_000_000
"""Rows of a pass that is given away: with fewer, this process is done before the first actor has begun, which takes
some seconds (`python -m benchmarks bench --only ray-margin`)."""


@dataclass
class RayExecutor:
    """See :class:`models.inference.executors.Executor`."""

    session: RaySession
    fewest: tuple[int, int] = (FEWEST_IMAGES, FEWEST_FEATURES)
    _pool: ActorPool | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def computed(self, work: Pass) -> Computed | None:
        """The pass on Ray. Raises OwnerError where there is none, or it has no GPU while the worker has one."""
        images = work.sources[0].dtype == np.uint8
        if len(work.rows) < self.fewest[0 if images else 1]:
            return None
        self.session.connect()
        from backend.engine import shipping, spreading

        try:
            compute = shipping.packed(work.compute, images=images)
        except shipping.CannotTravel as error:
            log.info("A pass over %d rows is computed by the worker itself: %s", len(work.rows), error)
            return None
        return spreading.spread(work, compute, self._actors(), here=not self.session.address)

    def _actors(self) -> ActorPool:
        """On a cluster they give their place back after each pass, because another worker may wait for it; and the
        memory of a GPU, because this worker trains there."""
        from backend.engine.actors import KEEP_SECONDS, ActorPool

        with self._lock:
            self._pool = self._pool or ActorPool(0.0 if self.session.address or self.session.gpus else KEEP_SECONDS)
            return self._pool
