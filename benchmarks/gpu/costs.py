"""What a cycle of each sampler costs, as in DAST-AL's Table 4: parameters beside the task network, and seconds.

Part of ``python -m benchmarks gpu``; needs numpy and torch only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from backend.learning.learner import Learner
from backend.settings.core import Settings
from models.data import CycleData, Runtime
from samplers import SAMPLERS, Sampler

HEADER = (
    "| sampler | parameters beside the task network, MiB | train, s | fit, s | score, s | cycle, s | device memory |",
    "|---|---|---|---|---|---|---|",
)
WARM_UP_ROWS: dict[str, int] = {"classification": 256, "multilabel": 256, "segmentation": 16}


@dataclass(frozen=True)
class Cost:
    """Of one cycle: parameters in float32 beyond the task network's, seconds, peak of the device's memory."""

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
    device: torch.device, settings: Settings, data: CycleData, names: Sequence[str], say: Callable[[str], None]
) -> None:
    """A row for each of the samplers that have a meaning for ``data``, printed as it comes: one cycle on it from
    scratch, all unlabelled rows scored."""
    for line in HEADER:
        say(line)
    for name in (name for name in names or list(SAMPLERS) if data.task in SAMPLERS[name].tasks):
        say(cost(device, replace(settings, sampler=name), data).row(name))


def cost(device: torch.device, settings: Settings, data: CycleData) -> Cost:
    """Of one cycle through :class:`Learner`, as the worker runs it. Before it, a tiny one goes untimed, in which the
    device's libraries choose their algorithms."""
    rows = WARM_UP_ROWS[data.task]
    few = replace(
        data,
        labeled=data.labeled[:rows],
        targets=data.targets.at(slice(rows)),
        unlabeled=data.unlabeled[:rows],
    )
    _cycle(device, replace(settings, epochs=2, vaal_iterations=2), few)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    learner, train, fit, score = _cycle(device, settings, data)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    own = {id(parameter) for parameter in learner.net.parameters()}
    beside = {id(p): p.numel() for p in _parameters(learner.sampler) if id(p) not in own}
    return Cost(sum(beside.values()), train, fit, score, memory)


def _cycle(device: torch.device, settings: Settings, data: CycleData) -> tuple[Learner, float, float, float]:
    """The learner, and the seconds of its training, of its sampler's own networks and estimates, and of scoring."""
    runtime = Runtime(device=device, seed=0)
    background = data.task == "segmentation"  # one of the classes, but none of their names
    classes = [str(number) for number in range(background, data.num_classes)]
    learnt: list[tuple[Learner, dict[str, float]]] = []
    learning = seconds(device, lambda: learnt.append(Learner.trained(settings, classes, data, runtime)))
    learner, figures = learnt[0]
    train = figures["train_seconds"]
    score = seconds(device, lambda: learner.score(data.pixels, data.unlabeled, runtime))
    return learner, train, learning - train, score


def _parameters(sampler: Sampler) -> Iterator[nn.Parameter]:
    """Of all networks that a sampler has, and of a sampler within it."""
    for value in vars(sampler).values():
        if isinstance(value, nn.Module):
            yield from value.parameters()
        elif isinstance(value, Sampler):
            yield from _parameters(value)


def seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Wall-clock seconds from an idle device to an idle device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
