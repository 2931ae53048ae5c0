"""Responses of the pages, as Flask sends them."""

from __future__ import annotations

import flask

from backend.state import Project
from backend.web.pages import guard
from backend.web.pages.rendering import page


def back_to(project: Project) -> flask.Response:
    """After a form: to the page of its project."""
    response = answer("")
    response.status_code = 303
    response.headers["Location"] = f"../{project.id}"
    return response


def answer(
    content: str | bytes, kind: str = "text/html; charset=utf-8", keep: str = "no-store", status: int = 200
) -> flask.Response:
    """A response of the pages, with the headers that all of them have."""
    response = flask.Response(content, status=status, content_type=kind)
    response.headers["Cache-Control"] = keep
    response.headers["Vary"] = "Accept"
    response.headers.update(guard.HEADERS)
    return response


def error_page(message: str, status: int) -> flask.Response:
    """An error, for people."""
    depth = flask.request.path.count("/") - 1
    return answer(page("error.html", root="../" * depth, message=message, status=status), status=status)
