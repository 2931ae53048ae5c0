"""Label Studio's command, whose SQLite does not wait for the disk: ``python label_studio_without_fsync.py PROGRAM …``.

A transaction of Label Studio waits for the disk several times, which is a quarter of the time of a test that asks it
for much. What a process has committed survives its death all the same; only a machine that fails would lose it.
"""

import runpy
import sqlite3
import sys
from typing import Any

connect = sqlite3.connect


def connect_without_fsync(*args: Any, **options: Any) -> sqlite3.Connection:
    connection = connect(*args, **options)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


sqlite3.connect = sqlite3.dbapi2.connect = connect_without_fsync  # type: ignore[assignment]
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
