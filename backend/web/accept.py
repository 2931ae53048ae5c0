"""Whether a person asks, with a browser, or a program."""

from __future__ import annotations

import flask


def asks_for_page(accept: str) -> bool:
    """Whether a request with this ``Accept`` header is a browser's that wants a page. Label Studio, Prometheus and
    other programs do not name ``text/html``, though they may accept anything."""
    kinds = (kind.partition(";")[0].strip().lower() for kind in accept.split(","))
    return any(kind in ("text/html", "application/xhtml+xml") for kind in kinds)


def by_browser() -> bool:
    """The same of the request that is being answered."""
    return asks_for_page(flask.request.headers.get("Accept", ""))
