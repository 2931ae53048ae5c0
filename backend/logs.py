"""Logging to stderr, with every secret struck out of every line, tracebacks included."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable

STRUCK_OUT = "[hidden]"
_SHORTEST = 4
"""A shorter secret would strike out half of every line; whoever sets one has no secret."""

_PATTERNS = (
    re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"),  # a JSON web token: Label Studio's personal and access tokens
    re.compile(r"\b[0-9a-f]{40}\b"),  # Label Studio's legacy tokens
    re.compile(r"(?<=://)[^/\s@]+:[^/\s@]+(?=@)"),  # user and password in an address
    re.compile(r"(?i)(?<=authorization)([\"']?\s*[:=]\s*[\"']?)(?:(?:basic|bearer|token)\s+)?[^\s\"',}]+"),
    re.compile(r"(?i)\b(?<=basic |earer |token )[A-Za-z0-9+/_=.-]{16,}"),
)


class Redactor:
    """Strikes secrets out of text: known values, and everything that looks like a token."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        """One more value to hide, such as the token that ``/setup`` brought."""
        if len(secret) >= _SHORTEST:
            self._known.add(secret)

    def __call__(self, text: str) -> str:
        for secret in sorted(self._known, key=len, reverse=True):
            text = text.replace(secret, STRUCK_OUT)
        for pattern in _PATTERNS:
            text = pattern.sub(STRUCK_OUT, text)
        return text


class RedactingFormatter(logging.Formatter):
    """The last step before a line is written, so that nothing passes it by: arguments, tracebacks, libraries."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(super().format(record))


def configure(level: str, redact: Redactor) -> None:
    """Everything that this process logs goes to stderr, from ``level`` up. Called by the command line only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter(redact))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "urllib3", "PIL", "matplotlib"):  # every request, every header
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
