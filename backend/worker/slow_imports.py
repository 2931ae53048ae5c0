"""What takes seconds to import, before it is needed: so that the first order does not have to wait for it."""

from __future__ import annotations

from importlib import import_module

from backend.settings.core import Settings
from backend.tasks.backbones import may_need_timm
from backend.tasks.label_config import import_ahead


def import_slow_modules(settings: Settings) -> None:
    """In the order in which work under these settings comes to need them."""
    import_ahead()
    import_module("torch._dynamo")  # by every optimizer of torch, when it is first used
    import_module("backend.cycle")  # torch
    if may_need_timm(settings):
        import_module("timm")  # and with it torchvision
