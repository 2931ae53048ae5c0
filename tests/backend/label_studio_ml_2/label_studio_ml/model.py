"""The base class of 2.x, as far as a plugin can notice: its constructor, its store, its properties."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any

STORE: dict[tuple[str, str], str] = {}


class LabelStudioMLBase(ABC):
    INITIAL_MODEL_VERSION = "0.0.1"
    TRAIN_EVENTS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED", "START_TRAINING")

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        if label_config is not None:
            self.set("label_config", label_config)
        if not self.model_version:
            self.set("model_version", self.INITIAL_MODEL_VERSION)
        self.setup()

    def setup(self) -> None:  # noqa: B027 - as upstream has it
        """For the plugin."""

    def get(self, key: str) -> Any:
        return STORE.get((self.project_id, key))

    def set(self, key: str, value: Any) -> None:
        if not isinstance(value, str):
            raise ValueError("the store holds text only")
        STORE[self.project_id, key] = value

    def set_extra_params(self, extra_params: Any) -> None:
        self.set("extra_params", extra_params)

    @property
    def extra_params(self) -> Any:
        return json.loads(self.get("extra_params") or "{}")

    @property
    def label_config(self) -> Any:
        return self.get("label_config")

    @property
    def model_version(self) -> Any:
        return self.get("model_version")

    @abstractmethod
    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> Any: ...

    def fit(self, event: str, data: dict[str, Any], **kwargs: Any) -> Any:  # noqa: B027 - as upstream has it
        """For the plugin."""
