"""Masks as people draw them in Label Studio's editor, and ours as it shows them: every pixel where it was meant.

What is expected is worked out from where the mouse went, by other means than the backend's: distances to the strokes,
Pillow's polygons, the SDK's decoder. Borders are left out: the editor's brush has a smooth edge, and places on the
screen are whole pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Page

from backend.images.decoding import decode_whole
from backend.tasks.segmentation.config import segmentation_spec
from backend.tasks.segmentation.masks import mask_to_regions, regions_to_mask
from tests.integration.editor import BRUSH, ERASER, Editor, Point, distance_to
from tests.integration.helpers import UNCERTAINTY, LabelProject, Studio

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

LABELS = '<Label value="cat"/><Label value="dog"/>'
CONFIG = f"""<View>
  <BrushLabels name="brush" toName="picture">{LABELS}</BrushLabels>
  <PolygonLabels name="outline" toName="picture">{LABELS}</PolygonLabels>
  <RectangleLabels name="box" toName="picture">{LABELS}</RectangleLabels>
  <Image name="picture" value="$image" rotateControl="true"/>
</View>"""
SPEC = segmentation_spec(CONFIG, rectangles=True)
CAT, DOG = 1, 2
Size = tuple[int, int]


@pytest.fixture
def project(studio: Studio, request: pytest.FixtureRequest) -> Iterator[Callable[[Mapping[str, bytes]], LabelProject]]:
    """Makes projects with :data:`CONFIG`, deleted after the test."""
    made: list[LabelProject] = []

    def make(files: Mapping[str, bytes]) -> LabelProject:
        body = {"title": request.node.name[:50], "label_config": CONFIG, "show_collab_predictions": True}
        made.append(LabelProject(studio, studio.post("/api/projects/", body)["id"], SPEC.classes, ("", "", "image")))
        made[-1].upload(files)
        return made[-1]

    yield make
    for one in made:
        one.delete()


def picture(size: Size, *line: Point, turned: bool = False) -> bytes:
    """Dark noise of ``size`` (H, W) with a broad white line, as it is shown. ``turned``: lying on its side in the file,
    which says so in its EXIF data."""
    dark = np.random.default_rng(0).integers(0, 64, (*size, 3)).astype(np.uint8)
    shown = Image.fromarray(dark)
    if line:
        ImageDraw.Draw(shown).line(line, fill="white", width=max(size) // 15, joint="curve")
    buffer, exif = io.BytesIO(), Image.Exif()
    if turned:
        exif[0x0112] = 6  # to be turned clockwise by a quarter
        shown = shown.transpose(Image.Transpose.ROTATE_90)
    shown.save(buffer, "JPEG" if turned else "PNG", exif=exif)
    return buffer.getvalue()


def read_back(project: LabelProject, task: int, size: Size) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The only annotation's regions as Label Studio gives them out, and our mask of them at the size of the image."""
    (annotation,) = project.studio.get(f"/api/tasks/{task}/annotations/")
    mask, problems = regions_to_mask(annotation["result"], SPEC, size, image_size=size)
    assert problems == []
    return annotation["result"], mask


class Expected:
    """What a mask has to be, from the first shape to the last; ``sure`` (H, W): not at the border of a shape."""

    def __init__(self, editor: Editor, mask: np.ndarray | None = None) -> None:
        """``mask``: what is there before anything is drawn."""
        size, scale = editor.size, editor.scale()
        self.mask = np.zeros(size, np.uint8) if mask is None else mask.copy()
        self.sure = np.ones(size, bool)
        self.size, self.slack = size, 0.25 + 1 / scale
        self.brush, self.eraser = (width * editor.zoom() / scale for width in (BRUSH, ERASER))

    def stroke(self, *line: Point, value: int, on: int | None = None) -> None:
        """A line of the brush; with ``on`` one of the eraser, which leaves ``value`` of that class."""
        distance = distance_to(line, self.size)
        radius = (self.brush if on is None else self.eraser) / 2
        here = distance < radius
        self.mask[here if on is None else here & (self.mask == on)] = value
        self.sure &= np.abs(distance - radius) > self.slack
        assert (self.sure & here).any(), "a stroke is too thin to be checked"

    def polygon(self, *corners: Point, value: int) -> None:
        enlarged, fine = tuple(side * 8 for side in self.size[::-1]), [(x * 8, y * 8) for x, y in corners]
        canvas = Image.new("1", enlarged)
        ImageDraw.Draw(canvas).polygon(fine, fill=1)
        self.mask[np.asarray(canvas)[4::8, 4::8]] = value
        self.sure &= distance_to([*corners, corners[0]], self.size) > self.slack

    def check(self, mask: np.ndarray) -> None:
        wrong = (mask != self.mask) & self.sure
        assert not wrong.any(), f"{wrong.sum()} pixels, the first at (y, x) = {np.argwhere(wrong)[0]}"
        for value in np.unique(self.mask):
            assert ((self.mask == value) & self.sure).any(), f"nothing is sure about class {value}"


def as_the_sdk_reads(regions: list[dict[str, Any]], size: Size) -> np.ndarray:
    """The mask (H, W) of brush regions, by the SDK's decoder."""
    from label_studio_sdk.converter.brush import decode_rle  # here: slow to import

    mask = np.zeros(size, np.uint8)
    for region in regions:
        assert (region["original_height"], region["original_width"]) == size
        alpha = np.asarray(decode_rle(region["value"]["rle"])).reshape(*size, 4)[..., 3]
        mask[alpha >= 128] = SPEC.index_of(region["value"]["brushlabels"][0])
    return mask


@pytest.mark.parametrize(
    ("size", "turned"),
    [
        pytest.param((120, 160), False, id="small", marks=pytest.mark.long),
        pytest.param((400, 300), True, id="turned by its EXIF orientation", marks=pytest.mark.long),
        pytest.param((1600, 1200), True, id="turned by its EXIF orientation, and larger than the window"),
    ],
)
def test_brush_strokes_are_where_they_were_painted(
    page: Page, project: Callable[..., LabelProject], size: Size, turned: bool
) -> None:
    high, wide = size
    corner = [(0.1 * wide, 0.15 * high), (0.9 * wide, 0.15 * high), (0.9 * wide, 0.7 * high)]
    gap = [(0.303 * wide, 0.05 * high), (0.303 * wide, 0.3 * high)]
    over = [(0.6 * wide, 0.05 * high), (0.6 * wide, 0.7 * high), (0.2 * wide, 0.6 * high)]
    file = picture(size, (0, 0.15 * high), corner[1], (0.9 * wide, high), turned=turned)  # white along the first
    made = project({"a.jpg" if turned else "a.png": file})
    (task,) = made.tasks()
    editor = Editor(page, size)
    editor.open_task(made, task)

    editor.choose("cat")
    editor.drag(*corner)
    editor.tool("eraser")
    editor.drag(*gap)
    editor.choose("dog")
    editor.tool("brush-tool")
    editor.drag(*over)
    expected = Expected(editor)
    editor.submit()

    expected.stroke(*corner, value=CAT)
    expected.stroke(*gap, value=0, on=CAT)
    expected.stroke(*over, value=DOG)
    regions, mask = read_back(made, task, size)
    expected.check(mask)
    assert np.array_equal(mask, as_the_sdk_reads(regions, size))

    frame = (64, 80)  # what the network reads, and its mask: "cat" is on the white line
    pixels, shown = decode_whole(file, frame)
    assert shown == size
    small, _ = regions_to_mask(regions, SPEC, frame, image_size=shown)
    assert pixels[small == CAT].min() > 150 > 100 > np.median(pixels[small == DOG])


@pytest.mark.long
@pytest.mark.parametrize("turned", [False, True], ids=["upright", "turned in the editor"])
def test_polygons_and_boxes_are_where_they_were_clicked(
    page: Page, project: Callable[..., LabelProject], turned: bool
) -> None:
    size = (300, 400)
    arrow = [(40.0, 30.0), (260.0, 60.0), (200.0, 110.0), (250.0, 220.0), (160.0, 140.0), (60.0, 230.0)]
    box = [(130.0, 40.0), (280.0, 40.0), (280.0, 130.0), (130.0, 130.0)]
    line = [(100.0, 50.0), (270.0, 90.0)]
    made = project({"a.png": picture(size)})
    (task,) = made.tasks()
    editor = Editor(page, size)
    editor.open_task(made, task)
    if turned:
        editor.turn()

    editor.choose("cat", control=1)
    editor.click(*arrow, arrow[0])
    editor.choose("dog", control=2)
    editor.drag(box[0], box[2])
    editor.choose("cat", control=0)
    editor.drag(*line)
    expected = Expected(editor)
    editor.submit()

    expected.polygon(*arrow, value=CAT)
    expected.polygon(*box, value=DOG)
    expected.stroke(*line, value=CAT)
    regions, mask = read_back(made, task, size)
    assert [region["type"] for region in regions] == ["polygonlabels", "rectanglelabels", "brushlabels"]
    assert {region["image_rotation"] for region in regions} == {90 * turned}
    expected.check(mask)


# -- the other way: our masks in the editor ----------------------------------------------------------------------------

OURS = np.zeros((60, 80), np.uint8)
OURS[10:50, 30:60] = DOG
OURS[20:40, 10:40] = CAT  # the smaller one, so it is drawn over the other
VERSION = "random-c1-abcdef"


@pytest.fixture
def shown(project: Callable[..., LabelProject]) -> Callable[[Any, Size], tuple[LabelProject, list[int]]]:
    """Publishes :data:`OURS` for two tasks, as regions of a kind; the project and its queue."""

    def publish(kind: Any, size: Size) -> tuple[LabelProject, list[int]]:
        made = project({name: picture(size) for name in ("a.png", "b.png")})
        order = sorted(made.tasks(), reverse=True)
        for place, task in enumerate(order):
            regions = mask_to_regions(OURS, SPEC, size, kind=kind, confidence=0.9)
            body = {"task": task, "result": regions, "score": 0.1 + place / 10, "model_version": VERSION}
            made.studio.post("/api/predictions/", body)
        made.studio.patch(f"/api/projects/{made.id}/", {"model_version": VERSION, "sampling": UNCERTAINTY})
        return made, order

    return publish


def enlarged(mask: np.ndarray, size: Size) -> np.ndarray:
    return np.repeat(np.repeat(mask, size[0] // mask.shape[0], 0), size[1] // mask.shape[1], 1)


def test_our_brush_mask_is_painted_on(page: Page, shown: Any) -> None:
    size = (240, 320)
    made, (first, second) = shown("brush", size)
    editor = Editor(page, size)
    editor.open_stream(made, first)
    editor.expect_regions("dog", "cat")
    tail, bite = [(60.0, 120.0), (60.0, 60.0), (180.0, 60.0)], [(220.0, 60.0), (220.0, 180.0)]
    editor.region(1).click()
    editor.tool("brush-tool")
    editor.drag(*tail)
    editor.page.keyboard.press("Escape")
    editor.region(0).click()
    editor.tool("eraser")
    editor.drag(*bite)
    expected = Expected(editor, enlarged(OURS, size))
    annotation = editor.submit()

    assert annotation["parent_prediction"]
    expected.stroke(*tail, value=CAT)
    expected.stroke(*bite, value=0, on=DOG)
    regions, mask = read_back(made, first, size)
    expected.check(mask)
    assert np.array_equal(mask, as_the_sdk_reads(regions, size))

    editor.wait_for_task(second)  # and submitted as it is
    editor.submit()
    regions, mask = read_back(made, second, size)
    assert np.array_equal(mask, enlarged(OURS, size))
    assert np.array_equal(mask, as_the_sdk_reads(regions, size))


def test_a_corner_of_our_polygon_is_moved(page: Page, shown: Any) -> None:
    size = (240, 320)
    made, (first, second) = shown("polygon", size)
    editor = Editor(page, size)
    editor.open_stream(made, first)
    editor.expect_regions("dog", "cat")
    editor.choose("cat", control=1)  # takes up the pen
    editor.region(1).click()
    editor.drag((40.0, 80.0), (20.0, 30.0))  # the upper left one
    expected = Expected(editor, enlarged(np.where(OURS == CAT, 0, OURS), size))
    editor.submit()

    expected.mask[80:160, 120:160] = DOG  # below the other, where its part of the mask was not
    expected.polygon((20.0, 30.0), (160.0, 80.0), (160.0, 160.0), (40.0, 160.0), value=CAT)
    expected.check(read_back(made, first, size)[1])

    editor.wait_for_task(second)
    editor.submit()
    assert np.array_equal(read_back(made, second, size)[1], enlarged(OURS, size))
