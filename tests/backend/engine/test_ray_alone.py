"""The shortest test of Ray, in a process of its own: Ray may end a process some minutes after that has left it, and
then other tests would be lost. `make test-machines` has all of them."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SHORTEST = "tests/backend/engine/test_ray.py::test_a_head_on_features_scores_alike_to_the_bit"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: requirements-ray.txt"),
]


@pytest.mark.long
def test_scores_by_ray_are_those_of_one_process() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", SHORTEST]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0 and "1 passed" in run.stdout, run.stdout[-6000:] + run.stderr[-2000:]
