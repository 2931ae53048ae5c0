"""The body of a request: a JSON object of limited size and depth, whose texts can be stored and shown."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import flask
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from backend.plain import storable

BODY_BYTES = 16 * 2**20
"""Of any request. Label Studio sends up to 100 annotations with their masks at a time."""

SMALL_BODY_BYTES = 2 * 2**20
"""Of requests to all paths but :data:`LARGE`. A label config of 10,000 classes has half of that."""

LARGE = ("/predict", "/webhook")
DEPTH = 50
_LARGE_BYTES = 2**18
_one_large_body_at_a_time = threading.Lock()
"""A body in memory may be twenty times as large as it was sent."""


def json_object() -> dict[str, Any]:
    """The request's body, whatever its content type says.

    Raises:
        BadRequest: it is not a JSON object, or nested too deeply.
        RequestEntityTooLarge: it is too large for this path.
    """
    limit = BODY_BYTES if flask.request.path in LARGE else SMALL_BODY_BYTES
    flask.request.max_content_length = limit
    data = flask.request.get_data(cache=False)
    if len(data) > limit:
        raise RequestEntityTooLarge(f"the body may have {limit} bytes at most")
    if len(data) < _LARGE_BYTES:
        return _parsed(data)
    with _one_large_body_at_a_time:
        return _parsed(data)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
        if not isinstance(body, dict):
            raise BadRequest("the body must be a JSON object")
        if data.count(b"[") + data.count(b"{") > DEPTH and _is_deeper(body, DEPTH):
            raise BadRequest(f"the body may be nested {DEPTH} deep at most")
    except RecursionError:
        raise BadRequest(f"the body may be nested {DEPTH} deep at most") from None
    except ValueError:  # not UTF-8 or not JSON; a number of thousands of digits is no number either
        raise BadRequest("the body must be a JSON object") from None
    return body


def _is_deeper(value: Any, depth: int) -> bool:
    """Whether containers are nested more than ``depth`` deep, found without recursion."""
    level: list[Any] = [value]
    for _ in range(depth):
        inner: list[Any] = []
        for item in level:
            inner.extend(part for part in (item.values() if isinstance(item, dict) else item) if _holds(part))
        level = inner
        if not level:
            return False
    return True


def _holds(value: Any) -> bool:
    return isinstance(value, dict | list)


def text(body: Mapping[str, Any], key: str) -> str:
    """A string in the body, "" if it is missing; with a replacement for what no database can store.

    Raises:
        BadRequest: it is anything else.
    """
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f'"{key}" must be text')
    return storable(value)
