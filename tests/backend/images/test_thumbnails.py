"""Small pictures show the image of the task that they are asked for, or nothing."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.images.cache import ImageCache
from backend.images.thumbnails import CACHES, SIDE, Thumbnails, encoded
from tests.backend.images.pictures import framed, gray

SQUARE, WHOLE = (32, 32), (32, 40)


def fetch(task: int, source: str) -> bytes:
    return gray(int(source))


def square(folder: Path, sources: dict[int, str]) -> ImageCache:
    cache = ImageCache(folder / "images-32", 32)
    cache.sync(sources.items(), fetch)
    return cache


def shade(picture: bytes | None) -> int:
    """How bright a picture is in its middle."""
    assert picture is not None
    pixels = np.asarray(Image.open(io.BytesIO(picture)))
    return round(float(pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].mean()))


def test_a_task_has_the_picture_of_its_own_image(tmp_path: Path) -> None:
    square(tmp_path, {1: "40", 2: "200"})
    pictures = Thumbnails()
    assert pictures.present(tmp_path, SQUARE, {1: "40", 2: "200", 3: "90"}) == {1, 2}
    assert shade(pictures.jpeg(tmp_path, SQUARE, 1, "40")) == pytest.approx(40, abs=3)
    assert shade(pictures.jpeg(tmp_path, SQUARE, 2, "200")) == pytest.approx(200, abs=3)
    assert pictures.jpeg(tmp_path, SQUARE, 3, "90") is None


def test_an_image_of_another_address_is_not_shown(tmp_path: Path) -> None:
    cache = square(tmp_path, {1: "40"})
    pictures = Thumbnails()
    assert pictures.present(tmp_path, SQUARE, {1: "200"}) == set()
    assert pictures.jpeg(tmp_path, SQUARE, 1, "200") is None
    cache.sync([(1, "200")], fetch)
    assert shade(pictures.jpeg(tmp_path, SQUARE, 1, "200")) == pytest.approx(200, abs=3), "what came since is seen"
    cache.forget([1])
    assert pictures.jpeg(tmp_path, SQUARE, 1, "200") is None


def test_whole_images_keep_their_shape(tmp_path: Path) -> None:
    ImageCache(tmp_path / "frame-32x40", WHOLE).sync([(1, "90")], framed)
    picture = Thumbnails().jpeg(tmp_path, WHOLE, 1, "90")
    assert picture is not None and Image.open(io.BytesIO(picture)).size == (40, 32)


def test_where_there_is_no_cache_nothing_is_made(tmp_path: Path) -> None:
    assert Thumbnails().present(tmp_path / "none", SQUARE, {1: "40"}) == set()
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_was_deleted_and_made_again_is_read_anew(tmp_path: Path) -> None:
    """What is mapped of a deleted file stays readable: it would be the old image under the new index."""
    square(tmp_path, {1: "40"})
    pictures = Thumbnails()
    assert shade(pictures.jpeg(tmp_path, SQUARE, 1, "40")) == pytest.approx(40, abs=3)
    (tmp_path / "images-32").rename(tmp_path / "old")
    square(tmp_path, {2: "200", 1: "120"})
    shutil.rmtree(tmp_path / "old")
    assert shade(pictures.jpeg(tmp_path, SQUARE, 1, "120")) == pytest.approx(120, abs=3)


def test_only_a_few_caches_are_kept_open(tmp_path: Path) -> None:
    pictures = Thumbnails()
    for number in range(CACHES + 2):
        square(tmp_path / str(number), {1: "40"})
        assert pictures.present(tmp_path / str(number), SQUARE, {1: "40"}) == {1}
    assert len(pictures._open) == CACHES


def test_a_large_image_is_made_small() -> None:
    picture = Image.open(io.BytesIO(encoded(np.full((600, 1000, 3), 90, np.uint8))))
    assert picture.size == (SIDE, SIDE * 600 // 1000) and picture.format == "JPEG"
