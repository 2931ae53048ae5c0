"""What is common to the kinds of task that label whole images: a cache of square images and a classifier."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from backend.errors import BackendError
from backend.settings.core import Settings
from backend.tasks.backbones import FROM_PAPERS, backbone_of, check_backbone
from backend.tasks.base import Kept, Spec, TaskKind
from backend.tasks.records import Size

if TYPE_CHECKING:
    import numpy as np
    import torch

    from backend.images.cache import Fetch, ImageCache
    from models.networks.base import TaskConfig

log = logging.getLogger(__name__)

CLASSIFIER_WIDTH, CLASSIFIER_CPU_WIDTH = 64, 16
"""Channels of a classifier's first stage: as in the papers, and few enough for training on a CPU."""


class WholeImages(TaskKind[Spec, Kept]):
    """Images are cropped to squares around their center; the network is a classifier."""

    consensuses: ClassVar[tuple[str, ...]] = ("auto", "latest", "majority", "weighted")

    def check(self) -> None:
        super().check()
        check_backbone(self.settings)

    def open_cache(self, folder: Path, tasks: Iterable[tuple[int, str]], fetch: Fetch, device: str) -> ImageCache:
        from backend.images.cache import ImageCache

        return ImageCache.open_auto(folder, self.settings.image_size, tasks, fetch)

    @classmethod
    def decode(cls, data: bytes, frame: Size) -> tuple[np.ndarray, Size]:
        from backend.images.decoding import decode

        return decode(data, frame[0]), (0, 0)  # the size is only needed to draw regions

    @classmethod
    def net_config(cls, settings: Settings, classes: int, frame: Size, device: torch.device) -> TaskConfig:
        from models.networks.backbones import digest_of
        from models.networks.classifier import NetConfig
        from models.networks.pretrained import PretrainedConfig

        name, weights, frozen = backbone_of(settings)
        if name not in FROM_PAPERS:
            return PretrainedConfig.of(name, classes, max(frame), weights, digest_of(name, weights), frozen)
        pretrained = weights != "none"
        full_width = device.type == "cuda" or pretrained
        width = settings.task_width or (CLASSIFIER_WIDTH if full_width else CLASSIFIER_CPU_WIDTH)
        log_width(settings, name, width, CLASSIFIER_WIDTH)
        return NetConfig(name, classes, max(frame), width, pretrained)

    @staticmethod
    def with_image(labels: Mapping[int, Any], cache: ImageCache) -> list[int]:
        """The labeled tasks whose image is in the cache. Raises BackendError if there are none."""
        tasks: list[int] = cache.present(labels).tolist()
        if not tasks:
            raise BackendError("none of the labeled images can be read; `status` lists why")
        return tasks


def log_width(settings: Settings, name: str, width: int, paper_width: int) -> None:
    """Log that a network is narrower than in the papers, unless the owner chose its width."""
    if width != paper_width and not settings.task_width:
        message = "No GPU: %s has %d channels in its first stage instead of %d (task_width)"
        log.info(message, name, width, paper_width)
