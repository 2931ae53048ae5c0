"""Fresh predictions: for tasks that the current version has not scored, or whose large prediction it did not keep.

The model is loaded, the images are fetched, and one small batch is predicted. The web process imports torch only at the
first such task, and then keeps the last few models. Models, images per request, seconds and requests at a time are all
limited: whoever finds all places taken is answered with what is stored.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backend.errors import BackendError
from backend.images.source import ImageSource, fetch_image, sources
from backend.images.trying import Trying, unnoted
from backend.labelstudio.client import LabelStudio
from backend.memory import budget
from backend.state import StoredPrediction, Version
from backend.tasks import KINDS
from backend.tasks.base import AnyTaskKind
from backend.tasks.records import Fetched, FreshPrediction, Size

if TYPE_CHECKING:
    import numpy as np

    from backend.learning.learner import Learner

log = logging.getLogger(__name__)

MODELS = 2
SECONDS = 30.0  # Label Studio waits 100 for /predict
FETCHERS = 4
FETCH_SECONDS = 10.0
AT_A_TIME, AT_A_TIME_PER_PROJECT = 4, 2
"""Requests that fetch images: half of the threads of their lane (:mod:`backend.web.lanes`), so that stored predictions
do not wait for a slow image host; and of these, half for each project, so that none waits for the host of another."""


Images = Callable[[], Mapping[int, str]]
"""Gives task id → image source. Called once there is a place for the request, because it may ask Label Studio."""


class FreshPredictions:
    """Predicts with the models of recent versions, which it keeps in memory."""

    def __init__(self) -> None:
        self._models: OrderedDict[tuple[int, str], Learner] = OrderedDict()  # most recently used last
        self._lock = threading.Lock()  # one request computes at a time, so that the worker keeps its cores
        self._places = _Places()

    def __call__(
        self,
        version: Version,
        gateway: LabelStudio,
        kind: AnyTaskKind,
        images: Images,
        trying: Trying = unnoted,
    ) -> dict[int, FreshPrediction]:
        """Task id → prediction and its result, for those of ``images`` that can be predicted in time. ``trying``:
        around the decoding of each image.

        Images that cannot be fetched or decoded are left out. If the project's kind of task is no longer that of the
        model, the results are empty, and the scores still have their places in the queue.

        Raises:
            BackendError: the model of ``version`` cannot be loaded.
        """
        if version.checkpoint is None:
            return {}
        until = time.monotonic() + SECONDS
        with self._places.of(version.project_id) as admitted:
            if not admitted:
                log.info("Project %s: too many predictions at a time, answering without", version.project_id)
                return {}
            return self._predict(version, version.checkpoint, gateway, kind, images, until, trying)

    def _predict(
        self,
        version: Version,
        checkpoint: str,
        gateway: LabelStudio,
        kind: AnyTaskKind,
        images: Images,
        until: float,
        trying: Trying,
    ) -> dict[int, FreshPrediction]:
        with self._turn(until) as mine:
            if not mine:
                return {}
            model = self._model(version, checkpoint)
        found = _fetch(sources(gateway, kind.settings), model, images(), until, trying)
        with self._turn(until + SECONDS / 2) as mine:
            if not found or not mine:
                return {}
            if model.task != kind.name:
                return _scores_alone(model, version.name, found)
            return dict(kind.predict_fresh(model, version.name, found, until))

    @contextmanager
    def _turn(self, until: float) -> Iterator[bool]:
        """Wait for the other requests to compute, at most until the monotonic time ``until``. Yields whether it is this
        one's turn."""
        mine = self._lock.acquire(timeout=max(0.0, until - time.monotonic()))
        try:
            yield mine
        finally:
            if mine:
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


class _Places:
    """Limits how many requests fetch images at a time."""

    def __init__(self) -> None:
        self._taken: Counter[int] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def of(self, project_id: int) -> Iterator[bool]:
        """Yields whether there was a place for the project; it is kept for the block."""
        with self._lock:
            free = self._taken.total() < AT_A_TIME and self._taken[project_id] < AT_A_TIME_PER_PROJECT
            self._taken[project_id] += free
        try:
            yield free
        finally:
            with self._lock:
                self._taken[project_id] -= free
                self._taken += Counter()  # forgets projects without a place


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
