"""What runs in Ray's processes."""

from __future__ import annotations

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from backend.engine.reading import Source

if TYPE_CHECKING:
    import torch

KEPT = 4
"""Computations of the latest passes that an actor keeps: several may be under way at a time."""


class Computing:
    """An actor. It loads torch once, the networks of a pass once in that pass, and computes batches. What fails goes
    back as a result, in bytes: of an exception that it is raised with, Ray keeps the text."""

    def __init__(self, device: str, threads: int, version: str) -> None:
        self._failure: Exception | None = None
        self._kept: OrderedDict[str, tuple[Callable[..., Any], list[np.ndarray]]] = OrderedDict()
        try:
            self._device = _prepared(device, threads, version)
        except Exception as error:
            self._failure = error

    def node(self) -> str | bytes:
        """The id of its node, once it can compute; or what failed."""
        return ray.get_runtime_context().get_node_id() if self._failure is None else _packed(self._failure)

    def compute(
        self,
        name: str,
        shipped: Sequence[ray.ObjectRef[bytes]],
        sources: Sequence[Source],
        rows: np.ndarray,
        read: Sequence[np.ndarray],
    ) -> list[np.ndarray] | bytes:
        """A batch.

        name      of the pass.
        shipped   its computation, in a list, so that only an actor that has not loaded it yet fetches it.
        sources   what to read the rows (B,) of.
        read      without sources: those rows, which another process has read.
        """
        import torch

        from models.inference.streaming import read_rows

        try:
            compute, opened = self._loaded(name, shipped, sources)
            given = [read_rows(one, rows, self._device) for one in opened] or [torch.from_numpy(one) for one in read]
            with torch.inference_mode():
                values = compute(*(one.to(self._device) for one in given))
                return [one.cpu().numpy() for one in values]
        except Exception as error:
            return _packed(error)

    def _loaded(
        self, name: str, shipped: Sequence[ray.ObjectRef[bytes]], sources: Sequence[Source]
    ) -> tuple[Callable[..., Any], list[np.ndarray]]:
        from backend.engine.shipping import unpacked

        if name not in self._kept:
            self._kept[name] = unpacked(ray.get(shipped[0]), self._device), [source() for source in sources]
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        return self._kept[name]


def _prepared(device: str, threads: int, version: str) -> torch.device:
    import torch

    import backend
    from backend.errors import OwnerError

    if backend.__version__ != version:
        raise OwnerError(f"A node of Ray has version {backend.__version__} of the backend, the worker {version}.")
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # Ray's memory, which is only read
    torch.set_num_threads(threads)
    return torch.device(f"{device}:0" if device == "cuda" else device)


def checked(result: Any) -> Any:
    """What an actor gave. Raises what failed there."""
    if isinstance(result, bytes):
        raise pickle.loads(result)
    return result


def _packed(error: Exception) -> bytes:
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return data
