"""Semantic segmentation as a kind of task: learns from drawn regions, and predicts masks as editable regions."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from backend.errors import BackendError, SettingsError
from backend.settings.core import Settings
from backend.tasks.backbones import BUNDLED, SEGMENTERS, check_segmenter, segmenter_of
from backend.tasks.base import TaskKind
from backend.tasks.label_config import Annotation
from backend.tasks.records import Fetched, FreshPrediction, ReadAnnotations, Result, Size, TrainingLabels
from backend.tasks.segmentation.annotations import decisive_annotation, drawn_annotations, mask_digest, why_not_drawn
from backend.tasks.segmentation.config import BACKGROUND, SegmentationSpec, segmentation_spec
from backend.tasks.segmentation.predictions import KeptMasks, regions_of, write_masks
from backend.tasks.whole_images import log_width

if TYPE_CHECKING:
    import torch

    from backend.images.cache import Fetch, ImageCache
    from backend.learning.learner import Learner
    from backend.learning.pool import ScoredPool
    from backend.state import StoredPrediction
    from models import ProgressFn
    from models.data import Runtime
    from models.networks.base import TaskConfig

log = logging.getLogger(__name__)

FROM_SCRATCH = ("drn-d-22",)
"""Networks that can have any width, but no pretrained weights: they are not in torchvision."""

DRN_WIDTH, DRN_CPU_WIDTH = 16, 4
"""Channels of drn-d-22's first stage: as in the paper, and few enough for training on a CPU."""

LARGEST_FRAME = {"cpu": 256, "cuda": 1024}
"""By type of device: the maximum of the images' longer side in pixels if ``image_size`` is 0."""


class Segmentation(TaskKind[SegmentationSpec, KeptMasks]):
    """A class for each pixel. Whole images are stretched to one size, so that masks fit onto them."""

    name: ClassVar[str] = "segmentation"
    learns: ClassVar[str] = "masks"
    metric: ClassVar[str] = "mean IoU"
    default_sampler: ClassVar[str] = "dast-al"
    queue_columns: ClassVar[tuple[str, ...]] = ("score", "model_versions")  # results are kilobytes of numbers
    draws: ClassVar[bool] = True
    fresh_limit: ClassVar[int] = 16  # larger images, and seconds each on a CPU

    @classmethod
    def read(cls, label_config: str, settings: Settings) -> Self:
        return cls(segmentation_spec(label_config, rectangles=settings.rectangles), settings)

    def check(self) -> None:
        super().check()
        settings = self.settings
        check_segmenter(settings)
        name, weights, _ = segmenter_of(settings)
        if weights != "none" and name in FROM_SCRATCH:
            raise SettingsError(
                f'There are no pretrained weights for {name}: set "segmentation_net" to another, such as '
                f'"{BUNDLED}", or "pretrained" to false.'
            )
        if settings.task_width and name not in FROM_SCRATCH:
            raise SettingsError(
                f'{name} has one width only: set "task_width" to 0, or "segmentation_net" to "{FROM_SCRATCH[0]}".'
            )
        if settings.unlabelled == "ignore" and not self.spec.has_background_label:
            raise SettingsError(
                f'unlabelled is "ignore", so only a label "{BACKGROUND}" could show what is background: add '
                f'<Label value="{BACKGROUND}"/> to the label config, or set "unlabelled" to "background".'
            )

    # -- annotations -------------------------------------------------------------------------------------------------

    @property
    def reads_results(self) -> bool:
        return self.spec.asks_more or self.settings.unlabelled == "ignore"

    def label_of(self, annotations: Sequence[Annotation], source: str) -> str | None:
        """The :func:`~backend.tasks.segmentation.annotations.mask_digest` of the task's mask."""
        decisive = decisive_annotation(annotations, self.spec, self.settings)
        return None if decisive is None else mask_digest(decisive, source, self.spec, self.settings)

    def counted(self, annotations: Sequence[Annotation]) -> list[tuple[int, str]]:
        return drawn_annotations(annotations, self.spec, self.settings)

    def why_not(self, annotation: Annotation) -> str | None:
        return why_not_drawn(annotation, self.spec, self.settings)

    def content_of(self, result: Result) -> str:
        from backend.tasks.segmentation.masks import drawing_digest

        return drawing_digest(result, self.spec)

    # -- images and training -----------------------------------------------------------------------------------------

    def open_cache(self, folder: Path, tasks: Iterable[tuple[int, str]], fetch: Fetch, device: str) -> ImageCache:
        from backend.images.cache import ImageCache

        return ImageCache.open_whole(folder, self.settings.image_size, tasks, fetch, LARGEST_FRAME[device])

    @classmethod
    def decode(cls, data: bytes, frame: Size) -> tuple[np.ndarray, Size]:
        from backend.images.decoding import decode_whole

        return decode_whole(data, frame)

    def training_labels(
        self,
        labels: Mapping[int, str],
        sources: Mapping[int, str],
        cache: ImageCache,
        read_annotations: ReadAnnotations,
        report: ProgressFn,
    ) -> TrainingLabels:
        """Each mask is decoded from its regions once, and cached."""
        from backend.tasks.segmentation.mask_cache import open_masks
        from models.data import MaskTargets

        tasks: list[int] = cache.present(labels).tolist()
        if not tasks:
            raise BackendError("none of the labeled images can be read; `status` lists why")
        masks, problems = open_masks(self.spec, self.settings, labels, sources, cache, read_annotations, report)
        rows = masks.rows(tasks)
        if not (rows >= 0).any():
            raise BackendError(": ".join(["none of the labeled images has a mask to learn from", *problems[:1]]))
        usable = [task for task, row in zip(tasks, rows.tolist(), strict=True) if row >= 0]
        return TrainingLabels(usable, MaskTargets(masks.masks, rows[rows >= 0]), 1 + len(self.classes), problems)

    @classmethod
    def net_config(cls, settings: Settings, classes: int, frame: Size, device: torch.device) -> TaskConfig:
        """The first output is the background."""
        from models.networks.backbones import digest_of
        from models.networks.pretrained_segmenter import PretrainedSegmenterConfig
        from models.networks.segmenter import SegmenterConfig

        name, weights, frozen = segmenter_of(settings)
        if name not in SEGMENTERS:
            digest = digest_of(name, weights)
            return PretrainedSegmenterConfig.of(name, 1 + classes, max(frame), weights, digest, frozen)
        width = settings.task_width
        if name in FROM_SCRATCH and not width:
            width = DRN_WIDTH if device.type == "cuda" else DRN_CPU_WIDTH
            log_width(settings, name, width, DRN_WIDTH)
        return SegmenterConfig(name, 1 + classes, width, weights != "none")

    # -- predictions -------------------------------------------------------------------------------------------------

    def head_size(self) -> int | None:
        """Somewhat more than are served before the next order, because masks are large in Label Studio's database."""
        settings = self.settings
        return max(settings.preannotate, settings.budget + settings.shortlist) if settings.preannotate else None

    def keep_predictions(
        self, learner: Learner, cache: ImageCache, pool: ScoredPool, folder: Path, runtime: Runtime
    ) -> None:
        """Writes the masks of the head of the order, predicted in one pass."""
        from models.inference.predictions import predict_masks

        tasks = pool.head(self.head_size(), runtime.seed)
        if tasks:
            rows = cache.rows(tasks)
            batches = predict_masks(learner.net, cache.pixels, rows, runtime)
            write_masks(folder, learner.classes, learner.frame, tasks, cache.sizes(rows), batches)

    @classmethod
    def open_kept(cls, folder: Path) -> KeptMasks | None:
        return KeptMasks.open(folder)

    def holds(self, stored: StoredPrediction, kept: KeptMasks | None) -> bool:
        return kept is not None and kept.holds(stored.task_id)

    def serving(self, metrics: Mapping[str, Any]) -> Self:
        """Where ``preannotate_above`` is auto, every region is drawn: a mask that is half right takes less work to
        correct than to paint."""
        return super().serving({} if self.settings.preannotate_above == "auto" else metrics)

    def result(self, stored: StoredPrediction, kept: KeptMasks | None) -> Result:
        return self._sure((kept.regions_for(self.spec, self.settings, stored.task_id) if kept else None) or [])

    def _sure(self, regions: Result) -> Result:
        """Those of the regions that the network is sure enough of to show them."""
        return [region for region in regions if region["score"] >= self.shown_from]

    def said(self, stored: StoredPrediction, kept: KeptMasks | None) -> tuple[str, ...]:
        return () if kept is None else kept.classes_of(stored.task_id)

    @classmethod
    def mask_of(cls, task: int, kept: KeptMasks | None) -> np.ndarray | None:
        planes = kept.planes(task) if kept else None
        return None if planes is None else np.asarray(planes[0])

    def weight(self, result: Result) -> int:
        values = [region["value"] for region in result]
        return sum(len(value.get("rle", ())) + 2 * len(value.get("points", ())) for value in values)

    def predict_fresh(
        self, learner: Learner, version_name: str, fetched: Fetched, until: float
    ) -> Iterator[tuple[int, FreshPrediction]]:
        """One image at a time, because each takes long."""
        from backend.state import StoredPrediction  # here: benchmarks on a GPU run without a database
        from models.inference.predictions import predict_masks

        runtime = learner.runtime(seed=0)
        for done, (task, (pixels, size)) in enumerate(fetched.items()):
            if time.monotonic() > until:
                log.warning("%d masks were not predicted in time", len(fetched) - done)
                return
            predictions, scores = learner.predict(pixels[None])
            _, masks, confidence = next(iter(predict_masks(learner.net, pixels[None], np.zeros(1, np.int64), runtime)))
            stored = StoredPrediction(task, version_name, None, float(predictions.confidence[0]), float(scores[0]))
            regions = regions_of(masks[0], confidence[0], learner.classes, size, self.spec, self.settings)
            yield task, (stored, self._sure(regions))
