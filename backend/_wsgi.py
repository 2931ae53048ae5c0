"""The entry point that label-studio-ml's tools know: ``label-studio-ml start backend``, and ``gunicorn _wsgi:app``.

Started, it is ``python -m backend serve``, with the options and the default address that label-studio-ml's own scripts
have. As a WSGI module it offers ``app``, which needs a worker beside it: ``python -m backend worker``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = str(HERE.parent)


@cache
def _app() -> Any:
    # loaded from inside its own folder, it would be found, and everything else would not
    sys.path[:] = [ROOT, *(path for path in sys.path if Path(path).resolve() not in (HERE, HERE.parent))]
    from backend.web.app import from_environment

    return from_environment()


def __getattr__(name: str) -> Any:
    if name == "app":
        return _app()
    raise AttributeError(name)


def command(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command to run in place of this script, and its environment."""
    parser = argparse.ArgumentParser(prog="label-studio-ml start backend", description="Settings: docs/settings.md.")
    parser.add_argument("-p", "--port", type=int, default=9090, help="default: %(default)s")
    parser.add_argument("--host", default="0.0.0.0", help="default: %(default)s")
    parser.add_argument("--model-dir", help="in place of MODEL_DIR")
    parser.add_argument("--log-level", type=str.upper, help="in place of LOG_LEVEL")
    parser.add_argument("-d", "--debug", action="store_true", help="the same as --log-level DEBUG")
    parser.add_argument("--basic-auth-user", help="in place of BASIC_AUTH_USER")
    parser.add_argument("--basic-auth-pass", help="in place of BASIC_AUTH_PASS, which other users cannot see")
    parser.add_argument("--check", action="store_true", help="only check the settings and open the state")
    args = parser.parse_args(arguments)
    given = {
        "MODEL_DIR": args.model_dir,
        "LOG_LEVEL": "DEBUG" if args.debug else args.log_level,
        "BASIC_AUTH_USER": args.basic_auth_user,
        "BASIC_AUTH_PASS": args.basic_auth_pass,
    }
    environment = {**os.environ, **{name: value for name, value in given.items() if value}}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
    what = ["status"] if args.check else ["serve", "--host", args.host, "--port", str(args.port)]
    return [sys.executable, "-m", "backend", *what], environment


if __name__ == "__main__":
    program, environment = command(sys.argv[1:])
    os.execve(program[0], program, environment)
