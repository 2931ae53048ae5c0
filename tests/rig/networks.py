"""Machines of one's own on this one: network namespaces, joined by a bridge, whose cables can be pulled out.

Only root can make them. What runs in a namespace reaches nothing but the bridge, so servers on 127.0.0.1 need a relay
that listens there (:class:`Relay`, or a :class:`tests.rig.proxy.Proxy` with its ``host``).
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import threading
from contextlib import suppress

HOST = "127.0.0.1"


def available() -> bool:
    """Whether namespaces and bridges can be made here."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"al{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "link", "add", name, "type", "bridge"], capture_output=True).returncode == 0
    if made:
        _ip("link", "del", name)
    return made


class Network:
    """A bridge at ``address``, with machines on it. Nothing else of this machine's network is touched."""

    def __init__(self) -> None:
        self._name = f"al{secrets.token_hex(3)}"
        self._subnet = f"10.{100 + secrets.randbelow(100)}.{secrets.randbelow(250)}"
        self.address = f"{self._subnet}.1"
        self._machines: list[Machine] = []
        _ip("link", "add", self._name, "type", "bridge")
        _ip("address", "add", f"{self.address}/24", "dev", self._name)
        _ip("link", "set", self._name, "up")

    def machine(self) -> Machine:
        """One more machine, connected."""
        number = len(self._machines) + 1
        made = Machine(f"{self._name}-{number}", self._name, f"{self._subnet}.{number + 1}/24")
        self._machines.append(made)
        return made

    def close(self) -> None:
        for machine in self._machines:
            machine.close()
        _ip("link", "del", self._name)


class Machine:
    """A network namespace, and its cable to a bridge."""

    def __init__(self, name: str, bridge: str, address: str) -> None:
        self.name, self._cable = name, f"{name}h"
        inside = f"{name}i"
        _ip("netns", "add", name)
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", inside, "netns", name)
        _ip("link", "set", self._cable, "master", bridge, "up")
        for command in (("link", "set", "lo", "up"), ("address", "add", address, "dev", inside)):
            _ip("-n", name, *command)
        _ip("-n", name, "link", "set", inside, "up")

    @property
    def prefix(self) -> list[str]:
        """What a command begins with that is to run there. The process keeps its id."""
        return ["ip", "netns", "exec", self.name]

    def cut_off(self) -> None:
        """Pull out the cable: what is sent from now on vanishes, and no connection breaks off."""
        _ip("link", "set", self._cable, "down")

    def join_again(self) -> None:
        _ip("link", "set", self._cable, "up")

    def close(self) -> None:
        _ip("netns", "del", self.name)


class Relay:
    """Passes connections on from ``host`` to a server on 127.0.0.1."""

    def __init__(self, host: str, target_port: int) -> None:
        self._target = target_port
        self._listening = socket.create_server((host, 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self._listening.accept()
                other = socket.create_connection((HOST, self._target))
                for ends in ((one, other), (other, one)):
                    threading.Thread(target=_pass_on, args=ends, daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
