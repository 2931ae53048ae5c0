"""What a plugin of 2.x may answer instead of a list."""

from __future__ import annotations

from typing import Any


class ModelResponse:
    def __init__(self, predictions: list[dict[str, Any]], model_version: str | None = None) -> None:
        self.predictions, self.model_version = predictions, model_version
