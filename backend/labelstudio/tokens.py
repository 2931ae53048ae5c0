"""What a call to Label Studio is authorized by: a short-lived token, obtained with a personal access token, or a legacy
token as it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import jwt

from backend.errors import LabelStudioRefused

SET_KEY = "set LABEL_STUDIO_API_KEY to a personal access token (Label Studio: Account & Settings)"

_SHARED: dict[tuple[str, str], str] = {}
"""The last short-lived token by Label Studio's address and the personal access token that it was obtained with."""


class Tokens:
    """The key to one Label Studio, and the short-lived token that was last obtained with it. Thread-safe."""

    def __init__(self, url: str, key: str, *, shared: bool) -> None:
        """``shared``: use a short-lived token together with all others of this process that share theirs."""
        self.key = key
        self._where = url, key
        self._obtained = _SHARED if shared else {}
        self._lock = threading.Lock()

    def authorization(self, exchange: Callable[[], str]) -> str:
        """The header to send. ``exchange`` obtains a short-lived token with :attr:`key`; called only if it is one for
        that, and if no token is left that is valid by our clock.

        Raises:
            LabelStudioRefused: the key is a personal access token that has expired.
        """
        if not self._is_personal():
            return f"Token {self.key}"
        with self._lock:  # or several threads would each obtain one
            token = self._obtained.get(self._where)
            if token is None or (_expires(token) or 0.0) <= time.time():
                token = self._obtained[self._where] = exchange()
            return f"Bearer {token}"

    def forget(self) -> bool:
        """Forget a short-lived token that was refused although it should be valid, because our clock is slow. Returns
        False for a legacy token, which cannot be renewed."""
        if not self._is_personal():
            return False
        with self._lock:
            self._obtained.pop(self._where, None)
        return True

    def _is_personal(self) -> bool:
        expires = _expires(self.key)
        if expires is not None and expires < time.time():
            raise LabelStudioRefused(f"The API key is not valid or has expired: {SET_KEY}")
        return expires is not None


def _expires(token: str) -> float | None:
    """When a JSON web token expires, in seconds since the epoch; 0 if it does not say. None: it is no such token."""
    try:
        expires = jwt.decode(token, options={"verify_signature": False}).get("exp")
    except jwt.InvalidTokenError:
        return None
    return float(expires) if isinstance(expires, int | float) else 0.0
