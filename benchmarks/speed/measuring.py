"""Two ways of doing something, side by side in one run: their ratio, its spread and whether it keeps its limit.

A time on its own says as much about the machine as about the code. So every row of the table is a ratio of two
quantities that were taken in turns, within seconds of each other, on whatever machine this is.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Bound:
    """A limit on a quantity itself, in addition to the one on the ratio."""

    words: str
    value: float
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        return self.value <= self.limit


@dataclass(frozen=True)
class Measured:
    """One row of the table: ``over`` ÷ ``under``, one pair for each repetition, both in ``unit``.

    ``limit`` is what the median ratio may be, None where it is only reported. ``bounds`` are further limits; ``notes``
    say what was counted and how.
    """

    key: str
    title: str
    over: Sequence[float]
    under: Sequence[float]
    unit: str
    limit: float | None = None
    bounds: tuple[Bound, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def ratios(self) -> list[float]:
        return [over / under for over, under in zip(self.over, self.under, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the ratios of the pairs: what both of a pair suffer from cancels out."""
        return statistics.median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest ratio among the repetitions."""
        return min(self.ratios), max(self.ratios)

    @property
    def met(self) -> bool:
        return (self.limit is None or self.ratio <= self.limit) and all(bound.met for bound in self.bounds)

    @property
    def judged(self) -> bool:
        """Whether there is a limit to meet at all."""
        return self.limit is not None or bool(self.bounds)


def seconds_of(work: Callable[[], object]) -> float:
    """Wall-clock seconds that ``work`` takes once."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(
    over: Callable[[], object], under: Callable[[], object], repetitions: int
) -> tuple[list[float], list[float]]:
    """Seconds of ``over`` and of ``under``, taken in turns after one run of each that is not counted.

    The one that goes first alternates, so that a machine that grows slower or faster favours neither.
    """
    over()
    under()
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(repetitions):
        for which, work in ((0, over), (1, under)) if number % 2 == 0 else ((1, under), (0, over)):
            times[which].append(seconds_of(work))
    return times


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of ``values`` do not exceed (nearest rank). Needs one value."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def machine() -> dict[str, str]:
    """What the numbers were taken on. No host name, no path."""
    usable = len(os.sched_getaffinity(0))
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, {usable} cores usable of {os.cpu_count()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "torch": _version("torch"),
        "load before": f"{os.getloadavg()[0]:.1f} processes wanting a core in the last minute",
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown processor"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
