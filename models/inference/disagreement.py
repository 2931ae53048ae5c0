"""How far several opinions on the same image differ: those of a committee, or of random draws of one network.

An opinion is the log-probabilities of the classes, `log_softmax` of its logits. Every figure (B,) of K opinions (K, B,
C) is the same in whatever order they come, larger = label sooner, in nats where it is an entropy. They are gathered in
parts, so that K x B x C numbers never exist at once. p̄ is the mean of the opinions.

Logarithms are taken of nothing that may be zero: a probability of 0 has the log-probability -inf and adds 0 to an
entropy. NaN in an opinion on an image is NaN in that image's figure.

Axis letters: K opinions (draws or members), B batch, C classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def entropy(log_p: Tensor) -> Tensor:
    """H[p] = -sum_c p_c log p_c in nats: (..., C) -> (...,); 0 log 0 = 0."""
    return -(log_p.exp() * log_p.clamp_min(torch.finfo(log_p.dtype).min)).sum(dim=-1)


def count_votes(log_p: Tensor) -> Tensor:
    """How many of the opinions hold each class for the likeliest: (K, B, C) -> (B, C) whole numbers, float64."""
    top, winner = log_p.max(dim=-1)  # (K, B); `top` is at least -log C, or NaN
    doubt = 0.0 * top.sum(dim=0).to(torch.float64)  # NaN stays NaN: an index would hide it
    counts = torch.zeros(log_p.shape[1:], dtype=torch.float64, device=log_p.device)
    counts.scatter_add_(1, winner.T, torch.ones_like(winner.T, dtype=torch.float64))
    return counts + doubt[:, None]


class StreamingFigure(ABC):
    """Opinions that come in parts. One object serves one batch; `result` may be asked for after any part."""

    def __init__(self) -> None:
        self.opinions = 0

    def add(self, log_p: Tensor) -> None:
        """Take in log-probabilities (k, B, C) of k more opinions."""
        self.opinions += len(log_p)
        self._add(log_p)

    @abstractmethod
    def _add(self, log_p: Tensor) -> None: ...

    @abstractmethod
    def result(self) -> Tensor:
        """The figure (B,) for all opinions so far."""


class StreamingMaxEntropy(StreamingFigure):
    """H[p̄], between 0 and log C: Gal, Islam & Ghahramani (ICML 2017), section 4, "Max Entropy". Of a committee the
    entropy of its consensus, as McCallum & Nigam (1998) call p̄.
    """

    _log_sum: Tensor | None = None  # log sum_k p_kc, (B, C)

    def _add(self, log_p: Tensor) -> None:
        part = log_p.logsumexp(dim=0)
        self._log_sum = part if self._log_sum is None else torch.logaddexp(self._log_sum, part)

    def result(self) -> Tensor:
        """H[p̄] (B,) in nats."""
        assert self._log_sum is not None
        return entropy(self._log_sum - math.log(self.opinions))


class StreamingBald(StreamingMaxEntropy):
    """H[p̄] - mean_k H[p_k] = mean_k KL(p_k ‖ p̄), between 0 and min(H[p̄], log K): Houlsby et al. (2011), equation 2.

    It is the mutual information between the class and the network's weights: what the opinions are uncertain of
    although each of them is confident. Negative only by rounding, which is cut off.
    """

    _entropies: Tensor | float = 0.0  # sum_k H[p_k], (B,)

    def _add(self, log_p: Tensor) -> None:
        super()._add(log_p)
        self._entropies = self._entropies + entropy(log_p).sum(dim=0)

    def result(self) -> Tensor:
        """Mutual information (B,) in nats, 0 or more."""
        return (super().result() - self._entropies / self.opinions).clamp_min(0.0)


class StreamingVariationRatio(StreamingFigure):
    """1 - (votes for the mode) / K, between 0 and 1 - 1 / min(K, C): Freeman (1965); Gal et al. (2017), section 4."""

    _votes: Tensor | float = 0.0  # (B, C)

    def _add(self, log_p: Tensor) -> None:
        self._votes = self._votes + count_votes(log_p)

    def result(self) -> Tensor:
        """Share of the votes that are not for the mode, (B,) float64."""
        assert isinstance(self._votes, Tensor)
        return (self.opinions - self._votes.amax(dim=-1)) / self.opinions


class StreamingVoteEntropy(StreamingVariationRatio):
    """-sum_c V_c/K log V_c/K for V_c votes, between 0 and log min(K, C): Dagan & Engelson (ICML 1995), without their
    division by the largest value.
    """

    def result(self) -> Tensor:
        """Entropy of the votes' shares, (B,) float64 in nats."""
        assert isinstance(self._votes, Tensor)
        return torch.special.entr(self._votes / self.opinions).sum(dim=-1)


class StreamingMeanStd(StreamingFigure):
    """(1/C) sum_c sqrt(mean_k p_kc² - p̄_c²), between 0 and 1/2: Gal et al. (2017), section 4, "Mean STD". Parts are
    merged by their means as Chan, Golub & LeVeque (1979) do.
    """

    _mean: Tensor | None = None  # (B, C)
    _squares: Tensor  # sum_k (p_kc - mean_c)², (B, C)

    def _add(self, log_p: Tensor) -> None:
        p = log_p.exp()
        mean = p.mean(dim=0)
        squares = (p - mean).square().sum(dim=0)
        if self._mean is None:
            self._mean, self._squares = mean, squares
            return
        new, before = len(log_p), self.opinions - len(log_p)
        step = mean - self._mean
        self._mean = self._mean + step * (new / self.opinions)
        self._squares = self._squares + squares + step.square() * (before * new / self.opinions)

    def result(self) -> Tensor:
        """Mean over the classes of the standard deviations, (B,)."""
        return (self._squares / self.opinions).sqrt().mean(dim=-1)


class ImageFigure:
    """A figure of images, for opinions that come one by one as a network's logits, of which each image gives P rows.

    So the outputs of a committee need not exist at once: what is kept is of the size of one output or two, or of as
    many as the `StreamingFigure` keeps.
    """

    def __init__(
        self,
        figure: Callable[[], StreamingFigure],
        rows: Callable[[Tensor], Iterator[Tensor]],
        reduce: Callable[[Tensor], Tensor],
    ) -> None:
        """rows: logits (B, ...) of one opinion -> its rows (B p, C) in parts, image by image within a part; as many
        parts each time. reduce: the rows' figures (B, P) float64 -> those of the images (B,).
        """
        self._figure = figure
        self._rows = rows
        self._reduce = reduce
        self._parts: list[StreamingFigure] = []
        self._images = 0

    def add(self, logits: Tensor) -> None:
        """Take in one more opinion: logits (B, ...), each time of the same shape."""
        self._images = len(logits)
        for index, rows in enumerate(self._rows(logits)):
            if index == len(self._parts):
                self._parts.append(self._figure())
            self._parts[index].add(rows.log_softmax(dim=1)[None])

    def result(self) -> Tensor:
        """The figure (B,) float64 for all opinions so far."""
        values = [part.result().unflatten(0, (self._images, -1)) for part in self._parts]
        return self._reduce(torch.cat(values, dim=1).double())
