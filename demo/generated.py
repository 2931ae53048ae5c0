"""Tasks whose image the backend generated: how the oracle tells them."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image


def is_generated(task: dict[str, Any]) -> bool:
    """Whether a task's data say that its image was generated."""
    return task["data"].get("synthetic") is True


def pixels_of(task: dict[str, Any]) -> np.ndarray:
    """The generated image, (H, W, 3) uint8."""
    content = base64.b64decode(task["data"]["image"].partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
