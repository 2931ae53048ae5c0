"""Where the bytes of an image come from: the first source of the table that serves its address."""

from __future__ import annotations

import pytest

from backend.errors import ImageError, LabelStudioUnavailable
from backend.images.source import DataUriSource, LabelStudioSource, fetch_image, sources
from backend.labelstudio import http as labelstudio_http
from backend.labelstudio.client import LabelStudio
from backend.settings.core import Settings

NOBODY = LabelStudio("http://127.0.0.1:9", "a-token")


class Shelf:
    """A source of a test's own: whoever adds one writes this much."""

    def __init__(self, name: str, *held: str) -> None:
        self.name, self.held = name, held

    def serves(self, address: str) -> bool:
        return address in self.held

    def fetch(self, address: str, task_id: int) -> bytes:
        return f"{self.name}: {address} of {task_id}".encode()


def test_the_first_source_that_serves_an_address_fetches_it() -> None:
    table = (Shelf("one", "a.png"), Shelf("two", "a.png", "b.png"), LabelStudioSource(NOBODY))
    assert fetch_image("a.png", 7, table) == b"one: a.png of 7"
    assert fetch_image(" b.png\n", 8, table) == b"two: b.png of 8"


@pytest.mark.parametrize(
    ("address", "content"),
    [
        ("data:image/png;base64,aGVsbG8=", b"hello"),
        ("data:,abc%21", b"abc!"),
        ("data:text/plain,a,b", b"a,b"),
        ("data:image/png;base64,", b""),
    ],
)
def test_an_image_inside_the_tasks_data_needs_no_label_studio(address: str, content: bytes) -> None:
    assert DataUriSource().serves(address)
    assert fetch_image(address, 1, sources(NOBODY, Settings())) == content


@pytest.mark.parametrize("address", ["data:image/png;base64,a", "data:image/png;base64", "data:"])
def test_a_damaged_one_is_said(address: str) -> None:
    with pytest.raises(ImageError, match="inside the task's data is damaged"):
        fetch_image(address, 1, sources(NOBODY, Settings()))


def test_everything_else_is_label_studios_to_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelstudio_http, "RETRY_AFTER", ())
    for address in ("/data/upload/1/a.png", "s3://bucket/a.png", "/data/local-files/?d=a.png"):
        assert not DataUriSource().serves(address)
        with pytest.raises(LabelStudioUnavailable):
            fetch_image(address, 1, sources(NOBODY, Settings()))
