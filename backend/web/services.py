"""The objects that all requests of a web process share."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cache

from backend import memory
from backend.logs import Redactor
from backend.settings.core import Settings
from backend.state import State
from backend.tasks.label_config import import_ahead
from backend.web.adopter import Adopter
from backend.web.fresh import AT_A_TIME, FETCHERS, FreshPredictions
from backend.web.key_check import KeyCheck
from backend.web.webhook_repair import WebhookRepair
from backend.web.writer import Writer


@dataclass(frozen=True)
class Services:
    """The objects that all requests of a process share."""

    settings: Settings
    state: State
    redact: Redactor
    adopter: Adopter
    key_check: KeyCheck = field(default_factory=KeyCheck)
    fresh: FreshPredictions = field(default_factory=FreshPredictions)
    write: Writer = field(default_factory=Writer)
    repair_webhook: WebhookRepair = field(default_factory=WebhookRepair)

    @classmethod
    def start(cls, settings: Settings) -> Services:
        """Open the state, and start the thread that writes to it."""
        memory.configure(settings.memory_mb, AT_A_TIME * FETCHERS)
        state = State.for_settings(settings)
        return cls(settings, state, Redactor(settings.secrets()), Adopter(state, settings))

    def close(self) -> None:
        """Finish the changes that were acknowledged already."""
        self.adopter.close()
        self.write.close()
        self.state.close()


@cache
def services_of_environment() -> Services:
    """The services for label-studio-ml 2.x, which constructs the plugin itself and so cannot pass them."""
    import_ahead()
    services = Services.start(Settings.from_env(os.environ))
    services.adopter.start()
    return services
