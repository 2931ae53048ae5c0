"""Query by committee: ask where the networks of a committee disagree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers import families
from samplers.base import Scored
from samplers.committee_base import CommitteeOptions, CommitteeSampler
from samplers.deferred import models
from samplers.noise import uniform_noise
from samplers.options import one_of, option

if TYPE_CHECKING:
    from models.data import Runtime
    from models.inference.disagreement import StreamingFigure
    from models.networks.base import TaskNet

FIGURES: dict[str, Callable[[], StreamingFigure]] = {
    "vote-entropy": lambda: models.inference.disagreement.StreamingVoteEntropy(),
    "consensus-entropy": lambda: models.inference.disagreement.StreamingMaxEntropy(),
}
TIE_BREAK = 1e-9
"""Less than the step between two vote entropies, which is 1.8e-8 or more for up to 45 networks, by enumeration."""


@dataclass(frozen=True)
class QbcOptions(CommitteeOptions):
    """qbc_score: "vote-entropy" of the networks' votes, or "consensus-entropy" of their mean probabilities."""

    qbc_score: str = option("vote-entropy", "QBC: disagreement.", one_of(*FIGURES))


class QbcSampler(CommitteeSampler[QbcOptions]):
    """Query by committee (Seung, Opper & Sompolinsky 1992), with the measures of Dagan & Engelson (ICML 1995) and of
    McCallum & Nigam (ICML 1998); surveyed by Settles (2009), section 3.2. The committee is a set of networks trained
    apart on all labels, not on resampled ones.
    """

    name: ClassVar[str] = "qbc"
    summary: ClassVar[str] = "where independently trained networks disagree, by vote entropy or consensus entropy"
    why: ClassVar[str] = "independently trained networks disagree about it"
    source: ClassVar[str] = "Seung et al. 1992, Dagan & Engelson 1995"
    family: ClassVar[str] = families.SEVERAL_OPINIONS
    Options = QbcOptions

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """-sum_c V_c/M log V_c/M of the votes V of M networks, or H[p̄] of their consensus, (N,), in nats.

        The vote entropy of an image has few values: a random part of less than the step between two of them orders the
        rows of one. Its mean over pixels seldom ties.
        """
        kind = self.options.qbc_score
        predictions, values = self.disagreement(net, pixels, rows, runtime, FIGURES[kind])
        if kind == "vote-entropy" and net.task.breaks_ties:
            values = values + TIE_BREAK * uniform_noise(rows, runtime.seed)
        return Scored(values, predictions)
