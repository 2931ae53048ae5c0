"""What comes from outside reaches no terminal, log or database as it is."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import BackendError, NoSpace, message_of, understood
from backend.logs import RedactingFormatter, Redactor
from backend.plain import is_storable, shown, storable
from backend.state import State
from backend.tasks.label_config import image_source

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202etxt\u2028\x00\ud800"


def terminal_safe(text: str) -> bool:
    return all(character.isprintable() or character == "\t" for character in text)


@given(st.text(st.characters(codec=None, categories=None)))
def test_nothing_that_a_terminal_obeys_is_shown(text: str) -> None:
    clean = shown(text)
    clean.encode()  # no half of a surrogate pair is left
    assert not any((ord(c) < 32 and c != "\t") or 127 <= ord(c) < 160 for c in clean)
    assert shown(clean) == clean
    assert is_storable(storable(text)) and len(storable(text)) == len(text)


def test_what_people_write_stays_as_it_is() -> None:
    for text in ("plain", "naïve café 日本語 العربية 🦊", "a\tb", "C:\\x1b"):
        assert shown(text) == storable(text) == text


def test_escape_sequences_are_written_out() -> None:
    assert shown("\x1b[31mred\n") == "\\x1b[31mred\\n"
    assert shown("\u202e\ud800") == "\\u202e\\ud800"
    assert shown("one\ntwo\r", lines=True) == "one\ntwo\\x0d"


def test_a_log_line_stays_one_line_and_is_obeyed_by_no_terminal() -> None:
    try:
        raise ValueError(f"odd {ESCAPES}")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "task %s", (f"1\n2026 INFO forged {ESCAPES}",), info)
    first, *traceback = RedactingFormatter(Redactor()).format(record).split("\n")
    assert "1\\n2026 INFO forged \\x1b[2J" in first
    assert traceback[0].startswith("Traceback") and traceback[-1].startswith("ValueError: odd \\x1b[2J")
    assert all(terminal_safe(line) for line in (first, *traceback))


def test_status_shows_titles_and_reasons_without_what_a_terminal_obeys(tmp_path: Path) -> None:
    state = State(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    project = state.projects.connect(1, "1.5", "<View/>", {}, "http://ls", "")
    state.projects.update(project, title=f"Pets {ESCAPES}", last_error=f"refused {ESCAPES}")
    state.tasks.set_broken(project, [(3, f"http://x/{ESCAPES}", f"no image {ESCAPES}")], 600)
    state.close()
    for options in ([], ["--json"]):
        run = subprocess.run(
            [sys.executable, "-m", "backend", "status", *options],
            env={"MODEL_DIR": str(tmp_path), "COLUMNS": "200"},
            capture_output=True,
            timeout=120,
            check=True,
        )
        out = run.stdout.decode()
        assert "Pets" in out and "refused" in out and "no image" in out
        assert all(terminal_safe(line) for line in out.split("\n"))


def test_every_text_can_be_stored_and_an_address_is_the_same_afterwards(tmp_path: Path) -> None:
    """Else it would be another at every comparison, and its image fetched again."""
    state = State(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    project = state.projects.connect(1, "1.5", "<View/>", {}, "", "")
    source = image_source({"image": f"http://x/{ESCAPES}.png"}, "image")
    assert source is not None and is_storable(source)
    state.tasks.put(project, {7: source})
    assert state.tasks.sources(project, [7]) == {7: source}
    state.projects.update(project, last_error=ESCAPES)
    known = state.projects.get(project)
    assert known is not None and str(known.last_error).endswith("\N{REPLACEMENT CHARACTER}" * 2)


def test_numbers_that_no_database_stores_are_refused_in_words(tmp_path: Path) -> None:
    state = State(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    with pytest.raises(BackendError, match="cannot store a value"):
        state.tasks.put(1, {2**64: "a.png"})


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    state = State(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    with state.database.engine.begin() as conn:
        used = conn.exec_driver_sql("PRAGMA page_count").scalar()
    engine = state.database.engine
    engine.dispose()

    @sa.event.listens_for(engine, "connect")
    def _limit(connection: object, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count={used}")  # type: ignore[attr-defined]

    with pytest.raises(NoSpace, match="The disk is full: the state's database cannot be written"):
        for task in range(1000):
            state.tasks.put(1, {task: "x" * 1000})


def test_a_connection_that_the_database_closed_is_said_in_words_and_made_again(postgres_url: str) -> None:
    """As when a worker slept in the middle of a transaction."""
    state = State(postgres_url)
    with pytest.raises(BackendError, match="The database closed the connection"), state.database.engine.begin() as conn:
        number = conn.scalar(sa.text("select pg_backend_pid()"))
        with state.database.engine.connect() as another:
            another.execute(sa.text("select pg_terminate_backend(:number)"), {"number": number})
        conn.execute(sa.text("select 1"))
    assert state.projects.all() == []
    state.close()


def test_a_full_disk_of_files_is_said_in_words() -> None:
    with pytest.raises(OSError) as failed, Path("/dev/full").open("wb") as file:
        file.write(b"x" * 100_000)
    assert failed.value.errno == errno.ENOSPC
    known = understood(failed.value)
    assert isinstance(known, NoSpace) and "make room in MODEL_DIR" in str(known)
    assert message_of(failed.value) == str(known)


def test_what_nobody_foresaw_keeps_its_type() -> None:
    assert message_of(KeyError("x")) == "KeyError: 'x'"
    assert understood(error := OSError("odd")) is error
    assert "ulimit" in message_of(OSError(errno.EMFILE, "Too many open files"))
    assert "/x/y" in message_of(PermissionError(errno.EACCES, "denied", "/x/y"))
