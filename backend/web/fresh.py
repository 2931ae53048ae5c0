"""Fresh predictions: for tasks that the current version has not scored, or whose large prediction it did not keep.

The model is loaded, the images are fetched, and one small batch is predicted. The web process imports torch only at the
first such task, and then keeps the last few models. Models, images per request and seconds are all limited.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from backend.errors import BackendError
from backend.images.source import ImageSource, fetch_image, sources
from backend.images.trying import Trying, unnoted
from backend.labelstudio.client import LabelStudio
from backend.memory import budget
from backend.state import StoredPrediction, Version
from backend.tasks import KINDS
from backend.tasks.base import AnyTaskKind, Fetched, FreshPrediction, Size

if TYPE_CHECKING:
    import numpy as np

    from backend.learning.learner import Learner

log = logging.getLogger(__name__)

MODELS = 2
SECONDS = 30.0  # Label Studio waits 100 for /predict
FETCHERS = 4
FETCH_SECONDS = 10.0


class FreshPredictions:
    """Predicts with the models of recent versions, which it keeps in memory."""

    def __init__(self) -> None:
        self._models: OrderedDict[tuple[int, str], Learner] = OrderedDict()  # most recently used last
        self._lock = threading.Lock()  # one request at a time, so that the worker keeps its cores

    def __call__(
        self,
        version: Version,
        gateway: LabelStudio,
        kind: AnyTaskKind,
        tasks: Mapping[int, str],
        trying: Trying = unnoted,
    ) -> dict[int, FreshPrediction]:
        """Task id → prediction and its result, for those of ``tasks`` (task id → image source) that can be predicted in
        time. ``trying``: around the decoding of each image.

        Images that cannot be fetched or decoded are left out. If the project's kind of task is no longer that of the
        model, the results are empty, and the scores still have their places in the queue.

        Raises:
            BackendError: the model of ``version`` cannot be loaded.
        """
        until = time.monotonic() + SECONDS
        if version.checkpoint is None or not self._lock.acquire(timeout=SECONDS / 2):
            return {}
        try:
            model = self._model(version, version.checkpoint)
            found = _fetch(sources(gateway, kind.settings), model, tasks, until, trying)
            if not found:
                return {}
            if model.task != kind.name:
                return _scores_alone(model, version.name, found)
            return dict(kind.predict_fresh(model, version.name, found, until))
        finally:
            self._lock.release()

    def _model(self, version: Version, checkpoint: str) -> Learner:
        key = (version.id, checkpoint)
        if key not in self._models:
            import torch

            from backend.learning.learner import Learner

            torch.set_num_threads(1)  # the other cores are for the worker
            while len(self._models) >= MODELS:
                self._models.popitem(last=False)
            self._models[key] = Learner.load(checkpoint, torch.device("cpu"))
        self._models.move_to_end(key)
        return self._models[key]


def _scores_alone(model: Learner, version_name: str, found: Fetched) -> dict[int, FreshPrediction]:
    import numpy as np

    predictions, scores = model.predict(np.stack([pixels for pixels, _ in found.values()]))
    return {
        task: (StoredPrediction(task, version_name, None, float(confidence), float(score)), [])
        for task, confidence, score in zip(found, predictions.confidence, scores, strict=True)
    }


def _fetch(
    available: Sequence[ImageSource], model: Learner, tasks: Mapping[int, str], until: float, trying: Trying
) -> dict[int, tuple[np.ndarray, Size]]:
    """Task id → pixels as ``model`` reads them and original size, for the images that were fetched and decoded by
    ``until`` (monotonic seconds)."""
    kind = KINDS[model.task]

    def one(task: int, source: str) -> tuple[np.ndarray, Size]:
        with budget().image():
            data = fetch_image(source, task, available)
            with trying(task, source):
                return kind.decode(data, model.frame)

    executor = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
    first = itertools.islice(tasks.items(), kind.fresh_limit)
    waiting = {executor.submit(one, task, source): task for task, source in first}
    done, late = wait(waiting, timeout=max(0.0, until - time.monotonic()))
    executor.shutdown(wait=False, cancel_futures=True)
    if late:
        log.warning("%d images did not arrive in time for a prediction", len(late))
    found = {}
    for future, task_id in waiting.items():
        if future not in done:
            continue
        error = future.exception()
        if error is None:
            found[task_id] = future.result()
        elif isinstance(error, BackendError):
            log.info("No prediction for task %s: %s", task_id, error)
        else:
            log.warning("No prediction for task %s", task_id, exc_info=error)
    return found
