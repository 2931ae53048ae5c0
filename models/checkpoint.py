"""Checkpoints: one file each, whole or not there, holding tensors and plain Python only."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, or holds what must not be loaded; the message names the file."""


def save(path: Path, payload: dict[str, Any]) -> None:
    """Write `payload` (tensors, plain Python values and containers): `path` becomes whole or stays untouched.

    The bytes reach the disk before the name does, also when the power fails right after the call.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(payload, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
