"""Who may see the pages, and what nobody can guess: addresses of images, and forms.

The pages show the owner's images and labels. With basic auth, whoever has the password sees them; without, only this
machine does, as far as that can be told: a request that came through a proxy, or whose address names another host, is
not of this machine.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backend.exposure import names_this_machine

NOT_HERE = (
    "These pages show images and labels, so without a password they are served to this machine only: open them at its "
    "loopback address, or set BASIC_AUTH_USER and BASIC_AUTH_PASS in the backend's environment and start it again."
)
NO_CHANGES = (
    "Without a password these pages change nothing: set BASIC_AUTH_USER and BASIC_AUTH_PASS in the backend's "
    "environment and start it again, or use Start Training in Label Studio."
)

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Of every answer of the pages: nothing comes from another host, and no other site frames or reads them."""

FORWARDED = "backend.forwarded"
"""In the environment of a request: whether it came through a proxy that says so (:mod:`backend.web.door`)."""

_PROXY_HEADERS = ("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP", "HTTP_CF_CONNECTING_IP")
_PROXY_PREFIX = "HTTP_X_FORWARDED_"


def is_forwarded(environ: Mapping[str, Any]) -> bool:
    """Whether a header of the request says that it came through a proxy."""
    return any(name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIX) for name in environ)


def is_this_machine(environ: Mapping[str, Any]) -> bool:
    """Whether a request is of this machine: from a loopback address, to a name of it, and through no known proxy."""
    try:
        sender = ipaddress.ip_address(str(environ.get("REMOTE_ADDR", "")).partition("%")[0])
    except ValueError:
        return False
    mapped = sender.ipv4_mapped if isinstance(sender, ipaddress.IPv6Address) else None
    if not (mapped or sender).is_loopback or environ.get(FORWARDED) or is_forwarded(environ):
        return False
    return names_this_machine(str(environ.get("HTTP_HOST", "")))


def came_from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that another site's page sent this form."""
    return headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")


@dataclass(frozen=True)
class Seal:
    """Proves that a text comes from us: whoever lacks the ``key`` can neither guess nor make one."""

    key: bytes

    def of(self, *parts: str) -> str:
        """32 hex digits: the HMAC-SHA256 of the parts, cut to 128 bits."""
        content = b"".join(len(part.encode()).to_bytes(8, "big") + part.encode() for part in parts)
        return hmac.new(self.key, content, "sha256").hexdigest()[:32]

    def holds(self, given: str, *parts: str) -> bool:
        """Whether ``given`` is the seal of the parts. Takes as long either way."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.of(*parts).encode())
