"""The end of a process, which is seen from outside of it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import atexit
from backend import ending

class Kept:
    def __del__(self):
        print("taken apart")

kept = Kept()

def main():
    atexit.register(print, "called")
    print("done")
    {last}

ending.run(main)
"""


def ended(last: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", PROGRAM.format(last=last)]
    return subprocess.run(program, capture_output=True, text=True, timeout=300)


def test_exit_functions_are_called_and_nothing_is_taken_apart() -> None:
    run = ended("return 3")
    assert (run.returncode, run.stdout, run.stderr) == (3, "done\ncalled\n", "")


def test_an_error_ends_it_as_usual() -> None:
    run = ended("raise ValueError('no')")
    assert (run.returncode, run.stdout) == (1, "done\ncalled\ntaken apart\n")
    assert run.stderr.endswith("ValueError: no\n")
