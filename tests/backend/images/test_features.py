"""Features beside the images: which rows count, and for how long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backend.images.cache import ImageCache
from backend.images.features import FeatureCache, StampedRows
from tests.backend.images.pictures import gray

WIDTH = 5


def images(folder: Path, **sources: str) -> ImageCache:
    """``t3="70"``: task 3 has an image of gray level 70."""
    cache = ImageCache(folder / "images-32", 32)
    tasks = [(int(name[1:]), source) for name, source in sources.items()]
    assert cache.sync(tasks, lambda task, source: gray(int(source)), workers=1) == []
    return cache


def values(*numbers: float) -> np.ndarray:
    return np.repeat(np.array(numbers, np.float16)[:, None], WIDTH, axis=1)


def opened(cache: ImageCache) -> FeatureCache:
    return FeatureCache(cache, "some-backbone", WIDTH)


def test_what_was_written_is_there_for_whoever_opens_it(tmp_path: Path) -> None:
    cache = images(tmp_path, t1="10", t2="20", t3="30")
    first = opened(cache)
    assert first.missing([3, 1, 2, 9]).tolist() == [3, 1, 2]  # there is no image of 9
    first.write(np.array([3, 1]), values(0.3, 0.1))
    again = opened(ImageCache(cache.directory, 32))
    assert again.present([1, 2, 3]).tolist() == [1, 3] and again.missing([1, 2, 3]).tolist() == [2]
    assert again.rows.shape == (3, WIDTH) and again.rows.dtype == np.float16
    np.testing.assert_array_equal(again.rows[cache.rows([1, 3])], values(0.1, 0.3))


def test_rows_are_those_of_the_images_also_when_more_come(tmp_path: Path) -> None:
    cache = images(tmp_path, t1="10")
    kept = opened(cache)
    kept.write(np.array([1]), values(0.1))
    assert len(kept.rows) == len(cache.pixels) == 1
    images(tmp_path, t1="10", t2="20", t3="30")
    assert kept.missing([1, 2, 3]).tolist() == [2, 3]
    assert len(kept.rows) == len(cache.pixels) == 3
    np.testing.assert_array_equal(kept.rows[cache.rows([1])], values(0.1))


def test_features_of_another_image_do_not_count(tmp_path: Path) -> None:
    """The task's image has another address, or its row belongs to another task by now."""
    cache = images(tmp_path, t1="10", t2="20")
    kept = opened(cache)
    kept.write(np.array([1, 2]), values(0.1, 0.2))
    images(tmp_path, t1="11")
    assert kept.present([1, 2]).tolist() == [2]
    cache.forget([2])
    images(tmp_path, t3="30", t4="40")
    assert kept.present([1, 2, 3, 4]).tolist() == []
    assert sorted(kept.missing([1, 2, 3, 4]).tolist()) == [1, 3, 4]


def test_a_kill_before_the_stamp_leaves_the_row_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = images(tmp_path, t1="10")
    kept, whole = opened(cache), StampedRows._write_rows

    def killed(self: StampedRows, name: str, rows: np.ndarray, data: np.ndarray) -> None:
        if name == "stamps":
            raise KeyboardInterrupt
        whole(self, name, rows, data)

    with monkeypatch.context() as patched:
        patched.setattr(StampedRows, "_write_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            kept.write(np.array([1]), values(0.1))
    assert opened(cache).missing([1]).tolist() == [1]
    kept.write(np.array([1]), values(0.1))
    assert opened(cache).present([1]).tolist() == [1]


def test_a_stamp_that_is_half_written_does_not_count(tmp_path: Path) -> None:
    cache = images(tmp_path, t1="10")
    kept = opened(cache)
    kept.write(np.array([1]), values(0.1))
    file = kept.directory / "stamps"
    file.write_bytes(file.read_bytes()[:12])
    assert opened(cache).missing([1]).tolist() == [1]


def test_each_backbone_has_features_of_its_own(tmp_path: Path) -> None:
    cache = images(tmp_path, t1="10")
    opened(cache).write(np.array([1]), values(0.1))
    assert FeatureCache(cache, "another", WIDTH).missing([1]).tolist() == [1]


def test_features_of_another_width_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(1, 5\), not \(1, 4\)"):
        opened(images(tmp_path, t1="10")).write(np.array([1]), values(0.1)[:, :4])


def test_without_images_there_is_nothing(tmp_path: Path) -> None:
    kept = opened(ImageCache(tmp_path / "images-32", 32))
    assert kept.rows.shape == (0, WIDTH)
    assert kept.present([1]).tolist() == kept.missing([1]).tolist() == []
