"""Checkpoints: one file each, whole or not there, holding tensors and plain Python only."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from models.files import sync_folder, whole_file


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, or holds what must not be loaded; the message names the file."""


def save(path: Path, payload: dict[str, Any]) -> None:
    """Write `payload` (tensors, plain Python values and containers): `path` becomes whole or stays untouched.

    The bytes reach the disk before the name does, also when the power fails right after the call.
    """
    with whole_file(path, several=True) as file:
        torch.save(payload, file)
    sync_folder(path.parent)


def load(path: Path, map_location: torch.device | str = "cpu") -> dict[str, Any]:
    """What `save` wrote, tensors on `map_location`. Runs no code from the file (weights_only).

    Raises CheckpointError.
    """
    try:
        on_host = torch.device(map_location).type == "cpu"  # whatever its number
        payload = torch.load(path, map_location="cpu" if on_host else map_location, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path} is missing") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged or not a checkpoint: {error}") from error
    if not isinstance(payload, dict):
        raise CheckpointError(f"checkpoint {path} holds a {type(payload).__name__} instead of a dictionary")
    return payload
