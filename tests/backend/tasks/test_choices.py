"""The one ``Choices`` that is asked of a whole image, in label configs as owners write them."""

from __future__ import annotations

from typing import Any

import pytest
from label_studio_sdk.label_interface import LabelInterface

from backend.errors import LabelConfigError
from backend.tasks.base import NotAsked
from backend.tasks.choices import ChoicesSpec, choices_of, choices_result, choices_spec

IMAGE = '<Image name="img" value="$image"/>'
KIND = '<Choices name="kind" toName="img"><Choice value="cat"/><Choice value="dog"/></Choices>'
SEVERAL = KIND.replace("name=", 'choice="multiple" name=')
SPEC = ChoicesSpec("kind", "img", "image", ("cat", "dog", "owl"))


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


def test_found_by_type_whatever_the_names() -> None:
    config = view(
        '<Header value="What is it?"/><Text name="caption" value="$text"/>',
        '<Choices name="mood" toName="caption"><Choice value="good"/><Choice value="bad"/></Choices>',
        '<Choices name="qualité" toName="фото" choice="single-radio" showInline="true">',
        '<Choice value="sharp"/><Choice value="blurred" hotkey="b"/></Choices>',
        '<RectangleLabels name="box" toName="фото"><Label value="face"/></RectangleLabels>',
        '<Rating name="stars" toName="фото"/><TextArea name="note" toName="фото"/>',
        '<Image name="фото" value="$photo_url" zoom="true"/>',
    )
    found = ChoicesSpec("qualité", "фото", "photo_url", ("sharp", "blurred"), asks_more=True)
    assert choices_spec(config) == found
    several = config.replace('choice="single-radio"', 'choice="multiple"')
    assert choices_spec(several, several=True) == found


@pytest.mark.parametrize(
    ("alongside", "asks_more"),
    [
        ('<Choices name="part" toName="img" perRegion="true"><Choice value="a"/><Choice value="b"/></Choices>', True),
        (
            '<Choices name="part" toName="img" visibleWhen="region-selected"><Choice value="a"/>'
            '<Choice value="b"/></Choices>',
            True,
        ),
        (
            '<Choices name="why" toName="img" visibleWhen="choice-selected" whenTagName="kind"><Choice value="a"/>'
            '<Choice value="b"/></Choices>',
            True,
        ),
        ('<Image name="other" value="$second"/>', False),
        ("<!-- a comment -->", False),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_other_controls_are_left_alone(alongside: str, asks_more: bool, several: bool) -> None:
    config = view(IMAGE, SEVERAL, alongside.replace("name=", 'choice="multiple" name=')) if several else ""
    config = config or view(IMAGE, KIND, alongside)
    assert choices_spec(config, several=several) == ChoicesSpec("kind", "img", "image", ("cat", "dog"), asks_more)


def test_single_and_several_choice_are_no_rivals_of_each_other() -> None:
    tags = '<Choices name="tags" toName="img" choice="multiple"><Choice value="a"/><Choice value="b"/></Choices>'
    config = view(IMAGE, KIND, tags)
    assert choices_spec(config) == ChoicesSpec("kind", "img", "image", ("cat", "dog"), asks_more=True)
    assert choices_spec(config, several=True) == ChoicesSpec("tags", "img", "image", ("a", "b"), asks_more=True)


FOLLOW_UP = '<Choices name="more" toName="img" {}><Choice value="red"/><Choice value="blue"/></Choices>'


@pytest.mark.parametrize(
    "wrapped",
    [
        '<View visibleWhen="choice-selected" whenTagName="kind" whenChoiceValue="cat">{}</View>',
        '<View visiblewhen="choice-unselected" whentagname="kind"><View style="x"><Header value="?"/>{}</View></View>',
        '<View visibleWhen="region-selected">{}</View>',
        '<View><View visibleWhen="no-region-selected">{}</View></View>',
    ],
)
@pytest.mark.parametrize("choice", ["", 'choice="multiple"'])
def test_a_follow_up_question_inside_a_conditional_wrapper_is_none_of_ours(wrapped: str, choice: str) -> None:
    """Conditions are inherited: the editor shows what is inside only where the wrapper is shown."""
    follow_up = wrapped.format(FOLLOW_UP.format(choice))
    found = ChoicesSpec("kind", "img", "image", ("cat", "dog"), asks_more=True)
    assert choices_spec(view(IMAGE, KIND, follow_up)) == found
    assert choices_spec(view(IMAGE, SEVERAL, follow_up), several=True) == found


def test_a_follow_up_question_does_not_take_the_place_of_the_one_that_is_always_asked() -> None:
    config = view(
        IMAGE, SEVERAL, '<View visibleWhen="choice-selected" whenTagName="kind">', FOLLOW_UP.format(""), "</View>"
    )
    with pytest.raises(NotAsked, match="takes several answers"):
        choices_spec(config)
    assert choices_spec(config, several=True).from_name == "kind"


def test_two_questions_that_are_always_asked_are_still_refused_inside_plain_wrappers() -> None:
    with pytest.raises(LabelConfigError, match="keep one"):
        choices_spec(view(IMAGE, KIND, f'<View className="x">{FOLLOW_UP.format("")}</View>'))


@pytest.mark.parametrize("value", ["$a", "$options[0]", "a $b", "{$c.d}"])
@pytest.mark.parametrize("several", [False, True])
def test_a_choice_that_takes_its_text_from_the_task_is_refused(value: str, several: bool) -> None:
    kind = (SEVERAL if several else KIND).replace('value="cat"', f'value="{value}"')
    with pytest.raises(LabelConfigError, match="takes its text from the task data: write out the class"):
        choices_spec(view(IMAGE, kind), several=several)
    aliased = kind.replace(f'value="{value}"', f'value="{value}" alias="first"')
    assert choices_spec(view(IMAGE, aliased), several=several).classes == ("first", "dog")


def test_prices_are_no_fields_of_the_task() -> None:
    config = view(IMAGE, '<Choices name="kind" toName="img"><Choice value="US$"/><Choice value="$ 5"/></Choices>')
    assert choices_spec(config).classes == ("US$", "$ 5")


def test_choices_keep_their_order_through_wrappers_and_aliases() -> None:
    config = view(
        IMAGE,
        '<Choices name="kind" toName="img"><Header value="Pets"/><View><Choice value="Zebra" alias="z"/></View>',
        '<Choice value="Ape"/><Choice value="Mole"/></Choices>',
    )
    assert choices_spec(config).classes == ("z", "Ape", "Mole")


def test_choices_inside_a_choice_are_never_stored() -> None:
    nested = '<Choice value="pet"><Choice value="cat"/><Choice value="dog"/></Choice><Choice value="wild"/>'
    config = view(IMAGE, f'<Choices name="kind" toName="img">{nested}</Choices>')
    assert choices_spec(config).classes == ("pet", "wild")


def test_one_class_is_a_question_where_it_may_also_be_left_out() -> None:
    config = view(IMAGE, '<Choices name="k" toName="img" choice="multiple"><Choice value="a"/></Choices>')
    assert choices_spec(config, several=True).classes == ("a",)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("", "no label config yet"),
        ("<View><Image", "cannot be read"),
        ("not xml", "cannot be read"),
        (view(KIND), "no <Image"),
        (view(IMAGE), "no <Choices> on its <Image>"),
        (view(IMAGE, KIND.replace('toName="img"', 'toName="elsewhere"')), "no <Choices> on its <Image>"),
        (view(IMAGE, KIND.replace("toName", "perRegion")), "no <Choices> on its <Image>"),
        (view(IMAGE, KIND, KIND.replace("kind", "second")), '2 single-choice <Choices> on its <Image> ("kind", "s'),
        (view(IMAGE, SEVERAL), "takes several answers"),
        (view(IMAGE, '<Choices name="k" toName="img"><Choice value="a"/></Choices>'), "1 <Choice> tag(s)"),
        (view(IMAGE, '<Choices name="k" toName="img" value="$options"/>'), "from the task data"),
        (view(IMAGE, KIND.replace("dog", "cat")), '"cat" more than once'),
        (view(IMAGE, KIND.replace('value="dog"', 'value="Dog" alias="cat"')), '"cat" more than once'),
        (
            view(IMAGE, '<Choices name="k" toName="img" allowNested="true"><Choice value="a"><Choice value="b"/>',
                 '</Choice><Choice value="c"/></Choices>'),
            "nested",
        ),
        (view('<Image name="img" valueList="$images"/>', KIND), "a list of images"),
        (view('<Image name="img" value="https://example.com/one.png"/>', KIND), "one field of the task"),
        (view('<Image name="img" value="https://example.com/$name"/>', KIND), "one field of the task"),
        (view(IMAGE, '<Image name="two" value="$b"/>', KIND.replace('"img"', '"img,two"')), "several objects"),
    ],
)  # fmt: skip
def test_unusable_configs_are_refused_in_words(config: str, words: str) -> None:
    with pytest.raises(LabelConfigError) as refused:
        choices_spec(config)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("config", "words", "asked"),
    [
        (view(IMAGE), "no <Choices> on its <Image>", False),
        (view(IMAGE, KIND), 'name="kind"> takes a single answer: set choice="multiple"', False),
        (view(IMAGE, SEVERAL, SEVERAL.replace("kind", "second")), '2 several-choice <Choices> on its <Image>', True),
        (view(IMAGE, '<Choices name="k" toName="img" choice="multiple"/>'), "0 <Choice> tag(s): a", True),
        (view(IMAGE, SEVERAL.replace("dog", "cat")), '"cat" more than once', True),
        (view(IMAGE, SEVERAL.replace("name=", 'allowNested="true" name=').replace('"dog"/>', '"dog">'
              '<Choice value="pup"/></Choice>')), "nested", True),
    ],
)  # fmt: skip
def test_unusable_configs_for_several_answers_are_refused_in_words(config: str, words: str, asked: bool) -> None:
    with pytest.raises(LabelConfigError) as refused:
        choices_spec(config, several=True)
    assert words in str(refused.value)
    assert isinstance(refused.value, NotAsked) is not asked


@pytest.mark.parametrize(
    ("result", "ticked"),
    [
        ([], set()),
        ([{"from_name": "kind", "value": {"choices": ["cat", "dog"]}}], {"cat", "dog"}),
        ([{"from_name": "kind", "value": {"choices": "cat"}}], {"cat"}),  # as some importers write it
        ([{"from_name": "kind", "value": {"choices": ["cat", 3]}}, "odd", {"from_name": "kind"}], {"cat"}),
        ([{"from_name": "mood", "value": {"choices": ["cat"]}}], set()),
        ([{"from_name": "kind", "value": {"choices": ["no longer a class"]}}], {"no longer a class"}),
        (None, None),
        ({"odd": 1}, None),
    ],
)
def test_what_an_annotation_ticks(result: Any, ticked: set[str] | None) -> None:
    assert choices_of({"id": 1, "result": result, "was_cancelled": False}, SPEC) == ticked
    assert choices_of({"id": 1, "result": result, "was_cancelled": True}, SPEC) is None


@pytest.mark.parametrize("label", ["z", "Ape"])
def test_label_studio_accepts_our_regions(label: str) -> None:
    config = view(
        IMAGE, '<Choices name="kind" toName="img"><Choice value="Zebra" alias="z"/><Choice value="Ape"/></Choices>'
    )
    spec = choices_spec(config)
    prediction = {"result": choices_result(spec, [label], 0.25), "score": 0.5}
    assert LabelInterface(config).validate_prediction(prediction, return_errors=True) == []
    wrong = {"result": choices_result(spec, ["Zebra"], 0.25), "score": 0.5}  # the value behind an alias is refused
    assert LabelInterface(config).validate_prediction(wrong, return_errors=True) != []


def test_label_studio_accepts_a_region_of_several_choices() -> None:
    config = view(IMAGE, SEVERAL)
    prediction = {"result": choices_result(choices_spec(config, several=True), ["cat", "dog"], 0.25), "score": 0.5}
    assert prediction["result"][0]["value"] == {"choices": ["cat", "dog"]}
    assert LabelInterface(config).validate_prediction(prediction, return_errors=True) == []
