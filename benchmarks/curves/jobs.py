"""Runs side by side, each in a process of its own, so that what one leaks or dies of harms no other."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from benchmarks.curves.plan import Plan, Run

REPORT_SECONDS = 0.25


class Watcher(Protocol):
    """Gets to know what happens, from the process that started the runs."""

    def started(self, run: Run, device: str) -> None: ...
    def phase(self, run: Run, cycle: int, phase: str, done: int, total: int) -> None: ...
    def finished(self, run: Run, lines: list[dict[str, Any]]) -> None: ...
    def failed(self, run: Run, words: str, details: str) -> None: ...


@dataclass(frozen=True)
class Jobs:
    """Where runs go: one place for each that is under way at a time, and what they share.

    images: the folder of the data set; runs: where each run's folder is; threads: torch's, in each process. together:
    the runs of a trial share a process, since each of them is short.
    """

    places: Sequence[str]
    threads: int
    images: Path
    runs: Path
    together: bool = False


def play_all(plan: Plan, runs: Sequence[Run], jobs: Jobs, watcher: Watcher) -> dict[Run, str]:
    """Play ``runs``, as many at a time as there are places. Returns the runs that failed, each with its reason; one
    that fails does not stop the others.

    KeyboardInterrupt ends all of them and leaves what they have finished on disk.
    """
    waiting, free = batches(runs, jobs.together), list(jobs.places)
    under_way: dict[Connection, tuple[list[Run], str, BaseProcess]] = {}
    failures: dict[Run, str] = {}
    try:
        while waiting or under_way:
            while waiting and free:
                batch, place = waiting.pop(0), free.pop(0)
                connection, process = _start(plan, batch, place, jobs)
                under_way[connection] = (batch, place, process)
                watcher.started(batch[0], place)
            for ready in wait(list(under_way)):
                assert isinstance(ready, Connection)
                batch, place, process = under_way[ready]
                ended = _receive(ready, batch[0], process, watcher)
                if ended is None:
                    continue
                if ended:
                    failures[batch[0]] = ended
                del batch[0]
                if batch and process.is_alive():
                    watcher.started(batch[0], place)
                    continue
                del under_way[ready]
                if batch:  # it died of one of them
                    waiting.insert(0, batch)
                process.join()
                ready.close()
                free.append(place)
    finally:
        for _, _, process in under_way.values():
            process.kill()
        for _, _, process in under_way.values():
            process.join()
    return failures


def batches(runs: Sequence[Run], together: bool) -> list[list[Run]]:
    """The runs that share a process, in order: those of a trial, or each by itself."""
    if not together:
        return [[run] for run in runs]
    found: dict[int, list[Run]] = {}
    for run in runs:
        found.setdefault(run.trial, []).append(run)
    return list(found.values())


def _receive(connection: Connection, run: Run, process: BaseProcess, watcher: Watcher) -> str | None:
    """Pass one message on. Returns None while there is more to come; when the run has ended, why it failed, or ""."""
    try:
        kind, *rest = connection.recv()
    except EOFError:  # it died without a message
        process.join()
        code = process.exitcode or 0
        end = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        words = f"its process {end}"
        if code == -signal.SIGKILL:
            words += " (out of memory?)"
        watcher.failed(run, words, "")
        return words
    if kind == "phase":
        watcher.phase(run, *rest)
        return None
    if kind == "done":
        watcher.finished(run, rest[0])
        return ""
    watcher.failed(run, *rest)
    return str(rest[0])


def _start(plan: Plan, batch: Sequence[Run], place: str, jobs: Jobs) -> tuple[Connection, BaseProcess]:
    context = get_context("spawn")  # CUDA does not survive a fork
    ours, theirs = context.Pipe()
    asked = (theirs, plan, list(batch), place, jobs)
    process = context.Process(target=_child, args=asked, name=batch[0].folder, daemon=True)
    with _ctrl_c_is_ours():
        process.start()
    theirs.close()
    return ours, process


@contextlib.contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """A process started in here ignores Ctrl-C from the start: whoever started it ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _child(connection: Connection, plan: Plan, batch: Sequence[Run], place: str, jobs: Jobs) -> None:
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    for run in batch:
        try:
            lines = _play(connection, plan, run, place, jobs)
        except Exception as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())
            connection.send(("failed", words, traceback.format_exc()))
        else:
            connection.send(("done", lines))


def _end_with_parent() -> None:
    """A parent that is killed cannot end its children, so each run watches its parent."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _play(connection: Connection, plan: Plan, run: Run, place: str, jobs: Jobs) -> list[dict[str, Any]]:
    import torch  # here: the process that only watches does without

    from benchmarks.curves.features import kept_of
    from benchmarks.curves.run import play
    from benchmarks.curves.tasks import task_of

    torch.set_num_threads(jobs.threads)
    reported = 0.0

    def progress(cycle: int, phase: str, done: int, total: int) -> None:
        nonlocal reported
        if done == total or time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            connection.send(("phase", cycle, phase, done, total))

    device, task = torch.device(place), task_of(jobs.images, plan, run.trial)
    task = replace(task, kept=kept_of(task, plan, jobs.images.parent, device))
    return play(task, plan, run, jobs.runs / run.folder, device, progress)
