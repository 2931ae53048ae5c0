"""What a project of the demo is about: its images, the question, the ground truth, and how good a version is.

One kind of task is one file in this folder and one line of :data:`demo.subjects.DEMOS`. These files import torch only
where a version is judged: that takes seconds, in which Label Studio starts.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from backend.errors import BackendError
from backend.state import Version
from backend.tasks import KINDS
from demo.annotator import as_png, image_name

if TYPE_CHECKING:
    import torch

    from backend.learning.learner import Learner
    from models.data import Runtime

Result = list[dict[str, Any]]
"""The regions of an annotation or a prediction, as Label Studio has them."""

Proposal = tuple[int, Result]
"""The number of an image, and the ``result`` of its prediction."""


class Stopped(Exception):
    """Nobody waits for what is being judged any more."""


class Subject(ABC):
    """The project's images are numbered 0 .. ``count - 1``.

    ``task`` is the kind's name in :data:`backend.tasks.KINDS`. ``must_rise``: the demo fails when the quality of three
    versions or more has not risen from the first that was trained to the last. ``how_to``: lines for the person who is
    going to label. ``settings`` of the project, other than sampler and budget.
    """

    task: ClassVar[str]
    must_rise: ClassVar[bool] = False
    how_to: ClassVar[tuple[tuple[str, str], ...]] = ()
    settings: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, source: str, classes: tuple[str, ...], count: int, held_out: int) -> None:
        self.source = source
        self.classes = classes
        self.count = count
        self.held_out = held_out
        self.stop = threading.Event()
        """Once it is set, whoever judges raises Stopped soon."""
        self._embedded: dict[tuple[str, tuple[int, int]], np.ndarray] = {}

    @classmethod
    @abstractmethod
    def of_fashion(cls, count: int, held_out: int | None = None) -> Self:
        """With ``count`` images of Fashion-MNIST items, or as many as there are, and the same for ``held_out``; None:
        as many as are judged within seconds."""

    @property
    def title(self) -> str:
        return self.source.split(",")[0]

    @property
    def measure(self) -> str:
        """What :meth:`judge` measures, in words."""
        return KINDS[self.task].metric

    @property
    @abstractmethod
    def label_config(self) -> str:
        """What the project asks, as Label Studio's XML."""

    @abstractmethod
    def image(self, index: int) -> bytes:
        """Image number ``index`` as a file."""

    @abstractmethod
    def ground_truth(self, index: int) -> Result:
        """The ``result`` of the annotation that is right for image ``index``."""

    def recognize(self, pixels: np.ndarray) -> Result | None:
        """What can be recognized in an image (H, W, 3) uint8 that is none of them, because it was generated; None:
        nothing, or it is not known."""
        return None

    @abstractmethod
    def judge(self, learner: Learner) -> float:
        """How good a version's networks are on the held-out images, in [0, 1]. Raises Stopped."""

    def agreement(self, proposed: Iterable[Proposal]) -> float | None:
        """Of what is proposed at the head of the queue with the ground truth, in [0, 1]; None where it is not compared.

        Raises:
            PreannotationError: what is proposed cannot be shown in the editor.
        """
        return None

    def images(self) -> Iterator[tuple[str, bytes]]:
        """File names and files of all images, made one by one."""
        return ((image_name(index), self.image(index)) for index in range(self.count))

    def decoded(self, images: Iterable[np.ndarray], frame: tuple[int, int]) -> np.ndarray:
        """Images (N, H, W, 3) uint8 of ``frame`` (H, W), as the backend decodes them from files."""
        return np.stack([KINDS[self.task].decode(as_png(image), frame)[0] for image in images])

    def runtime(self, learner: Learner, pixels: np.ndarray) -> Runtime:
        """For predictions of the held-out ``pixels`` (N, H, W, 3), all of them, by the network of ``learner``. What a
        frozen backbone says of them is kept from version to version."""
        from models.data import Runtime
        from models.inference.fused import scoring_copy
        from models.inference.streaming import map_rows
        from models.networks.pretrained import FrozenClassifier
        from models.pixels import normalize

        runtime, net = Runtime(device=learner.device, seed=0, progress=self.go_on), learner.net
        if not isinstance(net, FrozenClassifier):
            return runtime
        key = (learner.net_config.name, learner.frame)
        if key not in self._embedded:
            copied = scoring_copy(net, runtime)

            def embed(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
                return (copied.embed(normalize(images)),)

            few = replace(runtime, eval_batch_size=net.embedded_at_a_time)
            (self._embedded[key],) = map_rows(pixels, np.arange(len(pixels)), few, embed, "embed")
        return replace(runtime, features=self._embedded[key])

    def go_on(self, *_: object) -> None:
        """Raises Stopped where that is wanted; as a :class:`models.ProgressFn`."""
        if self.stop.is_set():
            raise Stopped

    def learner(self, version: Version) -> Learner | None:
        """The version's checkpoint; None when it was made without a model. Raises BackendError for one of another kind
        of task."""
        if version.checkpoint is None:
            return None
        import torch

        from backend.learning.learner import Learner

        learner = Learner.load(version.checkpoint, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        if learner.task != self.task:
            raise BackendError(f"{version.name} has a network for {learner.task}, and the project is of {self.task}")
        return learner
