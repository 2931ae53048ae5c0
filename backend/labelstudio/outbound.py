"""Which addresses the backend fetches images from: the one place that decides it.

Task data come from whoever may write tasks, so an address in them may lead anywhere. Of the addresses that a host name
stands for, those are used that may be:

- Link-local addresses, where cloud machines learn their secrets, and those that belong to no machine: never.
- Loopback and private addresses: only of the host that Label Studio itself is reached at, and of the hosts in the
  setting ``IMAGE_HOSTS``.
- All others: yes.

A connection goes to the address that was checked, so that a second answer of the name server changes nothing. Each
redirect opens a connection of its own, and is checked as well. The API key is sent only to Label Studio: to the same
scheme, host and port.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from backend.errors import ImageError

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[tuple[Any, ...]]]
"""(host, port) → what ``socket.getaddrinfo`` answers."""

_NEVER = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
        *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),  # where clouds answer machines besides 169.254
        *("::/128", "fe80::/10", "ff00::/8", "fd00:ec2::/32"),
    )
)
_CARRY_IPV4 = ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96")
_THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}
_PORTS = {"http": 80, "https": 443}


class Forbidden(ImageError):
    """Images are not fetched from there; the message says what the owner can do."""


@dataclass(frozen=True)
class Policy:
    """``own``: Label Studio's address. ``allowed``: the entries of ``IMAGE_HOSTS``."""

    own: str
    allowed: tuple[str, ...] = ()
    resolve: Resolve = field(default=lambda host, port: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))

    def gets_key(self, url: str) -> bool:
        """Whether the API key is sent along: only to Label Studio."""
        return origin(url) == origin(self.own)

    def check(self, url: str) -> None:
        """Check what can be seen without asking a name server.

        Raises:
            Forbidden: images are not fetched from there.
        """
        parts = urlsplit(url)
        host = host_of(url)
        if parts.scheme not in _PORTS or not host:
            raise Forbidden("only http and https addresses are fetched")
        literal = _literal(host)
        if literal is not None:
            self._usable(host, port_of(url), literal)

    def check_for_proxy(self, url: str) -> None:
        """The same where a proxy opens the connection: the addresses are checked that the name has here. If it has
        none, the proxy is asked."""
        host, port = host_of(url), port_of(url)
        try:
            self.addresses(host, port)
        except OSError:
            return

    def addresses(self, host: str, port: int) -> list[tuple[Any, ...]]:
        """What to connect to, in the form of ``socket.getaddrinfo``: those addresses of the host that may be used.

        Raises:
            Forbidden: there is none.
            OSError: the name server knows none.
        """
        usable, refusal = [], None
        for entry in self.resolve(host, port):
            try:
                self._usable(host, port, ipaddress.ip_address(str(entry[4][0]).partition("%")[0]))
                usable.append(entry)
            except Forbidden as error:
                refusal = error
        if not usable:
            raise refusal or Forbidden(f"{host} has no address")
        return usable

    def _usable(self, host: str, port: int, address: IP) -> None:
        """Raise Forbidden unless this address of ``host`` may be used."""
        for each in _with_carried(address):
            if any(each in network for network in _NEVER if network.version == each.version):
                raise Forbidden(f"images are never fetched from {host}: {each} is a link-local or reserved address")
            if not each.is_global and not self._trusts(host, port, each):
                raise Forbidden(
                    f"{host} is a private address ({each}): to fetch images from there, add it to IMAGE_HOSTS"
                )

    def _trusts(self, host: str, port: int, address: IP) -> bool:
        names = {host.lower().rstrip("."), str(address)} if _literal(host) else {host.lower().rstrip(".")}
        own = host_of(self.own)
        if names & _THIS_MACHINE:
            names |= _THIS_MACHINE
        if own in names:
            return True
        return any(_matches(entry, names, port, address) for entry in self.allowed)


def origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port) of an address."""
    return urlsplit(url).scheme.lower(), host_of(url), port_of(url)


def host_of(url: str) -> str:
    """The host of an address in lower case, without brackets; "" if there is none."""
    return (urlsplit(url).hostname or "").rstrip(".")


def place_of(url: str) -> str:
    """The host of an address, with its port if it names one."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def port_of(url: str) -> int:
    """Raises ValueError if the port is no number."""
    parts = urlsplit(url)
    return parts.port if parts.port is not None else _PORTS.get(parts.scheme.lower(), 0)


def _literal(host: str) -> IP | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _with_carried(address: IP) -> list[IP]:
    """The address, or the IPv4 addresses that it stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    carried: list[IP] = [part for part in (address.ipv4_mapped, address.sixtofour) if part is not None]
    if any(address in network for network in _CARRY_IPV4) and int(address) > 1:
        carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address.teredo is not None:
        carried += address.teredo
    return carried or [address]


def _matches(entry: str, names: set[str], port: int, address: IP) -> bool:
    """Whether an entry of IMAGE_HOSTS (name, ``*.name``, address or network, each with a port or without) fits."""
    entry = entry.lower()
    if entry.startswith("["):
        host, _, wanted = entry[1:].partition("]")
        wanted = wanted.removeprefix(":")
    else:
        host, _, wanted = entry.partition(":") if entry.count(":") == 1 else (entry, "", "")
    if wanted and wanted != str(port):
        return False
    if any(fnmatchcase(name, host) for name in names):
        return True
    try:
        network = ipaddress.ip_network(host, strict=False)
    except ValueError:
        return False
    return network.version == address.version and address in network


# -- connections -------------------------------------------------------------------------------------------------------


class CheckedAdapter(HTTPAdapter):
    """Connects only to what the policy lets through. Behind a proxy, which opens connections itself, the caller has to
    call :meth:`Policy.check_for_proxy`."""

    def __init__(self, policy: Policy, **options: Any) -> None:
        self._policy = policy
        super().__init__(**options)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        policy = self._policy

        class Http(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return _connected(self, policy)

        class Https(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return _connected(self, policy)

        class HttpPool(HTTPConnectionPool):
            ConnectionCls = Http

        class HttpsPool(HTTPSConnectionPool):
            ConnectionCls = Https

        self.poolmanager.pool_classes_by_scheme = {"http": HttpPool, "https": HttpsPool}


def _connected(connection: HTTPConnection, policy: Policy) -> socket.socket:
    """A socket that is connected to one of the host's addresses that may be used."""
    failure: OSError | None = None
    try:
        found = policy.addresses(connection.host.strip("[]"), int(connection.port or 0))
    except socket.gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    except (OSError, UnicodeError) as error:
        raise NewConnectionError(connection, f"the name cannot be looked up: {error}") from error
    for family, kind, protocol, _, address in found:
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(connection.timeout)  # a number by now
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.connect(address)
            return opened
        except OSError as error:
            failure = error
            opened.close()
    if isinstance(failure, TimeoutError):
        raise ConnectTimeoutError(connection, "timed out") from failure
    raise NewConnectionError(connection, f"Failed to establish a new connection: {failure}") from failure
