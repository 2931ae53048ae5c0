"""Values of settings as they are given, in the environment or as JSON, and whether they are allowed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import Field
from typing import Any

from backend.errors import SettingsError
from backend.settings.spec import spec_of

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_KIND = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def from_text(item: Field[Any], text: str) -> Any:
    """The value that an environment variable spells; the text itself when it spells none of its type."""
    kind: Callable[[str], Any] = type(item.default)
    try:
        if kind is bool:
            return True if text.lower() in _TRUE else False if text.lower() in _FALSE else text
        if item.name == "log_level":
            return text.upper()
        return kind(text)
    except ValueError:
        return text


def from_json(item: Field[Any], value: Any) -> Any:
    """JSON writes 1 for 1.0, and a number may be given where a text that spells it is allowed; everything else must
    have the type already."""
    if type(item.default) is str and type(value) in (int, float) and spec_of(item).check.holds(str(value)):
        return str(value)
    if type(item.default) is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    return value


def is_share(text: str) -> bool:
    """Whether the text spells a number from 0 to 1."""
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def checked(item: Field[Any], value: Any, name: str) -> Any:
    """``value``, which was given as ``name``. Raises SettingsError if it has another type or is not allowed."""
    kind, check = type(item.default), spec_of(item).check
    instead = "" if spec_of(item).secret else f", not {shown(value)}"
    finite = not isinstance(value, float) or math.isfinite(value)
    if type(value) is not kind or not finite:
        words = _KIND[kind] if check.allowed == _KIND[kind] else f"{_KIND[kind]} ({check.allowed})"
        raise SettingsError(f"{name} must be {words}{instead}")
    if not check.holds(value):
        raise SettingsError(f"{name} must be {check.allowed}{instead}")
    return value


def shown(value: Any) -> str:
    """A value as messages quote it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def parse_extra_params(extra_params: Mapping[str, Any] | str | None) -> Mapping[str, Any]:
    """The object that the owner typed, as Label Studio sends it: parsed, as text, or nothing. Keys are not checked."""
    if extra_params is None or extra_params == "":
        return {}
    if isinstance(extra_params, str):
        try:
            extra_params = json.loads(extra_params)
        except ValueError:
            raise SettingsError('extra_params is not valid JSON; write an object such as {"budget": 50}') from None
        if extra_params is None:
            return {}
    if not isinstance(extra_params, Mapping):
        raise SettingsError('extra_params must be a JSON object such as {"sampler": "vaal", "budget": 50}')
    return extra_params
