"""`torch` and `models` for sampler files, imported at the first use of a name in them instead of at the start.

The web process lists samplers, their options and the tasks they serve; importing torch would cost it seconds and
hundreds of megabytes. So a sampler file says ``from samplers.deferred import models, torch``, and imports from either
package itself only under ``if TYPE_CHECKING:``. What is written at its top level must not use them: a class that
derives from ``torch.nn.Module`` belongs in models/.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["models", "torch"]


class Deferred:
    """A package by name. An attribute is what the package has under that name, or its submodule of that name."""

    def __init__(self, package: str) -> None:
        self._package = package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what inspects an object is not to load a package
            raise AttributeError(name)
        package = import_module(self._package)
        if not hasattr(package, name):
            import_module(f"{self._package}.{name}")
        found = getattr(package, name)
        # Within models/ a package does not import its modules, so its attributes are deferred in turn.
        return Deferred(found.__name__) if hasattr(found, "__path__") else found


if TYPE_CHECKING:
    import torch

    import models
else:
    models, torch = Deferred("models"), Deferred("torch")
