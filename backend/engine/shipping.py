"""What a pass computes, as bytes: the networks in it go along, and live on the device of whoever unpacks it.

A computation is a function inside a function, with networks, tensors and options around it. What must not travel is
refused, so that such a pass is computed where it is: generators, of which each process would draw the same; files that
are mapped into memory; locks and connections.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ray import cloudpickle
from torch import Tensor, nn

from models.data import Runtime
from models.networks import kept_backbones

LARGEST_ARRAY = 1 << 28
"""Bytes of an array of NumPy that may travel: a larger one is a pool."""

_device = torch.device("cpu")  # where what is unpacked shall live


class CannotTravel(Exception):
    """The computation holds what another process cannot have; the message names its type."""


class _Packer(cloudpickle.Pickler):
    def reducer_override(self, found: Any) -> Any:
        if isinstance(found, Tensor):
            return _tensor, (_bytes_of(found), isinstance(found, nn.Parameter))
        if isinstance(found, torch.device):
            return _here, ()
        if isinstance(found, Runtime):
            return _runtime, (found.seed, found.eval_batch_size, str(found.score_dtype).removeprefix("torch."))
        if isinstance(found, np.memmap | torch.Generator | np.random.Generator):
            raise CannotTravel(type(found).__name__)
        if isinstance(found, np.ndarray) and found.nbytes > LARGEST_ARRAY:
            raise CannotTravel(f"an array of {found.nbytes >> 20} MiB")
        return super().reducer_override(found)


def packed(compute: Callable[..., tuple[Tensor, ...]], *, images: bool) -> bytes:
    """A computation. ``images``: it reads images, so that the frozen backbones which are loaded here go along.

    Raises:
        CannotTravel: it has to stay.
    """
    backbones = kept_backbones.loaded_backbones() if images else {}
    file = io.BytesIO()
    try:
        _Packer(file, protocol=pickle.HIGHEST_PROTOCOL).dump((compute, backbones))
    except (pickle.PicklingError, TypeError, AttributeError, NotImplementedError) as error:
        raise CannotTravel(str(error)) from error
    return file.getvalue()


def unpacked(data: bytes, device: torch.device) -> Callable[..., tuple[Tensor, ...]]:
    """A computation that was ``packed`` by another process of the same version, on ``device``."""
    global _device
    _device = device
    compute, backbones = pickle.loads(data)
    kept_backbones.take_over(backbones)
    return compute


def _bytes_of(tensor: Tensor) -> bytes:
    """With its strides, by which the algorithm for it is chosen, and of a view no more than what is seen of it."""
    file = io.BytesIO()
    torch.save(tensor.detach().cpu().clone(), file)
    return file.getvalue()


def _tensor(data: bytes, parameter: bool) -> Tensor:
    found: Tensor = torch.load(io.BytesIO(data), map_location=_device, weights_only=True)
    return nn.Parameter(found, requires_grad=False) if parameter else found


def _here() -> torch.device:
    return _device


def _runtime(seed: int, eval_batch_size: int, score_dtype: str) -> Runtime:
    """What a computation may ask of it: nothing that belongs to the process it comes from."""
    found = Runtime(_device, seed, eval_batch_size=eval_batch_size)
    return replace(found, score_dtype=getattr(torch, score_dtype))
