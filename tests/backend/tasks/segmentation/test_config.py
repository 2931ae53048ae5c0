"""Where a label config lets annotators draw, and what it is refused for."""

from __future__ import annotations

import pytest

from backend.errors import LabelConfigError
from backend.tasks.segmentation.config import Control, SegmentationSpec, segmentation_spec

IMAGE = '<Image name="img" value="$image"/>'
BRUSH = '<BrushLabels name="paint" toName="img"><Label value="cat"/><Label value="dog"/></BrushLabels>'
POLYGON = '<PolygonLabels name="line" toName="img"><Label value="dog"/><Label value="owl"/></PolygonLabels>'
BOX = '<RectangleLabels name="box" toName="img"><Label value="cat"/></RectangleLabels>'


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


BOTH = view(IMAGE, BRUSH, POLYGON, BOX)
SPEC = segmentation_spec(BOTH, rectangles=True)


def test_classes_come_in_the_order_of_the_labels() -> None:
    assert segmentation_spec(BOTH) == SegmentationSpec(
        "img",
        "image",
        ("cat", "dog", "owl"),
        (Control("brush", "paint", ("cat", "dog")), Control("polygon", "line", ("dog", "owl"))),
        asks_more=True,  # the boxes, which are not read
    )
    assert SPEC.controls[2] == Control("rectangle", "box", ("cat",))
    assert [SPEC.index_of(label) for label in ("cat", "dog", "owl", "cow")] == [1, 2, 3, None]
    assert SPEC.control_for("dog", "polygon").name == "line"
    assert SPEC.control_for("cat", "polygon").name == "paint"


def test_a_label_called_background_is_class_0_and_aliases_are_what_is_stored() -> None:
    spec = segmentation_spec(
        view(
            '<Text name="caption" value="$text"/><Image name="photo" value="$photo"/>',
            '<Choices name="kind" toName="photo"><Choice value="a"/><Choice value="b"/></Choices>',
            '<BrushLabels name="b" toName="photo"><View><Label value="Background"/><Label value="Cat" alias="c"/>',
            "</View></BrushLabels>",
        )
    )
    assert spec.classes == ("c",)
    assert spec.has_background_label and not SPEC.has_background_label
    assert [spec.index_of(label) for label in ("Background", "c", "Cat")] == [0, 1, None]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("", "no label config yet"),
        (view('<Text name="t" value="$t"/>'), "no <Image"),
        (view(IMAGE), "no <BrushLabels> or <PolygonLabels>"),
        (view(IMAGE, BOX), 'regions of <RectangleLabels name="box"> are not read as masks: use BrushLabels or Polygon'),
        (
            view(IMAGE, '<Brush name="b" toName="img"/><Labels name="l" toName="img"><Label value="a"/></Labels>'),
            'regions of <Brush name="b"> are not read as masks: use BrushLabels',
        ),
        (view(IMAGE, BRUSH.replace("<BrushLabels", '<BrushLabels choice="multiple"')), "several labels"),
        (view(IMAGE, '<BrushLabels name="b" toName="img" value="$labels"/>'), "from the task data"),
        (view(IMAGE, '<BrushLabels name="b" toName="img"/>'), "no <Label> tags"),
        (
            view(IMAGE, '<PolygonLabels name="p" toName="img"><Label value="$a"/><Label value="b"/></PolygonLabels>'),
            'The <Label value="$a"> of <PolygonLabels name="p"> takes its text from the task data',
        ),
        (
            view(IMAGE, '<BrushLabels name="b" toName="img"><Label value="background"/></BrushLabels>'),
            "background only",
        ),
        (
            view(IMAGE, BRUSH, '<Image name="two" value="$two"/>', POLYGON.replace('toName="img"', 'toName="two"')),
            'several objects ("img", "two")',
        ),
        (view(IMAGE.replace('value="$image"', 'valueList="$images"'), BRUSH), "a list of images"),
        (
            view(IMAGE, BRUSH, BOX.replace('"cat"', '"cow"')),
            'The label "cow" is in a <RectangleLabels> only',
        ),
        (
            view(
                IMAGE,
                '<BrushLabels name="b" toName="img">',
                *(f'<Label value="{number}"/>' for number in range(255)),
                "</BrushLabels>",
            ),
            "255 classes: at most 254",
        ),
    ],
)
def test_unusable_configs_are_refused_in_words(config: str, words: str) -> None:
    with pytest.raises(LabelConfigError) as refused:
        segmentation_spec(config, rectangles="cow" in config)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
