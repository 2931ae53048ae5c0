"""Decoding what people upload, and an image cache that survives kills, deletions and a second process."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as sized
from hypothesis import strategies as st
from PIL import Image

from backend.errors import ImageError, LabelStudioUnavailable
from backend.images.cache import ImageCache, frame_of
from backend.images.decoding import decode, decode_whole, dimensions, shown_size
from tests.backend.images.pictures import encoded, framed, gray, plain, side_of
from tests.backend.killing import kill_writer

RED, WHITE = (255, 0, 0), (255, 255, 255)


def middle(data: bytes, size: int = 32) -> tuple[int, ...]:
    """The color in the middle, which the whole image has too."""
    pixels = decode(data, size)
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8
    whole, _ = decode_whole(data, (size + 8, size))
    assert whole.shape == (size + 8, size, 3)
    assert whole.dtype == np.uint8
    assert np.abs(whole[size // 2, size // 2].astype(int) - pixels[size // 2, size // 2]).max() <= 1
    return tuple(pixels[size // 2, size // 2].tolist())


# -- decoding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "color"),
    [
        (encoded(plain(RED)), RED),
        (encoded(plain(RED), "JPEG", quality=95), RED),
        (encoded(plain(RED), "WEBP", lossless=True), RED),
        (encoded(plain(RED), "BMP"), RED),
        (encoded(plain(RED), "TIFF"), RED),
        (encoded(plain(77, mode="L")), (77, 77, 77)),
        (encoded(plain(1, mode="1")), WHITE),
        (encoded(plain((255, 0, 0, 0), mode="RGBA")), WHITE),
        (encoded(plain((255, 0, 0, 255), mode="RGBA")), RED),
        (encoded(plain((0, 128), mode="LA")), (127, 127, 127)),
        (encoded(plain(RED).quantize(4)), RED),
        (encoded(plain(RED).quantize(4), transparency=0), WHITE),
        (encoded(plain((0, 255, 255, 0), mode="CMYK"), "JPEG", quality=95), RED),
        (encoded(plain((0, 255, 255, 0), mode="CMYK"), "TIFF"), RED),
        (encoded(plain(200 * 257, mode="I;16")), (200, 200, 200)),
        (encoded(plain(200 * 257, mode="I;16"), "TIFF"), (200, 200, 200)),
        (encoded(plain(200 * 257, mode="I"), "TIFF"), (200, 200, 200)),
        (encoded(plain(0.5, mode="F"), "TIFF"), (127, 127, 127)),
        (encoded(plain(90.0, mode="F"), "TIFF"), (90, 90, 90)),
    ],
)
def test_every_usual_kind_of_image(data: bytes, color: tuple[int, ...]) -> None:
    assert np.abs(np.subtract(middle(data), color)).max() <= 2  # JPEG rounds


def test_an_animation_gives_its_first_frame() -> None:
    frames = [plain(RED), plain((0, 255, 0)), plain((0, 0, 255))]
    assert middle(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == RED


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = plain(WHITE, (320, 320))
    upright.paste(RED, (0, 0, 160, 160))
    upright.paste((0, 0, 255), (160, 0, 320, 160))
    stored = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # what undoes each orientation
    image = upright if stored is None else upright.transpose(Image.Transpose(stored))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, kind, exif=exif)
    assert np.abs(decode(data, 32).astype(int) - decode(encoded(upright), 32)).max() <= 60
    assert decode(data, 32)[4, 4, 2] < 60 < decode(data, 32)[4, 27, 2]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "AVIF", "TIFF"])
def test_whole_images_are_as_browsers_show_them(orientation: int, kind: str) -> None:
    upright = plain(WHITE, (1203, 401))  # a JPEG of it is decoded at a fraction that does not go into its sides
    upright.paste(RED, (0, 0, 600, 200))
    upright.paste((0, 0, 255), (600, 0, 1203, 200))
    stored = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # what undoes each orientation
    image = upright if stored is None else upright.transpose(Image.Transpose(stored))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, kind, exif=exif)
    pixels, shown = decode_whole(data, (40, 96))
    assert shown == shown_size(data) == (401, 1203)
    assert pixels.shape == (40, 96, 3)
    assert np.abs(pixels[4, 4].astype(int) - RED).max() < 60
    assert np.abs(pixels[4, 90].astype(int) - (0, 0, 255)).max() < 60
    assert pixels[25:].min() > 200


def test_whole_images_keep_every_place_where_it_was() -> None:
    """Edges at known shares of the image are at those shares of the frame, also of a JPEG decoded at an eighth."""
    high, wide = 1003, 1601
    for kind, options in (("PNG", {}), ("JPEG", {"quality": 95})):
        for share in (0.25, 0.5, 0.9, 0.98):
            picture = np.zeros((high, wide), np.uint8)
            picture[round(share * high) :] = 255
            upright = decode_whole(encoded(Image.fromarray(picture), kind, **options), (64, 96))[0]
            picture = np.zeros((high, wide), np.uint8)
            picture[:, round(share * wide) :] = 255
            sideways = decode_whole(encoded(Image.fromarray(picture), kind, **options), (64, 96))[0]
            # the dark share of a line through the frame is where the edge is, to a tenth of a pixel
            assert abs((255 - upright[:, 50, 0].astype(float)).sum() / 255 - 64 * share) < 0.1
            assert abs((255 - sideways[30, :, 0].astype(float)).sum() / 255 - 96 * share) < 0.1


def test_small_images_stay_whole() -> None:
    digit = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    pixels = decode(encoded(Image.fromarray(digit)), 32)
    assert np.array_equal(pixels[2:30, 2:30, 0], digit)  # no pixel is blurred
    assert np.array_equal(pixels[0, 2:30, 0], digit[0])  # and the border is its own
    wide = plain(WHITE, (40, 20))
    wide.paste(RED, (0, 0, 4, 20))
    assert tuple(decode(encoded(wide), 32)[16, 0]) == RED  # not cut off


def test_larger_images_are_scaled_and_cut_in_the_middle() -> None:
    wide = plain(WHITE, (300, 100))
    wide.paste(RED, (0, 0, 95, 100))  # outside the middle square
    assert decode(encoded(wide), 224).min() == 255
    assert decode(encoded(plain(RED, (10_000, 10))), 224).shape == (224, 224, 3)


def test_a_large_jpeg_decodes_to_what_a_png_of_it_does() -> None:
    ramp = np.linspace(0, 255, 1600, dtype=np.uint8)
    channels = [np.tile(ramp, (1200, 1)), np.tile(ramp[:1200, None], 1600), np.zeros((1200, 1600), np.uint8)]
    photo = Image.fromarray(np.stack(channels, -1))
    difference = decode(encoded(photo, "JPEG", quality=95), 224).astype(int) - decode(encoded(photo), 224)
    assert np.abs(difference).max() <= 4


def bomb() -> bytes:
    """A PNG of 60,000×60,000 pixels in a few bytes."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"just words", "not a readable image"),
        (b"<!DOCTYPE html><html><body>Log in</body></html>", "web page"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (encoded(plain(RED, (300, 300)), "JPEG")[:150], "not a readable image"),
        (encoded(Image.effect_noise((64, 64), 99))[:40], "not a readable image"),
        (bomb(), "more pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not a readable image"),  # never Ghostscript
    ],
)
def test_unreadable_images_say_why(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decode(data, 32)
    with pytest.raises(ImageError, match=words):
        decode_whole(data, (32, 40))


def test_dimensions() -> None:
    assert dimensions(encoded(plain(RED, (7, 9)))) == (7, 9)
    with pytest.raises(ImageError):
        dimensions(b"no")
    assert shown_size(encoded(plain(RED, (7, 9)))) == (9, 7)
    for broken in (b"no", bomb(), b""):
        with pytest.raises(ImageError):
            shown_size(broken)


# -- cache -------------------------------------------------------------------------------------------------------------


class Store:
    """Sources "<value>" are gray images of that value; counts what is fetched."""

    def __init__(self) -> None:
        self.fetched: list[tuple[int, str]] = []
        self.guard = threading.Lock()

    def __call__(self, task: int, source: str) -> bytes:
        with self.guard:
            self.fetched.append((task, source))
        if not source.isdigit():
            raise ImageError(f"no {source}")
        return gray(int(source))


def values(cache: ImageCache, tasks: list[int]) -> list[int]:
    rows = cache.rows(tasks)
    pixels = cache.pixels
    return [int(pixels[row, 0, 0, 0]) if row >= 0 else -1 for row in rows]


def test_each_image_is_fetched_once(tmp_path: Path) -> None:
    store, seen = Store(), []
    tasks = [(number, str(number)) for number in range(1, 101)]
    cache = ImageCache(tmp_path / "cache", 32)
    assert cache.pixels.shape == (0, 32, 32, 3)
    assert cache.sync(tasks, store, 4, lambda *progress: seen.append(progress)) == []
    assert values(cache, [1, 50, 100, 101]) == [1, 50, 100, -1]
    assert seen[-1] == ("images", 100, 100)
    assert sorted(store.fetched) == tasks
    again = ImageCache(tmp_path / "cache", 32)
    assert again.sync([*tasks, (200, "200")], store, 4) == []
    assert store.fetched[100:] == [(200, "200")]
    assert values(again, [100, 200]) == [100, 200]
    assert again.pixels.shape == (101, 32, 32, 3)
    with pytest.raises(ValueError, match="read-only"):
        again.pixels[0] = 0


def test_broken_images_are_set_aside_and_tried_again(tmp_path: Path) -> None:
    store = Store()
    cache = ImageCache(tmp_path, 32)
    broken = cache.sync([(1, "1"), (2, "gone"), (3, "3")], store)
    assert [(b.task_id, b.source, b.reason) for b in broken] == [(2, "gone", "no gone")]
    assert values(cache, [1, 2, 3]) == [1, -1, 3]
    assert cache.sync([(1, "1"), (2, "2"), (3, "3")], store) == []
    assert values(cache, [1, 2, 3]) == [1, 2, 3]


def test_a_changed_source_is_fetched_again(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 32)
    cache.sync([(1, "1"), (2, "2")], Store())
    store = Store()
    assert [b.task_id for b in cache.sync([(1, "9"), (2, "gone")], store)] == [2]
    assert sorted(store.fetched) == [(1, "9"), (2, "gone")]
    assert values(cache, [1, 2]) == [9, -1]  # the old picture of 2 would be a lie
    assert values(ImageCache(tmp_path, 32), [1, 2]) == [9, -1]


def test_rows_of_deleted_tasks_are_used_again(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 32)
    cache.sync([(number, str(number)) for number in range(10)], Store())
    freed = sorted(cache.rows([3, 4]))
    cache.forget({3, 4, 99})
    assert sorted(cache.task_ids()) == [0, 1, 2, 5, 6, 7, 8, 9]
    cache.sync([(20, "20"), (21, "21")], Store())
    assert sorted(cache.rows([20, 21])) == freed
    assert values(cache, [20, 21, 3, 9]) == [20, 21, -1, 9]
    assert len(cache.pixels) == 10


def test_a_second_process_reads_what_the_first_writes(tmp_path: Path) -> None:
    writer = ImageCache(tmp_path, 32)
    reader = ImageCache(tmp_path, 32)
    assert values(reader, [1]) == [-1]
    writer.sync([(1, "1")], Store())
    assert values(reader, [1]) == [1]
    writer.sync([(2, "2")], Store())
    writer.forget([1])
    assert values(reader, [1, 2]) == [-1, 2]
    code = (
        "import sys; from backend.images.cache import ImageCache; c = ImageCache(sys.argv[1], 32); "
        "print(c.pixels[c.rows([2])[0], 5, 5, 1])"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "2"


@pytest.mark.parametrize("damage", [lambda index: index[:-5], lambda index: b"\0" * len(index), lambda index: b""])
def test_a_damaged_index_costs_a_download_and_nothing_else(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    ImageCache(tmp_path, 32).sync([(1, "1"), (2, "2")], Store())
    (tmp_path / "index").write_bytes(damage((tmp_path / "index").read_bytes()))
    cache = ImageCache(tmp_path, 32)
    assert values(cache, [1]) == [-1]
    cache.sync([(1, "1")], Store())
    assert values(ImageCache(tmp_path, 32), [1, 2]) == [1, -1]


def test_lost_pixels_are_noticed(tmp_path: Path) -> None:
    ImageCache(tmp_path, 32).sync([(1, "1"), (2, "2")], Store())
    os.truncate(tmp_path / "pixels.u8", 32 * 32 * 3)
    cache = ImageCache(tmp_path, 32)
    assert values(cache, [1, 2]) == [-1, -1]


def test_what_ends_the_sync_keeps_what_was_done(tmp_path: Path) -> None:
    def fetch(task: int, source: str) -> bytes:
        if task == 40:
            raise LabelStudioUnavailable("down")
        return gray(task)

    cache = ImageCache(tmp_path, 32)
    with pytest.raises(LabelStudioUnavailable):
        cache.sync([(number, "x") for number in range(1, 200)], fetch, 2)
    kept = ImageCache(tmp_path, 32).task_ids()
    assert 40 not in kept
    assert 20 <= len(kept) <= 50  # nothing was begun long after the failure

    def stop(phase: str, done: int, total: int) -> None:
        if done == 10:
            raise RuntimeError("lease lost")

    with pytest.raises(RuntimeError, match="lease lost"):
        cache.sync([(number, "5") for number in range(1000, 1100)], Store(), 2, stop)
    assert len(set(ImageCache(tmp_path, 32).task_ids()) & set(range(1000, 1100))) == 10


def test_images_are_fetched_in_the_given_order(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(96).tolist()
    cache, store = ImageCache(tmp_path, 32), Store()
    cache.sync([(task, str(task)) for task in order[:10]], store)
    store.fetched.clear()
    cache.sync([(task, str(task)) for task in [*order[50:], *order[:50]]], store, 1)
    assert [task for task, _ in store.fetched] == [*order[50:], *order[10:50]]
    store.fetched.clear()
    together = threading.Barrier(8)

    def fetch(task: int, source: str) -> bytes:
        data = store(task, source)
        together.wait(60)  # each of the threads has one before any takes another
        return data

    ImageCache(tmp_path / "in threads", 32).sync([(task, str(task)) for task in order], fetch, 8)
    begun = [task for task, _ in store.fetched]
    assert [set(begun[at : at + 8]) for at in range(0, 96, 8)] == [set(order[at : at + 8]) for at in range(0, 96, 8)]


class Watch:
    """A clock that stands still but for the images: each takes a second."""

    def __init__(self) -> None:
        self.now, self.store, self.guard = 100.0, Store(), threading.Lock()

    def __call__(self) -> float:
        return self.now

    def fetch(self, task: int, source: str) -> bytes:
        data = self.store(task, source)
        with self.guard:
            self.now += 1
        return data


def test_what_takes_too_long_is_left_for_later(tmp_path: Path) -> None:
    tasks = [(task, str(task)) for task in (5, 3, 8, 1, 9, 2, 7)]
    cache, watch, seen = ImageCache(tmp_path, 32), Watch(), []
    assert cache.sync(tasks, watch.fetch, 1, lambda *step: seen.append(step), seconds=3, clock=watch) == []
    assert values(cache, [task for task, _ in tasks]) == [5, 3, 8, -1, -1, -1, -1]
    assert seen == [("images", 1, 7), ("images", 2, 7), ("images", 3, 7)]
    assert cache.sync(tasks, watch.fetch, 1, seconds=3.5, clock=watch) == []
    assert [task for task, _ in watch.store.fetched] == [task for task, _ in tasks]  # each of them once
    assert values(ImageCache(tmp_path, 32), [task for task, _ in tasks]) == [5, 3, 8, 1, 9, 2, 7]
    assert cache.sync(tasks, watch.fetch, 1, seconds=0, clock=watch) == []  # nothing is missing


@pytest.mark.parametrize("workers", [1, 4])
def test_one_image_is_tried_however_little_time_there_is(tmp_path: Path, workers: int) -> None:
    tasks = [(2, "gone"), *((task, str(task)) for task in range(3, 60))]
    cache, watch = ImageCache(tmp_path, 32), Watch()
    assert [item.task_id for item in cache.sync(tasks, watch.fetch, workers, seconds=0, clock=watch)] == [2]
    assert watch.store.fetched == [(2, "gone")] and cache.task_ids() == []
    cache.sync(tasks[1:], watch.fetch, workers, seconds=0, clock=watch)
    assert cache.task_ids() == [3]


def test_what_has_begun_in_time_is_finished(tmp_path: Path) -> None:
    cache, watch, together = ImageCache(tmp_path, 32), Watch(), threading.Barrier(4)

    def fetch(task: int, source: str) -> bytes:
        together.wait(60)  # all four threads are at work before the first second is over
        return watch.fetch(task, source)

    cache.sync([(task, str(task)) for task in range(50)], fetch, 4, seconds=1, clock=watch)
    assert sorted(cache.task_ids()) == [0, 1, 2, 3]


def test_few_images_are_on_their_way_at_a_time(tmp_path: Path) -> None:
    begun, most, done = 0, 0, 0
    guard = threading.Lock()

    def fetch(task: int, source: str) -> bytes:
        nonlocal begun, most
        with guard:
            begun += 1
            most = max(most, begun - done)
        return gray(1)

    def progress(phase: str, finished: int, total: int) -> None:
        nonlocal done
        done = finished

    ImageCache(tmp_path, 32).sync([(number, "x") for number in range(400)], fetch, 3, progress)
    assert begun == 400
    assert most <= 4 * 3


WRITER = """
import os, sys
from pathlib import Path
from backend.images import cache as images
from backend.images import row_cache
from tests.backend.images.pictures import gray
row_cache._BATCH_ROWS = 8
cache = images.ImageCache(Path(sys.argv[1]), 32)
def progress(phase, done, total):
    print(done, flush=True)
tasks = [(n, str(n % 250)) for n in range(int(sys.argv[2]), 100000)]
cache.sync(tasks, lambda task, source: gray(int(source)), 2, progress)
"""


def test_kill_at_any_time_loses_at_most_the_last_batch(tmp_path: Path) -> None:
    first = 0
    for kill_after in (1, 7, 8, 9, 30, 100):
        finished = kill_writer(WRITER, tmp_path, first, kill_after)
        cache = ImageCache(tmp_path, 32)
        kept = [task for task in cache.task_ids() if task >= first]
        assert finished - 8 <= len(kept) <= finished + 2
        everything = cache.task_ids()
        assert values(cache, everything) == [task % 250 for task in everything]  # whole and the right ones
        first += 10_000
    # and it goes on, rows in one piece
    cache.sync([(5, "5"), (200_000, "77")], Store())
    assert values(cache, [5, 200_000]) == [5, 77]


FULL = """
import resource, signal, sys
from pathlib import Path
from backend.images.cache import ImageCache
from tests.backend.images.pictures import gray
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50 * 32 * 32 * 3, resource.RLIM_INFINITY))
try:
    ImageCache(Path(sys.argv[1]), 32).sync([(n, str(n)) for n in range(200)], lambda task, source: gray(task))
except OSError as error:
    print(type(error).__name__)
"""


def test_a_full_disk_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "OSError"
    cache = ImageCache(tmp_path, 32)
    kept = cache.task_ids()
    assert len(kept) >= 40
    assert values(cache, kept) == kept
    assert cache.sync([(number, str(number)) for number in range(200)], Store()) == []
    assert values(cache, list(range(200))) == list(range(200))


# -- whole images ------------------------------------------------------------------------------------------------------


def test_whole_images_lie_in_their_frame_with_their_own_sizes(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, (32, 48))
    assert cache.frame == (32, 48)
    assert cache.pixels.shape == (0, 32, 48, 3)
    assert cache.sizes(np.zeros(0, np.int64)).shape == (0, 2)
    assert cache.sync([(task, str(task)) for task in range(30)], framed) == []
    assert cache.pixels.shape == (30, 32, 48, 3)
    tasks = [7, 3, 29]
    rows = cache.rows(tasks)
    assert cache.sizes(rows).tolist() == [list(side_of(task)) for task in tasks]
    assert [np.unique(cache.pixels[row]).tolist() for row in rows] == [[task] for task in tasks]
    cache.forget([7])
    cache.sync([(100, "100"), (3, "33")], framed)
    again = ImageCache(tmp_path, (32, 48))
    assert values(again, [7, 100, 3, 29]) == [-1, 100, 33, 29]
    assert again.sizes(again.rows([100, 3])).tolist() == [list(side_of(100)), list(side_of(3))]
    sizes = np.fromfile(tmp_path / "sizes.u32", "<u4").reshape(-1, 2)  # as it is on disk
    assert sizes[again.rows([29])[0]].tolist() == list(side_of(29))


def test_a_cache_of_another_frame_or_without_its_sizes_is_empty(tmp_path: Path) -> None:
    ImageCache(tmp_path, (32, 48)).sync([(1, "1"), (2, "2")], framed)
    assert ImageCache(tmp_path, (48, 32)).task_ids() == []
    assert ImageCache(tmp_path, 32).task_ids() == []
    assert sorted(ImageCache(tmp_path, (32, 48)).task_ids()) == [1, 2]
    os.truncate(tmp_path / "sizes.u32", 8)
    assert ImageCache(tmp_path, (32, 48)).task_ids() == []
    (tmp_path / "sizes.u32").unlink()
    assert ImageCache(tmp_path, (32, 48)).task_ids() == []


def test_a_running_installation_keeps_its_images(tmp_path: Path) -> None:
    """The cache of a classifier byte for byte as it has been from the first release on: nothing is fetched again."""
    pixels = np.arange(3 * 16 * 16 * 3, dtype=np.uint32).astype(np.uint8).reshape(3, 16, 16, 3)
    folder = tmp_path / "images-16"
    folder.mkdir()
    (folder / "pixels.u8").write_bytes(pixels.tobytes())
    digests = [hashlib.blake2b(source.encode(), digest_size=16).digest() for source in ("a", "b")]
    payload = struct.pack("<3q", 5, -1, 9) + digests[0] + bytes(16) + digests[1]
    head = {"format": 1, "size": 16, "rows": 3, "crc": zlib.crc32(payload)}
    (folder / "index").write_bytes(json.dumps(head).encode() + b"\n" + payload)
    store = Store()
    cache = ImageCache.open_auto(tmp_path, 16, [], store)
    assert cache.sync([(5, "a"), (9, "b")], store) == []
    assert store.fetched == []
    assert np.array_equal(cache.pixels, pixels)
    assert cache.rows([5, 9, 7]).tolist() == [0, 2, -1]
    cache.sync([(7, "77")], store)
    for opened in (cache, ImageCache(folder, 16)):
        assert opened.rows([5, 9, 7]).tolist() == [0, 2, 1]
        assert np.array_equal(opened.pixels[[0, 2]], pixels[[0, 2]])
    assert cache.sync([(5, "a"), (9, "b"), (7, "77")], store) == []
    assert store.fetched == [(7, "77")]
    assert sorted(path.name for path in folder.iterdir()) == ["index", "layout.json", "lock", "pixels.u8"]


WRITER_OF_WHOLE = """
import sys
from pathlib import Path
from backend.images import cache as images
from backend.images import row_cache
from tests.backend.images.pictures import framed
row_cache._BATCH_ROWS = 8
cache = images.ImageCache(Path(sys.argv[1]), (32, 40))
def progress(phase, done, total):
    print(done, flush=True)
cache.sync([(n, str(n % 250)) for n in range(int(sys.argv[2]), 100000)], framed, 2, progress)
"""


def test_a_kill_leaves_whole_images_with_their_own_sizes(tmp_path: Path) -> None:
    first = 0
    for kill_after in (1, 8, 30, 75):
        finished = kill_writer(WRITER_OF_WHOLE, tmp_path, first, kill_after)
        cache = ImageCache(tmp_path, (32, 40))
        kept = [task for task in cache.task_ids() if task >= first]
        assert finished - 8 <= len(kept) <= finished + 2
        everything = cache.task_ids()
        assert values(cache, everything) == [task % 250 for task in everything]
        assert cache.sizes(cache.rows(everything)).tolist() == [list(side_of(task)) for task in everything]
        first += 10_000


# -- choosing a size ---------------------------------------------------------------------------------------------------


def test_the_size_follows_the_first_images_and_is_remembered(tmp_path: Path) -> None:
    small = ImageCache.open_auto(tmp_path / "a", 0, [(1, "gone"), (2, "2"), (3, "3")], Store())
    assert small.frame == (32, 32)
    assert small.directory == tmp_path / "a" / "images-32"
    large = ImageCache.open_auto(tmp_path / "b", 0, [(1, "x")], lambda task, source: encoded(plain(RED, (41, 20))))
    assert large.frame == (224, 224)
    store = Store()
    assert ImageCache.open_auto(tmp_path / "b", 0, [(1, "1")], store).frame == (224, 224)
    assert store.fetched == []  # it was decided before
    assert ImageCache.open_auto(tmp_path / "b", 64, [], store).frame == (64, 64)  # the owner knows better
    assert json.loads((tmp_path / "b" / "image-size.json").read_text())["size"] == 224


def test_no_size_is_decided_without_an_image(tmp_path: Path) -> None:
    assert ImageCache.open_auto(tmp_path, 0, [(1, "gone")], Store()).frame == (224, 224)
    assert ImageCache.open_auto(tmp_path, 0, [(1, "1")], Store()).frame == (32, 32)


def pictures(*sizes: tuple[int, int]) -> Callable[[int, str], bytes]:
    """Task n has a picture of the n-th (height, width), the rest is gone."""

    def fetch(task: int, source: str) -> bytes:
        if not 0 < task <= len(sizes):
            raise ImageError("gone")
        return encoded(plain(RED, sizes[task - 1][::-1]))

    return fetch


@pytest.mark.parametrize(
    ("sizes", "size", "largest", "frame"),
    [
        ([(100, 200)], 0, 256, (104, 200)),  # multiples of 8
        ([(480, 640)], 0, 256, (192, 256)),
        ([(480, 640)], 0, 1024, (480, 640)),
        ([(640, 480)], 0, 256, (256, 192)),
        ([(640, 480)], 100, 256, (104, 80)),  # asked for: 100 is no multiple of 8
        ([(640, 480)], 512, 256, (512, 384)),  # what was asked for is more than the usual
        ([(20, 20)], 0, 256, (32, 32)),
        ([(10, 3000)], 0, 256, (32, 256)),
        ([(100, 100), (100, 300), (100, 200)], 0, 256, (128, 256)),  # the shape in the middle, the longest side
        ([], 0, 256, (256, 256)),
        ([], 128, 256, (128, 128)),
    ],
)
def test_the_frame_follows_the_first_images(
    tmp_path: Path, sizes: list[tuple[int, int]], size: int, largest: int, frame: tuple[int, int]
) -> None:
    tasks = [(number, str(number)) for number in range(1, len(sizes) + 3)]
    cache = ImageCache.open_whole(tmp_path, size, tasks, pictures(*sizes), largest)
    assert cache.frame == frame
    assert cache.directory == tmp_path / f"frame-{frame[0]}x{frame[1]}"
    store = Store()
    again = ImageCache.open_whole(tmp_path, size, [], store, 32)  # it was decided before
    assert again.frame == (frame if sizes or size else (32, 32))
    assert store.fetched == []
    assert (tmp_path / "frame.json").exists() == bool(sizes)  # without an image nothing is decided


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"aspect": 0, "size": 64}', '{"aspect": NaN, "size": 64}'])
def test_a_damaged_frame_is_decided_again(tmp_path: Path, damage: str) -> None:
    (tmp_path / "frame.json").write_text(damage)
    assert ImageCache.open_whole(tmp_path, 0, [(1, "1")], pictures((64, 32)), 256).frame == (64, 32)
    assert json.loads((tmp_path / "frame.json").read_text())["size"] == 64


def test_a_photograph_held_upright_counts_as_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(plain(RED, (640, 320)), "JPEG", exif=exif)
    assert ImageCache.open_whole(tmp_path, 0, [(1, "1")], lambda task, source: data, 256).frame == (256, 128)


@sized(max_examples=200)
@given(st.floats(1e-4, 1e4), st.integers(16, 1024))
def test_every_frame_is_of_use_to_a_network(aspect: float, longer: int) -> None:
    high, wide = frame_of(aspect, longer)
    assert high % 8 == wide % 8 == 0 and min(high, wide) >= 32
    assert abs(max(high, wide) - max(32, longer)) <= 4
    if min(high, wide) > 32:  # the shape is that of the images, but for the rounding
        assert abs(wide - aspect * high) <= 4 * (1 + aspect) * (1 + 1e-9)  # both rounded by 4, and then by a float
