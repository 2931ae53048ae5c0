"""Tasks with a generated image: what their data say, by which they are known in Label Studio."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from backend.files import VERSION_NAME
from backend.state import Mark, PlannedImage
from backend.tasks.label_config import image_source, path_of

MARK, BATCH, SEED = "synthetic", "synthetic_batch", "synthetic_seed"
"""The fields of a task's data that tell it from others. Filters and exports go by them, so they stay as they are."""

LARGEST_SEED = 2**63 - 1


def mark_of(data: Mapping[str, Any]) -> Mark | None:
    """What a task with these data was generated as; None for any other task, also for one that somebody else calls
    synthetic."""
    batch, seed = data.get(BATCH), data.get(SEED)
    if data.get(MARK) is not True or not isinstance(batch, str) or not VERSION_NAME.fullmatch(batch):
        return None
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= LARGEST_SEED:
        return None
    return Mark(batch, seed)


def task_data(planned: PlannedImage, data_key: str) -> dict[str, Any]:
    """The data of the task that an image becomes, for a label config whose image is in the field ``data_key``."""
    mark = planned.mark
    return {**_placed(planned.image, path_of(data_key)), MARK: True, BATCH: mark.batch, SEED: mark.seed}


def is_unchanged(data: Mapping[str, Any], planned: PlannedImage, data_key: str) -> bool:
    """Whether these are the data of the task that ``planned`` became."""
    return mark_of(data) == planned.mark and digest_of(image_source(data, data_key) or "") == planned.digest


def data_uri(png: bytes) -> str:
    """A PNG file as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def digest_of(address: str) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(address.encode()).hexdigest()


def _placed(value: Any, path: list[str]) -> Any:
    """Nested dictionaries and lists in which :func:`backend.tasks.label_config.image_source` finds ``value``."""
    for part in reversed(path):
        value = [value] * (int(part) + 1) if part.isdecimal() else {part: value}
    return value
