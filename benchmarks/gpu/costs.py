"""What a cycle of each sampler costs, as in DAST-AL's Table 4: parameters besides the task network's, and seconds.

Part of ``python -m benchmarks gpu``; needs numpy and torch only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from backend.learning.learner import Learner
from backend.settings.core import Settings
from benchmarks.gpu.shares import seconds
from models.data import CycleData, Runtime
from samplers import SAMPLERS, Sampler

HEADER = (
    "| sampler | parameters besides the task net's, MiB | train, s | fit, s | score, s | cycle, s | device memory |",
    "|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Workload:
    """A cycle's data, the names of its labels, and how many rows a cycle takes that only warms the device up."""

    data: CycleData
    classes: Sequence[str]
    warm_up_rows: int

    @property
    def few(self) -> Workload:
        """The first rows alone."""
        first = slice(self.warm_up_rows)
        data = replace(
            self.data,
            labeled=self.data.labeled[first],
            targets=self.data.targets.at(first),
            unlabeled=self.data.unlabeled[first],
        )
        return replace(self, data=data)


@dataclass(frozen=True)
class Cost:
    """Of one cycle: parameters in float32 besides the task network's, seconds, peak of the device's memory."""

    parameters: int
    train: float
    fit: float
    score: float
    memory: int

    def row(self, name: str) -> str:
        whole = self.train + self.fit + self.score
        memory = f"{self.memory / 2**30:.2f} GiB" if self.memory else ""
        seconds = " | ".join(f"{value:.2f}" for value in (self.train, self.fit, self.score, whole))
        return f"| {name} | {4 * self.parameters / 2**20:.2f} | {seconds} | {memory} |"


def print_costs(
    device: torch.device, settings: Settings, work: Workload, samplers: Sequence[str], say: Callable[[str], None]
) -> None:
    """A row for each of the samplers that have a meaning for the data, printed as it comes: one cycle on it from
    scratch, all unlabeled rows scored."""
    for line in HEADER:
        say(line)
    for name in (name for name in samplers if work.data.task in SAMPLERS[name].tasks):
        say(cost(device, replace(settings, sampler=name), work).row(name))


def cost(device: torch.device, settings: Settings, work: Workload) -> Cost:
    """Of one cycle through :class:`Learner`, as the worker runs it. Before it, a tiny one goes untimed, in which the
    device's libraries choose their algorithms."""
    _cycle(device, settings.for_project({"epochs": 2, "vaal_iterations": 2, "gan_iterations": 2}), work.few)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    learner, train, fit, score = _cycle(device, settings, work)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    own = {id(parameter) for parameter in learner.net.parameters()}
    others = {id(p): p.numel() for p in _parameters(learner.sampler) if id(p) not in own}
    return Cost(sum(others.values()), train, fit, score, memory)


def _cycle(device: torch.device, settings: Settings, work: Workload) -> tuple[Learner, float, float, float]:
    """The learner, and the seconds of its training, of its sampler's own networks and estimates, and of scoring."""
    runtime, data = Runtime(device=device, seed=0), work.data
    trained: list[tuple[Learner, dict[str, float]]] = []
    learning = seconds(device, lambda: trained.append(Learner.trained(settings, work.classes, data, runtime)))
    learner, metrics = trained[0]
    train = metrics["train_seconds"]
    score = seconds(device, lambda: learner.score(data.pixels, data.unlabeled, runtime))
    return learner, train, learning - train, score


def _parameters(sampler: Sampler[Any]) -> Iterator[nn.Parameter]:
    """Of all networks that a sampler has, and of a sampler within it."""
    for value in vars(sampler).values():
        if isinstance(value, nn.Module):
            yield from value.parameters()
        elif isinstance(value, Sampler):
            yield from _parameters(value)
