"""The command line: ``python -m backend serve | worker | status | run-cycle | replay | adopt | …``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backend import ending, logs
from backend.arguments import parser
from backend.errors import BackendError, DatabaseUnavailable, OwnerError, SettingsError, understood
from backend.files import keep_private
from backend.plain import shown
from backend.settings.core import Settings
from backend.settings.table import settings_table

if TYPE_CHECKING:
    from backend.state import State

log = logging.getLogger(__name__)

FAILED, USAGE_ERROR, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; 2 means wrong arguments or settings."""
    args = parser().parse_args(arguments)
    try:
        settings = Settings.from_env(os.environ)
        logs.configure(settings.log_level, logs.Redactor(settings.secrets()))
        keep_private()
        return COMMANDS[args.command](args, settings)
    except SettingsError as error:
        return _print_error(error, USAGE_ERROR)
    except BackendError as error:
        return _print_error(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        known = understood(error)
        if not isinstance(known, BackendError):
            raise
        return _print_error(known, FAILED)


def _state(settings: Settings) -> State:
    """Open the state. Raises SettingsError if the database cannot be opened, whatever its driver raises."""
    from backend.state import State

    try:
        return State.for_settings(settings)
    except Exception as error:
        if isinstance(error, BackendError) and not isinstance(error, DatabaseUnavailable):
            raise
        reason = logs.Redactor(settings.secrets())((str(error).strip() or type(error).__name__).splitlines()[0])
        name = "DATABASE_URL" if settings.database_url else "MODEL_DIR"
        raise SettingsError(f"{name}: the state's database cannot be opened: {reason}") from error


@contextmanager
def _running(settings: Settings) -> Iterator[State]:
    """Open the state for a process that works on it. A damaged database is set aside first, and its projects are found
    again: see :mod:`backend.adoption`."""
    from backend.state import State, keeping
    from backend.state.database import database_file

    file = database_file(State.url_for(settings))
    damaged = "" if file is None else keeping.set_damaged_aside(file)
    with keeping.used(file):
        state = _state(settings)  # fail once here, rather than again and again in two child processes
        if damaged:
            log.error("%s", damaged)
            state.notes.put(keeping.NOTE, damaged)
        yield state


def _serve(args: argparse.Namespace, settings: Settings) -> int:
    from backend import exposure, supervisor

    with _running(settings) as state:
        warning = exposure.open_door(args.host, args.port, settings)
        state.notes.put(exposure.NOTE, warning)
        state.close()
        if warning:
            log.warning("%s", warning)
        return supervisor.serve(args.host, args.port, worker=not args.no_worker)


def _worker(_: argparse.Namespace, settings: Settings) -> int:
    from backend.worker import commands
    from backend.worker.device import share_cores

    with _running(settings) as state:
        state.close()
        share_cores(settings.worker_niceness)
        commands.run(settings)
    return 0


def _check_worker(_: argparse.Namespace, settings: Settings) -> int:
    from backend.worker import heartbeat

    silent = heartbeat.silent_seconds(settings.directory)
    if silent < heartbeat.SILENT_SECONDS:
        return 0
    words = "has been seen" if silent == float("inf") else f"has been seen for {silent:.0f} s"
    raise BackendError(f"No worker {words} on this machine.")


def _status(args: argparse.Namespace, settings: Settings) -> int:
    from rich.console import Console

    from backend import status
    from backend.reporting.snapshot import snapshot

    found = snapshot(_state(settings), settings, args.project or "")
    if args.json:
        print(json.dumps(found, indent=2).replace("\x7f", "\\u007f"))  # all else that is not ASCII is escaped
    else:
        status.show(found, Console())
    return 0


def _run_cycle(args: argparse.Namespace, settings: Settings) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from backend.worker import commands
    from backend.worker.device import share_cores

    _state(settings).close()
    share_cores(settings.worker_niceness)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        phases: dict[str, int] = {}

        def show(phase: str, done: int, total: int) -> None:
            if phase not in phases:
                phases[phase] = int(bars.add_task(phase, total=total))
            bars.update(phases[phase], completed=done, total=total)  # type: ignore[arg-type]

        version = commands.run_cycle_now(settings, args.project, show)
    print(version.name)
    return 0


def _replay(args: argparse.Namespace, settings: Settings) -> int:
    from backend.worker.device import choose_devices, share_cores

    share_cores(settings.worker_niceness)
    from backend.replay import command  # imports torch

    samplers = [name for name in args.samplers.replace(" ", "").split(",") if name]
    state, device = _state(settings), choose_devices(settings.device)[0]
    command.run(state, settings, args.project, samplers, args.trials, args.seed, device, args.json)
    return 0


def _adopt(args: argparse.Namespace, settings: Settings) -> int:
    from backend import adoption

    found = adoption.adopt_by_hand(_state(settings), settings, args.project)
    print("\n".join(found) or "No project names a backend.")
    return 0


def _backup(args: argparse.Namespace, settings: Settings) -> int:
    from backend import backup

    print(f"{args.file}: {backup.write(_state(settings), settings, args.file)}")
    return 0


def _restore(args: argparse.Namespace, settings: Settings) -> int:
    from backend import backup

    print(backup.restore(settings, args.file))
    return 0


def _move(args: argparse.Namespace, settings: Settings) -> int:
    from backend.state import keeping

    target = _state(Settings.from_env({**os.environ, "DATABASE_URL": args.to}))
    count = keeping.copy(_state(settings).database, target.database)
    print(f"{count} projects are copied. Set DATABASE_URL to that address, and restart all processes of the backend.")
    return 0


def _forget(args: argparse.Namespace, settings: Settings) -> int:
    from backend.worker.forgetting import forget

    def confirm(question: str) -> bool:
        if args.yes or not sys.stdin.isatty():
            print(question, file=sys.stderr)
            return bool(args.yes)
        return input(f"{question} Go on? [y/N] ").strip().lower() in ("y", "yes")

    state = _state(settings)
    try:
        forget(settings, state, args.project, confirm, print)
    finally:
        state.close()
    return 0


def _settings(_: argparse.Namespace, __: Settings) -> int:
    print(settings_table(), end="")
    return 0


def _samplers(_: argparse.Namespace, __: Settings) -> int:
    from backend.tasks import KINDS
    from samplers import SAMPLERS

    for name, sampler in SAMPLERS.items():
        only = f" ({' and '.join(sampler.tasks)} only)" if len(sampler.tasks) < len(KINDS) else ""
        print(f"{name}: {sampler.summary}{only}")
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace, Settings], int]] = {
    "serve": _serve,
    "worker": _worker,
    "status": _status,
    "check-worker": _check_worker,
    "run-cycle": _run_cycle,
    "replay": _replay,
    "adopt": _adopt,
    "backup": _backup,
    "restore": _restore,
    "move": _move,
    "forget": _forget,
    "settings": _settings,
    "samplers": _samplers,
}
"""What each command of :func:`backend.arguments.parser` does."""


def _print_error(error: BackendError, code: int) -> int:
    kind = "" if isinstance(error, OwnerError) else f"{type(error).__name__}: "
    print(shown(f"error: {kind}{error}"), file=sys.stderr)
    return code


if __name__ == "__main__":
    ending.run(main)
