"""The command line: ``python -m backend serve | worker | status | run-cycle | replay | adopt | …``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from backend import __version__, logs
from backend.errors import BackendError, OwnerError, SettingsError, understood
from backend.files import keep_private
from backend.plain import shown
from backend.settings.core import Settings
from backend.settings.table import settings_table

if TYPE_CHECKING:
    from backend.state import State

log = logging.getLogger(__name__)

FAILED, USAGE_ERROR, INTERRUPTED = 1, 2, 130
_PROJECT = "the project's id in Label Studio; where several Label Studios have it: <id>@<address of Label Studio>"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; 2 means wrong arguments or settings."""
    args = _parser().parse_args(arguments)
    try:
        settings = Settings.from_env(os.environ)
        logs.configure(settings.log_level, logs.Redactor(settings.secrets()))
        keep_private()
        command: Callable[[argparse.Namespace, Settings], int] = args.command
        return command(args, settings)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m backend",
        description="An active-learning backend for Label Studio. Settings come from the environment.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace, Settings], int], help: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=help, description=help)
        subparser.set_defaults(command=command)
        return subparser

    serve = add("serve", _serve, "Serve Label Studio's requests, and run a worker alongside.")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument(
        "--port", type=int, default=9090, help="port to listen on; 0 picks a free one (default: %(default)s)"
    )
    serve.add_argument("--no-worker", action="store_true", help="run only the web process")
    add("worker", _worker, "Train, score and publish for every project that is due. Any number of workers may run.")
    status = add("status", _status, "Show projects, versions, work that is due or running, and images set aside.")
    status.add_argument("project", type=_project, nargs="?", metavar="PROJECT", help=f"only {_PROJECT}")
    status.add_argument("--json", action="store_true", help="print JSON instead of tables")
    add("check-worker", _check_worker, "Whether a worker runs on this machine: exit code 0, else 1. For containers.")
    cycle = add("run-cycle", _run_cycle, "Run one cycle of a project now, with a progress bar.")
    cycle.add_argument("project", type=_project, metavar="PROJECT", help=_PROJECT)
    replay = add("replay", _replay, "Tell which sampler would have needed the fewest of a project's labels so far.")
    replay.add_argument("project", type=_project, metavar="PROJECT", help=_PROJECT)
    replay.add_argument("--samplers", default="", metavar="A,B", help="default: the project's, margin and typiclust")
    replay.add_argument("--trials", type=int, default=10, help="paired trials (default: %(default)s)")
    replay.add_argument("--seed", type=int, default=0, help="where all randomness starts (default: %(default)s)")
    replay.add_argument("--json", action="store_true", help="print JSON instead of a table")
    adopt = add(
        "adopt", _adopt, "Connect projects again that name this backend in Label Studio, after its state was lost."
    )
    adopt.add_argument(
        "project", type=int, nargs="?", metavar="PROJECT", help="only this one, by its id in Label Studio"
    )
    backup = add("backup", _backup, "Write state, checkpoints and kept predictions to one file, also while it runs.")
    backup.add_argument("file", type=Path, metavar="FILE", help="the archive to write")
    restore = add("restore", _restore, "Put back what `backup` wrote. Stop the backend first.")
    restore.add_argument("file", type=Path, metavar="FILE", help="the archive to read")
    move = add("move", _move, "Copy the state into another database, such as PostgreSQL.")
    move.add_argument("--to", required=True, metavar="DATABASE_URL", help="the empty database to copy into")
    forget = add("forget", _forget, "Delete what is kept here of a project that was disconnected in Label Studio.")
    forget.add_argument("project", type=_project, metavar="PROJECT", help=_PROJECT)
    forget.add_argument("--yes", action="store_true", help="do not ask before deleting versions and trained networks")
    add("settings", _settings, "Print the table of all settings, in Markdown.")
    add("samplers", _samplers, "List the samplers, each with what it picks first.")
    return parser


def _project(text: str) -> str:
    """What names a project; who it is, :meth:`backend.state.projects.Projects.find` knows."""
    if not re.fullmatch(r"\d+(\.\d+)?(@\S+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a project's id")
    return text


def _state(settings: Settings) -> State:
    """Open the state. Raises SettingsError if the database cannot be opened, whatever its driver raises."""
    from backend.state import State

    try:
        return State.for_settings(settings)
    except BackendError:
        raise
    except Exception as error:
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
    from backend.worker.device import choose_device, share_cores

    share_cores(settings.worker_niceness)
    from backend.replay import command  # imports torch

    samplers = [name for name in args.samplers.replace(" ", "").split(",") if name]
    state, device = _state(settings), choose_device(settings.device)
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


def _print_error(error: BackendError, code: int) -> int:
    kind = "" if isinstance(error, OwnerError) else f"{type(error).__name__}: "
    print(shown(f"error: {kind}{error}"), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
