"""How a process of ours ends: without being taken apart, which takes Python seconds once torch is loaded."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn


def run(main: Callable[[], int]) -> NoReturn:
    """Run ``main`` as all that this process does, and end it with the exit code that ``main`` returns. Whatever was
    registered with :mod:`atexit` is called; an exception ends the process as usual."""
    code: list[int] = []
    atexit.register(_end, code)  # the first to be registered is the last to be called
    code.append(main())
    sys.exit(code[0])


def _end(code: list[int]) -> None:
    if code:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # nobody reads it any more
                stream.flush()
        os._exit(code[0])
