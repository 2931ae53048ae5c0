"""Whether the backend listens for more than this machine without asking for a password, and how that is said."""

from __future__ import annotations

import ipaddress
import socket

from backend.settings.core import Settings

NOTE = "open door"
"""The name of the note in the state, from ``serve`` to ``status``."""


def open_door(host: str, port: int, settings: Settings) -> str:
    """What the owner should know about listening on ``host`` with these settings; "" if all is well."""
    if settings.basic_auth_user or is_loopback(host):
        return ""
    return (
        f"Whoever can reach {host}, port {port} can use this backend, because it asks for no password: "
        "set BASIC_AUTH_USER and BASIC_AUTH_PASS, and enter the same pair in the connect dialog."
    )


def is_loopback(host: str) -> bool:
    """Whether an address, or each address of a name, is reachable from this machine only."""
    try:
        found = {host} if _is_address(host) else {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(one.partition("%")[0]).is_loopback for one in found)


def names_this_machine(host: str) -> bool:
    """Whether the host of an address in a browser can only be this machine. No name is looked up: whoever owns one
    decides what it leads to, and so could have a browser on this machine read pages for a site elsewhere."""
    name = host.strip().lower().rstrip(".")
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
