"""Answers for tasks that the current version has not scored: loaded model, fetched image, one small batch.

The web process does without torch until the first such task, then keeps the last few models. Everything is bounded:
models, images in a request, seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.errors import BackendError, ImageError
from backend.labeling import LabelSpec, image_source
from backend.labelstudio import LabelStudio
from backend.state import Answer, Version

if TYPE_CHECKING:
    from backend.learner import Learner

log = logging.getLogger(__name__)

MODELS = 2
IMAGES = 64
SECONDS = 30.0  # Label Studio waits 100 for /predict
FETCHERS = 4
FETCH_SECONDS = 10.0


class FreshAnswers:
    """The models that this process has loaded, most recently used last."""

    def __init__(self) -> None:
        self._models: OrderedDict[tuple[int, str], Learner] = OrderedDict()
        self._turn = threading.Lock()  # one at a time: a batch uses every core that the worker leaves

    def __call__(
        self, version: Version, gateway: LabelStudio, spec: LabelSpec, tasks: Sequence[Mapping[str, Any]]
    ) -> dict[int, Answer]:
        """Task id → answer, for those of ``tasks`` that can be answered in time. Never raises for one bad image.

        Raises:
            BackendError: ``version`` has no model, or it cannot be loaded.
        """
        until = time.monotonic() + SECONDS
        if version.checkpoint is None or not self._turn.acquire(timeout=SECONDS / 2):
            return {}
        try:
            model = self._model(version)
            images = _fetch(gateway, spec, tasks[:IMAGES], model.net_config.image_size, until)
            if not images:
                return {}
            labels, confidence, scores = model.answer(np.stack(list(images.values())))
        finally:
            self._turn.release()
        return {
            task: Answer(task, version.name, label, float(sure), float(score))
            for task, label, sure, score in zip(images, labels, confidence, scores, strict=True)
        }

    def _model(self, version: Version) -> Learner:
        key = (version.id, version.checkpoint or "")
        if key not in self._models:
            import torch

            from backend.cycle import load_answerer

            torch.set_num_threads(1)  # the worker has the other cores
            while len(self._models) >= MODELS:
                self._models.popitem(last=False)
            self._models[key] = load_answerer(version)
        self._models.move_to_end(key)
        return self._models[key]


def _fetch(
    gateway: LabelStudio, spec: LabelSpec, tasks: Sequence[Mapping[str, Any]], size: int, until: float
) -> dict[int, np.ndarray]:
    """Task id → pixels (size, size, 3) uint8, of those whose image arrived and decoded in time."""
    from backend.decoding import decode

    def one(task: Mapping[str, Any]) -> np.ndarray:
        source = image_source(task.get("data") or {}, spec)
        if source is None:
            raise ImageError(f'the task has no "{spec.data_key}"')
        return decode(gateway.fetch_image(source, int(task["id"])), size)

    pool = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
    waiting = {pool.submit(one, task): int(task["id"]) for task in tasks}
    done, late = wait(waiting, timeout=max(0.0, until - time.monotonic()))
    pool.shutdown(wait=False, cancel_futures=True)
    if late:
        log.warning("%d images did not arrive in time for an answer", len(late))
    found = {}
    for future, task_id in waiting.items():
        if future not in done:
            continue
        error = future.exception()
        if error is None:
            found[task_id] = future.result()
        elif isinstance(error, BackendError):
            log.info("No answer for task %s: %s", task_id, error)
        else:
            log.warning("No answer for task %s", task_id, exc_info=error)
    return found
