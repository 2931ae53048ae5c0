"""The contract every sampler keeps: what it says of itself, what it is given, what it returns, and the errors it may
raise.

A new sampler is one file with a subclass of `Sampler` and one line in the table of `samplers/__init__.py`; see
docs/extending.md. Axis letters: N pool rows, B batch, C classes, H W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from samplers.deferred import models, torch
from samplers.options import SamplerOptions

if TYPE_CHECKING:
    from models.data import CycleData, Runtime
    from models.inference.predictions import Predictions
    from models.losses.objectives import Objective
    from models.networks.base import TaskNet

TASKS = tuple(models.TASK_TABLE)
"""Names of the kinds of task. This much of `models` loads without torch."""

OptionsT = TypeVar("OptionsT", bound=SamplerOptions)


class SamplerError(Exception):
    """Root of what a sampler raises on purpose."""


class UnknownSampler(SamplerError):
    """No sampler has this name."""


class EmptyPool(SamplerError):
    """There is no row to score."""


class WrongTask(SamplerError):
    """The sampler has no meaning for this kind of task, or was built for another one than the network."""


class NotFitted(SamplerError):
    """Scores were asked for before the sampler's networks were trained or loaded."""


class NonFiniteScores(SamplerError):
    """A sampler returned NaN or infinity: its networks diverged or its input is broken."""


@dataclass(frozen=True)
class Scored:
    """What `Sampler.score` returns for N rows, in the order of the rows.

    acquisition (N,) float64, finite; higher = label sooner; any scale.
    predictions the task network's, where the pass ran that network anyway, else None.
    """

    acquisition: np.ndarray
    predictions: Predictions | None = None


@dataclass(frozen=True)
class Generated:
    """What `Sampler.generate` returns: K images that annotators are to be asked for, the first to be asked for first.

    images (K, S, S, 3) uint8. seeds (K,) int64, all different: what each was generated from. before and after (K,):
    how unsure the network is of each as it began, and as it is.
    """

    images: np.ndarray
    seeds: np.ndarray
    before: np.ndarray
    after: np.ndarray


@dataclass(frozen=True)
class Preparation:
    """What `Sampler.prepare` returns, all of it tensors and plain Python.

    training: what to go on with another time. ready: what `fit` takes over (`Runtime.prepared`); None until the
    training is over. done, total: how far it is. enough_for: how many images the pool may grow to before it goes on; 0
    until the training is over. sample (K, S, S, 3) uint8: what was learned, for people to look at; None where nothing
    shows it.
    """

    training: dict[str, Any]
    ready: dict[str, Any] | None
    done: int
    total: int
    enough_for: int
    sample: np.ndarray | None = None


@dataclass(frozen=True)
class Answered:
    """What annotators said of images before: rows of the pixels, each (N,) integers.

    recognized: those that they labeled, generated or not; unrecognized: generated ones that show nothing.
    """

    recognized: np.ndarray
    unrecognized: np.ndarray


class Sampler(ABC, Generic[OptionsT]):
    """One query strategy.

    Subclasses say what they are in the class attributes below, implement `_score`, and override `objective`, `fit`,
    `state_dict` and `load_state_dict` as needed. Tensors of a sampler live on the device it was built for. Randomness
    comes from `runtime.generator(...)`.
    """

    name: ClassVar[str]
    """As in the settings."""
    summary: ClassVar[str]
    """What is labeled first: one line for `python -m backend samplers` and the table in docs/samplers.md."""
    why: ClassVar[str] = ""
    """Why an image is labeled soon, said of that image in half a sentence, for the owner's page; "": the summary."""
    source: ClassVar[str] = ""
    """The paper or papers: authors and year."""
    trains: ClassVar[str] = "nothing"
    """What is trained besides the task network."""
    family: ClassVar[str]
    """One of `samplers.families`: the panel that its learning curve is drawn in."""
    refusals: ClassVar[Mapping[str, str]] = {}
    """The kinds of task it has no meaning for: name -> the reason, which the project's owner reads."""
    inside: ClassVar[Mapping[str, str]] = {}
    """Settings whose value reaches inside the network, which has to be trained as a whole then: name -> that value."""
    tasks: ClassVar[tuple[str, ...]] = TASKS
    """The others, which it serves; follows from `refusals`."""
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    """Values of settings that its paper gives under one name: preset -> setting -> value. `sampler` is set too."""
    knows_classes: ClassVar[bool] = False
    """Its state depends on which class has which index: a change of classes means a fresh start."""
    diverse: ClassVar[bool] = False
    """The images at the head of its queue are chosen to differ from each other, so noise would only disturb them."""
    spreads_first: ClassVar[bool] = True
    """Before there is any label the pool is ordered by spread; False: by chance, as a baseline has to."""

    generates: ClassVar[bool] = False
    """Annotators are to be asked for images that it generates, too: see `generate`."""

    prepares: ClassVar[bool] = False
    """Networks of its learn from the images of the pool alone, for minutes, apart from any cycle: see `prepare`."""

    standin: ClassVar[str] = ""
    """The name of the sampler that orders the pool where `doubts` speak against this one; "": the backend's choice."""

    Options: type[OptionsT]
    """A frozen dataclass whose field names are the settings' names and whose defaults are the paper's."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.tasks = tuple(task for task in TASKS if task not in cls.refusals)

    def __init__(
        self,
        options: OptionsT | None = None,
        *,
        task: str,
        num_classes: int,
        image_size: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """options: None = their defaults; task: one of `tasks`; image_size: the longer side in pixels."""
        self.options: OptionsT = self.Options() if options is None else options
        self.task = task
        self.num_classes = num_classes
        self.image_size = image_size
        self.device = torch.device(device)

    @property
    def trainings(self) -> int:
        """How many trainings of about the same cost a cycle comes to, the task network's counted: the seconds that a
        cycle may train are shared out evenly among them. Those after the first are what `fit` trains.
        """
        return 1

    @classmethod
    def reason(cls, acquisition: float | None) -> str:
        """Why an image with this acquisition comes where it does, in half a sentence for the project's owner. None: it
        has noise on it (`Learner.score`), so that it tells no figure of the image.
        """
        return cls.why or cls.summary

    @classmethod
    def has_objective(cls) -> bool:
        """Whether the task network trains on something other than cross entropy."""
        return cls.objective is not Sampler.objective

    def objective(self, net: TaskNet, data: CycleData, runtime: Runtime) -> Objective:
        """What the task network trains on this cycle. Default: cross entropy."""
        return net.task.cross_entropy()

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Train the sampler's own networks or estimates after the task network was trained.

        Where `prepares` is True and `runtime.prepared` is given, that is taken over, and only without it trained here.
        Warm from loaded state where there is one. `data.unlabeled` and `data.labeled` may be empty: then do
        what is possible and leave `score` usable. Leaves `net` as it found it. Returns metrics to log. A loop of steps
        ends by `runtime.deadline`, if there is one: see `models.training.budget.Pace`.
        """
        return {}

    def doubts(self, metrics: Mapping[str, float]) -> str:
        """Why its order is not to be trusted, by the metrics that `fit` returned: half a sentence for the project's
        owner, or "" where nothing speaks against it. A gate that is passed proves nothing: it only stops an order that
        the sampler's networks can have no say in.
        """
        return ""

    def prepare(
        self,
        before: Mapping[str, Any],
        pixels: np.ndarray,
        rows: np.ndarray,
        runtime: Runtime,
        enough: Callable[[], bool],
    ) -> Preparation:
        """Train what needs no labels for a while: until it is over, `runtime.deadline`, or `enough()`, which is asked
        now and then.

        before: the `Preparation.training` of the last time, {} at first; one that fits neither the settings nor the
        images means a fresh start. rows (N,) of `pixels` (M, H, W, 3) uint8: the images, N > 1. Leaves the sampler as
        it is. Only where `prepares` is True.
        """
        raise NotImplementedError

    @property
    def preparation_key(self) -> str:
        """What such a training depends on besides the images, so that a change of it is noticed."""
        return ""

    def generate(
        self, net: TaskNet, pixels: np.ndarray, count: int, answered: Answered, runtime: Runtime
    ) -> Generated | None:
        """Up to `count` images that are not in the pool, for annotators to label; None if the sampler generates none.

        Called after `fit` and `score`, and changes as little as these. pixels (M, H, W, 3) uint8 are those of the pool.
        """
        return None

    def score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """One finite acquisition value per row, higher = label sooner.

        pixels (M, H, W, 3) uint8, rows (N,) integers into it. Reads no labels and changes nothing: not the
        networks, not their mode, not the sampler. The same seed gives the same scores, whatever the batch
        size and the order of rows.

        Raises EmptyPool for no rows, WrongTask for a network of another kind of task, NonFiniteScores (naming the
        sampler) for NaN or infinity, models.data.DataError for rows or pixels of the wrong kind.
        """
        models.data.check_pixels(pixels)
        models.data.check_rows(rows, len(pixels))
        if net.task.name != self.task:
            raise WrongTask(f"sampler {self.name} was built for {self.task}, the network for {net.task.name}")
        if len(rows) == 0:
            raise EmptyPool(f"sampler {self.name}: there is no row to score")
        scored = self._score(net, pixels, rows, runtime)
        check_acquisition(self.name, scored.acquisition, len(rows))
        return scored

    @abstractmethod
    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """`score` without the checks, which the base class makes; rows are valid and there is at least one.

        The docstring states the paper, the equation and the shapes.
        """

    def state_dict(self) -> dict[str, Any]:
        """All that `score` and a warm `fit` need, as tensors and plain Python only."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, tensors possibly on another device.

        Copies: the two samplers share no tensor afterwards. {} or a state that does not fit (the owner added a
        class or changed a width since) leaves the sampler as built.
        """


def check_acquisition(name: str, acquisition: np.ndarray, count: int) -> None:
    """Raise unless `acquisition` is (count,) float64 and finite; the message names the sampler."""
    if acquisition.shape != (count,) or acquisition.dtype != np.float64:
        raise SamplerError(
            f"sampler {name}: expected {count} float64 scores, got {acquisition.dtype}{acquisition.shape}"
        )
    broken = np.flatnonzero(~np.isfinite(acquisition))
    if len(broken):
        raise NonFiniteScores(
            f"sampler {name}: {len(broken)} of {count} scores are not finite (first: {acquisition[broken[0]]}"
            f" at position {broken[0]}); the training probably diverged, try a lower learning rate"
        )
