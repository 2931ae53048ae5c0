"""Why an image comes where it does in the queue, in words: from what is stored of it, and what its sampler says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.control import Arm
from backend.reporting.facts import Facts
from backend.state import State, StoredPrediction, Version
from samplers import SAMPLERS

AGAIN = "asked again by you, for one more annotator"
GENERATED = "a generated image, made where the network was least sure"
BY_CHANCE = "drawn by chance for the control arm"
LATE = "its place is by chance: it came when the network of this order could not be asked"


@dataclass(frozen=True)
class Reasons:
    """Of some tasks of a ``version``. ``order``: the sampler that it is ordered by, which may be a stand-in. ``again``,
    ``drawn`` and ``generated``: those of the tasks that no sampler put where they are. ``noise``: whether there is
    noise on the scores of the others."""

    version: Version
    order: str
    again: frozenset[int]
    drawn: frozenset[int]
    generated: frozenset[int]
    noise: bool

    @classmethod
    def of(
        cls, state: State, facts: Facts, version: Version, tasks: Sequence[StoredPrediction], again: frozenset[int]
    ) -> Reasons:
        """``again``: those of the ``tasks`` that are asked again."""
        metrics, numbers = version.metrics, np.array([one.task_id for one in tasks], dtype=np.int64)
        arm = Arm(facts.project.folder_key, metrics.get("control_fraction") or 0.0)
        unseen = [one.task_id for one in tasks if one.confidence is None] if version.labels else []
        return cls(
            version,
            str((metrics.get("health") or {}).get("order") or version.sampler),
            again,
            frozenset(arm.of(numbers).tolist()),
            state.synthetic.among(version.project_id, unseen),  # they have a place without a prediction
            facts.settings is None or facts.settings.diversity > 0,
        )

    def why(self, one: StoredPrediction) -> str:
        """Half a sentence; "" where nothing is known of the sampler."""
        if one.task_id in self.again:
            return AGAIN
        if one.task_id in self.generated:
            return GENERATED
        if one.task_id in self.drawn:
            return BY_CHANCE
        return self._of_sampler(one) if self.version.labels else self._of_first_order(one)

    def _of_first_order(self, one: StoredPrediction) -> str:
        known = SAMPLERS.get(self.version.sampler)
        if known is None:
            return ""
        if known.spreads_first and one.priority_score < 0.5:
            return "first order: it is near to images that those before it are not near to"
        return "first order: its place is by chance"

    def _of_sampler(self, one: StoredPrediction) -> str:
        known = SAMPLERS.get(self.order)
        if known is None:
            return ""
        if one.confidence is None:
            return LATE
        from backend.learning.scores import acquisition_of  # here: the room needs torch

        noisy = self.noise and not known.diverse
        instead = f" (in place of {self.version.sampler})" if self.order != self.version.sampler else ""
        words = known.reason(None if noisy else acquisition_of(one.priority_score))
        return f"{self.order}{instead}: {words}{', with some chance' if noisy else ''}"
