"""Regions to masks and back: small pictures worked out by hand, and Label Studio's own validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from backend.tasks.segmentation.brush import encode_mask
from backend.tasks.segmentation.config import segmentation_spec
from backend.tasks.segmentation.masks import mask_to_regions, regions_to_mask
from models import IGNORE

IMAGE = '<Image name="img" value="$image"/>'
BRUSH = '<BrushLabels name="paint" toName="img"><Label value="cat"/><Label value="dog"/></BrushLabels>'
POLYGON = '<PolygonLabels name="line" toName="img"><Label value="dog"/><Label value="owl"/></PolygonLabels>'
BOX = '<RectangleLabels name="box" toName="img"><Label value="cat"/></RectangleLabels>'


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


BOTH = view(IMAGE, BRUSH, POLYGON, BOX)
SPEC = segmentation_spec(BOTH, rectangles=True)


def brush(label: str, rows: list[str], **more: Any) -> dict[str, Any]:
    mask = np.array([[pixel == "#" for pixel in row] for row in rows])
    value = {"format": "rle", "rle": encode_mask(mask), "brushlabels": [label]}
    size = {"original_height": mask.shape[0], "original_width": mask.shape[1]}
    return {"type": "brushlabels", "from_name": "paint", "to_name": "img", "value": value} | size | more


def polygon(label: str, *points: tuple[float, float], **more: Any) -> dict[str, Any]:
    value = {"points": [list(point) for point in points], "closed": True, "polygonlabels": [label]}
    return {"type": "polygonlabels", "from_name": "line", "to_name": "img", "value": value} | more


def rectangle(label: str, **value: float) -> dict[str, Any]:
    return {"type": "rectanglelabels", "from_name": "box", "to_name": "img"} | {
        "value": value | {"rectanglelabels": [label]}
    }


def square(label: str, left: float, top: float, right: float, bottom: float) -> dict[str, Any]:
    return polygon(label, (left, top), (right, top), (right, bottom), (left, bottom))


# -- regions → mask ----------------------------------------------------------------------------------------------------


def test_every_kind_of_region_at_the_training_size() -> None:
    results = [
        {"type": "choices", "from_name": "kind", "to_name": "img", "value": {"choices": ["a"]}},
        brush("cat", ["####....", "####....", "........", "........"]),  # 8×4, trained at 4×2
        square("dog", 50, 50, 100, 100),
        rectangle("cat", x=0, y=50, width=25, height=50, rotation=0),
    ]
    mask, problems = regions_to_mask(results, SPEC, (2, 4))
    assert mask.tolist() == [[1, 1, 0, 0], [1, 0, 2, 2]]
    assert mask.dtype == np.uint8
    assert problems == []
    without, _ = regions_to_mask(results, segmentation_spec(BOTH), (2, 4))  # boxes only when asked
    assert without.tolist() == [[1, 1, 0, 0], [0, 0, 2, 2]]
    unknown, _ = regions_to_mask(results, SPEC, (2, 4), unlabeled=IGNORE)
    assert unknown.tolist() == [[1, 1, 255, 255], [1, 255, 2, 2]]


def test_later_regions_lie_over_earlier_ones_and_background_makes_holes() -> None:
    spec = segmentation_spec(view(IMAGE, BRUSH.replace("</B", '<Label value="Background"/></B'), POLYGON))
    results = [square("dog", 0, 0, 100, 100), square("owl", 50, 0, 100, 100), brush("Background", [".#..", "...."])]
    assert regions_to_mask(results, spec, (2, 4))[0].tolist() == [[2, 0, 3, 3], [2, 2, 3, 3]]
    assert regions_to_mask(results[::-1], spec, (2, 4))[0].tolist() == [[2, 2, 2, 2], [2, 2, 2, 2]]
    assert regions_to_mask(results, spec, (2, 4), unlabeled=IGNORE)[0].tolist() == [[2, 0, 3, 3], [2, 2, 3, 3]]


def test_a_turned_view_moves_nothing_and_a_turned_box_turns_in_pixels() -> None:
    turned = square("dog", 0, 0, 50, 50) | {"image_rotation": 90, "original_width": 40, "original_height": 20}
    assert regions_to_mask([turned], SPEC, (2, 4), image_size=(20, 40))[0].tolist() == [[2, 2, 0, 0], [0, 0, 0, 0]]
    # 20×10 px from (20, 0) of a 40×20 image, turned by 90°: 10 px to the left, 20 px down
    box = rectangle("cat", x=50, y=0, width=50, height=50, rotation=90)
    box |= {"original_width": 40, "original_height": 20}
    assert regions_to_mask([box], SPEC, (2, 4))[0].tolist() == [[0, 1, 0, 0], [0, 1, 0, 0]]


def test_outside_and_empty_regions_are_no_problem() -> None:
    results = [
        square("dog", -50, -50, 50, 50),
        square("owl", 200, 200, 300, 300),
        polygon("owl"),
        polygon("owl", (1, 1), (99, 99)),
        brush("cat", ["....", "...."]),
        rectangle("cat", x=10, y=10, width=0, height=0),
    ]
    mask, problems = regions_to_mask(results, SPEC, (2, 4))
    assert mask.tolist() == [[2, 2, 0, 0], [0, 0, 0, 0]]
    assert problems == []


def test_labels_that_left_the_config_are_ignored_where_they_are() -> None:
    results = [square("cow", 0, 0, 50, 100), square("dog", 0, 0, 25, 50)]
    mask, problems = regions_to_mask(results, SPEC, (2, 4))
    assert mask.tolist() == [[2, 255, 0, 0], [255, 255, 0, 0]]
    assert problems == [
        'The label "cow" of a polygon region is not in the label config (any more): its pixels are ignored.'
    ]
    none, two = square("dog", 0, 0, 50, 100), square("dog", 0, 0, 50, 100)
    del none["value"]["polygonlabels"]
    two["value"]["polygonlabels"] = ["dog", "owl"]
    for region, words in ((none, "has no label"), (two, 'several labels ("dog", "owl")')):
        mask, problems = regions_to_mask([region], SPEC, (1, 2))
        assert mask.tolist() == [[255, 0]]
        assert len(problems) == 1 and words in problems[0]


@pytest.mark.parametrize(
    ("region", "words"),
    [
        (brush("cat", ["#."]) | {"original_width": 3}, "2 pixels, not 3×1"),
        (brush("cat", ["#."]) | {"original_width": None}, "the size of its image is missing"),
        (brush("cat", ["#."]) | {"original_width": 10**6, "original_height": 10**6}, "larger than can be decoded"),
        (brush("cat", ["#."]) | {"value": {"format": "rle", "rle": [1], "brushlabels": ["cat"]}}, "too short"),
        (brush("cat", ["#."]) | {"value": {"format": "rle", "brushlabels": ["cat"]}}, "not a list of bytes"),
        (brush("cat", ["#."]) | {"value": {"format": "png", "brushlabels": ["cat"]}}, 'format is "png"'),
        (polygon("dog", (0, float("nan")), (1, 1), (2, 0)), "not pairs of numbers"),
        (polygon("dog") | {"value": {"points": [1, 2, 3], "polygonlabels": ["dog"]}}, "not pairs of numbers"),
        (polygon("dog") | {"value": {"points": [[1], [2, 3]], "polygonlabels": ["dog"]}}, "not pairs of numbers"),
        (rectangle("cat", x=1, y=1, width=1), "not a number"),
    ],
)
def test_where_a_region_is_lost_only_other_regions_are_known(region: dict[str, Any], words: str) -> None:
    mask, problems = regions_to_mask([square("owl", 0, 0, 50, 100), region], SPEC, (1, 2))
    assert mask.tolist() == [[3, 255]]
    assert len(problems) == 1 and words in problems[0], problems
    assert problems[0].startswith("A ") and problems[0].endswith("Delete it or draw it again.")


@pytest.mark.parametrize(("image", "fits"), [((300, 400), True), ((150, 200), True), ((37, 50), True),
                                             ((400, 300), False), ((300, 300), False)])  # fmt: skip
def test_scaled_images_fit_and_turned_ones_do_not(image: tuple[int, int], fits: bool) -> None:
    region = square("dog", 0, 0, 50, 100) | {"original_width": 400, "original_height": 300}
    mask, problems = regions_to_mask([region], SPEC, (1, 2), image_size=image)
    assert mask.tolist() == ([[2, 0]] if fits else [[255, 255]])
    if not fits:
        assert f"drawn on an image of 400×300 pixels, but the image now has {image[1]}×{image[0]}" in problems[0]


# -- mask → regions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["brush", "polygon"])
def test_label_studio_accepts_our_regions(kind: Any) -> None:
    mask = np.zeros((20, 40), np.uint8)
    mask[2:12, 2:12], mask[4:8, 4:8], mask[2:18, 20:30], mask[15:19, 1:5] = 1, 0, 2, 3
    mask[10:14, 22:26], mask[0, 39] = 3, IGNORE
    confidence = np.where(mask == 2, 0.75, 0.5)
    regions = mask_to_regions(mask, SPEC, (50, 100), kind=kind, confidence=confidence)
    assert LabelInterface(BOTH).validate_prediction({"result": regions, "score": 0.5}, return_errors=True) == []
    drawn = {(region["type"], *region["value"][region["type"]]) for region in regions}
    dog = ("brushlabels", "dog") if kind == "brush" else ("polygonlabels", "dog")
    assert drawn == {("brushlabels", "cat"), dog, ("polygonlabels", "owl")}  # as far as the config has the control
    assert len(regions) == 4  # two parts of "owl"
    assert len({region["id"] for region in regions}) == 4
    assert {region["value"][region["type"]][0]: region["score"] for region in regions} == {
        "cat": 0.5, "dog": 0.75, "owl": 0.5,
    }  # fmt: skip
    assert all((region["original_width"], region["original_height"]) == (100, 50) for region in regions)
    assert regions == mask_to_regions(mask, SPEC, (50, 100), kind=kind, confidence=confidence)
    again, problems = regions_to_mask(regions, SPEC, mask.shape, image_size=(50, 100))
    assert problems == []
    assert np.array_equal(again, np.where(mask == IGNORE, 0, mask))


def test_specks_are_dropped() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[10:20, 10:20], mask[50, 50:54], mask[60, 60], mask[61, 61] = 1, 1, 3, 3
    for kind in ("brush", "polygon"):
        regions = mask_to_regions(mask, SPEC, (100, 100), kind=kind)  # type: ignore[arg-type]
        assert regions_to_mask(regions, SPEC, (100, 100))[0].sum() == 100  # 5 pixels are 0.0005
    assert mask_to_regions(np.zeros((5, 5), np.uint8), SPEC, (9, 9)) == []


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
    st.sampled_from(["brush", "polygon"]),
    st.integers(0, 2**32 - 1),
)
def test_every_mask_comes_back(size: tuple[int, int], more: tuple[int, int], kind: Any, seed: int) -> None:
    """At any size of the image from the mask's up, pixel for pixel when nothing is left out."""
    mask = np.random.default_rng(seed).integers(0, 4, size, np.uint8)
    original = (size[0] + more[0], size[1] + more[1])
    regions = mask_to_regions(mask, SPEC, original, kind=kind, smallest=0, tolerance=0)
    again, problems = regions_to_mask(regions, SPEC, size, image_size=original)
    assert problems == []
    assert np.array_equal(again, mask)
