"""What a process was decoding when it died is known to the next one; whoever ends on purpose leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from backend.images.trying import Attempts, Tried, forget_all, source_digest

DIES = """
import os, signal, sys, threading
from pathlib import Path
from backend.images.trying import Attempts
with Attempts(Path(sys.argv[1])) as attempts:
    with attempts.trying(1, "fine.png"):
        pass
    inside = threading.Barrier(3)
    def one(task, source):
        with attempts.trying(task, source):
            inside.wait()
            threading.Event().wait()
    for item in ((2, "2.png"), (3, "3.png")):
        threading.Thread(target=one, args=item, daemon=True).start()
    inside.wait()
    print("trying", flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def collected(attempts: Attempts) -> list[Tried]:
    found: list[Tried] = []

    def note(tried: Sequence[Tried]) -> None:
        found.extend(tried)

    attempts.collect(note)
    return sorted(found)


def test_what_was_being_decoded_when_a_process_died_is_known_once(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", DIES, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "trying\n"
    with Attempts(tmp_path) as attempts:
        assert collected(attempts) == []  # as long as it lives
        process.communicate("\n")
        assert process.returncode == -9
        assert collected(attempts) == [(2, source_digest("2.png")), (3, source_digest("3.png"))]
        assert collected(attempts) == []
    assert list((tmp_path / "trying").iterdir()) == []


def test_errors_and_ends_on_purpose_leave_nothing_behind(tmp_path: Path) -> None:
    with Attempts(tmp_path) as attempts:
        try:
            with attempts.trying(1, "1.png"):
                raise ValueError
        except ValueError:
            pass
        with attempts.trying(2, "2.png"):
            forget_all()
            with Attempts(tmp_path) as later:
                assert collected(later) == []


def test_a_project_without_attempts_has_none(tmp_path: Path) -> None:
    assert collected(Attempts(tmp_path)) == []
    (tmp_path / "trying").mkdir()
    (tmp_path / "trying" / "torn").write_bytes(b"abc")  # a full disk
    assert collected(Attempts(tmp_path)) == []
    assert list((tmp_path / "trying").iterdir()) == []
