"""Masks kept on disk: whole or not there, found by task, drawn by the names of their classes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from label_studio_sdk.label_interface import LabelInterface

from backend.settings.core import Settings
from backend.state import StoredPrediction
from backend.tasks.choices import ChoicesSpec, choices_result
from backend.tasks.classification import Classification
from backend.tasks.segmentation.config import segmentation_spec
from backend.tasks.segmentation.kind import Segmentation
from backend.tasks.segmentation.masks import regions_to_mask
from backend.tasks.segmentation.predictions import Batch, KeptMasks, regions_of, write_masks
from models import IGNORE, files

FRAME = (6, 8)
CLASSES = ("cat", "dog")
SIZES = np.array([[12, 16], [60, 80], [6, 8]])


def config(*labels: str, tag: str = "BrushLabels") -> str:
    listed = "".join(f'<Label value="{label}"/>' for label in labels)
    return f'<View><Image name="img" value="$image"/><{tag} name="{tag}" toName="img">{listed}</{tag}></View>'


SPEC = segmentation_spec(config(*CLASSES))
SETTINGS = Settings()


def planes(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Masks (count, H, W): background, a cat on the left, a dog on the right; confidence (count, H, W)."""
    masks = np.zeros((count, *FRAME), np.uint8)
    masks[:, 1:5, 1:3], masks[:, 2:, 5:] = 1, 2
    confidence = np.random.default_rng(seed).integers(0, 256, masks.shape).astype(np.uint8)
    return masks, confidence


def keep(folder: Path, tasks: list[int], masks: np.ndarray, confidence: np.ndarray, at_a_time: int = 2) -> Path:
    """As a streaming pass hands them over: in batches, the last ones first."""

    def batches() -> Iterator[Batch]:
        for start in reversed(range(0, len(tasks), at_a_time)):
            positions = np.arange(start, min(start + at_a_time, len(tasks)))
            yield positions, masks[positions], confidence[positions]

    return write_masks(folder, CLASSES, FRAME, tasks, SIZES[: len(tasks)], batches())


def opened(folder: Path) -> KeptMasks:
    found = KeptMasks.open(folder)
    assert found is not None
    return found


def labels_of(result: list[dict[str, object]]) -> list[str]:
    return sorted(label for region in result for label in region["value"][region["type"]])  # type: ignore[index]


def test_what_is_kept_comes_back_by_task(tmp_path: Path) -> None:
    masks, confidence = planes(3)
    masks[1, 0, 0] = IGNORE
    keep(tmp_path, [30, 10, 20], masks, confidence)
    kept = opened(tmp_path)
    assert kept.tasks == {10, 20, 30}
    for task, row in ((30, 0), (10, 1), (20, 2)):
        np.testing.assert_array_equal(kept.planes(task), np.stack([masks[row], confidence[row]]))
    assert kept.planes(40) is None and kept.regions_for(SPEC, SETTINGS, 40) is None


def test_masks_that_join_later_are_found_alongside_the_first(tmp_path: Path) -> None:
    masks, confidence = planes(2)
    keep(tmp_path, [1, 2], masks, confidence)
    reader = opened(tmp_path)
    keep(tmp_path, [3], masks[:1], confidence[:1])
    assert reader.tasks == {1, 2}  # whoever opened it before goes on with what was there
    assert opened(tmp_path).tasks == {1, 2, 3}
    keep(tmp_path, [3], masks[:1], confidence[:1])  # the same once more, after a kill
    assert len(list(tmp_path.iterdir())) == 2


def test_people_are_told_the_classes_that_a_mask_shows(tmp_path: Path) -> None:
    masks, confidence = planes(3)
    masks[1] = 0
    masks[2][masks[2] == 1] = 0
    keep(tmp_path, [1, 2, 3], masks, confidence)
    kind = Segmentation(SPEC, SETTINGS)
    said = [kind.said(StoredPrediction(task, "v", None, 0.9, 0.1), opened(tmp_path)) for task in (1, 2, 3, 4)]
    assert said == [("cat", "dog"), (), ("dog",), ()]
    assert kind.said(StoredPrediction(1, "v", None, 0.9, 0.1), None) == ()


def test_no_masks_are_none(tmp_path: Path) -> None:
    assert KeptMasks.open(tmp_path / "never") is None
    assert KeptMasks.open(tmp_path) is None
    keep(tmp_path, [], *planes(0))
    assert opened(tmp_path).tasks == set()


@pytest.mark.parametrize("moment", ["in the middle of the planes", "before it has its name"])
def test_a_kill_leaves_nothing_that_could_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """In a process of its own, which ends as by a kill: no handler runs."""
    folder = tmp_path / "answers" / "entropy-c1-0"
    masks, confidence = planes(3)
    child = os.fork()
    if child == 0:

        def die(*_: object) -> None:
            os._exit(9)

        def cut_off() -> Iterator[Batch]:
            yield np.arange(1), masks[:1], confidence[:1]
            die()

        if moment.startswith("before"):
            monkeypatch.setattr(files.os, "replace", die)
            keep(folder, [1, 2, 3], masks, confidence)
        else:
            write_masks(folder, CLASSES, FRAME, [1, 2, 3], SIZES, cut_off())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert [path.suffix for path in folder.iterdir()] == [".draft"]
    assert KeptMasks.open(folder) is None
    keep(folder, [1, 2, 3], masks, confidence)
    assert opened(folder).tasks == {1, 2, 3}
    assert [path.suffix for path in folder.iterdir()] == [".masks"]


def test_what_fails_leaves_no_file(tmp_path: Path) -> None:
    masks, confidence = planes(2)
    with pytest.raises(ValueError, match="1 of 2 tasks were given no mask"):
        write_masks(tmp_path, CLASSES, FRAME, [1, 2], SIZES[:2], [(np.arange(1), masks[:1], confidence[:1])])
    with pytest.raises(ValueError, match="do not fit"):
        write_masks(tmp_path, CLASSES, (9, 9), [1, 2], SIZES[:2], [(np.arange(2), masks, confidence)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut short", "another format", "no header", "a folder in its place"])
def test_a_damaged_file_costs_its_own_masks_only(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    masks, confidence = planes(2)
    good, bad = keep(tmp_path, [1], masks[:1], confidence[:1]), keep(tmp_path, [2], masks[1:], confidence[1:])
    content = bad.read_bytes()
    bad.unlink()
    if damage == "a folder in its place":
        bad.mkdir()
    else:
        bad.write_bytes(
            {
                "cut short": content[:-1],
                "another format": content.replace(b'"format": 1', b'"format": 2'),
                "no header": b"\x00" * 100,
            }[damage]
        )
    assert opened(tmp_path).tasks == {1}
    assert bad.name in caplog.text and good.name not in caplog.text


# -- regions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["BrushLabels", "PolygonLabels"])
def test_regions_are_of_the_original_image_and_pass_label_studios_validation(tmp_path: Path, tag: str) -> None:
    masks, confidence = planes(2)
    confidence[0, masks[0] == 1] = 255
    keep(tmp_path, [7, 8], masks, confidence)
    text = config(*CLASSES, tag=tag)
    spec = segmentation_spec(text)
    for task, (high, wide) in ((7, (12, 16)), (8, (60, 80))):
        result = opened(tmp_path).regions_for(spec, SETTINGS, task)
        assert result is not None and labels_of(result) == ["cat", "dog"]
        assert {(item["original_height"], item["original_width"]) for item in result} == {(high, wide)}
        assert LabelInterface(text).validate_prediction({"result": result, "score": 0.5, "model_version": "v"})
        back, problems = regions_to_mask(result, spec, FRAME)
        assert problems == [] and np.array_equal(back, masks[0])
    first = {labels_of([item])[0]: item["score"] for item in opened(tmp_path).regions_for(spec, SETTINGS, 7) or []}
    assert first["cat"] == 1.0
    assert first["dog"] == pytest.approx(confidence[0][masks[0] == 2].mean() / 255, abs=1e-4)


def test_which_kind_is_drawn_where_the_label_config_has_both() -> None:
    both = config(*CLASSES).replace("</View>", config(*CLASSES, tag="PolygonLabels").split('value="$image"/>')[1])
    spec = segmentation_spec(both)
    mask, confidence = (part[0] for part in planes(1))
    for kind in ("brush", "polygon"):
        result = regions_of(mask, confidence, CLASSES, (60, 80), spec, Settings(preannotation=kind))
        assert {item["type"] for item in result} == {f"{kind}labels"}


@pytest.mark.parametrize(
    ("labels", "drawn"),
    [
        (("dog", "cat"), {"cat": 1, "dog": 2}),
        (("owl", "cat", "cow", "dog"), {"cat": 1, "dog": 2}),
        (("dog",), {"dog": 2}),
        (("owl",), {}),
    ],
    ids=["turned round", "others came", "one left", "all left"],
)
def test_regions_keep_their_labels_whatever_became_of_the_label_config(
    labels: tuple[str, ...], drawn: dict[str, int]
) -> None:
    mask, confidence = (part[0] for part in planes(1))
    text = config(*labels)
    spec = segmentation_spec(text)
    result = regions_of(mask, confidence, CLASSES, FRAME, spec, SETTINGS)
    assert labels_of(result) == sorted(drawn)
    for item in result:
        (label,) = labels_of([item])
        back, _ = regions_to_mask([item], spec, FRAME)
        np.testing.assert_array_equal(back == spec.index_of(label), mask == drawn[label])
    assert LabelInterface(text).validate_prediction({"result": result, "score": 0.5})


def test_results_of_both_tasks_and_of_neither(tmp_path: Path) -> None:
    keep(tmp_path, [1], *planes(1))
    kept = opened(tmp_path)
    spec = ChoicesSpec("what", "img", "image", ("cat", "dog"))
    classes, masks = Classification(spec, SETTINGS), Segmentation(SPEC, SETTINGS)
    named = StoredPrediction(1, "v", "cat", 0.7, 0.2)
    assert classes.result(named, None) == choices_result(spec, ["cat"], 0.7)
    assert classes.result(StoredPrediction(1, "v", "cat", None, 0.2), None) == choices_result(spec, ["cat"], 0.2)
    assert classes.result(StoredPrediction(1, "v", "owl", 0.7, 0.2), None) == []
    drawn = StoredPrediction(1, "v", None, 0.7, 0.2)
    assert labels_of(masks.result(drawn, kept)) == ["cat", "dog"]
    assert masks.result(StoredPrediction(2, "v", None, 0.7, 0.2), kept) == []
    # the label config asks for something else since
    assert classes.result(drawn, None) == masks.result(named, None) == []
    assert classes.open_kept(tmp_path) is None  # masks are none of its predictions


@pytest.mark.parametrize(
    ("setting", "measured", "drawn"),
    [
        ("auto", {"train_preannotate_above": 1.0}, ["cat", "dog"]),
        ("auto", {}, ["cat", "dog"]),
        ("0.7", {"train_preannotate_above": 0.2}, ["cat"]),
        ("0.6", {"train_preannotate_above": 0.9}, ["cat", "dog"]),
        ("0", {"train_preannotate_above": 1.0}, ["cat", "dog"]),
        ("1", {}, []),
    ],
)
def test_a_region_that_is_not_sure_enough_is_not_drawn(
    setting: str, measured: dict[str, float], drawn: list[str], tmp_path: Path
) -> None:
    """The cat at a confidence of 1, the dog at 153/255 = 0.6."""
    masks, confidence = planes(1)
    confidence[:] = 255
    confidence[masks == 2] = 153
    keep(tmp_path, [1], masks, confidence)
    kind = Segmentation(SPEC, Settings(preannotate_above=setting)).serving(measured)
    assert labels_of(kind.result(StoredPrediction(1, "v", None, 0.7, 0.2), opened(tmp_path))) == drawn


def test_a_spec_without_the_class_makes_no_region_of_what_is_unknown() -> None:
    mask = np.full(FRAME, IGNORE, np.uint8)
    assert regions_of(mask, mask, CLASSES, FRAME, SPEC, SETTINGS) == []
