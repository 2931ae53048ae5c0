"""The command line: ``python -m backend serve | worker | status | run-cycle | settings | samplers``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from backend import __version__, logs
from backend.errors import BackendError, OwnerError, SettingsError, understood
from backend.files import keep_private
from backend.plain import shown
from backend.settings.core import Settings, settings_table

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
    status.add_argument("--json", action="store_true", help="print JSON instead of tables")
    add("check-worker", _check_worker, "Whether a worker runs on this machine: exit code 0, else 1. For containers.")
    cycle = add("run-cycle", _run_cycle, "Run one cycle of a project now, with a progress bar.")
    cycle.add_argument("project", type=_project, metavar="PROJECT", help=_PROJECT)
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


def _serve(args: argparse.Namespace, settings: Settings) -> int:
    from backend import exposure, supervisor

    state = _state(settings)  # fail once here, rather than again and again in two child processes
    warning = exposure.open_door(args.host, args.port, settings)
    state.notes.put(exposure.NOTE, warning)
    state.close()
    if warning:
        log.warning("%s", warning)
    return supervisor.serve(args.host, args.port, worker=not args.no_worker)


def _worker(_: argparse.Namespace, settings: Settings) -> int:
    from backend.worker import commands
    from backend.worker.device import share_cores

    _state(settings).close()
    share_cores()
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

    snapshot = status.snapshot(_state(settings), settings)
    if args.json:
        print(json.dumps(snapshot, indent=2).replace("\x7f", "\\u007f"))  # all else that is not ASCII is escaped
    else:
        status.show(snapshot, Console())
    return 0


def _run_cycle(args: argparse.Namespace, settings: Settings) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from backend.worker import commands
    from backend.worker.device import share_cores

    _state(settings).close()
    share_cores()
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
