"""Masks that are decoded once and survive kills: on made-up masks, and of what is drawn in a real Label Studio."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as sized
from hypothesis import strategies as st
from PIL import Image

from backend.errors import LabelStudioUnavailable, SettingsError
from backend.images import row_cache
from backend.images.cache import ImageCache
from backend.labelstudio import client as labelstudio
from backend.labelstudio import http as labelstudio_http
from backend.tasks.segmentation import mask_cache
from backend.tasks.segmentation.config import segmentation_spec
from backend.tasks.segmentation.mask_cache import MadeMask, MaskCache, open_masks
from backend.tasks.segmentation.masks import regions_to_mask
from backend.worker.images import open_images
from backend.worker.sync import read_truth
from backend.worker.truth import Truth
from models import IGNORE
from models.files import replace_file
from tests.backend.killing import kill_writer
from tests.backend.tasks.segmentation.making import FRAME, Maker, digest, plain, wanted
from tests.backend.workbench import (
    OUTLINE,
    PAINT,
    SCENE,
    Workbench,
    annotate,
    both_config,
    draw,
    draw_on,
    masks_config,
    outlined,
    painted,
    workbench,
)
from tests.integration.helpers import FRUIT, choices_config
from tests.rig.servers import LabelStudioServer

CLASSES = 200


def kept_values(cache: MaskCache, tasks: Sequence[int]) -> list[int]:
    """The one value of each task's mask, -1 where there is no mask."""
    rows, masks = cache.rows(tasks), cache.masks
    found: list[int] = []
    for row in rows.tolist():
        values = np.unique(masks[row]).tolist() if row >= 0 else [-1]
        assert len(values) == 1
        found += values
    return found


def test_each_mask_is_made_once(tmp_path: Path) -> None:
    maker, seen = Maker(), []
    cache = MaskCache(tmp_path / "masks", FRAME)
    assert cache.masks.shape == (0, *FRAME)
    assert cache.rows([1, 2]).tolist() == [-1, -1]
    cache.sync(wanted(1, 2, 3), maker, CLASSES, report=lambda *step: seen.append(step))
    assert seen == [("masks", 1, 3), ("masks", 2, 3), ("masks", 3, 3)]
    assert kept_values(cache, [3, 1, 9, 2]) == [3, 1, -1, 2]
    again = MaskCache(tmp_path / "masks", FRAME)
    again.sync(wanted(1, 2, 3, 4), maker, CLASSES)
    assert maker.asked == [1, 2, 3, 4]
    assert kept_values(again, [1, 4]) == [1, 4]
    with pytest.raises(ValueError, match="read-only"):
        again.masks[0] = 0
    on_disk = np.fromfile(tmp_path / "masks" / "masks.u8", np.uint8).reshape(-1, *FRAME)
    assert np.array_equal(on_disk, again.masks)


def test_what_was_drawn_again_is_made_again_and_what_is_gone_forgotten(tmp_path: Path) -> None:
    cache = MaskCache(tmp_path, FRAME)
    cache.sync(wanted(1, 2, 3, 4), Maker(), CLASSES)
    edited = wanted(1, 2) | {3: digest("edited")}
    cache.sync(edited, lambda tasks: [MadeMask(task, edited[task], plain(77)) for task in tasks], CLASSES, keep=[4])
    assert kept_values(cache, [1, 2, 3, 4]) == [1, 2, 77, 4]  # 4 has no image for the moment
    cache.sync(edited, Maker(), CLASSES)
    assert kept_values(MaskCache(tmp_path, FRAME), [1, 2, 3, 4]) == [1, 2, 77, -1]
    cache.sync(wanted(5, 6), Maker(), CLASSES)
    assert kept_values(cache, [1, 2, 3, 5, 6]) == [-1, -1, -1, 5, 6]
    cache.sync({}, Maker(), CLASSES)
    assert cache.task_ids() == []
    cache.sync(wanted(7, 8), Maker(), CLASSES)
    assert len(cache.masks) <= 7  # rows are used again


def test_a_task_whose_annotation_vanished_has_no_mask(tmp_path: Path) -> None:
    cache = MaskCache(tmp_path, FRAME)
    cache.sync(wanted(1, 2), Maker(), CLASSES)
    cache.sync(wanted(1) | {2: digest("new")}, lambda tasks: [], CLASSES)
    assert kept_values(cache, [1, 2]) == [1, -1]


def test_an_annotation_that_changed_meanwhile_is_kept_as_what_it_is(tmp_path: Path) -> None:
    cache = MaskCache(tmp_path, FRAME)
    cache.sync(wanted(1), lambda tasks: [MadeMask(1, digest("newer"), plain(9))], CLASSES)
    assert kept_values(cache, [1]) == [9]
    maker = Maker()
    cache.sync({1: digest("newer")}, maker, CLASSES)  # as the next comparison says
    assert maker.asked == []


def test_masks_that_say_nothing_are_not_used_and_not_made_again(tmp_path: Path) -> None:
    maker = Maker({2: IGNORE})
    cache = MaskCache(tmp_path, FRAME)
    for _ in range(2):
        cache.sync(wanted(1, 2, 3), maker, CLASSES)
        assert kept_values(cache, [1, 2, 3, 4]) == [1, -1, 3, -1]
        cache = MaskCache(tmp_path, FRAME)
    assert maker.asked == [1, 2, 3]


@pytest.mark.parametrize("value", [4, 254])
def test_values_that_are_no_class_are_refused(tmp_path: Path, value: int) -> None:
    cache = MaskCache(tmp_path, FRAME)
    with pytest.raises(ValueError, match=f"a mask of 4 classes has the value {value}"):
        cache.sync(wanted(1, 2), Maker({1: 3, 2: value}), 4)
    assert kept_values(MaskCache(tmp_path, FRAME), [1, 2]) == [3, -1]


def test_problems_are_told_as_long_as_they_last(tmp_path: Path) -> None:
    def make(tasks: Sequence[int]) -> Iterator[MadeMask]:
        for task in tasks:
            words = [] if task == 2 else [f"no {number}" for number in range(task)]
            yield MadeMask(task, digest(task), plain(1), words)

    cache = MaskCache(tmp_path, FRAME)
    cache.sync(wanted(1, 2, 3, 50), make, CLASSES)
    told = ["task 3: no 0", "task 3: no 1", "task 3: no 2", "task 1: no 0"]
    assert cache.problems([3, 1, 2, 9]) == told
    assert MaskCache(tmp_path, FRAME).problems([3, 1, 2]) == told
    assert len(cache.problems([50])) == 3  # the first of a task
    mended = MaskCache(tmp_path, FRAME)
    later = wanted(1, 2) | {3: digest("mended")}
    mended.sync(later, lambda tasks: [MadeMask(task, later[task], plain(2)) for task in tasks], CLASSES)
    assert mended.problems([1, 2, 3, 50]) == ["task 1: no 0"]
    (tmp_path / "problems.json").write_text("{")
    broken = MaskCache(tmp_path, FRAME)
    assert broken.problems([1]) == [] and kept_values(broken, [1]) == [1]


def test_many_problems_are_written_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time all of them are written, which would take quadratic time."""
    monkeypatch.setattr(row_cache, "_BATCH_ROWS", 8)
    monkeypatch.setattr(row_cache, "_BATCH_SECONDS", 1e9)
    written: list[int] = []

    def counted(path: Path, data: bytes) -> None:
        written.append(len(json.loads(data)))
        replace_file(path, data)

    monkeypatch.setattr(mask_cache, "replace_file", counted)
    cache = MaskCache(tmp_path, FRAME)
    count = 2000
    made = (MadeMask(task, digest(task), plain(1), ["odd"]) for task in range(count))
    cache.sync(wanted(*range(count)), lambda tasks: made, CLASSES)
    assert written[-1] == count
    assert sum(written) <= 20 * count
    assert len(MaskCache(tmp_path, FRAME).problems(range(count))) == count


@pytest.mark.parametrize("damage", [lambda index: index[:-5], lambda index: b"\0" * len(index), lambda index: b""])
def test_a_damaged_index_costs_decoding_and_nothing_else(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    MaskCache(tmp_path, FRAME).sync(wanted(1, 2), Maker(), CLASSES)
    (tmp_path / "index").write_bytes(damage((tmp_path / "index").read_bytes()))
    cache = MaskCache(tmp_path, FRAME)
    assert kept_values(cache, [1, 2]) == [-1, -1]
    cache.sync(wanted(1, 2), Maker(), CLASSES)
    assert kept_values(MaskCache(tmp_path, FRAME), [1, 2]) == [1, 2]


@pytest.mark.parametrize("name", ["masks.u8", "usable.u8"])
def test_lost_rows_are_noticed(tmp_path: Path, name: str) -> None:
    MaskCache(tmp_path, FRAME).sync(wanted(1, 2), Maker(), CLASSES)
    os.truncate(tmp_path / name, 1)
    assert kept_values(MaskCache(tmp_path, FRAME), [1, 2]) == [-1, -1]


def test_what_ends_the_sync_keeps_what_was_done(tmp_path: Path) -> None:
    def make(tasks: Sequence[int]) -> Iterator[MadeMask]:
        yield from Maker()(tasks[:5])
        raise LabelStudioUnavailable("down")

    cache = MaskCache(tmp_path, FRAME)
    with pytest.raises(LabelStudioUnavailable):
        cache.sync(wanted(*range(1, 20)), make, CLASSES)
    assert MaskCache(tmp_path, FRAME).task_ids() == [1, 2, 3, 4, 5]
    maker = Maker()
    cache.sync(wanted(*range(1, 20)), maker, CLASSES)
    assert maker.asked == list(range(6, 20))


@sized(max_examples=60)
@given(
    st.lists(
        st.dictionaries(st.integers(1, 12), st.sampled_from([0, 1, 2, IGNORE]), max_size=12), min_size=1, max_size=6
    )
)
def test_any_history_ends_in_the_masks_of_now(
    tmp_path_factory: pytest.TempPathFactory, history: list[dict[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("masks")
    for moment in history:
        digests = {task: digest((task, value)) for task, value in moment.items()}

        def make(
            tasks: Sequence[int], moment: Mapping[int, int] = moment, digests: Mapping[int, str] = digests
        ) -> Iterator[MadeMask]:
            return (MadeMask(task, digests[task], plain(moment[task])) for task in tasks)

        MaskCache(folder, FRAME).sync(digests, make, 3)
        cache = MaskCache(folder, FRAME)
        assert sorted(cache.task_ids()) == sorted(moment)
        tasks = list(range(1, 13))
        expected = [-1 if moment.get(task, IGNORE) == IGNORE else moment[task] for task in tasks]
        assert kept_values(cache, tasks) == expected
    assert len(cache.masks) <= 24  # at most what was there before and what came, at one time
    shutil.rmtree(folder)


WRITER = """
import sys
from pathlib import Path
from backend.images import row_cache
from backend.tasks.segmentation.mask_cache import MaskCache
from tests.backend.tasks.segmentation.making import FRAME, Maker, wanted
row_cache._BATCH_ROWS = 8
def report(phase, done, total):
    print(done, flush=True)
cache = MaskCache(Path(sys.argv[1]), FRAME)
first = int(sys.argv[2])
cache.sync(wanted(*range(first, 100000)), Maker({first + 3: 255}), 200, keep=range(first), report=report)
"""


def test_kill_at_any_time_loses_at_most_the_last_batch(tmp_path: Path) -> None:
    first = 0
    for kill_after in (1, 7, 8, 30, 75):
        finished = kill_writer(WRITER, tmp_path, first, kill_after)
        cache = MaskCache(tmp_path, FRAME)
        kept = [task for task in cache.task_ids() if task >= first]
        assert finished - 8 <= len(kept) <= finished + 2
        everything = cache.task_ids()
        # whole, the right ones, and still known to be of no use
        assert kept_values(cache, everything) == [-1 if task % 10_000 == 3 else task % 100 for task in everything]
        first += 10_000
    # and it goes on
    cache.sync(wanted(5, 200_001), Maker(), CLASSES, keep=everything)
    assert kept_values(cache, [5, 200_001]) == [5, 1]


def test_masks_lie_where_the_images_show_it(tmp_path: Path) -> None:
    """A frame of another shape stretches image and mask alike, whatever the orientation in the file."""
    spec = segmentation_spec(masks_config(["box"]))
    rng = np.random.default_rng(0)
    for orientation, undo in {1: None, 6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180}.items():
        high, wide = 301, 517
        left, top = rng.integers(20, 100, 2)
        right, bottom = left + rng.integers(80, 300), top + rng.integers(80, 150)
        drawn = np.zeros((high, wide), bool)
        drawn[top:bottom, left:right] = True
        picture = Image.fromarray((drawn * 255).astype(np.uint8))
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = io.BytesIO()
        (picture if undo is None else picture.transpose(undo)).save(file, "JPEG", quality=95, exif=exif)
        cache = ImageCache(tmp_path / str(orientation), (96, 64))
        data = {"a": file.getvalue()}
        cache.sync([(1, "a")], lambda task, source, data=data: data[source])  # type: ignore[misc]
        (row,) = cache.rows([1])
        size = tuple(cache.sizes(cache.rows([1]))[0].tolist())
        assert size == (high, wide)
        box = [left, top, right - left, bottom - top]
        for region in (painted("box", drawn), outlined("box", box, (high, wide))):
            mask, problems = regions_to_mask([region], spec, cache.frame, image_size=size)
            assert problems == []
            # every pixel that the image shows clearly has the mask's value
            shown = cache.pixels[row, ..., 0].astype(int)
            assert set(mask[shown > 200]) == {1} and set(mask[shown < 50]) == {0}
            assert abs((mask == 1).mean() - drawn.mean()) < 0.01


# -- in a real Label Studio --------------------------------------------------------------------------------------------


@pytest.fixture
def bench(label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setattr(labelstudio_http, "RETRY_AFTER", (0.01, 0.02))
    with workbench(label_studio, tmp_path, tasks=8, pictures=True, masks=True) as made:
        yield made


def opened(bench: Workbench) -> tuple[Truth, ImageCache, MaskCache, list[str]]:
    truth = read_truth(bench.job)
    cache = open_images(bench.job, truth, lambda *_: None)
    return truth, cache, *masks_of(bench, truth, cache)


def masks_of(bench: Workbench, truth: Truth, cache: ImageCache) -> tuple[MaskCache, list[str]]:
    job, kind = bench.job, truth.kind

    def read_annotations(tasks: Sequence[int]) -> Iterator[labelstudio.TaskAnnotations]:
        return job.gateway.annotations_of(job.project.id, tasks)

    labels = {task: str(digest) for task, digest in truth.labels.items()}
    sources = bench.state.tasks.sources(bench.project.id, truth.labels)
    return open_masks(kind.spec, kind.settings, labels, sources, cache, read_annotations, lambda *_: None)


def box_mask(bench: Workbench, task: int) -> np.ndarray:
    """What a task's data says is there."""
    data = bench.project.tasks()[task]["data"]
    x, y, width, height = data["box"]
    mask = np.zeros(SCENE, np.uint8)
    mask[y : y + height, x : x + width] = FRUIT.index(data["kind"]) + 1
    return mask


@pytest.mark.slow
def test_what_is_drawn_becomes_masks_of_the_images(bench: Workbench) -> None:
    labeled = draw(bench, 4)
    truth, cache, masks, problems = opened(bench)
    assert problems == []
    assert cache.frame == masks.frame == SCENE
    assert set(truth.labels) == set(labeled) and len(truth.annotations) == 4
    for task, row in zip(labeled, masks.rows(labeled), strict=True):
        assert np.array_equal(masks.masks[row], box_mask(bench, task))
    assert masks.rows([task for task in bench.tasks if task not in labeled]).tolist() == [-1] * 4


@pytest.mark.slow
def test_label_studio_is_asked_for_what_is_new_alone(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    plain_call = labelstudio.LabelStudio.annotations_of

    def noting(self: labelstudio.LabelStudio, project: int, tasks: Sequence[int], **how: bool) -> object:
        if not how:  # a comparison asks for what people drew just now, and how; masks are drawn from what is asked here
            asked.append(list(tasks))
        return plain_call(self, project, tasks, **how)

    monkeypatch.setattr(labelstudio.LabelStudio, "annotations_of", noting)
    first = draw(bench, 3)
    opened(bench)
    opened(bench)
    assert [sorted(tasks) for tasks in asked] == [first]
    more = draw(bench, 2)
    draw_on(bench, first[0], FRUIT[1], [1, 2, 30, 40])  # a second annotation, the later one
    masks = opened(bench)[2]
    assert [sorted(tasks) for tasks in asked[1:]] == [sorted([first[0], *more])]
    expected = np.zeros(SCENE, np.uint8)
    expected[2:42, 1:31] = 2
    assert np.array_equal(masks.masks[masks.rows(first[:1])[0]], expected)
    bench.ask_for(masks_config([FRUIT[2], FRUIT[1], FRUIT[0]]))  # the same classes with other numbers
    masks = opened(bench)[2]
    assert sorted(asked[-1]) == sorted([*first, *more])
    assert set(np.unique(masks.masks[masks.rows(first[:1])[0]])) == {0, 2}
    truth, cache = read_truth(bench.job), ImageCache(masks.directory.parent, SCENE)
    asked.clear()
    masks_of(bench, truth, cache)
    assert asked == []


@pytest.mark.slow
def test_a_comparison_reads_what_was_drawn_only_where_that_tells_a_label(bench: Workbench) -> None:
    """It is made every few minutes, of all annotations, and strokes are large."""
    sent: list[int] = []  # bytes of each answer with annotations

    def note(answer: httpx.Response) -> None:
        if answer.url.path.endswith("/tasks/") and "annotations" in answer.url.params.get("include", ""):
            sent.append(len(answer.read()))

    client = bench.job.gateway._connection._http()
    client.event_hooks["response"].append(note)
    noise = np.random.default_rng(0).random((300, 400)) < 0.5
    annotate(bench, bench.tasks[0], [painted("background", noise)])
    bench.ask_for(masks_config(["background", *FRUIT]))
    assert len(read_truth(bench.job).labels) == 1
    assert len(sent) == 1 and sent[0] < 2_000
    assert len(read_truth(bench.with_settings(unlabelled="ignore")).labels) == 1
    assert len(sent) == 2 and sent[1] > 100_000


@pytest.mark.slow
def test_odd_annotations_are_told_and_stop_nothing(bench: Workbench) -> None:
    (good,) = draw(bench, 1, tag=PAINT)
    turned, unknown, empty, skipped, gone = [task for task in bench.tasks if task != good][:5]
    annotate(bench, turned, [painted(FRUIT[0], np.ones((64, 48), bool))])  # of an image that stood upright
    annotate(bench, unknown, [outlined("kumquat", [5, 5, 20, 20]), outlined(FRUIT[1], [40, 5, 10, 10])])
    annotate(bench, empty, [])
    annotate(bench, skipped, [], was_cancelled=True)
    truth, _, masks, problems = opened(bench)
    assert set(truth.labels) == {good, turned, unknown, empty}
    assert len(problems) == 2
    assert any(line.startswith(f"task {turned}: A brush region") and "48×64" in line for line in problems)
    assert any(line.startswith(f"task {unknown}: ") and '"kumquat"' in line for line in problems)
    rows = dict(zip(bench.tasks, masks.rows(bench.tasks).tolist(), strict=True))
    assert {task for task, row in rows.items() if row >= 0} == {good, unknown, empty}
    assert not masks.masks[rows[empty]].any()
    assert set(np.unique(masks.masks[rows[unknown]])) == {0, 2, IGNORE}
    assert opened(bench)[3] == problems  # told again, although nothing was decoded again
    bench.project.delete_task(unknown)
    assert len(opened(bench)[3]) == 1
    assert gone not in truth.labels


@pytest.mark.slow
def test_where_unlabeled_pixels_are_ignored_only_what_is_drawn_is_a_label(bench: Workbench) -> None:
    bench.ask_for(masks_config(["background", *FRUIT]))
    bench.with_settings(unlabelled="ignore")
    painted_task, empty, other, nothing = bench.tasks[:4]
    draw_on(bench, painted_task, FRUIT[0], [10, 10, 20, 20], OUTLINE)
    annotate(bench, empty, [])
    other_kind = {"type": "rectanglelabels", "from_name": "box", "to_name": "picture"}
    annotate(
        bench, other, [other_kind | {"value": {"x": 1, "y": 1, "width": 9, "height": 9, "rectanglelabels": ["a"]}}]
    )
    annotate(bench, nothing, [outlined("kumquat", [5, 5, 20, 20])])
    truth, _, masks, problems = opened(bench)
    assert set(truth.labels) == {painted_task, nothing}
    assert len(truth.annotations) == truth.new_annotations == 2
    assert masks.rows([painted_task, nothing])[1] == -1  # a label, but not one pixel is known
    assert len(problems) == 1 and "kumquat" in problems[0]
    mask = masks.masks[masks.rows([painted_task])[0]]
    assert (mask[10:30, 10:30] == 1).all() and (mask == 1).sum() == 400 and (mask == IGNORE).sum() == mask.size - 400
    bench.with_settings(unlabelled="background")
    truth, _, masks, _ = opened(bench)
    assert set(truth.labels) == {painted_task, empty, other, nothing}
    assert (masks.rows([painted_task, empty, other]) >= 0).tolist() == [True, True, False]  # drawn with another tool
    assert not (masks.masks[masks.rows([painted_task])[0]] == IGNORE).any()


@pytest.mark.slow
def test_the_owner_may_change_the_question_at_any_time(bench: Workbench) -> None:
    bench.ask_for(choices_config(FRUIT))
    named = bench.tasks[0]
    bench.project.annotate(named, FRUIT[1])
    truth = read_truth(bench.job)
    assert (truth.kind.name, truth.labels) == ("classification", {named: FRUIT[1]})
    cache = open_images(bench.job, truth, lambda *_: None)
    assert cache.frame == (224, 224) and len(cache.task_ids()) == 8
    bench.ask_for(both_config(FRUIT))  # an answer of one kind each
    (drawn,) = draw(bench, 1)
    truth = read_truth(bench.job)
    assert (truth.kind.name, truth.labels, len(truth.annotations)) == ("classification", {named: FRUIT[1]}, 1)
    bench.with_settings(task="segmentation")
    truth, cache, masks, problems = opened(bench)
    assert truth.kind.name == "segmentation"
    assert set(truth.labels) == {drawn} and len(truth.annotations) == 1  # a class says nothing of pixels
    assert cache.frame == SCENE and problems == []
    assert np.array_equal(masks.masks[masks.rows([drawn])[0]], box_mask(bench, drawn))
    with pytest.raises(SettingsError, match="compares two classifiers"):
        read_truth(bench.with_settings(sampler="ads"))
    bench.with_settings(task="auto")
    assert read_truth(bench.job).labels == {named: FRUIT[1]}
