"""Scenes: image and mask agree to the pixel, a row is drawn from its number alone, and the parts share no item."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.data import scenes
from benchmarks.data.datasets import DEBIAN, Dataset, fashion_mnist_itself
from benchmarks.data.kept_masks import MaskSet, PartWriter
from benchmarks.data.scenes import (
    CATALOG,
    SCENE_CLASSES,
    Items,
    Scenes,
    Span,
    cut_out,
    fill_holes,
    prepare_scenes,
    write_scenes,
)
from models import IGNORE


def quiet(*_: object) -> None:
    """Nobody listens."""


real = pytest.mark.skipif(not DEBIAN.exists(), reason="dataset-fashion-mnist is not installed")


def shapes(labels: range) -> tuple[np.ndarray, np.ndarray]:
    """Gray blocks (N, 28, 28) on black, broader with each label, and the labels (N,)."""
    images = np.zeros((len(labels), 28, 28), dtype=np.uint8)
    for place, label in enumerate(labels):
        images[place, 3:25, 10 - label : 18 + label] = 90 + 10 * label
    return images, np.array(labels)


def made_up() -> Dataset:
    """Training items of classes 0 to 4, test items of 5 to 9."""
    return Dataset(*shapes(range(5)), *shapes(range(5, 10)), SCENE_CLASSES[1:], "made up")


@pytest.fixture(scope="module")
def blocks() -> Items:
    return cut_out(*shapes(range(10)))


def test_holes_are_filled_and_bays_are_not() -> None:
    """By hand: a ring has a hole; one open to a side has a bay; one open at a corner only is closed, because four
    neighbours count."""
    ring = [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    bay = [[1, 1, 1], [1, 0, 0], [1, 1, 1]]
    corner = [[1, 1, 0], [1, 0, 1], [1, 1, 1]]
    filled = fill_holes(np.array([ring, bay, corner], dtype=bool))
    assert filled[0].all()
    assert filled[1].astype(int).tolist() == bay
    assert filled[2].astype(int).tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 1]]


def test_holes_are_filled_as_scipy_does() -> None:
    solid = np.random.default_rng(0).random((40, 28, 28)) < np.linspace(0.3, 0.8, 40)[:, None, None]
    expected = np.stack([ndimage.binary_fill_holes(one) for one in solid])
    assert np.array_equal(fill_holes(solid), expected)
    assert (expected & ~solid).any(), "there are holes"


def test_where_the_mask_says_background_is_the_background(blocks: Items) -> None:
    drawn = Scenes(blocks, 48, seed=3)
    changed = []
    for row in range(40):
        image, mask = drawn.scene(row)
        assert image.shape == (48, 48, 3) and mask.shape == (48, 48) and image.dtype == mask.dtype == np.uint8
        background = drawn.background(row)
        assert np.array_equal(image[mask == 0], background[mask == 0])
        assert 0 < (mask > 0).sum() < mask.size and mask.max() <= 10
        changed.append((image[mask > 0] != background[mask > 0]).any(axis=1).mean())
    assert min(changed) > 0.9, "and where it names a class there is an item"


def test_a_row_depends_on_seed_part_and_number_alone(blocks: Items) -> None:
    first, again = Scenes(blocks, 32, seed=5), Scenes(blocks, 32, seed=5)
    forwards = [first.scene(row) for row in range(6)]
    backwards = [again.scene(row) for row in reversed(range(6))]
    for (image, mask), (other, its) in zip(forwards, reversed(backwards), strict=True):
        assert np.array_equal(image, other) and np.array_equal(mask, its)
    for different in (Scenes(blocks, 32, 6), Scenes(blocks, 32, 5, "test")):
        assert not np.array_equal(different.scene(2)[0], forwards[2][0])
    assert not np.array_equal(forwards[0][0], forwards[1][0])


def test_later_items_lie_over_earlier_ones(blocks: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each item alone has some pixels; in the scene each pixel belongs to the last item that has it."""
    put, layers = Scenes._put, []

    def watched(self: Scenes, draw: np.random.Generator, image: np.ndarray, mask: np.ndarray, span: Span) -> None:
        alone = np.full_like(mask, IGNORE)
        put(self, draw, image, alone, span)
        layers.append(alone)
        mask[alone != IGNORE] = alone[alone != IGNORE]

    drawn, overlaps, areas = Scenes(blocks, 64, seed=0), 0, []
    for row in range(30):
        expected = drawn.scene(row)[1]
        layers.clear()
        with monkeypatch.context() as patched:
            patched.setattr(Scenes, "_put", watched)
            drawn.scene(row)
        assert 2 <= len(layers) <= 6
        merged = np.zeros_like(expected)
        for layer in layers:
            overlaps += bool(((layer != IGNORE) & (merged > 0)).any())
            areas.append((layer != IGNORE).sum())
            merged = np.where(layer != IGNORE, layer, merged)
        assert np.array_equal(merged, expected)
    assert overlaps > 15 and np.quantile(areas, 0.9) > 4 * np.quantile(areas, 0.1), "overlaps; sizes that differ"


def test_an_item_of_one_shade_has_one_color_and_stands_upright() -> None:
    """A block of 8 × 22 stands, always whole: no rim is darker than its middle."""
    drawn = Scenes(cut_out(*shapes(range(1))), 64, seed=0)
    draw = np.random.default_rng(0)
    upright = []
    for _ in range(24):
        image, mask = np.full((64, 64, 3), -1.0, dtype=np.float32), np.zeros((64, 64), dtype=np.uint8)
        drawn._put(draw, image, mask)
        assert ((image >= 0).all(axis=2) == (mask == 1)).all()
        assert np.ptp(image[mask == 1], axis=0).max() < 2.5
        seen = mask == 1
        if not (seen[[0, -1]].any() or seen[:, [0, -1]].any()):  # whole, not cut by the border
            high, wide = (np.ptp(place) for place in np.nonzero(mask))
            upright.append(bool(high > wide))
    assert len(upright) > 3 and all(upright)


def test_items_of_a_catalog_stand_apart_on_one_color(blocks: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    """From none to three in a scene; each keeps most of its pixels, whatever is laid after it."""
    put, counts, shown = Scenes._put, [], []

    def watched(self: Scenes, draw: np.random.Generator, image: np.ndarray, mask: np.ndarray, span: Span) -> None:
        alone = np.zeros_like(mask)
        put(self, draw, image, alone, span)
        layers.append(alone)
        mask[alone > 0] = alone[alone > 0]

    monkeypatch.setattr(Scenes, "_put", watched)
    for row in range(60):
        layers: list[np.ndarray] = []
        mask = Scenes(blocks, 64, 0, "train", CATALOG).scene(row)[1]
        counts.append(len(layers))
        shown += [((mask == layer) & (layer > 0)).sum() / (layer > 0).sum() for layer in layers]
        assert set(np.unique(mask)) - {0} == {int(layer.max()) for layer in layers}
        plain = Scenes(blocks, 64, 0, "train", CATALOG).background(row)
        assert plain.std(axis=(0, 1)).max() < 5, "one color, and half of a grain of at most 9"
    assert set(counts) == {0, 1, 2, 3} and min(shown) > 0.8


def test_frequencies_of_two_masks(tmp_path: Path) -> None:
    """By hand: seven of eight pixels count, six of them class 0; class 1 is in one image of two."""
    with PartWriter(tmp_path, "train", (2, 2)) as writer:
        for mask in ([[0, 0], [1, IGNORE]], [[0, 0], [0, 0]]):
            writer.write(np.zeros((2, 2, 3), np.uint8), np.array(mask, np.uint8))
        found = writer.frequencies(3)
        assert found.pixels == pytest.approx((6 / 7, 1 / 7, 0)) and found.images == (1, 0.5, 0)
        assert found.ignored == 1 / 8 and writer.highest == 1
        with pytest.raises(ValueError, match="rows are"):
            writer.write(np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint8))
        with pytest.raises(TypeError, match="uint8"):
            writer.write(np.zeros((2, 2, 3)), np.zeros((2, 2), np.uint8))


def test_scenes_are_written_row_by_row_and_mapped(tmp_path: Path) -> None:
    reported: list[tuple[str, int, int]] = []
    write_scenes(tmp_path / "a", 12, 32, 7, raw=made_up(), test=5, report=lambda *what: reported.append(what))
    found = MaskSet.open(tmp_path / "a")
    assert isinstance(found.train_images, np.memmap) and not found.train_images.flags.writeable
    assert found.train_images.shape == (12, 32, 32, 3) and found.test_masks.shape == (5, 32, 32)
    assert found.classes == SCENE_CLASSES and len(SCENE_CLASSES) == 11 and SCENE_CLASSES[1] == "T-shirt/top"
    assert reported[-1] == ("fashion-scenes: test", 4, 5) and "seed 7" in found.source
    raw = made_up()
    for part, images, masks, items in (
        ("train", found.train_images, found.train_masks, cut_out(raw.train_images, raw.train_labels)),
        ("test", found.test_images, found.test_masks, cut_out(raw.test_images, raw.test_labels)),
    ):
        image, mask = Scenes(items, 32, 7, part).scene(3)
        assert np.array_equal(images[3], image) and np.array_equal(masks[3], mask)
        counts = np.bincount(masks.ravel(), minlength=11)
        assert found.frequencies[part].pixels == pytest.approx(counts / masks.size, abs=1e-6)
        within = [(masks == index).any(axis=(1, 2)).mean() for index in range(11)]
        assert found.frequencies[part].images == pytest.approx(within, abs=1e-6)

    write_scenes(tmp_path / "b", 12, 32, 7, raw=made_up(), test=5)
    write_scenes(tmp_path / "c", 12, 32, 8, raw=made_up(), test=5)
    assert MaskSet.open(tmp_path / "b").digest == found.digest != MaskSet.open(tmp_path / "c").digest


def test_no_item_of_the_training_scenes_is_in_a_test_scene(tmp_path: Path) -> None:
    """Items of classes 0 to 4 for the training, 5 to 9 for the test: the masks have them one higher."""
    write_scenes(tmp_path / "set", 20, 32, 0, raw=made_up(), test=20)
    found = MaskSet.open(tmp_path / "set")
    assert set(np.unique(found.train_masks)) == {0, 1, 2, 3, 4, 5}
    assert set(np.unique(found.test_masks)) == {0, 6, 7, 8, 9, 10}


def test_memory_does_not_grow_with_the_scenes(tmp_path: Path) -> None:
    """60 scenes of 64 px are 0.98 MB."""
    tracemalloc.start()
    try:
        write_scenes(tmp_path / "set", 60, 64, 0, raw=made_up(), test=1)
        assert tracemalloc.get_traced_memory()[1] < 700_000
    finally:
        tracemalloc.stop()


def test_a_draft_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "set", 5, 32, 0, raw=made_up(), test=1, report=stop)
    assert list(tmp_path.iterdir()) == []


@real
def test_fashion_mnists_parts_share_no_image() -> None:
    raw = fashion_mnist_itself()
    train, test = ({one.tobytes() for one in images} for images in (raw.train_images, raw.test_images))
    assert (len(train), len(test)) == (60_000, 10_000) and not train & test


@real
def test_neither_brightness_nor_color_gives_the_class_away() -> None:
    """A single channel's rank statistic between items of a class and all others stays near that of chance, a half."""
    raw = fashion_mnist_itself()
    drawn = Scenes(cut_out(raw.test_images[:500], raw.test_labels[:500]), 32, 0, "test")
    rows = [drawn.scene(row) for row in range(150)]
    images, masks = (np.stack(arrays) for arrays in zip(*rows, strict=True))
    assert set(np.unique(masks)) == set(range(11)) and 0.5 < (masks == 0).mean() < 0.75
    item = masks > 0
    for index in range(1, 11):
        own, other = masks == index, item & (masks != index)
        for channel in (*np.moveaxis(images, 3, 0), images.max(axis=3), np.ptp(images, axis=3)):
            below, above = (np.bincount(channel[where], minlength=256) for where in (other, own))
            wins = (above * (np.cumsum(below) - below / 2)).sum()  # ties are half a win
            assert 0.3 < wins / (below.sum() * above.sum()) < 0.7


def test_the_named_data_set_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "fashion_mnist_itself", lambda downloads: made_up())

    def prepared() -> Path:
        return prepare_scenes(16, tmp_path, tmp_path / "work", quiet, count=4, test=2, seed=1)

    folder = prepared()
    assert folder.name == "fashion-scenes-16-4-2-1" and "made up" in MaskSet.open(folder).source
    other = prepare_scenes(
        16, tmp_path, tmp_path / "work", lambda *_: None, count=4, test=2, seed=1, arrangement=CATALOG
    )
    assert other.name == "fashion-scenes-catalog-16-4-2-1"
    monkeypatch.setattr(scenes, "write_scenes", None)
    assert prepared() == folder
