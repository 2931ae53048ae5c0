"""What every task network has, whatever its kind of task.

Axis letters: B batch, F features, C classes, H W pixels, h w those of a map of features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from models.data import Runtime
from models.networks.precision import ReducedScoring

if TYPE_CHECKING:
    from models.tasks.base import Task
    from models.training.label_doubts import Judged


class PretrainedUnavailable(RuntimeError):
    """The pretrained weights do not fit the network asked for, or could not be fetched."""


@dataclass(frozen=True)
class TaskConfig(ABC):
    """All that is needed to build a task network again: its name, its number C of outputs, and what a subclass adds."""

    name: str
    num_classes: int

    maps: ClassVar[bool] = False
    """Whether such a network gives a map of logits, and not a row of them for each image."""

    @abstractmethod
    def build(self, seed: int) -> TaskNet:
        """Such a network on the CPU, initialized from `seed` alone.

        Raises ValueError for a network that does not exist, PretrainedUnavailable where its weights cannot be had.
        """

    @property
    def feature_key(self) -> str:
        """Names what its trunk says of an image, where that is the same for good and can be kept; "" otherwise."""
        return ""

    @property
    def embedding(self) -> int:
        """E, how many numbers of an image are kept."""
        return 0

    def check(self) -> None:  # noqa: B027 - most have nothing that could be missing
        """Raise PretrainedUnavailable where what it does not contain itself, such as the weights of a frozen trunk, is
        missing or another one.
        """

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return cls(**values)

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels of the first stage; a field of the subclass."""

    @abstractmethod
    def bare(self) -> Self:
        """The same without pretrained weights: for a network whose weights are about to be replaced."""

    @abstractmethod
    def serves(self, num_classes: int, image_size: int) -> bool:
        """Whether such a network has this many outputs and reads images of this size (the longer side in pixels)."""


class TaskNet(ReducedScoring, ABC):
    """A trunk that gives features, and a head, one linear layer, that gives logits of C classes.

    task      the kind of task it was built for (`models.tasks`), which knows what its outputs mean.
    config    what that task's `build` needs to build another one like this.
    trunk, head  its two parts. `head.weight.flatten(1)` is (C, F).
    tap_channels  T_k, how wide the taps are.
    temperature  what its logits are divided by for probabilities that are shown to people; see
                 `models.training.calibration`. What is learned and what orders a pool takes the logits as they are.
    judged       the labels of real images that its training left out in turn, and what was said of them then; None
                 where there is nothing to say, and of a network that was loaded.

    On CUDA the trunk trains in bfloat16. Evaluation is in float32, because the order of a pool needs more digits than
    bfloat16's eight bits, unless the trunk of a copy is to score in bfloat16 (`models.inference.fused`). Features and
    logits leave in float32 always.
    """

    task: Task
    config: TaskConfig
    trunk: nn.Module
    head: nn.Linear | nn.Conv2d
    tap_channels: tuple[int, ...]
    temperature: float = 1.0
    judged: Judged | None = None

    @property
    def num_classes(self) -> int:
        """C."""
        return self.config.num_classes

    @property
    def frozen(self) -> bool:
        """Whether only the head is trained, so that what the trunk says of an image can be kept."""
        return False

    @property
    def keeps(self) -> bool:
        """Whether a part of it stays as it is for now, so that what that says of an image to paint can be kept."""
        return False

    def reads(self, pixels: np.ndarray, runtime: Runtime) -> np.ndarray:
        """What it reads of the rows of a pool, (M, ...): their pixels (M, H, W, 3) uint8 or, where its trunk is frozen
        and that is at hand, what is kept of them, (M, E) float16.
        """
        return pixels

    def rate_groups(self) -> list[dict[str, Any]]:
        """Its parameters for an optimizer, each group with the `share` of the learning rate that it is trained at."""
        return [{"params": list(self.parameters()), "share": 1.0}]

    @property
    def rehearses(self) -> bool:
        """Whether another one like it, trained on a part of the labels, tells what its probabilities are worth."""
        return False

    def part_first(self) -> AbstractContextManager[object] | None:
        """In which a training is of a part of it alone, where that comes before the training of all of it."""
        return None

    @property
    def feature_channels(self) -> int:
        """F."""
        return self.head.weight.shape[1]

    def precision(self, x: Tensor) -> AbstractContextManager[object]:
        """In which the trunk runs on `x`, whatever is in force around it."""
        if not self.training and self.score_dtype is not torch.float32:
            return self.scoring_precision(x)
        return torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.training and x.is_cuda)

    def predict(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """What it says about each image of a batch, from its logits: `models.tasks.base.Task.predict` of calibrated
        ones."""
        return self.task.predict(logits if self.temperature == 1.0 else logits / self.temperature)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """S_k, channels of the stages within the trunk that `thinned_features` drops some of; () where it drops none.

        What leaves the trunk is not among them: that is features, and dropout before the last layer drops those.
        """
        return ()

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) normalized float -> (B, F) or (B, F, h, w) float32."""

    def thinned_features(self, x: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """The same with the output of each stage times a mask: masks (1, S_k) or (B, S_k), as many as `stage_channels`.

        Raises ValueError for another number of masks.
        """
        if masks:
            raise ValueError(f"{self.config.name} has no stages to drop channels of, and got {len(masks)} masks")
        return self.features(x)

    @abstractmethod
    def features_and_taps(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same, and what a network alongside this one reads of its hidden layers, the taps: the channel means of
        the outputs of four stages, each (B, T_k) float32.
        """


def drop_channels(maps: Tensor, mask: Tensor) -> Tensor:
    """Maps (B, S, ...) times a mask (1, S) or (B, S) of their channels, in the type and the memory layout of the maps.

    The product is taken in float32, in which the mask's scale is exact.
    """
    return (maps * mask.reshape(*mask.shape, *(1 for _ in maps.shape[2:]))).to(maps.dtype)
