"""Which kind of task a project asks for, and what its owner reads when it asks for none."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import settings as sized
from hypothesis import strategies as st

from backend.errors import LabelConfigError, OwnerError, SettingsError
from backend.settings.core import Settings
from backend.settings.spec import spec_of
from backend.tasks import KINDS, kind_of
from backend.tasks.base import NotAsked
from models.networks.base import PretrainedUnavailable
from models.networks.segmenter import NAMES, SegmenterConfig, build_segmenter
from samplers import SAMPLERS
from tests.backend.tasks.examples import EXAMPLES
from tests.integration.helpers import FRUIT

IMAGE = '<Image name="img" value="$image"/>'
KIND = '<Choices name="kind" toName="img"><Choice value="cat"/><Choice value="dog"/></Choices>'
SECOND = KIND.replace('"kind"', '"second"')
SEVERAL = KIND.replace("name=", 'choice="multiple" name=')
OF_REGIONS = KIND.replace("name=", 'perRegion="true" name=')
BRUSH = '<BrushLabels name="paint" toName="img"><Label value="cat"/><Label value="owl"/></BrushLabels>'
POLYGON = BRUSH.replace("Brush", "Polygon").replace("paint", "line")
BACKGROUND = BRUSH.replace('"owl"', '"Background"')
BOX = BRUSH.replace("Brush", "Rectangle").replace("paint", "box")
TWO_SEVERAL = SEVERAL + SEVERAL.replace('"kind"', '"second"')
BROKEN_BRUSH = '<BrushLabels name="paint" toName="img"/>'

AUTO = Settings(sampler="margin")  # which is defined for every kind
CLASSES, MASKS, TICKS = (replace(AUTO, task=name) for name in ("classification", "segmentation", "multilabel"))
REFUSALS = [(sampler, name) for sampler, kind in SAMPLERS.items() for name in kind.refusals]


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ('<Choices name="kind" toName="img"><Choice value="$a"/><Choice value="$b"/></Choices>', '<Choice value="$a">'),
        ('<BrushLabels name="paint" toName="img"><Label value="$a"/></BrushLabels>', '<Label value="$a">'),
    ],
)
def test_classes_from_the_task_data_are_refused_as_the_project_is_connected(control: str, words: str) -> None:
    """Each task would name its classes otherwise: connected, eight labels made, and none of them counted."""
    with pytest.raises(LabelConfigError, match="from the task data") as refused:
        kind_of(view(IMAGE, control), AUTO)
    assert words in str(refused.value)


def test_a_follow_up_question_inside_a_view_is_not_served_and_not_refused() -> None:
    detail = KIND.replace('"kind"', '"detail"')
    for several, name in ((False, "classification"), (True, "multilabel")):
        asked = SEVERAL if several else KIND
        config = view(IMAGE, asked, f'<View visibleWhen="choice-selected" whenTagName="kind">{detail}</View>')
        found = kind_of(config, AUTO)
        assert (found.name, found.spec.from_name) == (name, "kind")


ASKS = {name: example.config(FRUIT) for name, example in EXAMPLES.items()}


@pytest.mark.parametrize(
    ("config", "task"),
    [
        (view(IMAGE, KIND), "classification"),
        (view(IMAGE, BRUSH), "segmentation"),
        (view(IMAGE, POLYGON), "segmentation"),
        (view(IMAGE, KIND, BRUSH), "classification"),  # as it was before masks were served
        (view(IMAGE, BRUSH, POLYGON, KIND, BOX), "classification"),
        (view(IMAGE, SEVERAL, BRUSH), "segmentation"),  # as it was before several choices were served
        (view(IMAGE, BRUSH, SEVERAL, POLYGON), "segmentation"),
        (view(IMAGE, OF_REGIONS, BRUSH), "segmentation"),
        (view(IMAGE, BRUSH, '<Text name="t" value="$t"/>', KIND.replace('"img"', '"t"')), "segmentation"),
        (view(IMAGE, SEVERAL), "multilabel"),
        (view(IMAGE, SEVERAL, BOX), "multilabel"),  # boxes alone are not read as masks
        (view(IMAGE, SEVERAL, OF_REGIONS.replace("kind", "part")), "multilabel"),
        (view(IMAGE, SEVERAL.replace('"kind"', '"tags"'), KIND), "classification"),
    ],
)
def test_what_is_asked(config: str, task: str) -> None:
    kind = kind_of(config, AUTO)
    assert kind.name == task
    assert isinstance(kind, KINDS[task])
    assert (kind.spec.to_name, kind.data_key) == ("img", "image")
    assert kind.classes == (("cat", "owl") if task == "segmentation" else ("cat", "dog"))


def test_the_owner_may_say_which() -> None:
    both = view(IMAGE, KIND, BRUSH)
    assert kind_of(both, MASKS).name == "segmentation"
    assert kind_of(both, CLASSES).name == "classification"
    assert kind_of(view(IMAGE, SEVERAL, BRUSH), TICKS).name == "multilabel"
    assert kind_of(view(IMAGE, KIND, SEVERAL.replace('"kind"', '"tags"')), TICKS).spec.from_name == "tags"
    with pytest.raises(NotAsked, match="no <Choices>"):
        kind_of(view(IMAGE, BRUSH), CLASSES)
    with pytest.raises(NotAsked, match="no <Choices>"):
        kind_of(view(IMAGE, BRUSH), TICKS)
    with pytest.raises(NotAsked, match="no <BrushLabels> or <PolygonLabels>"):
        kind_of(view(IMAGE, KIND), MASKS)
    with pytest.raises(NotAsked, match='takes several answers: set choice="single"'):
        kind_of(view(IMAGE, SEVERAL), CLASSES)
    with pytest.raises(NotAsked, match='takes a single answer: set choice="multiple"'):
        kind_of(view(IMAGE, KIND), TICKS)


def test_boxes_are_asked_for_when_the_owner_wants_them() -> None:
    config = view(IMAGE, BRUSH, BOX)
    kinds = {
        wanted: [control.kind for control in kind_of(config, replace(AUTO, rectangles=wanted)).spec.controls]
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
        (view(IMAGE, KIND, SECOND), "2 single-choice <Choices>"),
        (view(IMAGE, KIND, SECOND, BRUSH), "2 single-choice <Choices>"),
        (view(IMAGE, KIND, SECOND, BRUSH), 'set "task" to "segmentation"'),
        (view(IMAGE, KIND, SECOND, BROKEN_BRUSH), "2 single-choice <Choices>"),
        (view(IMAGE, KIND, SECOND, SEVERAL.replace('"kind"', '"tags"')), 'set "task" to "multilabel"'),
        (view(IMAGE, BROKEN_BRUSH), 'The <BrushLabels name="paint"> has no <Label> tags'),
        (view(IMAGE, SEVERAL, BROKEN_BRUSH), 'The <BrushLabels name="paint"> has no <Label> tags'),
        (view(IMAGE, SEVERAL, BROKEN_BRUSH), 'set "task" to "multilabel"'),
        (view(IMAGE, TWO_SEVERAL), "2 several-choice <Choices>"),
        (view(BRUSH), "no <Image"),
        (view(KIND), "no <Image"),
        ("", "no label config yet"),
        ("<View", "cannot be read"),
    ],
)
def test_what_cannot_be_served_is_refused_in_words(config: str, words: str) -> None:
    with pytest.raises(LabelConfigError) as refused:
        kind_of(config, AUTO)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_only_what_could_help_is_advised() -> None:
    with pytest.raises(LabelConfigError) as refused:
        kind_of(view(IMAGE, KIND, SECOND, BROKEN_BRUSH), AUTO)
    assert "segmentation" not in str(refused.value) and "multilabel" not in str(refused.value)


def test_what_is_wrong_with_the_label_config_is_said_before_what_the_sampler_cannot_do() -> None:
    with pytest.raises(LabelConfigError, match=r'2 single-choice .* set "task" to "segmentation"'):
        kind_of(view(IMAGE, KIND, SECOND, BRUSH), replace(AUTO, sampler="ads"))


@pytest.mark.parametrize(("sampler", "task"), REFUSALS)
def test_samplers_are_refused_where_they_have_no_meaning(sampler: str, task: str) -> None:
    with pytest.raises(SettingsError) as refused:
        kind_of(ASKS[task], AUTO.for_project({"sampler": sampler}))
    kind = KINDS[task]
    reason = SAMPLERS[sampler].refusals[task]
    assert reason and reason == reason.rstrip(".")
    assert str(refused.value) == (
        f'sampler "{sampler}" has no meaning for {kind.learns}: {reason}. Set "sampler" to another, such as '
        f'"{kind.default_sampler}".'
    )
    assert kind_of(ASKS[task], AUTO.for_project({"sampler": kind.default_sampler})).name == task


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_other_sampler_is_taken(sampler: str) -> None:
    refusals = SAMPLERS[sampler].refusals
    served = [name for name, config in ASKS.items() if name not in refusals and kind_of(config, AUTO).name == name]
    allowed = {"sampler": sampler, "allow_synthetic_tasks": True}
    for name in served:
        assert kind_of(ASKS[name], AUTO.for_project(allowed)).settings.sampler == sampler
    assert sorted([*served, *refusals]) == sorted(KINDS)
    assert "classification" in served
    of_images = ("ads", "asal", "badge", "bait", "ceal", "dropquery", "gaal", "typiclust", "uherding")
    assert "segmentation" in served or sampler in of_images
    assert "multilabel" in served or sampler in ("ads", "ceal", "dast-al", "dropquery")


def test_a_sampler_that_imports_images_needs_the_owner_s_permission() -> None:
    with pytest.raises(SettingsError, match='set "allow_synthetic_tasks" to true'):
        kind_of(ASKS["classification"], AUTO.for_project({"sampler": "gaal"}))
    assert kind_of(ASKS["classification"], AUTO.for_project({"allow_synthetic_tasks": True})).name == "classification"


def test_each_kind_has_a_sampler_where_the_owner_names_none() -> None:
    named = {name: kind_of(config, Settings()).settings.sampler for name, config in ASKS.items()}
    assert named == {name: kind.default_sampler for name, kind in KINDS.items()}
    assert (named["classification"], named["segmentation"], named["multilabel"]) == ("uherding", "dast-al", "margin")
    told = next(spec_of(one).help for one in fields(Settings) if one.name == "sampler")
    assert all(f"{one.default_sampler} for {name}" in told for name, one in KINDS.items() if name != "classification")
    for place in (Settings().for_project({"sampler": "dast-al"}), Settings.from_env({"SAMPLER": "dast-al"})):
        with pytest.raises(SettingsError, match='sampler "dast-al" has no meaning for several choices per image'):
            kind_of(ASKS["multilabel"], place)
    assert kind_of(ASKS["multilabel"], Settings().for_project({"sampler": "core-set"})).settings.sampler == "core-set"
    assert kind_of(ASKS["multilabel"], Settings.from_env({"SAMPLER": "entropy"})).settings.sampler == "entropy"


def test_a_sampler_of_whole_images_still_classifies_where_there_is_something_to_draw_with() -> None:
    assert kind_of(view(IMAGE, KIND, BRUSH), replace(AUTO, sampler="ads")).name == "classification"


def test_ignored_pixels_need_a_label_for_the_background() -> None:
    ignoring = replace(AUTO, unlabelled="ignore")
    with pytest.raises(SettingsError, match='add <Label value="background"/> to the label config, or set "unlabelled"'):
        kind_of(view(IMAGE, BRUSH), ignoring)
    assert kind_of(view(IMAGE, BACKGROUND), ignoring).classes == ("cat",)
    assert kind_of(view(IMAGE, KIND), ignoring).name == "classification"  # where it says nothing
    assert kind_of(view(IMAGE, SEVERAL), ignoring).name == "multilabel"


@pytest.mark.parametrize("net", NAMES)
def test_networks_that_cannot_be_built_are_refused_before_a_cycle(net: str) -> None:
    """Whatever is not refused here can be built: a cycle would fail with words that no owner understands."""
    for changes in ({"pretrained": True}, {"task_width": 8}, {}):
        chosen = replace(AUTO, segmentation_net=net, **changes)
        try:
            kind_of(view(IMAGE, BRUSH), chosen)
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
        assert kind_of(view(IMAGE, KIND), chosen).name == "classification"


def _error(config: SegmenterConfig) -> type[Exception] | None:
    try:
        build_segmenter(config, 0)
    except (ValueError, PretrainedUnavailable) as error:
        return type(error)
    return None


TAGS = [
    *(KIND, SECOND, SEVERAL, TWO_SEVERAL, OF_REGIONS, BRUSH, POLYGON, BACKGROUND, BOX, BROKEN_BRUSH),
    *('<Choices name="k"/>', "<A/>"),
]


@sized(max_examples=150)
@given(
    st.lists(st.sampled_from(TAGS), unique=True),
    st.sampled_from([IMAGE, "", IMAGE + IMAGE.replace("img", "two")]),
    st.sampled_from(["auto", *KINDS]),
    st.sampled_from(["background", "ignore"]),
    st.booleans(),
    st.sampled_from(["margin", "dast-al", "ads"]),
)
def test_every_config_is_served_or_refused(
    tags: list[str], image: str, task: str, unlabelled: str, rectangles: bool, sampler: str
) -> None:
    chosen = AUTO.for_project({"sampler": sampler, "task": task, "unlabelled": unlabelled, "rectangles": rectangles})
    config = view(image, *tags)
    try:
        kind = kind_of(config, chosen)
    except OwnerError as refusal:
        assert "\n" not in str(refusal) and str(refusal).endswith(".")
        return
    assert task in ("auto", kind.name)
    assert kind.name not in SAMPLERS[sampler].refusals
    assert kind.classes
    if task == "auto":
        for earlier in list(KINDS)[: list(KINDS).index(kind.name)]:
            with pytest.raises(NotAsked):
                kind_of(config, replace(chosen, task=earlier))


@pytest.mark.parametrize("sampler", ["learning-loss", "mc-dropout", "ceal", "qbc"])
def test_isda_is_refused_where_the_sampler_has_an_objective_of_its_own(sampler: str) -> None:
    with pytest.raises(SettingsError, match=f'"{sampler}" trains the network on an objective of its own'):
        kind_of(view(IMAGE, KIND), Settings(sampler=sampler, objective="isda"))


def test_isda_is_for_one_class_an_image_or_a_pixel() -> None:
    with pytest.raises(SettingsError, match="exactly one class per image"):
        kind_of(view(IMAGE, SEVERAL), Settings(sampler="margin", objective="isda"))
    for control in (KIND, BRUSH):
        for sampler in ("margin", "random", "dast-al", "core-set"):
            kind_of(view(IMAGE, control), Settings(sampler=sampler, objective="isda"))
