"""The features of a project's images: each image is embedded once, for all cycles and samplers."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.images.cache import ImageCache
from backend.images.features import FeatureCache
from backend.learning.learner import Learner
from backend.tasks.base import TaskKind
from models import ProgressFn
from models.networks.base import TaskConfig
from models.networks.pretrained import FrozenClassifier
from models.pixels import normalize
from models.tasks import task_named

log = logging.getLogger(__name__)

_BATCH = 32  # images at a time: of 224 px, some hundred megabytes of maps
_SAVE_ROWS, _SAVE_SECONDS = 512, 5.0  # how much work a kill may lose


@dataclass(frozen=True)
class Features:
    """What a frozen backbone says of the images of a project. ``kept`` is None for a network that reads the images
    themselves: all of them are present then, as far as this is concerned. ``config``: of that network."""

    cache: ImageCache
    config: TaskConfig
    kept: FeatureCache | None
    task: str
    device: torch.device

    @classmethod
    def open(cls, kind: TaskKind[Any, Any], cache: ImageCache, device: torch.device) -> Features:
        """Those that the network of ``kind``'s settings reads.

        Raises:
            PretrainedUnavailable: a file of weights cannot be read.
        """
        config = kind.net_config(kind.settings, max(1, len(kind.classes)), cache.frame, device)
        key = config.feature_key
        kept = FeatureCache(cache, key, config.embedding) if key else None
        return cls(cache, config, kept, kind.name, device)

    @property
    def rows(self) -> np.ndarray | None:
        """(M, E) float16, a row for each of the image cache; see :class:`models.data.Runtime`."""
        return None if self.kept is None else self.kept.rows

    @property
    def neighbors(self) -> Path | None:
        """The file of an index of these, which is there once one was needed; see :class:`models.data.Runtime`."""
        return None if self.kept is None else self.kept.directory / "neighbors.npz"

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

    def fill(self, tasks: np.ndarray, report: ProgressFn, seconds: float | None = None) -> bool:
        """Embed those of ``tasks`` (N,) that have an image without features, in their order.

        Args:
            seconds: how long to go on; None: until all are there. Some are embedded in any case.

        Returns:
            Whether all are there.
        """
        if self.kept is None:
            return True
        missing = self.kept.missing(tasks)
        if not len(missing):
            return True
        net = task_named(self.task).build(self.config, 0).to(self.device)
        assert isinstance(net, FrozenClassifier)
        until = None if seconds is None else time.monotonic() + seconds
        waiting: list[np.ndarray] = []
        saved, since = 0, time.monotonic()
        report("features", 0, len(missing))
        for start in range(0, len(missing), _BATCH):
            part = missing[start : start + _BATCH]
            waiting.append(self._embedded(net, part))
            done, now = start + len(part), time.monotonic()
            late = until is not None and now >= until
            if late or done == len(missing) or done - saved >= _SAVE_ROWS or now - since >= _SAVE_SECONDS:
                self.kept.write(missing[saved:done], np.concatenate(waiting))
                waiting, saved, since = [], done, now
            report("features", done, len(missing))
            if late and done < len(missing):
                return False
        log.info("%d images were embedded by %s", len(missing), self.config.name)
        return True

    def _embedded(self, net: FrozenClassifier, tasks: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(self.cache.pixels[self.cache.rows(tasks)]).to(self.device)
        with torch.inference_mode():
            return net.embed(normalize(images)).cpu().numpy()
