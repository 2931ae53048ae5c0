"""Query by committee: ask where the networks of a committee disagree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from models.data import Runtime
from models.inference.disagreement import StreamingFigure, StreamingMaxEntropy, StreamingVoteEntropy
from models.networks.base import TaskNet
from models.training.committee import predict_and_disagree
from samplers.base import Scored
from samplers.committee_base import CommitteeOptions, CommitteeSampler
from samplers.noise import uniform_noise

FIGURES: dict[str, Callable[[], StreamingFigure]] = {
    "vote-entropy": StreamingVoteEntropy,
    "consensus-entropy": StreamingMaxEntropy,
}
TIE_BREAK = 1e-9
"""Less than the step between two vote entropies, which is 1.8e-8 or more for up to 45 networks, by enumeration."""


@dataclass(frozen=True)
class QbcOptions(CommitteeOptions):
    """qbc_score: "vote-entropy" of the networks' votes, or "consensus-entropy" of their mean probabilities."""

    qbc_score: str = "vote-entropy"


class QbcSampler(CommitteeSampler):
    """Query by committee (Seung, Opper & Sompolinsky 1992), with the measures of Dagan & Engelson (ICML 1995) and of
    McCallum & Nigam (ICML 1998); surveyed by Settles (2009), section 3.2. The committee is a set of networks trained
    apart on all labels, not on resampled ones.
    """

    name: ClassVar[str] = "qbc"
    summary: ClassVar[str] = "votes spread widest over the classes, in a committee of networks trained apart"
    Options: ClassVar[type[Any]] = QbcOptions

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """-sum_c V_c/M log V_c/M of the votes V of M networks, or H[p̄] of their consensus, (N,), in nats.

        The vote entropy of an image has few values: a random part of less than the step between two of them orders the
        rows of one. Its mean over pixels seldom ties.
        """
        kind = self.options.qbc_score
        answers, values = predict_and_disagree(net, self.committee(), pixels, rows, runtime, FIGURES[kind])
        if kind == "vote-entropy" and net.task.breaks_ties:
            values = values + TIE_BREAK * uniform_noise(rows, runtime.seed)
        return Scored(values, answers)
