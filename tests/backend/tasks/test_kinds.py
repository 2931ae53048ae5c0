"""Which of the two questions a project asks, and what its owner reads when it asks neither."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as sized
from hypothesis import strategies as st

from backend.errors import LabelConfigError, OwnerError, SettingsError
from backend.settings.core import Settings
from backend.settings.samplers import CLASSIFICATION_ONLY, SAMPLER_NAMES
from backend.tasks.classification import LabelSpec, NoQuestion, image_source
from backend.tasks.kinds import question_of
from backend.tasks.segmentation.config import NothingDrawn, SegmentationSpec
from models.networks.classifier import PretrainedUnavailable
from models.networks.segmenter import NAMES, SegmenterConfig, build_segmenter

IMAGE = '<Image name="img" value="$image"/>'
KIND = '<Choices name="kind" toName="img"><Choice value="cat"/><Choice value="dog"/></Choices>'
SECOND = KIND.replace('"kind"', '"second"')
SEVERAL = KIND.replace("name=", 'choice="multiple" name=')
OF_REGIONS = KIND.replace("name=", 'perRegion="true" name=')
BRUSH = '<BrushLabels name="paint" toName="img"><Label value="cat"/><Label value="owl"/></BrushLabels>'
POLYGON = BRUSH.replace("Brush", "Polygon").replace("paint", "line")
BACKGROUND = BRUSH.replace('"owl"', '"Background"')
BOX = BRUSH.replace("Brush", "Rectangle").replace("paint", "box")
BROKEN_BRUSH = '<BrushLabels name="paint" toName="img"/>'

AUTO = Settings()
CLASSES, MASKS = replace(AUTO, task="classification"), replace(AUTO, task="segmentation")


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


@pytest.mark.parametrize(
    ("config", "task"),
    [
        (view(IMAGE, KIND), "classification"),
        (view(IMAGE, BRUSH), "segmentation"),
        (view(IMAGE, POLYGON), "segmentation"),
        (view(IMAGE, KIND, BRUSH), "classification"),  # as it was before masks were served
        (view(IMAGE, BRUSH, POLYGON, KIND, BOX), "classification"),
        (view(IMAGE, SEVERAL, BRUSH), "segmentation"),
        (view(IMAGE, OF_REGIONS, BRUSH), "segmentation"),
        (view(IMAGE, BRUSH, '<Text name="t" value="$t"/>', KIND.replace('"img"', '"t"')), "segmentation"),
    ],
)
def test_what_is_asked(config: str, task: str) -> None:
    spec = question_of(config, AUTO)
    assert spec.task == task
    assert (spec.to_name, spec.data_key) == ("img", "image")
    assert spec.classes == (("cat", "dog") if task == "classification" else ("cat", "owl"))
    assert isinstance(spec, LabelSpec) == (task == "classification")
    assert isinstance(spec, SegmentationSpec) == (task == "segmentation")
    assert image_source({"image": "a.png"}, spec) == "a.png"


def test_the_owner_may_say_which() -> None:
    both = view(IMAGE, KIND, BRUSH)
    assert question_of(both, MASKS).task == "segmentation"
    assert question_of(both, CLASSES).task == "classification"
    with pytest.raises(NoQuestion, match="no <Choices>"):
        question_of(view(IMAGE, BRUSH), CLASSES)
    with pytest.raises(NothingDrawn, match="no <BrushLabels> or <PolygonLabels>"):
        question_of(view(IMAGE, KIND), MASKS)


def test_boxes_are_asked_for_when_the_owner_wants_them() -> None:
    config = view(IMAGE, BRUSH, BOX)
    kinds = {
        wanted: [control.kind for control in question_of(config, replace(AUTO, rectangles=wanted)).controls]  # type: ignore[union-attr]
        for wanted in (False, True)
    }
    assert kinds == {False: ["brush"], True: ["brush", "rectangle"]}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (view(IMAGE), "no <Choices> on its <Image> (for one class an image) and no <BrushLabels> or <PolygonLabels>"),
        (view(IMAGE, OF_REGIONS), "no <Choices> on its <Image> (for one class an image) and no <BrushLabels>"),
        (
            view(IMAGE, BOX),
            'name="box"> are not read as masks: use BrushLabels or PolygonLabels on the <Image>, or add a',
        ),
        (view(IMAGE, BOX), "single-choice <Choices>"),
        (view(IMAGE, SEVERAL), 'takes several answers: set choice="single"'),
        (view(IMAGE, SEVERAL, BOX), 'takes several answers: set choice="single"'),
        (view(IMAGE, KIND, SECOND), "2 single-choice <Choices>"),
        (view(IMAGE, KIND, SECOND, BRUSH), "2 single-choice <Choices>"),
        (view(IMAGE, KIND, SECOND, BRUSH), 'set "task" to "segmentation"'),
        (view(IMAGE, KIND, SECOND, BROKEN_BRUSH), "2 single-choice <Choices>"),
        (view(IMAGE, BROKEN_BRUSH), 'The <BrushLabels name="paint"> has no <Label> tags'),
        (view(IMAGE, SEVERAL, BROKEN_BRUSH), 'The <BrushLabels name="paint"> has no <Label> tags'),
        (view(BRUSH), "no <Image"),
        (view(KIND), "no <Image"),
        ("", "no label config yet"),
        ("<View", "cannot be read"),
    ],
)
def test_what_cannot_be_served_is_refused_in_words(config: str, words: str) -> None:
    with pytest.raises(LabelConfigError) as refused:
        question_of(config, AUTO)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_only_what_could_help_is_advised() -> None:
    with pytest.raises(LabelConfigError) as refused:
        question_of(view(IMAGE, KIND, SECOND, BROKEN_BRUSH), AUTO)
    assert "segmentation" not in str(refused.value)


@pytest.mark.parametrize("sampler", CLASSIFICATION_ONLY)
def test_samplers_of_whole_images_are_refused_for_masks(sampler: str) -> None:
    with pytest.raises(SettingsError) as refused:
        question_of(view(IMAGE, BRUSH), replace(AUTO, sampler=sampler))
    assert str(refused.value) == (
        f'sampler "{sampler}" has no meaning for masks: {CLASSIFICATION_ONLY[sampler]}. Set "sampler" to another, such '
        'as "dast-al".'
    )
    assert question_of(view(IMAGE, KIND, BRUSH), replace(AUTO, sampler=sampler)).task == "classification"


def test_which_samplers_have_no_meaning_for_masks_is_what_they_say() -> None:
    from samplers import SAMPLERS

    assert set(CLASSIFICATION_ONLY) == {name for name, kind in SAMPLERS.items() if "segmentation" not in kind.tasks}
    assert set(CLASSIFICATION_ONLY) < set(SAMPLER_NAMES)


def test_ignored_pixels_need_a_label_for_the_background() -> None:
    ignoring = replace(AUTO, unlabelled="ignore")
    with pytest.raises(SettingsError, match='add <Label value="background"/> to the label config, or set "unlabelled"'):
        question_of(view(IMAGE, BRUSH), ignoring)
    assert question_of(view(IMAGE, BACKGROUND), ignoring).classes == ("cat",)
    assert question_of(view(IMAGE, KIND), ignoring).task == "classification"  # where it says nothing


@pytest.mark.parametrize("net", NAMES)
def test_networks_that_cannot_be_built_are_refused_before_a_cycle(net: str) -> None:
    """Whatever is not refused here can be built: a cycle would fail with words that no owner understands."""
    for changes in ({"pretrained": True}, {"task_width": 8}, {}):
        chosen = replace(AUTO, segmentation_net=net, **changes)
        try:
            question_of(view(IMAGE, BRUSH), chosen)
            refused = ""
        except SettingsError as refusal:
            refused = str(refusal)
        config = SegmenterConfig(net, 3, chosen.task_width, pretrained=False)
        if not changes:
            assert not refused
        elif "task_width" in changes:
            assert bool(refused) == (_error(config) is ValueError) and ("one width only" in refused or not refused)
        elif "pretrained" in changes:
            bare = _error(replace(config, pretrained=True)) if refused else None
            assert bool(refused) == (net == "drn-d-22") == (bare is PretrainedUnavailable)
            assert "no pretrained weights" in refused or not refused
        assert question_of(view(IMAGE, KIND), chosen).task == "classification"


def _error(config: SegmenterConfig) -> type[Exception] | None:
    try:
        build_segmenter(config, 0)
    except (ValueError, PretrainedUnavailable) as error:
        return type(error)
    return None


TAGS = [KIND, SECOND, SEVERAL, OF_REGIONS, BRUSH, POLYGON, BACKGROUND, BOX, BROKEN_BRUSH, '<Choices name="k"/>', "<A/>"]


@sized(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a loaded machine is no failure
@given(
    st.lists(st.sampled_from(TAGS), unique=True),
    st.sampled_from([IMAGE, "", IMAGE + IMAGE.replace("img", "two")]),
    st.sampled_from(["auto", "classification", "segmentation"]),
    st.sampled_from(["background", "ignore"]),
    st.booleans(),
    st.sampled_from(["dast-al", "ads"]),
)
def test_every_config_is_served_or_refused(
    tags: list[str], image: str, task: str, unlabelled: str, rectangles: bool, sampler: str
) -> None:
    chosen = replace(AUTO, task=task, unlabelled=unlabelled, rectangles=rectangles, sampler=sampler)
    config = view(image, *tags)
    try:
        spec = question_of(config, chosen)
    except OwnerError as refusal:
        assert "\n" not in str(refusal) and str(refusal).endswith(".")
        return
    assert task in ("auto", spec.task)
    assert spec.task == "classification" or sampler == "dast-al"
    assert spec.classes
    if task == "auto" and spec.task == "segmentation":
        with pytest.raises(NoQuestion):
            question_of(config, replace(chosen, task="classification"))
