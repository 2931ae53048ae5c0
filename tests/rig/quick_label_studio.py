"""Label Studio's command with a quick SQLite: ``python quick_label_studio.py PROGRAM …``.

It does not wait for the disk: a transaction of Label Studio does so several times. What a process has committed
survives its death all the same; only a machine that fails would lose it. And its connections are kept: Label Studio
opens one for each request, which then reads the schema of all its tables, a third of the time of a small request.
"""

import contextlib
import gc
import runpy
import sqlite3
import sys
from collections import defaultdict
from typing import Any

connect = sqlite3.connect
unused: dict[str, list[sqlite3.Connection]] = defaultdict(list)
"""Connections that were closed, by what they were opened with. One at a time has each, as if it were new."""


class KeptConnection(sqlite3.Connection):
    opened_with = ""

    def close(self) -> None:
        self.rollback()
        unused[self.opened_with].append(self)


def connect_again(*args: Any, **options: Any) -> sqlite3.Connection:
    opened_with = repr((args, sorted(options.items())))
    with contextlib.suppress(IndexError):  # another thread may take the last one
        return unused[opened_with].pop()
    connection = connect(*args, **options, factory=KeptConnection)
    connection.opened_with = opened_with
    connection.execute("PRAGMA synchronous = OFF")
    return connection


sqlite3.connect = sqlite3.dbapi2.connect = connect_again  # type: ignore[assignment]
gc.set_threshold(50_000, 20, 100)  # or a seventh of its start goes into looking through what stays
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
