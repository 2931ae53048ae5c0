"""What runs in Ray's processes."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import ray


class Computing:
    """An actor: loads the network once, and computes batches. What fails goes back as a result: Ray Data would keep no
    more of it than its text."""

    def __init__(
        self,
        shipped: ray.ObjectRef[bytes],
        device: str,
        threads: int,
        version: str,
        sources: Sequence[Callable[[], np.ndarray]],
    ) -> None:
        """``sources``: what to read rows of; without them, the rows come in the batches."""
        self.failure: Exception | None = None
        try:
            self._load(shipped, device, threads, version)
            self.sources = [source() for source in sources]
        except Exception as error:
            self.failure = error

    def _load(self, shipped: ray.ObjectRef[bytes], device: str, threads: int, version: str) -> None:
        import torch

        import backend
        from backend.engine.shipping import unpacked
        from backend.errors import OwnerError

        if backend.__version__ != version:
            raise OwnerError(f"A node of Ray has version {backend.__version__} of the backend, the worker {version}.")
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # Ray's memory, which is only read
        torch.set_num_threads(threads)
        self.device = torch.device(f"{device}:0" if device == "cuda" else device)
        self.compute = unpacked(ray.get(shipped), self.device)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """One row of `backend.engine.reading.Batches` -> its number and its results."""
        results = np.empty(1, object)
        try:
            results[0] = pickle.dumps(self._computed(batch), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            results[0] = _packed_error(error)
        return {"number": batch["number"], "results": results}

    def _computed(self, batch: dict[str, np.ndarray]) -> list[np.ndarray]:
        import torch

        if self.failure is not None:
            raise self.failure
        count = int(batch["count"][0])
        if self.sources:
            from models.inference.streaming import read_rows

            read = [read_rows(source, batch["rows"][0][:count], self.device) for source in self.sources]
        else:
            read = [torch.from_numpy(batch[f"rows{index}"][0][:count]) for index in range(len(batch) - 2)]
        with torch.inference_mode():
            values = self.compute(*(one.to(self.device) for one in read))
            return [one.cpu().numpy() for one in values]


def values_of(results: bytes) -> tuple[np.ndarray, ...]:
    """What `Computing` gave of a batch. Raises what computing raised."""
    found = pickle.loads(results)
    if isinstance(found, Exception):
        raise found
    return tuple(found)


def _packed_error(error: Exception) -> bytes:
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return data
