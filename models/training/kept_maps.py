"""Labeled images as a segmenter's encoder sees them, and their masks, for training what comes after the encoder.

An encoder that stays as it is says the same of an image each time. So each labeled image goes through it once for a
training, and its mirror image once, when they are first asked for; after that a step costs the decoder alone.

Axis letters: L labeled rows, B batch, E what is kept of an image, K images that are kept, H W pixels.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

import torch
from torch import Tensor

from models.data import CycleData, MaskTargets, Runtime, targets_of
from models.index_masks import check_classes
from models.networks.pretrained_segmenter import PretrainedSegmenter
from models.pixels import normalize
from models.training.rows import TrainingRows, resident_limit


class KeptMaps:
    """What the encoder of a segmenter says of the labeled images and of their mirror images.

    Of as many as fit into `models.training.rows.resident_limit`, by default, it is kept. The others are encoded again
    each time. No row's batch says anything of it: the encoder is in eval mode.
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
        self._bytes = resident_limit(runtime.device) if kept_bytes is None else kept_bytes
        self._kept: Tensor | None = None  # (K, E) float16, made when E is known
        self._known = torch.zeros(2 * len(data.labeled), dtype=torch.bool)  # on the host: each step asks for some

    def batches(self, plan: Iterable[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Rows of maps (B, E) float16 and masks (B, H, W) uint8 for each batch of positions."""
        plan = list(plan)
        for (positions, images), (_, masks) in zip(self.rows.batches(plan), self._masks.batches(plan), strict=True):
            mirrored = torch.rand(len(images), generator=self._draws, device=images.device) < 0.5
            maps = self._maps(positions, mirrored, images)
            yield maps, torch.where(mirrored[:, None, None], masks.flip(2), masks)

    def _maps(self, positions: Tensor, mirrored: Tensor, images: Tensor) -> Tensor:
        """(B, E) of the images (B, H, W, 3), or of their mirror images, at these positions of the labeled rows."""
        places = (2 * positions + mirrored).cpu()
        known = self._known[places]
        if self._kept is not None and bool(known.all()):
            return self._kept[places.to(self._kept.device)]
        missing = (~known).nonzero().flatten().to(images.device)
        shown = torch.where(mirrored[:, None, None, None], images.flip(2), images)[missing]
        fresh = self._net.keep(normalize(shown))
        if self._kept is None:
            count = min(len(self._known), self._bytes // (fresh.element_size() * fresh.shape[1]))
            self._kept = fresh.new_empty((count, fresh.shape[1]))
        maps = fresh.new_empty((len(places), fresh.shape[1]))
        maps[missing] = fresh
        here = known.nonzero().flatten()
        maps[here.to(maps.device)] = self._kept[places[here].to(maps.device)]
        room = places < len(self._kept)
        self._kept[places[room].to(maps.device)] = maps[room.to(maps.device)]
        self._known[places[room]] = True
        return maps
