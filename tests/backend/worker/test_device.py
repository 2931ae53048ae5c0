"""A worker that trains leaves the processor to others, also to those of other sessions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.processes import REPOSITORY

AUTOGROUP = Path("/proc/self/autogroup")
ENABLED = Path("/proc/sys/kernel/sched_autogroup_enabled")
GROUPED = AUTOGROUP.exists() and bool(AUTOGROUP.read_text().strip()) and ENABLED.read_text().strip() == "1"
"""Linux says nothing about a process that some control group limits, as in most containers."""

PROGRAM = """
import os
from backend.worker.device import share_cores
before = os.nice(0)
share_cores(7)
print(os.nice(0) - before, open("/proc/self/autogroup").read().split()[-1])
"""


def priorities(*, own_session: bool) -> list[int]:
    """By how much a process that shares its cores lowers its own priority, and what its session's is then."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=REPOSITORY,
        start_new_session=own_session,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return [int(word) for word in run.stdout.split()]


@pytest.mark.skipif(not GROUPED, reason="processes are not grouped by session here")
def test_a_session_of_its_own_is_lowered_too_and_another_one_never() -> None:
    ours = int(AUTOGROUP.read_text().split()[-1])
    assert priorities(own_session=True) == [7, 7]
    assert priorities(own_session=False) == [7, ours]
