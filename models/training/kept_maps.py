"""Labeled images as a segmenter's encoder sees them, and their masks, for training what comes after the encoder.

An encoder that stays as it is says the same of an image each time. So each labeled image goes through it once for all
trainings of a cycle, and its mirror image once, when they are first asked for; after that a step costs the decoder
alone.

Axis letters: L labeled rows, N rows, B batch, E what is kept of an image, K images that are kept, H W pixels.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

import numpy as np
import torch
from torch import Tensor

from models.data import CycleData, MaskTargets, Runtime, targets_of
from models.index_masks import check_classes
from models.networks.pretrained_segmenter import PretrainedSegmenter
from models.pixels import normalize
from models.training.rows import TrainingRows, resident_limit


class EncodedImages:
    """What one encoder says of images of the pool and of their mirror images, for any number of trainings.

    Of as many as fit into `kept_bytes` it is kept, which is `models.training.rows.resident_limit` by default.
    """

    def __init__(self, rows: np.ndarray, kept_bytes: int | None = None) -> None:
        """rows (L,) of the pool: those that are asked for are among them."""
        self._place = {row: place for place, row in enumerate(rows.tolist())}
        self._bytes = kept_bytes
        self._kept: Tensor | None = None  # (K, E) float16, made when E is known
        self._shapes: list[torch.Size] = []  # of the stages in it
        self._known = torch.zeros(2 * len(rows), dtype=torch.bool)  # on the host: each step asks for some

    def places(self, rows: np.ndarray) -> Tensor:
        """Where images of the pool stand here, (N,) int64, for `maps`."""
        return torch.tensor([self._place[row] for row in rows.tolist()])

    def maps(self, net: PretrainedSegmenter, places: Tensor, mirrored: Tensor, images: Tensor) -> Tensor:
        """(B, E) of the images (B, H, W, 3) at these places (B,), or of the mirror images of those that are `mirrored`
        (B,) bool. The encoder of `net` is the same each time."""
        places = 2 * places + mirrored.cpu()
        known = self._known[places]
        if self._kept is not None and bool(known.all()):
            net.kept_shapes = self._shapes
            return self._kept[places.to(self._kept.device)]
        missing = (~known).nonzero().flatten().to(images.device)
        shown = torch.where(mirrored[:, None, None, None], images.flip(2), images)[missing]
        fresh = net.keep(normalize(shown))
        if self._kept is None:
            room = resident_limit(images.device) if self._bytes is None else self._bytes
            count = min(len(self._known), room // (fresh.element_size() * fresh.shape[1]))
            self._kept, self._shapes = fresh.new_empty((count, fresh.shape[1])), net.kept_shapes
        maps = fresh.new_empty((len(places), fresh.shape[1]))
        maps[missing] = fresh
        here = known.nonzero().flatten()
        maps[here.to(maps.device)] = self._kept[places[here].to(maps.device)]
        fits = places < len(self._kept)
        self._kept[places[fits].to(maps.device)] = maps[fits.to(maps.device)]
        self._known[places[fits]] = True
        return maps


class KeptMaps:
    """What the encoder of a segmenter says of the labeled images and of their mirror images, and their masks.

    It is kept in `models.data.Runtime.encoded` where there is that and the encoder stays as it is for good, and here
    else. No row's batch says anything of it: the encoder is in eval mode.
    """

    def __init__(
        self, net: PretrainedSegmenter, data: CycleData, runtime: Runtime, kept_bytes: int | None = None
    ) -> None:
        """Raises DataError for a mask with a class that there is not."""
        targets = targets_of(data, MaskTargets)
        check_classes(targets.masks, targets.rows, data.num_classes)
        self.rows = TrainingRows(data.pixels, data.labeled, runtime)
        self._masks = TrainingRows(targets.masks, targets.rows, runtime, aligned_with=self.rows)
        self._net = net
        self._draws = runtime.generator("train augmentation")
        shared = runtime.encoded if runtime.encoded is not None and net.config.frozen else None
        self._encoded = shared or EncodedImages(data.labeled, kept_bytes)
        self._places = self._encoded.places(data.labeled)

    def batches(self, plan: Iterable[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Rows of maps (B, E) float16 and masks (B, H, W) uint8 for each batch of positions."""
        plan = list(plan)
        for (positions, images), (_, masks) in zip(self.rows.batches(plan), self._masks.batches(plan), strict=True):
            mirrored = torch.rand(len(images), generator=self._draws, device=images.device) < 0.5
            maps = self._encoded.maps(self._net, self._places[positions.cpu()], mirrored, images)
            yield maps, torch.where(mirrored[:, None, None], masks.flip(2), masks)
