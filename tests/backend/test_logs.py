"""No secret reaches a log line."""

from __future__ import annotations

import logging

import pytest

from backend.logs import MOST_ADDED, RedactingFormatter, Redactor

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCJ9.c2lnbmF0dXJl"
LEGACY = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "secret", "kept"),
    [
        ("got odd-token-7 back", "odd-token-7", "got "),
        (f"key {JWT}, sorry", JWT, ", sorry"),
        (f"Token {LEGACY} refused", LEGACY, " refused"),
        ("{'Authorization': 'Basic dXNlcjpwYXNz', 'Host': 'x'}", "dXNlcjpwYXNz", "'Host': 'x'"),
        ("authorization: Token short", "short", "uthorization"),
        ("postgresql://me:hush@db:5432/x", "hush", "@db:5432/x"),
    ],
)
def test_what_is_known_or_looks_like_a_secret_is_struck_out(text: str, secret: str, kept: str) -> None:
    clean = Redactor(["odd-token-7"])(text)
    assert secret not in clean and kept in clean and "[hidden]" in clean


def test_ordinary_lines_stay_as_they_are() -> None:
    line = "Project 5: version dast-al-c3-8f2d1a90 is published, http://127.0.0.1:8080/api/token/refresh/ asked"
    assert Redactor(["", "abc"])(line) == line


def test_values_that_are_added_later_are_bounded_and_never_push_out_a_setting() -> None:
    redact = Redactor(["a-secret-of-the-settings"])
    for number in range(10 * MOST_ADDED):
        redact.add(f"token-number-{number}")
    assert redact("a-secret-of-the-settings") == "[hidden]"
    hidden = [number for number in range(10 * MOST_ADDED) if "[hidden]" in redact(f"token-number-{number}.")]
    assert hidden == list(range(9 * MOST_ADDED, 10 * MOST_ADDED))


def test_arguments_and_tracebacks_are_covered() -> None:
    redact = Redactor()
    redact.add("brought-by-setup")
    try:
        raise RuntimeError("refused brought-by-setup")
    except RuntimeError as error:
        info = (type(error), error, error.__traceback__)
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "with %s", ("brought-by-setup",), info)
    text = RedactingFormatter(redact).format(record)
    assert "Traceback" in text and "RuntimeError" in text
    assert "brought-by-setup" not in text
