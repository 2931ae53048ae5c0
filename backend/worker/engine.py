"""The engine that the setting ``executor`` names, for as long as a worker lives."""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING

from backend.settings.core import Settings

if TYPE_CHECKING:
    import torch

    from backend.engine.session import RaySession
    from models.inference.executors import Executor


class Engine:
    """``executor``: who computes large passes over the pool; None: the worker itself."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session: RaySession | None = None
        self.executor: Executor | None = None

    def start(self, device: torch.device) -> None:
        """Find the engine. Raises OwnerError if it is not installed, or a cluster does not answer."""
        if self._settings.executor == "local":
            return
        from backend.engine.executor import RayExecutor  # here: nobody else needs them
        from backend.engine.session import RaySession

        self._session = RaySession(self._settings.ray_address, gpus=device.type == "cuda")
        self._session.require()
        atexit.register(self.end)  # also of a command that runs one cycle
        self.executor = RayExecutor(self._session)

    def end(self) -> None:
        """End what :meth:`start` started, or leave the cluster."""
        if self._session is not None:
            self._session.end()
