"""An address in a task means what it means to the browser that shows the task."""

from __future__ import annotations

import base64

import pytest

from backend.errors import ImageError
from backend.labelstudio.addresses import Addresses

OWN = "http://studio:8080"
UPLOAD = [f"{OWN}/data/upload/1/a.png", f"{OWN}/storage-data/uploaded/?filepath=upload/1/a.png"]


@pytest.mark.parametrize(
    ("public", "source", "first"),
    [
        ("", "/data/upload/1/a.png", UPLOAD[0]),
        ("", "upload/1/a.png", UPLOAD[0]),
        ("", "/upload/1/a.png", UPLOAD[0]),
        ("", " /data/local-files/?d=b/a.png\n", f"{OWN}/data/local-files/?d=b/a.png"),
        ("", "http://elsewhere/a.png?x=1", "http://elsewhere/a.png?x=1"),
        ("", "HTTP://Elsewhere/A.png", "http://Elsewhere/A.png"),
        ("", "hTTps:elsewhere/a.png", "https://elsewhere/a.png"),
        ("", "http:\\\\elsewhere/a.png", "http://elsewhere/a.png"),
        ("", "http://else\nwhere/a.png", "http://elsewhere/a.png"),
        ("", "//elsewhere/a.png", "http://elsewhere/a.png"),
        ("https://labels.example", "//elsewhere/a.png", "https://elsewhere/a.png"),
        # by the public name of the same Label Studio
        ("https://labels.example", "https://labels.example/data/upload/1/a.png", UPLOAD[0]),
        ("https://labels.example", "https://LABELS.example:443/data/upload/1/a.png", UPLOAD[0]),
        ("https://labels.example", "http://labels.example/data/upload/1/a.png", UPLOAD[0]),  # as browsers upgrade it
        ("https://labels.example", "//labels.example/data/upload/1/a.png", UPLOAD[0]),
        ("https://labels.example", "https://labels.example:8443/a.png", "https://labels.example:8443/a.png"),
        (
            "https://labels.example/",
            "https://labels.example/data/local-files/?d=a.png",
            f"{OWN}/data/local-files/?d=a.png",
        ),
        # under a path
        ("https://one.example/label-studio", "/label-studio/data/upload/1/a.png", UPLOAD[0]),
        ("https://one.example/label-studio", "/data/upload/1/a.png", UPLOAD[0]),
        ("https://one.example/label-studio", "https://one.example/label-studio/data/upload/1/a.png", UPLOAD[0]),
        ("https://one.example/label-studio", "https://one.example/other/a.png", "https://one.example/other/a.png"),
        ("https://one.example/label-studio", "/label-studio-2/a.png", f"{OWN}/label-studio-2/a.png"),
    ],
)
def test_an_address_means_what_it_means_to_the_browser(public: str, source: str, first: str) -> None:
    assert Addresses(OWN, public.rstrip("/")).candidates(source, 7)[0] == first


def test_our_own_address_may_have_a_path() -> None:
    own = "http://one:8080/label-studio"
    found = Addresses(own, "https://one.example/label-studio").candidates("/label-studio/data/upload/1/a.png", 7)
    assert found[0] == f"{own}/data/upload/1/a.png"
    assert Addresses(own, "").candidates("/label-studio/data/local-files/?d=a.png", 7) == [
        f"{own}/data/local-files/?d=a.png"
    ]
    assert Addresses(own, "").candidates("/data/local-files/?d=a.png", 7) == [f"{own}/data/local-files/?d=a.png"]


def test_uploads_come_from_the_disk_or_by_the_proxy() -> None:
    addresses = Addresses(OWN)
    assert addresses.candidates("/data/upload/1/a.png", 7) == UPLOAD
    assert addresses.candidates("/data/upload/1/a.png", 7, by_proxy=True) == UPLOAD[::-1]
    name = "/data/upload/1/" + "é 名&.png"
    assert addresses.candidates(name, 7)[1].endswith("filepath=upload/1/%C3%A9%20%E5%90%8D%26.png")
    encoded = "/data/upload/1/%C3%A9%20%E5%90%8D%26.png"
    assert addresses.candidates(encoded, 7)[1] == addresses.candidates(name, 7)[1]


def test_files_in_a_cloud_are_asked_for_by_their_task() -> None:
    (address,) = Addresses(OWN).candidates("s3://bucket/Ä b.png", 7)
    start, _, uri = address.partition("?fileuri=")
    assert start == f"{OWN}/tasks/7/presign/"
    assert base64.urlsafe_b64decode(uri).decode() == "s3://bucket/Ä b.png"
    with pytest.raises(ImageError, match="its task's id"):
        Addresses(OWN).candidates("gs://bucket/a.png", None)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("photo.png", "relative path"),
        ("../../etc/passwd", "relative path"),
        ("", "relative path"),
        ("file:///etc/passwd", "not supported"),
        ("gopher://host/a", "not supported"),
        ("javascript:alert(1)", "relative path"),
        ("http://", "not a web address"),
        ("http://[broken", "not a web address"),
        ("http://host:port/a.png", "not a web address"),
        ("http://user:secret@[broken", "not a web address"),
    ],
)
def test_what_is_no_address_is_said(source: str, words: str) -> None:
    with pytest.raises(ImageError, match=words) as error:
        Addresses(OWN).candidates(source, 7)
    assert "secret" not in str(error.value)
