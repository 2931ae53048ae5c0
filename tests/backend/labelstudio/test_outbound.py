"""Where images may be fetched from: never from link-local addresses, from private ones only where the owner says so."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from backend.labelstudio.outbound import CheckedAdapter, Forbidden, Policy

OWN = "http://studio.internal:8080/label-studio"


def names(**known: str | list[str]) -> Any:
    """A name server: host with "_" for "." → its addresses."""

    def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
        found = known.get(host.replace(".", "_").replace(":", "_"), host)
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ([found] if isinstance(found, str) else found)
        ]

    return resolve


def usable(policy: Policy, host: str, port: int = 80) -> list[str]:
    return [entry[4][0] for entry in policy.addresses(host, port)]


@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "169.254.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "240.0.0.1"),
        *("100.100.100.200", "168.63.129.16", "192.0.0.192"),
        *("fe80::1", "ff02::1", "::", "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"),
        *("2002:a9fe:a9fe::1", "::169.254.169.254"),
    ],
)
def test_link_local_and_reserved_addresses_never(address: str) -> None:
    everything = ("*", "0.0.0.0/0", "::/0")
    for own in (OWN, f"http://[{address}]" if ":" in address else f"http://{address}"):
        policy = Policy(own, everything, names(evil_example=address))
        for host in ("evil.example", address):
            with pytest.raises(Forbidden, match="never"):
                usable(policy, host)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"),
        *("::1", "fc00::1", "fd12::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "198.18.0.1"),
    ],
)
def test_private_addresses_only_of_label_studio_and_what_the_owner_allows(address: str) -> None:
    known = {"some_example": address, "studio_internal": address, "images_internal": address}
    strict = Policy(OWN, (), names(**known))
    for host in ("some.example", "images.internal", address):
        with pytest.raises(Forbidden, match="IMAGE_HOSTS"):
            usable(strict, host)
    assert usable(strict, "studio.internal", 9999) == [address]
    assert usable(Policy(OWN, ("images.internal",), names(**known)), "images.internal") == [address]
    with pytest.raises(Forbidden):
        usable(Policy(OWN, ("images.internal",), names(**known)), "some.example")


@pytest.mark.parametrize(
    ("entry", "host", "port", "allowed"),
    [
        ("minio", "minio", 9000, True),
        ("MinIO:9000", "minio", 9000, True),
        ("minio:9000", "minio", 22, False),
        ("*.internal", "a.b.internal", 80, True),
        ("*.internal", "internal.evil", 80, False),
        ("10.0.0.0/8", "minio", 80, True),
        ("10.0.0.0/8:80", "minio", 80, True),
        ("10.0.0.0/8:80", "minio", 81, False),
        ("10.9.9.9", "minio", 80, False),
        ("10.1.2.3", "minio", 80, True),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("[fd12::1]:80", "fd12::1", 80, True),
        ("[fd12::1]:80", "fd12::1", 81, False),
        ("fd12::/16", "fd12::1", 81, True),
        ("nonsense/99", "minio", 80, False),
        ("localhost:9000", "127.0.0.1", 9000, True),
        ("localhost:9000", "127.0.0.1", 9001, False),
    ],
)
def test_entries_of_image_hosts(entry: str, host: str, port: int, allowed: bool) -> None:
    known = names(minio="10.1.2.3", a_b_internal="10.1.2.3", internal_evil="10.1.2.3")
    policy = Policy(OWN, (entry,), known)
    if allowed:
        assert usable(policy, host, port)
    else:
        with pytest.raises(Forbidden):
            usable(policy, host, port)


def test_public_addresses_are_used_and_others_of_the_same_name_are_not() -> None:
    policy = Policy(OWN, (), names(mixed_example=["10.0.0.1", "93.184.216.34", "169.254.169.254"]))
    assert usable(policy, "mixed.example") == ["93.184.216.34"]
    assert usable(policy, "2606:2800:220:1::1") == ["2606:2800:220:1::1"]


def test_names_of_this_machine_are_one_host() -> None:
    policy = Policy("http://localhost:8080", ())
    assert usable(policy, "127.0.0.1", 9000) == ["127.0.0.1"]
    with pytest.raises(Forbidden):
        usable(Policy("http://localhost:8080", (), names(evil_example="127.0.0.1")), "evil.example")


def test_the_key_goes_to_the_same_scheme_host_and_port_only() -> None:
    policy = Policy("https://studio.example/label-studio")
    for address in ("https://studio.example/a", "https://STUDIO.example:443/", "https://studio.example./x"):
        assert policy.gets_key(address)
    for address in (
        *("http://studio.example/a", "https://studio.example:8443/a", "https://studio.example.evil/a"),
        *("https://evil/?studio.example", "https://studio.example@evil/a", "https://evil#@studio.example/"),
    ):
        assert not policy.gets_key(address)


@pytest.fixture
def inside() -> Iterator[tuple[int, list[str]]]:
    """A server on this machine that must not be reached: its port, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()


def test_a_name_that_changes_its_answer_gains_nothing(inside: tuple[int, list[str]]) -> None:
    """The connection goes to the address that was checked: the name is looked up once."""
    port, asked = inside
    answers = ["127.0.0.1", "93.184.216.34"]

    def changing(host: str, port: int) -> list[tuple[Any, ...]]:
        return names()(answers.pop(), port)

    session = requests.Session()
    session.mount("http://", CheckedAdapter(Policy(OWN, (), changing)))
    with pytest.raises(requests.exceptions.ConnectionError):
        session.get(f"http://rebinding.example:{port}/secret", timeout=(0.5, 0.5))
    assert answers == ["127.0.0.1"] and asked == []  # the second answer was never asked for
    with pytest.raises(Forbidden):
        session.get(f"http://rebinding.example:{port}/secret", timeout=(0.5, 0.5))
    assert asked == []
    open_one = requests.Session()
    open_one.mount("http://", CheckedAdapter(Policy(OWN, ("rebinding.example",), names(rebinding_example="127.0.0.1"))))
    assert open_one.get(f"http://rebinding.example:{port}/a.png", timeout=5).status_code == 200
    assert asked == ["/a.png"]


def test_a_proxy_does_not_get_around_it() -> None:
    policy = Policy(OWN, (), names(some_example="10.0.0.1"))
    with pytest.raises(Forbidden):
        policy.check_for_proxy("http://some.example/a.png")
    with pytest.raises(Forbidden):
        policy.check_for_proxy("http://169.254.169.254/a.png")

    def unknown(host: str, port: int) -> list[tuple[Any, ...]]:
        raise socket.gaierror("unknown")

    Policy(OWN, (), unknown).check_for_proxy("http://known.to.the.proxy/a.png")
