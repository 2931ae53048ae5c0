"""Downloads of images: what hosts ask for, where redirects lead, how names are written, and whom to trust."""

from __future__ import annotations

import base64
import shutil
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from backend.errors import ImageError, ImageLater, LabelStudioRefused
from backend.images.source import DataUriSource
from backend.labelstudio import images as labelstudio_images
from backend.labelstudio import pacing
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.http import Connection
from backend.labelstudio.images import ImageFetcher
from backend.labelstudio.pacing import Hosts
from tests.backend.labelstudio.site import Answer, Site, sites  # noqa: F401  (a fixture)

KEY = "k" * 40


def fetcher(site: Site, **options: Any) -> ImageFetcher:
    """As for a Label Studio at ``site``, with what is known of hosts of its own."""
    return ImageFetcher(Connection(site.url, KEY, 5.0), hosts=Hosts(), **options)


@pytest.fixture
def studio(sites: list[Site]) -> Site:  # noqa: F811
    return sites[0]


@pytest.fixture
def other(sites: list[Site]) -> Site:  # noqa: F811
    return sites[1]


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_that_asks_for_patience_gets_it(studio: Site, other: Site, status: int) -> None:
    refused = [Answer(status, headers={"Retry-After": "1"})] * 2
    other.answer = lambda path: refused.pop() if refused else Answer(200, b"picture")
    began = time.monotonic()
    assert fetcher(studio).fetch(f"{other.url}/a.png") == b"picture"
    assert time.monotonic() - began >= 2.0
    assert len(other.requests) == 3


def test_a_host_that_asks_for_much_patience_is_not_waited_for(studio: Site, other: Site) -> None:
    other.answer = lambda path: Answer(429, headers={"Retry-After": "120"})
    images = fetcher(studio)
    for _ in range(3):
        with pytest.raises(ImageLater) as later:
            images.fetch(f"{other.url}/a.png")
        assert 100 < later.value.seconds <= 120
    assert len(other.requests) == 1  # the others did not even ask
    assert images.fetch(f"{studio.url}/b.png") == b""  # nor do other hosts have to wait


def test_many_images_of_a_host_with_a_limit_all_come(studio: Site, other: Site) -> None:
    """Ten requests a second are answered; the other ones are asked for again, slower and slower."""
    from concurrent.futures import ThreadPoolExecutor

    times: list[float] = []

    def limited(path: str) -> Answer:
        times.append(time.monotonic())
        many = sum(1 for moment in times if moment > times[-1] - 1.0) > 10
        return Answer(429, headers={"Retry-After": "1"}) if many else Answer(200, path.encode())

    other.answer = limited
    images = fetcher(studio)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: images.fetch(f"{other.url}/{number}"), range(30)))
    assert found == [f"/{number}".encode() for number in range(30)]


def test_what_breaks_off_is_asked_for_later_and_is_no_half_picture(studio: Site, other: Site) -> None:
    other.answer = lambda path: Answer(200, b"half", headers={"Content-Length": "8"})
    with pytest.raises(ImageLater, match="broke off"):
        fetcher(studio).fetch(f"{other.url}/a.png")


def test_a_slow_server_does_not_hold_a_thread_forever(
    studio: Site, other: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelstudio_images, "TOTAL_SECONDS", 0.6)
    other.answer = lambda path: Answer(200, bytes(100), pause=0.1)
    began = time.monotonic()
    with pytest.raises(ImageLater, match="in time"):
        fetcher(studio).fetch(f"{other.url}/a.png")
    assert time.monotonic() - began < 8


def test_the_key_stays_with_label_studio(studio: Site, other: Site) -> None:
    """Not even Label Studio can send it elsewhere: as to a bucket, by a redirect. Another port is elsewhere."""
    studio.answer = lambda path: Answer(302, headers={"Location": f"{other.url}/bucket?signature=1"})
    other.answer = lambda path: Answer(200, b"picture")
    assert fetcher(studio).fetch("/data/upload/1/a.png") == b"picture"
    assert studio.requests[0][2]["Authorization"] == f"Token {KEY}"
    assert "Authorization" not in other.requests[0][2]
    other.answer = lambda path: Answer(307, headers={"Location": f"{studio.url}/data/upload/1/a.png"})
    studio.answer = lambda path: Answer(200, b"picture")
    assert fetcher(studio).fetch(f"{other.url}/a.png") == b"picture"
    assert "Authorization" not in other.requests[-1][2]


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://0.0.0.0/",
        "http://10.0.0.1/a",
    ],
)
def test_each_redirect_is_checked(studio: Site, target: str) -> None:
    studio.answer = lambda path: Answer(302, headers={"Location": target})
    with pytest.raises(ImageError, match=r"never fetched|IMAGE_HOSTS"):
        fetcher(studio).fetch(f"{studio.url}/a.png")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://127.0.0.1/", "data:image/png;base64,AAAA"])
def test_redirects_lead_to_the_web_only(studio: Site, target: str) -> None:
    studio.answer = lambda path: Answer(302, headers={"Location": target})
    with pytest.raises(ImageError, match="only http and https"):
        fetcher(studio).fetch(f"{studio.url}/a.png")


def test_redirects_end(studio: Site) -> None:
    studio.answer = lambda path: Answer(302, headers={"Location": path + "x"})
    with pytest.raises(ImageError, match="more than 10 redirects"):
        fetcher(studio).fetch(f"{studio.url}/a.png")
    assert len(studio.requests) == 11


def test_other_private_hosts_are_allowed_by_the_owner_only(studio: Site, other: Site) -> None:
    other.answer = lambda path: Answer(200, b"picture")
    address = f"http://127.0.0.2:{urlsplit(other.url).port}/a.png"
    with pytest.raises(ImageError, match=r"private address \(127.0.0.2\).*IMAGE_HOSTS"):
        fetcher(studio).fetch(address)
    assert fetcher(studio, image_hosts=["127.0.0.2"]).fetch(address) == b"picture"


def test_label_studios_public_name_is_not_asked_but_label_studio_is(studio: Site) -> None:
    studio.answer = lambda path: Answer(200, path.encode())
    images = fetcher(studio, public_url="https://labels.example/label-studio")
    for source in (
        "https://labels.example/label-studio/data/local-files/?d=a.png",
        "//labels.example/label-studio/data/local-files/?d=a.png",
        "/label-studio/data/local-files/?d=a.png",
    ):
        assert images.fetch(source) == b"/data/local-files/?d=a.png"
    assert {headers["Authorization"] for _, _, headers in studio.requests} == {f"Token {KEY}"}


@pytest.mark.parametrize(
    "name", ["猫" * 30 + ".png", "a" * 250 + ".png", "Кот" * 41 + ".png", "a b#c?.png", "100%.png"]
)
def test_long_and_foreign_names_are_only_names(studio: Site, name: str) -> None:
    studio.answer = lambda path: Answer(200, b"picture")
    assert fetcher(studio).fetch(f"/data/upload/1/{name}") == b"picture"


@pytest.mark.parametrize(
    "address",
    [
        "data:image/png;base64,aGVsbG8h",
        "DATA:image/png;BASE64,aGVsbG8h",
        "data:image/png;charset=utf-8;base64,aGVs bG8h\n",
        "data:image/png;base64,aGVsbG8%68",
        "data:;base64,%61GVsbG8h#fragment",
    ],
)
def test_pictures_in_the_data_as_browsers_read_them(address: str) -> None:
    source = DataUriSource()
    assert source.serves(address)
    assert source.fetch(address, 1).startswith(b"hello")


def test_base64_needs_no_padding() -> None:
    for size in range(1, 9):
        data = bytes(range(size))
        text = base64.b64encode(data).decode()
        for body in (text, text.rstrip("="), text.replace("=", "%3D").replace("+", "%2B")):
            assert DataUriSource().fetch(f"data:image/png;base64,{body}", 1) == data
    for broken in ("a", "aGV*bG8", "=aGVs", "aG=s"):
        with pytest.raises(ImageError, match="damaged"):
            DataUriSource().fetch(f"data:image/png;base64,{broken}", 1)


def test_one_setting_says_which_certificates_are_trusted(
    studio: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    studio.server.socket = context.wrap_socket(studio.server.socket, server_side=True)
    studio.url = studio.url.replace("http://", "https://")
    studio.answer = lambda path: Answer(200, b"{}")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    for call in (lambda: LabelStudio(studio.url, KEY).check(5.0), lambda: fetcher(studio).fetch("/data/a.png")):
        with pytest.raises((LabelStudioRefused, ImageError), match=r"certificate.*not trusted.*REQUESTS_CA_BUNDLE"):
            call()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    LabelStudio(studio.url, KEY).check(5.0)
    assert fetcher(studio).fetch("/data/a.png") == b"{}"


def test_what_is_known_of_hosts_is_known_to_all_projects() -> None:
    assert (
        ImageFetcher(Connection("http://a", KEY, 1.0))._hosts is ImageFetcher(Connection("http://b", KEY, 1.0))._hosts
    )
    assert ImageFetcher(Connection("http://a", KEY, 1.0))._hosts is pacing.HOSTS
