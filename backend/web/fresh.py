"""Answers for tasks that the current version has not scored, or kept no mask of: loaded model, fetched image, one small
batch.

The web process does without torch until the first such task, then keeps the last few models. Everything is bounded:
models, images in a request, seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.errors import BackendError, ImageError
from backend.labelstudio.client import LabelStudio
from backend.settings.core import Settings
from backend.state import StoredPrediction, Version
from backend.tasks.classification import image_source
from backend.tasks.kinds import Spec
from backend.tasks.segmentation.config import SegmentationSpec
from backend.tasks.segmentation.predictions import Result, Size, regions_of, result_of

if TYPE_CHECKING:
    from backend.learning.learner import Learner

log = logging.getLogger(__name__)

MODELS = 2
IMAGES = 64
MASKS = 16
"""Of them where masks are asked for: larger images, and seconds each on a CPU. They are answered one by one."""
SECONDS = 30.0  # Label Studio waits 100 for /predict
FETCHERS = 4
FETCH_SECONDS = 10.0

Found = dict[int, tuple[np.ndarray, Size]]
"""Task id → pixels (H, W, 3) uint8 as the model reads them, and (height, width) of the image itself."""


class FreshAnswers:
    """The models that this process has loaded, most recently used last."""

    def __init__(self) -> None:
        self._models: OrderedDict[tuple[int, str], Learner] = OrderedDict()
        self._turn = threading.Lock()  # one at a time: a batch uses every core that the worker leaves

    def __call__(
        self,
        version: Version,
        gateway: LabelStudio,
        spec: Spec,
        settings: Settings,
        tasks: Sequence[Mapping[str, Any]],
    ) -> dict[int, tuple[StoredPrediction, Result]]:
        """Task id → answer and its result, for those of ``tasks`` that can be answered in time. Never raises for one
        bad image.

        Raises:
            BackendError: ``version`` has no model, or it cannot be loaded.
        """
        until = time.monotonic() + SECONDS
        if version.checkpoint is None or not self._turn.acquire(timeout=SECONDS / 2):
            return {}
        try:
            model = self._model(version)
            masks = model.task == "segmentation"
            found = _fetch(gateway, spec, tasks[: MASKS if masks else IMAGES], model, until)
            if masks:
                return dict(_masks(model, version, found, spec, settings, until))
            return dict(_classes(model, version, found, spec, settings)) if found else {}
        finally:
            self._turn.release()

    def _model(self, version: Version) -> Learner:
        key = (version.id, version.checkpoint or "")
        if key not in self._models:
            import torch

            from backend.learning.checkpoints import load_answerer

            torch.set_num_threads(1)  # the worker has the other cores
            while len(self._models) >= MODELS:
                self._models.popitem(last=False)
            self._models[key] = load_answerer(version)
        self._models.move_to_end(key)
        return self._models[key]


Answered = Iterator[tuple[int, tuple[StoredPrediction, Result]]]


def _classes(model: Learner, version: Version, found: Found, spec: Spec, settings: Settings) -> Answered:
    labels, confidence, scores = model.answer(np.stack([pixels for pixels, _ in found.values()]))
    for task, label, sure, score in zip(found, labels, confidence, scores, strict=True):
        answer = StoredPrediction(task, version.name, label, float(sure), float(score))
        yield task, (answer, result_of(answer, spec, settings, None))


def _masks(model: Learner, version: Version, found: Found, spec: Spec, settings: Settings, until: float) -> Answered:
    for done, (task, (pixels, size)) in enumerate(found.items()):
        if time.monotonic() > until:
            log.warning("%d masks were not predicted in time for an answer", len(found) - done)
            return
        (mask,), (sure,), (mean,), (score,) = model.answer_masks(pixels[None])
        result: Result = []
        if isinstance(spec, SegmentationSpec):  # else the label config asks for something else since
            result = regions_of(mask, sure, model.classes, size, spec, settings)
        yield task, (StoredPrediction(task, version.name, None, float(mean), float(score)), result)


def _fetch(gateway: LabelStudio, spec: Spec, tasks: Sequence[Mapping[str, Any]], model: Learner, until: float) -> Found:
    """The images that arrived and decoded in time."""
    from backend.images.decoding import decode, decode_whole

    def one(task: Mapping[str, Any]) -> tuple[np.ndarray, Size]:
        source = image_source(task.get("data") or {}, spec)
        if source is None:
            raise ImageError(f'the task has no "{spec.data_key}"')
        data = gateway.fetch_image(source, int(task["id"]))
        if model.task == "segmentation":
            return decode_whole(data, model.frame)
        return decode(data, model.frame[0]), (0, 0)  # where the middle is cut out, nothing is drawn

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
