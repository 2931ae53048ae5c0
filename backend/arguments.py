"""What can be typed on the command line: the commands with their arguments and their help."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from backend import __version__

_PROJECT = "the project's id in Label Studio; where several Label Studios have it: <id>@<address of Label Studio>"


def parser() -> argparse.ArgumentParser:
    """The parser of the command line; ``command`` is then the name of the command."""
    whole = argparse.ArgumentParser(
        prog="python -m backend",
        description="An active-learning backend for Label Studio. Settings come from the environment.",
    )
    whole.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = whole.add_subparsers(required=True, dest="command", metavar="COMMAND")

    def add(name: str, help: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=help)

    serve = add("serve", "Serve Label Studio's requests, and run a worker alongside.")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument(
        "--port", type=int, default=9090, help="port to listen on; 0 picks a free one (default: %(default)s)"
    )
    serve.add_argument("--no-worker", action="store_true", help="run only the web process")
    add("worker", "Train, score and publish for every project that is due. Any number of workers may run.")
    status = add("status", "Show projects, versions, work that is due or running, and images set aside.")
    status.add_argument("project", type=_project, nargs="?", metavar="PROJECT", help=f"only {_PROJECT}")
    status.add_argument("--json", action="store_true", help="print JSON instead of tables")
    add("check-worker", "Whether a worker runs on this machine: exit code 0, else 1. For containers.")
    cycle = add("run-cycle", "Run one cycle of a project now, with a progress bar.")
    cycle.add_argument("project", type=_project, metavar="PROJECT", help=_PROJECT)
    replay = add("replay", "Tell which sampler would have needed the fewest of a project's labels so far.")
    replay.add_argument("project", type=_project, metavar="PROJECT", help=_PROJECT)
    replay.add_argument("--samplers", default="", metavar="A,B", help="default: the project's, margin and typiclust")
    replay.add_argument("--trials", type=int, default=10, help="paired trials (default: %(default)s)")
    replay.add_argument("--seed", type=int, default=0, help="where all randomness starts (default: %(default)s)")
    replay.add_argument("--json", action="store_true", help="print JSON instead of a table")
    adopt = add("adopt", "Connect projects again that name this backend in Label Studio, after its state was lost.")
    adopt.add_argument(
        "project", type=int, nargs="?", metavar="PROJECT", help="only this one, by its id in Label Studio"
    )
    backup = add("backup", "Write state, checkpoints and kept predictions to one file, also while it runs.")
    backup.add_argument("file", type=Path, metavar="FILE", help="the archive to write")
    restore = add("restore", "Put back what `backup` wrote. Stop the backend first.")
    restore.add_argument("file", type=Path, metavar="FILE", help="the archive to read")
    move = add("move", "Copy the state into another database, such as PostgreSQL.")
    move.add_argument("--to", required=True, metavar="DATABASE_URL", help="the empty database to copy into")
    forget = add("forget", "Delete what is kept here of a project that was disconnected in Label Studio.")
    forget.add_argument("project", type=_project, metavar="PROJECT", help=_PROJECT)
    forget.add_argument("--yes", action="store_true", help="do not ask before deleting versions and trained networks")
    add("settings", "Print the table of all settings, in Markdown.")
    add("samplers", "List the samplers, each with what it picks first.")
    return whole


def _project(text: str) -> str:
    """What names a project; who it is, :meth:`backend.state.projects.Projects.find` knows."""
    if not re.fullmatch(r"\d+(\.\d+)?(@\S+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a project's id")
    return text
