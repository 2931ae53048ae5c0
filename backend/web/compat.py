"""The differences between the two generations of label-studio-ml, and a base class that works with both.

|                | 1.0.9 (on PyPI)                                | 2.x (upstream's main)                     |
|----------------|------------------------------------------------|-------------------------------------------|
| constructor    | ``(label_config=…, train_output=…, **kwargs)`` | ``(project_id=…, label_config=…)``        |
| instances      | one per process, for all projects              | one per request                           |
| ``predict``    | ``(tasks, **params)``                          | ``(tasks, context=…, **params)``          |
| a webhook      | starts a process for ``fit((), event=…, …)``   | ``fit(event, data)``, inside the request  |
| START_TRAINING | is not an event                                | is an event like the others               |
| extra params   | not passed on                                  | ``set_extra_params(object or JSON text)`` |
| model version  | the job's id                                   | ``get("model_version")``                  |

:class:`Plugin` accepts the calls of both, and offers subclasses one interface. :class:`AdapterPerRequest` makes 1.0.9
call it as 2.x does.
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
    """Hide torch while importing 1.0.9, which would cost the web process four seconds and 600 MB.

    1.0.9 only uses torch for a process pool, which is not used here; without torch, it uses the standard library's
    pool. It also sets multiprocessing's start method for the whole process, which is restored.
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
    """Maps the calls of both generations to one interface: :meth:`connect`, :meth:`predictions_for`,
    :meth:`handle_webhook` and :meth:`current_version`.

    The constructor of the base class is not called. That of 1.0.9 parses the label config and keeps it forever; that of
    2.x opens a key-value store. What they provide comes from our state instead.
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

    # -- for subclasses ----------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Called at the end of the constructor, as in 2.x."""

    def connect(self, extra_params: Any) -> None:
        """Handle ``/setup``. Raises OwnerError if something has to be changed."""
        raise NotImplementedError

    def predictions_for(self, tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Handle ``/predict``: one prediction per task, in order."""
        raise NotImplementedError

    def handle_webhook(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Handle ``/webhook``. Returns the body of the response."""
        raise NotImplementedError

    def current_version(self) -> str:
        """The name of the current version, or ""."""
        raise NotImplementedError

    # -- called by label-studio-ml -----------------------------------------------------------------------------------

    @property
    def label_config(self) -> str:
        return self._label_config

    @property
    def model_version(self) -> str:
        return self.current_version()

    def set_extra_params(self, extra_params: Any) -> None:
        """Called by 2.x in ``/setup``, with what the owner entered in the connect dialog, but only if that is not
        empty."""
        self._connected = True
        self.connect(extra_params)

    def get(self, key: str) -> Any:
        """The key-value store of 2.x. It is only read by ``/setup``, for the model version, as its last step."""
        if key != "model_version":
            return None
        if not self._connected:
            self.set_extra_params(None)
        return self.current_version()

    def predict(self, tasks: Sequence[Mapping[str, Any]], context: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        """One prediction per task, in order. 2.x accepts a list in place of its ``ModelResponse``."""
        if self.project_id is None and tasks:  # 1.0.9 does not pass the project to the constructor
            self.project_id = project_number(tasks[0].get("project"))
        return self.predictions_for(tasks)

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """A webhook: 2.x calls ``fit(event, data)``, 1.0.9 ``fit(tasks, event=…, data=…)``."""
        event = kwargs.get("event") or next((arg for arg in args if isinstance(arg, str)), None)
        data = kwargs.get("data") or next((arg for arg in args if isinstance(arg, Mapping)), {})
        payload = {**data, "action": event}
        if not payload.get("project") and self.project_id is not None:
            payload["project"] = {"id": self.project_id}
        return self.handle_webhook(payload)

    def process_event(self, event: str, data: Mapping[str, Any], job_id: str, extra: Any = None) -> dict[str, Any]:
        """Called by both to reach ``fit``. Their own version drops some events that Label Studio sends."""
        return self.fit(event=event, data=data)


class PluginClass(Protocol):
    """The constructor of a plugin, as 2.x calls it."""

    def __call__(self, project_id: Any = None, label_config: str | None = None, **kwargs: Any) -> Plugin: ...


class AdapterPerRequest(_Manager):
    """Replaces 1.0.9's manager. It makes a new plugin for each request, starts no process, and keeps nothing.

    It has the methods of the manager, with the same arguments, so that label-studio-ml's own routes work with it too.
    """

    def __init__(self, model_class: PluginClass) -> None:
        self._make = model_class
        self.model_dir = None

    def initialize(self, model_class: PluginClass, **_: Any) -> None:
        self._make = model_class

    def fetch(self, project: Any = None, label_config: str | None = None, *_: Any, **kwargs: Any) -> Plugin:
        """Handle ``/setup``. Raises OwnerError, whose message says what to change."""
        adapter = self._make(project_id=project, label_config=label_config, key=str(project), **kwargs)
        adapter.connect(kwargs.get("extra_params"))
        return adapter

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], project: Any = None, label_config: str | None = None, *_: Any,
        **kwargs: Any,
    ) -> tuple[list[dict[str, Any]], Plugin]:  # fmt: skip
        adapter = self._make(project_id=project, label_config=label_config, key=str(project or ""))
        return adapter.predict(tasks, context=kwargs.get("context")), adapter

    def webhook(self, event: str, data: Mapping[str, Any]) -> dict[str, Any]:
        project = data.get("project")
        known = project if isinstance(project, Mapping) else {"id": project}
        return self._make(project_id=known.get("id"), label_config=known.get("label_config")).fit(event, data)

    def train(self, tasks: Any, project: Any = None, label_config: str | None = None, **_: Any) -> None:
        self._make(project_id=project, label_config=label_config).fit("START_TRAINING", {})
