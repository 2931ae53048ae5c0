"""What Chromium shows is read, in the size and the orientation that it is shown in; what it does not show is not.

``chromium.json`` is what Chromium said; :mod:`tests.backend.images.render` asked it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from backend.errors import ImageError
from backend.images.decoding import decode, decode_whole, shown_size
from tests.backend.images.damaged import CASES, corpus
from tests.backend.images.render import KEPT, digest

FILES = corpus()
SAID: dict[str, Any] = {name: entry for name, entry in json.loads(KEPT.read_text()).items() if name}
SHOWN = sorted(name for name, entry in SAID.items() if entry["size"])
NOT_SHOWN = sorted(SAID.keys() - SHOWN)

NOT_LIKE_CHROMIUM = {
    *("a-bit-flipped.jpg", "zeros-in-the-middle.jpg", "palette-too-short.png"),
}
"""What is behind the damage looks different in each decoder."""

INTERLACED = {"50-percent-of-it.gif", "90-percent-of-it.gif", "interlaced-without-half-of-it.png"}
"""Chromium shows missing rows like their neighbors."""

READ_ALTHOUGH = {
    *("an-unknown-critical-chunk.png", "header-twice.png", "pixels-interrupted.png", "text-in-front-of-its-header.png"),
    *("palette-missing.png", "palette-with-a-wrong-checksum.png", "beginning-twice.jpg"),
}
"""Not shown by Chromium, and read nevertheless: all their pixels are there."""


def test_the_corpus_is_the_one_that_chromium_was_shown() -> None:
    assert {name: digest(data) for name, data in FILES.items()} == {
        name: entry["digest"] for name, entry in SAID.items()
    }
    assert len(SHOWN) > 190 and len(NOT_SHOWN) > 30


@pytest.mark.parametrize("name", SHOWN)
def test_what_chromium_shows_is_read(name: str) -> None:
    size, colors = tuple(SAID[name]["size"]), np.array(SAID[name]["colors"])
    assert shown_size(FILES[name]) == size
    pixels, shown = decode_whole(FILES[name], (32, 32))
    assert shown == size
    assert decode(FILES[name], 32).shape == decode(FILES[name], 224)[:32, :32].shape == (32, 32, 3)
    if SAID[name]["shown"] == 1 and name not in NOT_LIKE_CHROMIUM | INTERLACED:
        quarters = pixels.reshape(2, 16, 2, 16, 3).mean((1, 3)).reshape(4, 3)
        assert np.abs(quarters - colors).max() < 12, "turned or colored in another way"


@pytest.mark.parametrize("name", sorted(NOT_SHOWN))
def test_what_chromium_does_not_show_is_set_aside_for_every_kind_of_task(name: str) -> None:
    if name in READ_ALTHOUGH:
        decode(FILES[name], 32)
        return
    for read in (
        lambda data: decode(data, 32),
        lambda data: decode(data, 224),
        lambda data: decode_whole(data, (8, 8)),
    ):
        with pytest.raises(ImageError):
            read(FILES[name])


def test_the_files_that_owners_reported_are_part_of_it() -> None:
    assert {path.name for path in CASES.iterdir()} <= set(SHOWN)
