"""The table of what was measured in shares of the device's peak: operations per second of a large matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Stage:
    """Prints a line for each measurement and keeps it for the file."""

    device: torch.device
    lines: list[str] = field(default_factory=list)

    def say(self, line: str = "") -> None:
        print(line, flush=True)
        self.lines.append(line)

    def begin_table(self, side: int) -> float:
        """The head of a table of shares of the peak; returns the peak in operations per second, that of the product of
        two square matrices of ``side``."""
        peak = peak_flops(self.device, side)
        self.say(f"- peak: {peak / 1e12:.4g} TFLOP/s, a {side}² matrix product in {_dtype(self.device)}, best of ten")
        self.say()
        self.say("| what | seconds | rate | TFLOP/s | of the peak | device memory |")
        self.say("|---|---|---|---|---|---|")
        return peak

    def row(self, what: str, spent: float, rate: str, flops: float, peak: float) -> None:
        """``flops`` and ``peak`` in operations per second. The memory is the most since :meth:`reset_memory`."""
        memory = ""
        if self.device.type == "cuda":
            memory = f"{torch.cuda.max_memory_allocated(self.device) / 2**30:.2f} GiB"
        self.say(f"| {what} | {spent:.2f} | {rate} | {flops / 1e12:.4g} | {flops / peak:.1%} | {memory} |")

    def seconds(self, work: Callable[[], object]) -> float:
        return seconds(self.device, work)

    def reset_memory(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)


def seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Wall-clock seconds from an idle device to an idle device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def peak_flops(device: torch.device, side: int) -> float:
    """Floating-point operations per second of the best of ten square matrix products."""
    a = torch.randn(side, side, device=device).to(_dtype(device))
    b = torch.randn(side, side, device=device).to(_dtype(device))
    best = min(seconds(device, lambda: torch.mm(a, b)) for _ in range(10))
    return 2.0 * side**3 / best


def flops_of(work: Callable[[], object]) -> float:
    """Floating-point operations of the convolutions and matrix products in ``work``."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32
