"""Responses to all errors, in JSON for programs and as a page for people.

Label Studio's connect dialog shows only the status line of a response. So a message for the owner is put in the reason
phrase as well as in the body.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import flask
from werkzeug.exceptions import HTTPException

from backend.errors import BackendError, OwnerError, understood
from backend.events import MalformedEvent
from backend.web.accept import by_browser
from backend.web.pages.answers import error_page

log = logging.getLogger(__name__)

PHRASE_BEGINNING, PHRASE_END = 220, 80
PHRASE_CHARACTERS = PHRASE_BEGINNING + PHRASE_END
_PLAIN = str.maketrans({"…": "...", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "≥": ">="})


def handle_errors(app: flask.Flask, redact: Callable[[str], str]) -> None:
    """Turn every error of a request to ``app`` into a response, whose message ``redact`` frees of secrets."""

    @app.errorhandler(OwnerError)
    def owner(error: OwnerError) -> flask.Response:
        log.warning("Refused: %s", error)
        return error_response(redact(str(error)), 400, phrase=True)

    @app.errorhandler(MalformedEvent)
    def malformed(error: MalformedEvent) -> flask.Response:
        return error_response(redact(str(error)), 400)

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> flask.Response:
        response = error_response(redact(error.description or error.name), error.code or 500)
        for name, value in error.get_headers():
            if name.lower() in ("allow", "retry-after"):
                response.headers[name] = value
        return response

    @app.errorhandler(BackendError)
    def known(error: BackendError) -> flask.Response:
        log.warning("%s %s failed: %s", flask.request.method, flask.request.path, error)
        return error_response(redact(str(error)), 503)

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> flask.Response:
        understandable = understood(error)
        if isinstance(understandable, BackendError):
            return known(understandable)
        log.error("%s %s failed", flask.request.method, flask.request.path, exc_info=error)
        return error_response("internal error; the backend's log says more", 500)


def error_response(message: str, status: int, *, phrase: bool = False) -> flask.Response:
    """``phrase``: put the message in the reason phrase too, for Label Studio's connect dialog."""
    response = error_page(message, status) if by_browser() else flask.jsonify(error=message)
    response.status = f"{status} {reason_phrase(message)}" if phrase else str(status)
    return response


def reason_phrase(message: str) -> str:
    """``message`` as an HTTP reason phrase: a single line of limited length in latin-1. A long one lacks its middle: a
    message about a value ends with the value."""
    line = " ".join(message.translate(_PLAIN).split())
    line = re.sub(r"[^\x20-\x7e\xa1-\xac\xae-\xff]", "?", line)
    return line if len(line) <= PHRASE_CHARACTERS else line[: PHRASE_BEGINNING - 3] + "..." + line[-PHRASE_END:]
