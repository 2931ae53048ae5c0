"""Pages from templates: every text from outside is escaped, and figures read the same everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from backend import __version__
from backend.plain import shown
from backend.reporting.accuracy import percent, points

HERE = Path(__file__).parent
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

ASSETS: Mapping[str, tuple[bytes, str]] = {
    path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in sorted((HERE / "static").iterdir())
}
"""Name → content and its type, of all files that pages refer to."""

DIGEST = hashlib.sha256(b"".join(content for content, _ in ASSETS.values())).hexdigest()[:12]
"""Part of their addresses, so that a browser keeps them for as long as they are the same."""


def page(template: str, **values: Any) -> str:
    """The HTML of a page. ``values``: what its template names; a name that is missing is an error.

    ``root``: the way from the page to the backend's own address, such as ``../``. Links are relative to it, so that the
    pages work under any path that a reverse proxy puts before them.
    """
    return _templates.get_template(template).render(values)


def _plain(value: Any) -> Any:
    """What a browser would obey beside markup, such as characters that turn the direction of writing, is written
    out."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def ago(seconds: float) -> str:
    """How long ago something was, roughly."""
    return "just now" if seconds < 5 else f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    """A time in the largest unit that says enough."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 or seconds == round(seconds) else f"{seconds:.1f} s"


def moment(seconds: float) -> str:
    """A time as machines read it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def count(number: float) -> str:
    return f"{number:,.0f}".replace("-", "−")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        auto_reload=False,  # compiled once: they are part of the release
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )
    filters = (ago, duration, moment, percent, count, points)
    environment.filters.update({one.__name__: one for one in filters})
    environment.globals.update(digest=DIGEST, release=__version__)
    return environment


_templates = _environment()
