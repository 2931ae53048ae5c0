"""The features of a project's images: each image is embedded once, for all cycles and samplers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.files import NEIGHBORS
from backend.images.cache import ImageCache
from backend.images.features import FeatureCache
from backend.learning.learner import Learner
from backend.tasks.base import TaskKind
from models import ProgressFn
from models.data import Runtime
from models.inference.executors import Executor, Pass
from models.inference.several_devices import Through
from models.lending import Lend
from models.networks.base import TaskConfig
from models.networks.pretrained import FrozenClassifier
from models.pixels import normalize
from models.tasks import task_named

log = logging.getLogger(__name__)

_SAVE_ROWS, _SAVE_SECONDS = 512, 5.0  # how much work a kill may lose


@dataclass(frozen=True)
class Features:
    """What a frozen backbone says of the images of a project. ``kept`` is None for a network that reads the images
    themselves: all of them are present then, as far as this is concerned. ``config``: of that network. ``executor``:
    who embeds many; None: this process."""

    cache: ImageCache
    config: TaskConfig
    kept: FeatureCache | None
    task: str
    device: torch.device
    executor: Executor | None = None

    @classmethod
    def open(
        cls, kind: TaskKind[Any, Any], cache: ImageCache, device: torch.device, executor: Executor | None = None
    ) -> Features:
        """Those that the network of ``kind``'s settings reads.

        Raises:
            PretrainedUnavailable: a file of weights cannot be read.
        """
        config = kind.net_config(kind.settings, max(1, len(kind.classes)), cache.frame, device)
        key = config.feature_key
        kept = FeatureCache(cache, key, config.embedding) if key else None
        return cls(cache, config, kept, kind.name, device, executor)

    @property
    def rows(self) -> np.ndarray | None:
        """(M, E) float16, a row for each of the image cache; see :class:`models.data.Runtime`."""
        return None if self.kept is None else self.kept.rows

    @property
    def neighbors(self) -> Path | None:
        """The file of an index of these, which is there once one was needed; see :class:`models.data.Runtime`."""
        return None if self.kept is None else self.kept.directory / NEIGHBORS

    def of(self, tasks: np.ndarray) -> np.ndarray:
        """The features (N, F) float16 of ``tasks`` (N,), all of them present."""
        assert self.kept is not None
        return self.kept.rows[self.cache.rows(tasks), : self.width]

    @cached_property
    def width(self) -> int:
        """F, numbers of an image that are its features: the first of the E that are kept."""
        return task_named(self.task).build(self.config, 0).feature_channels

    def rows_for(self, learner: Learner) -> np.ndarray | None:
        """The same if ``learner`` reads these, or None: it reads the images then."""
        return self.rows if learner.net_config.feature_key == self.config.feature_key else None

    def present(self, tasks: np.ndarray) -> np.ndarray:
        """Those of ``tasks`` (N,) that a network can be asked about, in their order."""
        return self.cache.present(tasks) if self.kept is None else self.kept.present(tasks)

    def fill(
        self, tasks: np.ndarray, report: ProgressFn, seconds: float | None = None, idle: Lend | None = None
    ) -> bool:
        """Embed those of ``tasks`` (N,) that have an image without features, in their order.

        Args:
            seconds: how long to go on; None: until all are there. Some are embedded in any case.
            idle: lends further devices; see :class:`models.data.Runtime`.

        Returns:
            Whether all are there.
        """
        if self.kept is None:
            return True
        missing = self.kept.missing(tasks)
        if not len(missing):
            return True
        until = None if seconds is None else time.monotonic() + seconds
        report("features", 0, len(missing))
        done, since = 0, time.monotonic()
        waiting: list[tuple[np.ndarray, np.ndarray]] = []
        with closing(self._embedded(missing, lambda: report("features", done, len(missing)), idle)) as embedded:
            for places, values in embedded:
                waiting.append((places, values))
                done, now = done + len(places), time.monotonic()
                late = until is not None and now >= until
                unsaved = sum(len(part) for part, _ in waiting)
                if late or done == len(missing) or unsaved >= _SAVE_ROWS or now - since >= _SAVE_SECONDS:
                    self.kept.write(missing[np.concatenate([part for part, _ in waiting])], _joined(waiting))
                    waiting, since = [], now
                report("features", done, len(missing))
                if late and done < len(missing):
                    return False
        log.info("%d images were embedded by %s", len(missing), self.config.name)
        return True

    def _embedded(
        self, tasks: np.ndarray, check: Callable[[], None], idle: Lend | None
    ) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
        """For each batch of ``tasks`` (N,) its places (B,) in them, and the features (B, E) float16."""
        net = task_named(self.task).build(self.config, 0).to(self.device)
        assert isinstance(net, FrozenClassifier)
        rows = self.cache.rows(tasks)
        # This loads the trunk, so that it goes along to an executor, which may not have the file of weights.
        size = net.embedded_at_a_time
        parts = np.split(np.arange(len(tasks)), range(size, len(tasks), size))
        elsewhere = None
        if self.executor is not None:
            work = Pass([self.cache.pixels], rows, parts, partial(_features_of, net), self.device, check)
            elsewhere = self.executor.computed(work)
        if elsewhere is not None:
            with closing(elsewhere):
                for places, (values,) in elsewhere:
                    yield places, values
            return
        asked, runtime = [rows[places] for places in parts], Runtime(self.device, 0, idle=idle)
        with closing(Through(_features_of, [net]).stream(self.cache.pixels, asked, runtime)) as here:
            for places, (found,) in zip(parts, here, strict=True):
                yield places, found.cpu().numpy()


def _features_of(net: FrozenClassifier, images: torch.Tensor) -> tuple[torch.Tensor]:
    """Of images (B, S, S, 3) uint8: (B, E) float16."""
    return (net.embed(normalize(images)),)


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.concatenate([values for _, values in parts])
