"""Where the two generations of label-studio-ml differ, and how one class serves under both.

|                | 1.0.9 (on PyPI)                                | 2.x (upstream's main)                     |
|----------------|------------------------------------------------|-------------------------------------------|
| constructor    | ``(label_config=…, train_output=…, **kwargs)`` | ``(project_id=…, label_config=…)``        |
| lives          | one model in the process, for all projects     | one for every request                     |
| ``predict``    | ``(tasks, **params)``                          | ``(tasks, context=…, **params)``          |
| a webhook      | a process, and in it ``fit((), event=…, …)``   | ``fit(event, data)``, inside the request  |
| START_TRAINING | no event of its own                            | an event like the others                  |
| extra params   | not handed on                                  | ``set_extra_params(object or JSON text)`` |
| model version  | the job's id                                   | ``get("model_version")``                  |

:class:`Plugin` takes the calls of both and has one face, that of 2.x; :class:`AdapterPerRequest` makes 1.0.9 call
it as 2.x does.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from backend.events import project_number


@contextmanager
def _without_torch() -> Iterator[None]:
    """1.0.9 imports torch for a process pool that is never used here: four seconds and 600 MB of the web process.

    It falls back to the standard library's pool when there is no torch. Its start method, which it sets for the
    whole process, is put back.
    """
    hidden = object()
    start_method = multiprocessing.get_start_method(allow_none=True)
    before = sys.modules.get("torch", hidden)
    if before is hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is hidden:
            del sys.modules["torch"]
        multiprocessing.set_start_method(start_method, force=True)


with _without_torch():
    from label_studio_ml import model as _library

LabelStudioMLBase: Any = _library.LabelStudioMLBase
_Manager: Any = getattr(_library, "LabelStudioMLManager", object)  # 2.x has none


class Plugin(LabelStudioMLBase):
    """The calls of both generations, brought to one face: :meth:`connect`, :meth:`predictions_for`,
    :meth:`handle_webhook`.

    The base class's constructor is not called: 1.0.9's parses the label config and keeps it for good, 2.x's opens a
    key-value store of its own. All that they would offer comes from our state.
    """

    def __init__(
        self,
        project_id: str | int | None = None,
        label_config: str | None = None,
        train_output: Any = None,
        **kwargs: Any,
    ) -> None:
        self.project_id = project_number(project_id)
        self._label_config = label_config or ""
        self._connected = False
        self.setup()

    # -- what a subclass says ----------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Called at the end of construction, as 2.x does."""

    def connect(self, extra_params: Any) -> None:
        raise NotImplementedError

    def predictions_for(self, tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        raise NotImplementedError

    def handle_webhook(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def current_version(self) -> str:
        raise NotImplementedError

    # -- what either generation calls --------------------------------------------------------------------------------

    @property
    def label_config(self) -> str:
        return self._label_config

    @property
    def model_version(self) -> str:
        return self.current_version()

    def set_extra_params(self, extra_params: Any) -> None:
        """2.x, in ``/setup``: what the owner typed in the connect dialog. Not called when that is nothing."""
        self._connected = True
        self.connect(extra_params)

    def get(self, key: str) -> Any:
        """2.x: its key-value store. Only ``/setup`` reads it, for the model version, as its last step."""
        if key != "model_version":
            return None
        if not self._connected:
            self.set_extra_params(None)
        return self.current_version()

    def predict(self, tasks: Sequence[Mapping[str, Any]], context: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        """One entry for each task, in order. 2.x takes a list as well as its ``ModelResponse``."""
        if self.project_id is None and tasks:  # 1.0.9 does not say for whom it constructs
            self.project_id = project_number(tasks[0].get("project"))
        return self.predictions_for(tasks)

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """2.x: ``fit(event, data)``, in the webhook's request; 1.0.9: ``fit(tasks, event=…, data=…)``. Notes a hint."""
        event = kwargs.get("event") or next((arg for arg in args if isinstance(arg, str)), None)
        data = kwargs.get("data") or next((arg for arg in args if isinstance(arg, Mapping)), {})
        payload = {**data, "action": event}
        if not payload.get("project") and self.project_id is not None:
            payload["project"] = {"id": self.project_id}
        return self.handle_webhook(payload)

    def process_event(self, event: str, data: Mapping[str, Any], job_id: str, extra: Any = None) -> dict[str, Any]:
        """Both: the way to ``fit``. Theirs sorts events by a list that lacks some that Label Studio sends."""
        return self.fit(event=event, data=data)


class PluginClass(Protocol):
    """How 2.x constructs a plugin."""

    def __call__(self, project_id: Any = None, label_config: str | None = None, **kwargs: Any) -> Plugin: ...


class AdapterPerRequest(_Manager):
    """In the place of 1.0.9's manager: one adapter for each request and project, no process, nothing kept.

    It has the manager's methods with the manager's arguments, so that label-studio-ml's own routes work over it too.
    """

    def __init__(self, model_class: PluginClass) -> None:
        self._make = model_class
        self.model_dir = None

    def initialize(self, model_class: PluginClass, **_: Any) -> None:
        self._make = model_class

    def fetch(self, project: Any = None, label_config: str | None = None, *_: Any, **kwargs: Any) -> Plugin:
        """``/setup``. Raises OwnerError with what to change."""
        adapter = self._make(project_id=project, label_config=label_config, key=str(project), **kwargs)
        adapter.connect(kwargs.get("extra_params"))
        return adapter

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], project: Any = None, label_config: str | None = None, *_: Any,
        **kwargs: Any,
    ) -> tuple[list[dict[str, Any]], Plugin]:  # fmt: skip
        adapter = self._make(project_id=project, label_config=label_config)
        return adapter.predict(tasks, context=kwargs.get("context")), adapter

    def webhook(self, event: str, data: Mapping[str, Any]) -> dict[str, Any]:
        project = data.get("project")
        known = project if isinstance(project, Mapping) else {"id": project}
        return self._make(project_id=known.get("id"), label_config=known.get("label_config")).fit(event, data)

    def train(self, tasks: Any, project: Any = None, label_config: str | None = None, **_: Any) -> None:
        self._make(project_id=project, label_config=label_config).fit("START_TRAINING", {})
