"""What the samplers that pick the head of the queue image by image have in common: how a pick is kept, and what comes
behind the picks.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from samplers.base import NotFitted, Sampler, Scored
from samplers.deferred import models
from samplers.margin import margin_in_words
from samplers.options import SamplerOptions

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import CycleData, Runtime
    from models.geometry.picks import Picks
    from models.networks.base import TaskNet

FIRST = 30.0  # above all that is not picked
SPAN = 100.0  # the part of the scale that picks have

PickingT = TypeVar("PickingT", bound=SamplerOptions)


class PickingSampler(Sampler[PickingT]):
    """A sampler for which the value of an image depends on those picked before it.

    `fit` picks: subclasses say which (`choose`). The rest of the queue follows by a figure of each image alone
    (`rest`), which also places images that come later.
    """

    diverse: ClassVar[bool] = True

    why_rest: ClassVar[str] = ""
    """`why` of an image that is not picked; "": what margin says of it."""

    picks: Picks | None = None

    @classmethod
    def reason(cls, acquisition: float | None) -> str:
        if acquisition is None or acquisition >= FIRST - 0.5:
            return super().reason(acquisition)
        return cls.why_rest or margin_in_words(acquisition)

    @abstractmethod
    def choose(self, net: TaskNet, data: CycleData, runtime: Runtime) -> np.ndarray:
        """Rows of `data.unlabeled`, the first to be labeled first: (K,). There is one at least to choose from."""

    @abstractmethod
    def rest(self, net: TaskNet, features: Tensor, logits: Tensor) -> Tensor:
        """A figure of each image of a batch, (B,), higher = label sooner, on the scale of log-odds."""

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Pick. Nothing of an earlier cycle is used."""
        started = time.perf_counter()
        chosen = self.choose(net, data, runtime) if len(data.unlabeled) else data.unlabeled
        features = models.inference.predictions.embed(net, data.pixels, chosen, runtime)
        self.picks = models.geometry.picks.Picks.of(chosen, features)
        return {"seconds": time.perf_counter() - started, "picks": float(len(chosen))}

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """Of the j-th of K picks, j from 0, 30 + 100 (K - j) / K; of the others the figure of `rest`, at most 29: (N,).
        1 / (1 + exp(a)).
        """
        if self.picks is None:
            raise NotFitted(f"sampler {self.name}: its picks were neither made nor loaded yet")

        def of_batch(features: Tensor, logits: Tensor) -> Tensor:
            return self.rest(net, features, logits)

        predictions, values = models.inference.predictions.predict_and_measure(net, pixels, rows, runtime, of_batch)
        values = np.minimum(values, FIRST - 1.0)
        found = self.picks.candidates(rows)
        if len(found):
            features = models.inference.predictions.embed(net, pixels, rows[found], runtime, "score")
            place = self.picks.places(rows[found], features)
            found, place = found[place >= 0], place[place >= 0]
            values[found] = FIRST + SPAN * (len(self.picks) - place) / len(self.picks)
        return Scored(values, predictions)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.picks is None else {"rows": self.picks.rows, "features": self.picks.features}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            rows, features = (state[key].to("cpu", copy=True) for key in ("rows", "features"))
            self.picks = models.geometry.picks.Picks(rows, features)


def some_of(rows: np.ndarray, most: int, runtime: Runtime) -> np.ndarray:
    """At most so many of ``rows`` (N,), by chance, ascending."""
    return np.sort(runtime.rng("picks").permutation(rows)[:most])
