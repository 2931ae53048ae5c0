"""models.data, models.pixels, models.inference.streaming and models.training.rows."""

from __future__ import annotations

import threading
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.data import (
    ClassTargets,
    CycleData,
    DataError,
    MaskTargets,
    MultilabelTargets,
    Runtime,
    Targets,
    targets_of,
)
from models.inference.streaming import FLUSH_EVERY, evaluating, map_rows, one_by_one, stream_batches
from models.pixels import MEAN, STD, augment, normalize
from models.training.rows import TrainingRows, batches_per_epoch, endless_positions, epoch_positions

CPU = torch.device("cpu")


def memmap_of(tmp_path: Path, count: int, size: int = 8) -> np.ndarray:
    """`count` images, image i filled with the value i mod 251."""
    pixels = np.empty((count, size, size, 3), dtype=np.uint8)
    pixels[:] = (np.arange(count) % 251)[:, None, None, None]
    np.save(tmp_path / "pixels.npy", pixels)
    return np.load(tmp_path / "pixels.npy", mmap_mode="r")


def rows(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


# --- CycleData and Runtime ---


IMAGES = np.zeros((4, 8, 8, 3), dtype=np.uint8)
MASKS = np.zeros((2, 8, 8), dtype=np.uint8)
CHOSEN = np.array([[0, 1], [1, 1]], dtype=np.uint8)
GOOD: dict[str, Targets] = {
    "classification": ClassTargets(rows(0, 1)),
    "multilabel": MultilabelTargets(CHOSEN),
    "segmentation": MaskTargets(MASKS, rows(1, 0)),
}


def cycle_data(task: str, **change: Any) -> CycleData:
    """Two labeled and two unlabeled images of two classes."""
    good: dict[str, Any] = {
        "pixels": IMAGES,
        "labeled": rows(0, 1),
        "unlabeled": rows(2, 3),
        "targets": GOOD[task],
        "num_classes": 2,
    }
    return CycleData(**(good | change))


@pytest.mark.parametrize("task", GOOD)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labeled": rows(0, 9)}, "rows must lie in"),
        ({"unlabeled": rows(-1)}, "rows must lie in"),  # the image cache answers -1 for "not there"
        ({"labeled": np.array([0.0, 1.0])}, "vector of integers"),
        ({"num_classes": 0}, "num_classes"),
        ({"pixels": np.zeros((4, 8, 8, 3))}, "uint8"),
    ],
)
def test_cycle_data_refuses_what_does_not_fit(task: str, change: dict[str, Any], words: str) -> None:
    assert cycle_data(task).task == task
    with pytest.raises(DataError, match=words):
        cycle_data(task, **change)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (ClassTargets(rows(0)), "one per label"),
        (ClassTargets(np.array([0.0, 1.0])), "must be integers"),
        (ClassTargets(rows(0, 2)), "targets must lie in"),
        (ClassTargets(rows(-1, 0)), "targets must lie in"),
        (MultilabelTargets(CHOSEN[:1]), "a row per label"),
        (MultilabelTargets(CHOSEN[:, :1]), "a column per class"),
        (MultilabelTargets(CHOSEN.astype(np.int64)), "uint8"),
        (MultilabelTargets(2 * CHOSEN), "0 or 1"),
        (MaskTargets(MASKS, rows(0)), "one per label"),
        (MaskTargets(np.zeros((2, 8, 6), dtype=np.uint8), rows(0, 1)), "masks must be"),
        (MaskTargets(MASKS.astype(np.int64), rows(0, 1)), "masks must be"),
        (MaskTargets(MASKS[:1], rows(0, 1)), "rows must lie in"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets: Targets, words: str) -> None:
    with pytest.raises(DataError, match=words):
        cycle_data(targets.task, targets=targets)


def test_only_masks_go_with_images_that_are_not_square() -> None:
    wide = np.zeros((4, 8, 6, 3), dtype=np.uint8)
    for task in ("classification", "multilabel"):
        with pytest.raises(DataError, match="must be square"):
            cycle_data(task, pixels=wide)
    data = cycle_data("segmentation", pixels=wide, targets=MaskTargets(MASKS[:, :, :6], rows(0, 1)))
    assert (data.frame, data.image_size) == ((8, 6), 8)


@pytest.mark.parametrize("task", GOOD)
def test_part_of_the_targets_goes_with_part_of_the_labels(task: str) -> None:
    places = np.array([1])
    part = cycle_data(task, labeled=rows(0, 1)[places], targets=GOOD[task].at(places))
    kept = {"classification": "classes", "multilabel": "chosen", "segmentation": "rows"}[task]
    expected = {"classification": [1], "multilabel": [[1, 1]], "segmentation": [0]}[task]
    assert getattr(part.targets, kept).tolist() == expected
    assert len(GOOD[task].at(slice(0))) == 0


def test_targets_of_another_kind_than_asked_for_are_an_error() -> None:
    assert targets_of(cycle_data("multilabel"), MultilabelTargets).chosen is CHOSEN
    with pytest.raises(DataError, match="classification, and those of the data are of multilabel"):
        targets_of(cycle_data("multilabel"), ClassTargets)


def test_generators_depend_on_seed_and_purpose_only() -> None:
    def draw(seed: int, purpose: str) -> tuple[float, float]:
        runtime = Runtime(CPU, seed)
        return torch.rand((), generator=runtime.generator(purpose)).item(), runtime.rng(purpose).random()

    assert draw(1, "train") == draw(1, "train")
    assert len({draw(seed, purpose) for seed in (0, 1, 2**40, -1) for purpose in ("train", "vae")}) == 8


# --- pixels ---


def test_normalize_by_hand() -> None:
    images = torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8)
    expected = [(value / 255 - mean) / std for value, mean, std in zip((0, 128, 255), MEAN, STD, strict=True)]
    result = normalize(images)
    assert result.shape == (1, 3, 1, 1)
    assert result.flatten().tolist() == pytest.approx(expected, rel=1e-5)
    halves = normalize(images, (0.5,) * 3, (0.5,) * 3)
    assert halves.flatten().tolist() == pytest.approx([-1.0, 128 / 127.5 - 1, 1.0], abs=1e-5)


def test_normalize_keeps_channels_last() -> None:
    result = normalize(torch.zeros(2, 8, 8, 3, dtype=torch.uint8))
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_normalized_images_can_be_trained_on_after_scoring_in_inference_mode() -> None:
    images, factors = torch.zeros(1, 4, 4, 3, dtype=torch.uint8), ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    with torch.inference_mode():
        normalize(images, *factors)  # fills the cache of constants
    weight = torch.ones(1, requires_grad=True)
    (normalize(images, *factors) * weight).sum().backward()
    assert weight.grad is not None


def shifted(image: np.ndarray, dy: int, dx: int, mirrored: bool, pad: int) -> np.ndarray:
    """The slow way: pad, cut, mirror."""
    size = image.shape[0]
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    cut = padded[pad + dy : pad + dy + size, pad + dx : pad + dx + size]
    return cut[:, ::-1] if mirrored else cut


def test_augment_gives_padded_crops_and_mirrors_and_all_of_them() -> None:
    size, pad = 8, 1
    image = np.random.default_rng(0).integers(1, 256, (size, size, 3), dtype=np.uint8)
    allowed = {
        shifted(image, dy, dx, mirrored, pad).tobytes(): (dy, dx, mirrored)
        for dy in range(-pad, pad + 1)
        for dx in range(-pad, pad + 1)
        for mirrored in (False, True)
    }
    batch = torch.from_numpy(np.repeat(image[None], 600, axis=0))
    result = augment(batch, torch.Generator().manual_seed(0))
    assert result.dtype == torch.uint8
    seen = [allowed[one.numpy().tobytes()] for one in result]  # KeyError: not a crop of the padded image
    assert set(seen) == set(allowed.values())  # 18 outcomes, 600 draws: a missing one is a bug, not chance


def test_augment_pads_by_four_at_32_pixels() -> None:
    white = torch.full((400, 32, 32, 3), 255, dtype=torch.uint8)
    result = augment(white, torch.Generator().manual_seed(1))
    black_lines = (result[:, :, 16, 0] == 0).sum(dim=1)
    assert black_lines.max() == 4
    assert black_lines.min() == 0


def test_augment_draws_per_seed() -> None:
    batch = torch.randint(0, 256, (8, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first, again, other = (augment(batch, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# --- streaming ---


def test_stream_gives_every_batch_in_order(tmp_path: Path) -> None:
    pixels = memmap_of(tmp_path, 50)
    plan = [rows(3, 4), rows(49), rows(0, 7, 7)]
    batches = [batch[:, 0, 0, 0].tolist() for batch in stream_batches(pixels, plan, CPU)]
    assert batches == [[3, 4], [49], [0, 7, 7]]


def test_rows_one_by_one_come_in_order_as_copies(tmp_path: Path) -> None:
    pixels = memmap_of(tmp_path, 9)
    seen = list(one_by_one(pixels, rows(7, 2, 2, 8)))
    assert [one.shape for one in seen] == [(1, 8, 8, 3)] * 4
    assert [int(one[0, 0, 0, 0]) for one in seen] == [7, 2, 2, 8]
    seen[0].zero_()  # the file is read-only
    assert pixels[7, 0, 0, 0] == 7


def test_stream_of_endless_batches_ends_its_thread_when_closed(tmp_path: Path) -> None:
    pixels = memmap_of(tmp_path, 10)

    def forever():
        while True:
            yield rows(1, 2)

    stream = stream_batches(pixels, forever(), CPU)
    assert next(stream).shape == (2, 8, 8, 3)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-rows")]


def test_read_error_reaches_the_caller() -> None:
    class Broken(np.ndarray):
        def take(self, *args: object, **kwargs: object) -> np.ndarray:
            raise OSError("disk gone")

    broken = np.zeros((4, 8, 8, 3), np.uint8).view(Broken)
    with pytest.raises(OSError, match="disk gone"):
        list(stream_batches(broken, [rows(0)], CPU))


def test_unsaved_changes_of_a_private_mapping_survive_reading(tmp_path: Path) -> None:
    memmap_of(tmp_path, 4)
    private = np.load(tmp_path / "pixels.npy", mmap_mode="c")
    private[2] = 99
    first = next(stream_batches(private, [rows(2)], CPU))
    assert first[0, 0, 0, 0] == 99
    assert private[2, 0, 0, 0] == 99


def resident_bytes_of_files() -> int:
    """Bytes of file mappings in this process's memory now."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if "RssFile" in line)
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_memory_does_not_grow_with_the_pool(tmp_path: Path) -> None:
    count, size = 20_000, 32  # 61 MB
    pixels = np.lib.format.open_memmap(tmp_path / "big.npy", mode="w+", dtype=np.uint8, shape=(count, size, size, 3))
    pixels.flush()
    del pixels
    pool = np.load(tmp_path / "big.npy", mmap_mode="r")
    before = resident_bytes_of_files()
    most = 0

    def compute(images: torch.Tensor) -> tuple[torch.Tensor]:
        nonlocal most
        most = max(most, resident_bytes_of_files())
        return (images[:, 0, 0, 0],)

    (values,) = map_rows(pool, np.arange(count), Runtime(CPU, 0), compute)
    assert values.shape == (count,)
    assert most - before < 8 << 20


@pytest.mark.parametrize("batch_size", [1, 3, 64, 1000])
def test_map_rows_answers_in_the_order_asked(tmp_path: Path, batch_size: int) -> None:
    pixels = memmap_of(tmp_path, 200)
    asked = np.random.default_rng(0).permutation(200)[: 2 * FLUSH_EVERY + 5]
    progress: list[tuple[str, int, int]] = []
    runtime = Runtime(CPU, 0, lambda *step: progress.append(step), batch_size)

    def compute(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert images.is_inference() or not torch.is_grad_enabled()
        return images[:, 0, 0, 0], images.float().mean(dim=(1, 2))

    first, means = map_rows(pixels, asked, runtime, compute, "look")
    assert first.dtype == np.uint8
    assert first.tolist() == asked.tolist()
    assert means.tolist() == np.repeat(asked[:, None], 3, axis=1).tolist()
    assert progress[-1] == ("look", len(asked), len(asked))
    assert [done for _, done, _ in progress] == sorted({done for _, done, _ in progress})


def test_progress_that_raises_stops_the_pass(tmp_path: Path) -> None:
    pixels = memmap_of(tmp_path, 100)

    def stop(phase: str, done: int, total: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_rows(pixels, np.arange(100), Runtime(CPU, 0, stop, 10), lambda images: (images[:, 0, 0, 0],))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-rows")]


def test_evaluating_restores_every_module(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Sequential(torch.nn.Dropout()))
    net.train()
    net[0].eval()  # a frozen normalization inside a network in training
    with pytest.raises(RuntimeError, match="boom"), evaluating(net):
        assert not any(module.training for module in net.modules())
        raise RuntimeError("boom")
    assert [module.training for module in net.modules()] == [True, False, True, True]


# --- rows for training ---


@pytest.mark.parametrize("count", [1, 2, 3, 127, 128, 129, 257, 1000])
@pytest.mark.parametrize("batch_size", [1, 2, 16, 128])
def test_epoch_has_every_row_once_and_no_batch_of_one(count: int, batch_size: int) -> None:
    batches = epoch_positions(count, batch_size, torch.Generator().manual_seed(0))
    assert len(batches) == batches_per_epoch(count, batch_size)
    sizes = [len(batch) for batch in batches]
    assert min(sizes) >= 2
    assert max(sizes) <= max(batch_size + 1, 3)
    assert max(sizes) - min(sizes) <= 1
    everything = sorted(torch.cat(batches).tolist())
    assert everything == ([0, 0] if count == 1 else list(range(count)))


def test_the_papers_thousand_labels_make_eight_batches() -> None:
    assert batches_per_epoch(1000, 128) == 8
    assert batches_per_epoch(1024, 128) == 8


@pytest.mark.parametrize(("count", "batch_size"), [(1, 4), (3, 8), (10, 4), (8, 8)])
def test_endless_positions_are_full_and_even(count: int, batch_size: int) -> None:
    batches = list(islice(endless_positions(count, batch_size, torch.Generator().manual_seed(0)), 3 * count))
    assert {len(batch) for batch in batches} == {batch_size}
    drawn = torch.bincount(torch.cat(batches), minlength=count)
    assert drawn.tolist() == [3 * batch_size] * count  # whole epochs: every row equally often


@pytest.mark.parametrize("resident_bytes", [0, 1 << 30])
def test_training_rows_resident_or_streamed_give_the_same_rows(tmp_path: Path, resident_bytes: int) -> None:
    pixels = memmap_of(tmp_path, 60)
    chosen = np.array([50, 3, 17, 44, 8], dtype=np.int64)
    source = TrainingRows(pixels, chosen, Runtime(CPU, 0), resident_bytes)
    assert source.resident is (resident_bytes > 0)
    generator = torch.Generator(source.device).manual_seed(4)
    seen = []
    for positions, images in source.batches(epoch_positions(5, 2, generator)):
        assert images[:, 0, 0, 0].tolist() == chosen[positions.numpy()].tolist()
        seen += positions.tolist()
    assert sorted(seen) == [0, 1, 2, 3, 4]
    endless = source.endless(4, generator)
    for positions, images in islice(endless, 6):
        assert images[:, 0, 0, 0].tolist() == chosen[positions.numpy()].tolist()
        assert len(positions) == 4
    endless.close()


@pytest.mark.parametrize("resident_bytes", [0, 1 << 30])
def test_masks_come_beside_their_images(tmp_path: Path, resident_bytes: int) -> None:
    """Row r of the masks belongs to another row of the images; a streamed batch is read in the order of the images."""
    pixels = memmap_of(tmp_path, 60)
    masks = np.repeat(np.arange(9, dtype=np.uint8)[:, None, None], 64, axis=1).reshape(9, 8, 8)
    chosen, theirs = np.array([50, 3, 17, 44, 8], dtype=np.int64), np.array([2, 8, 0, 5, 7], dtype=np.int64)
    images = TrainingRows(pixels, chosen, Runtime(CPU, 0), resident_bytes)
    aligned = TrainingRows(masks, theirs, Runtime(CPU, 0), aligned_with=images)
    plan = epoch_positions(5, 3, torch.Generator().manual_seed(4))
    count = 0
    for (at, image), (also_at, mask) in zip(images.batches(plan), aligned.batches(plan), strict=True):
        assert torch.equal(at, also_at)
        assert image[:, 0, 0, 0].tolist() == chosen[at.numpy()].tolist()
        assert mask[:, 0, 0].tolist() == theirs[at.numpy()].tolist()
        count += len(at)
    assert count == 5


def test_no_rows_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row to train on"):
        TrainingRows(memmap_of(tmp_path, 4), rows(), Runtime(CPU, 0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("resident_bytes", [0, 1 << 30])
def test_rows_reach_the_gpu(tmp_path: Path, resident_bytes: int) -> None:
    pixels = memmap_of(tmp_path, 240)
    runtime = Runtime(torch.device("cuda"), 0)
    source = TrainingRows(pixels, np.arange(240), runtime, resident_bytes)
    generator = torch.Generator(source.device).manual_seed(4)
    for _ in range(20):
        for positions, images in source.batches(epoch_positions(240, 16, generator)):
            assert images.is_cuda
            assert torch.equal(images[:, 0, 0, 0].long(), positions)
    (values,) = map_rows(pixels, np.arange(240)[::-1].copy(), runtime, lambda images: (images[:, 0, 0, 0],))
    assert values.tolist() == list(range(239, -1, -1))
