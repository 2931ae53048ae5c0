"""Logging to stderr, without secrets in any line, including tracebacks, and without what a terminal obeys."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from backend.plain import shown

REDACTED = "[hidden]"
_SHORTEST = 4
"""Shorter secrets are not hidden: they would remove parts of unrelated words from every line."""

MOST_ADDED = 64
"""How many values that were added later are known at a time, because each is looked for in every line. The oldest are
forgotten first; most tokens are recognized by their form, too."""

_PATTERNS = (
    re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"),  # a JSON web token: Label Studio's personal and access tokens
    re.compile(r"\b[0-9a-f]{40}\b"),  # Label Studio's legacy tokens
    re.compile(r"(?<=://)[^/\s@]+:[^/\s@]+(?=@)"),  # user and password in an address
    re.compile(r"(?i)(?<=authorization)([\"']?\s*[:=]\s*[\"']?)(?:(?:basic|bearer|token)\s+)?[^\s\"',}]+"),
    re.compile(r"(?i)\b(?<=basic |earer |token )[A-Za-z0-9+/_=.-]{16,}"),
)


class Redactor:
    """Removes secrets from text: known values, and everything that looks like a token."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._own = {secret for secret in secrets if len(secret) >= _SHORTEST}
        self._added: OrderedDict[str, None] = OrderedDict()  # newest last
        self._lock = threading.Lock()

    def add(self, secret: str) -> None:
        """Hide one more value, such as the token that came with ``/setup``. Only for values that Label Studio has
        accepted: whoever could add any word would decide what the log may say."""
        if len(secret) < _SHORTEST or secret in self._own:
            return
        with self._lock:
            self._added[secret] = None
            self._added.move_to_end(secret)
            while len(self._added) > MOST_ADDED:
                self._added.popitem(last=False)

    def __call__(self, text: str) -> str:
        with self._lock:
            known = [*self._own, *self._added]
        for secret in sorted(known, key=len, reverse=True):
            text = text.replace(secret, REDACTED)
        for pattern in _PATTERNS:
            text = pattern.sub(REDACTED, text)
        return text


class RedactingFormatter(logging.Formatter):
    """Redacts each line just before it is written, so that nothing escapes: arguments, tracebacks, libraries. What
    comes from outside cannot begin a new line, or make a terminal do anything: see :mod:`backend.plain`."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = shown(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return shown(super().formatException(ei), lines=True)

    def formatStack(self, stack_info: str) -> str:
        return shown(super().formatStack(stack_info), lines=True)


def _log_exception(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    """What ends a thread or the process is logged like everything else."""
    if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        logging.getLogger(__name__).critical("Unexpected end of a thread", exc_info=(kind, error, traceback))


def configure(level: str, redact: Redactor) -> None:
    """Send everything this process logs at ``level`` or above to stderr. For entry points only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter(redact))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    sys.excepthook = _log_exception
    threading.excepthook = lambda args: _log_exception(args.exc_type, args.exc_value, args.exc_traceback)
    for verbose in ("httpx", "httpcore", "urllib3", "PIL", "matplotlib"):  # they log every request and every header
        logging.getLogger(verbose).setLevel(max(logging.WARNING, logging.getLevelName(level)))
