"""Text from outside (task data, titles, addresses, messages of other programs) on its way to a terminal or a database.

It may hold what a terminal obeys (escape sequences), what makes one line look like two, and what no database stores.
This is the only place that knows which characters these are.
"""

from __future__ import annotations

import re

_OBEYED = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but the tab, line separators, characters that turn the direction of writing, and halves of
surrogate pairs, which cannot be encoded."""

_NOT_STORED = re.compile("[\x00\ud800-\udfff]")


def shown(text: str, *, lines: bool = False) -> str:
    """``text`` as a terminal or a log may have it: what would be obeyed is written out, such as ``\\x1b``. ``lines``:
    it may have several lines, as a traceback has."""
    if text.isascii() and text.isprintable():  # as almost all is, and this is told faster
        return text
    return _OBEYED.sub(lambda found: found[0] if lines and found[0] == "\n" else _written_out(found[0]), text)


def _written_out(character: str) -> str:
    if character == "\n":
        return "\\n"
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"


def storable(text: str) -> str:
    """``text`` as every database stores it: a replacement character for each NUL and each half of a surrogate pair."""
    return _NOT_STORED.sub("\N{REPLACEMENT CHARACTER}", text)


def is_storable(text: str) -> bool:
    return _NOT_STORED.search(text) is None
