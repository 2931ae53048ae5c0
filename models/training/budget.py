"""How far a training has come: by its steps and, where its seconds are bounded, by the clock.

A learning-rate schedule is laid over shares of a training. How many steps a number of seconds will do for is not known
beforehand, and changes while other programs run. So a training under a deadline stands where its steps say or where
the clock says, whichever is further: it ends with its tail at a low rate, in time, and one that has time enough goes by
its steps alone, exactly as without a deadline.
"""

from __future__ import annotations

import math
from collections import deque

import torch

from models.deadline import Deadline

MEASURED = 3  # steps whose fastest says how many more the time will do for; the first ones are slow
CUDA_LEAD = 4  # steps that the host may be ahead of the device, so that its clock tells the device's time


class Pace:
    """Counts the steps of one training and says where in its schedule it stands.

    steps  planned, may be set anew; taken: so far.
    """

    def __init__(self, steps: int, deadline: Deadline | None, device: torch.device) -> None:
        self.steps = steps
        self.taken = 0
        self._deadline = deadline
        self._waits = deadline is not None and device.type == "cuda"
        self._behind: deque[torch.cuda.Event] = deque()
        self._began = self._before = 0.0 if deadline is None else deadline.clock()
        self._measured, self._last, self._fastest = 0, 0.0, math.inf

    def resume(self) -> None:
        """Call before steps that follow on something else, which is then no part of the first of them."""
        if self._deadline is not None:
            self._before = self._deadline.clock()

    def step(self) -> None:
        """Call after each step. With a deadline it waits for a CUDA device that is some steps behind."""
        self.taken += 1
        if self._deadline is None:
            return
        measured = not self._waits or self._wait()
        before, self._before = self._before, self._deadline.clock()
        if measured:
            self._last = self._before - before
            self._fastest = min(self._fastest, self._last)
            self._measured += 1

    def _wait(self) -> bool:
        """Whether the host is ahead by as much as it may be, so that a step of its takes one of the device's time."""
        self._behind.append(torch.cuda.Event())
        self._behind[-1].record()
        if len(self._behind) <= CUDA_LEAD:
            return False
        self._behind.popleft().synchronize()
        return True

    @property
    def place(self) -> float:
        """Where it stands, 0 to `steps`: the steps taken, or the share of the time that has passed. Never falls."""
        if self._deadline is None or self.taken >= self.steps:
            return self.taken
        whole, passed = self._deadline.at - self._began, self._deadline.clock() - self._began
        return max(self.taken, self.steps * passed / whole) if passed < whole else self.steps

    @property
    def over(self) -> bool:
        """All steps are taken, or the time will not do for another one like the last. Never before the first step."""
        if self._deadline is None or self.taken >= self.steps:
            return self.taken >= self.steps
        return self.taken > 0 and self._deadline.left() < self._last

    def part(self, parts: int) -> int:
        """Which of so many equal parts of the training it is in, counted from 0; at its end, the last."""
        return min(parts - 1, int(self.place * parts / self.steps))

    def affordable(self) -> int | None:
        """How many more steps the time left will do for; None without a deadline, and until some steps are taken."""
        if self._deadline is None or self._measured < MEASURED:
            return None
        return int(self._deadline.left() / self._fastest) if self._fastest > 0.0 else None
