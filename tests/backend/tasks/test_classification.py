"""Label configs as owners write them, and annotations as Label Studio exports them."""

from __future__ import annotations

from typing import Any

import pytest
from label_studio_sdk.label_interface import LabelInterface

from backend.errors import LabelConfigError
from backend.tasks.classification import LabelSpec, countable, image_source, parse_label_config, target_of, to_region

IMAGE = '<Image name="img" value="$image"/>'
KIND = '<Choices name="kind" toName="img"><Choice value="cat"/><Choice value="dog"/></Choices>'
SPEC = LabelSpec("kind", "img", "image", ("cat", "dog", "owl"))


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


def annotation(number: int, label: str | None, updated: str = "2025-01-01", **more: Any) -> dict[str, Any]:
    result = [] if label is None else to_region(SPEC, label, 1.0)
    stamp = f"{updated}T00:00:00.000000Z"
    return {"id": number, "result": result, "updated_at": stamp, "was_cancelled": False, "ground_truth": False} | more


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
    assert parse_label_config(config) == LabelSpec("qualité", "фото", "photo_url", ("sharp", "blurred"))


@pytest.mark.parametrize(
    "beside",
    [
        '<Choices name="tags" toName="img" choice="multiple"><Choice value="a"/><Choice value="b"/></Choices>',
        '<Choices name="part" toName="img" perRegion="true"><Choice value="a"/><Choice value="b"/></Choices>',
        '<Choices name="part" toName="img" visibleWhen="region-selected"><Choice value="a"/>'
        '<Choice value="b"/></Choices>',
        '<Choices name="why" toName="img" visibleWhen="choice-selected" whenTagName="kind"><Choice value="a"/>'
        '<Choice value="b"/></Choices>',
        '<Image name="other" value="$second"/>',
        "<!-- a comment -->",
    ],
)
def test_other_controls_are_left_alone(beside: str) -> None:
    assert parse_label_config(view(IMAGE, KIND, beside)) == LabelSpec("kind", "img", "image", ("cat", "dog"))


def test_choices_keep_their_order_through_wrappers_and_aliases() -> None:
    config = view(
        IMAGE,
        '<Choices name="kind" toName="img"><Header value="Pets"/><View><Choice value="Zebra" alias="z"/></View>',
        '<Choice value="Ape"/><Choice value="Mole"/></Choices>',
    )
    assert parse_label_config(config).classes == ("z", "Ape", "Mole")


def test_choices_inside_a_choice_are_never_stored() -> None:
    nested = '<Choice value="pet"><Choice value="cat"/><Choice value="dog"/></Choice><Choice value="wild"/>'
    config = view(IMAGE, f'<Choices name="kind" toName="img">{nested}</Choices>')
    assert parse_label_config(config).classes == ("pet", "wild")


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
        (view(IMAGE, KIND.replace("name=", 'choice="multiple" name=')), "takes several answers"),
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
        parse_label_config(config)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("data", "source"),
    [
        ({"image": " /data/upload/1/a.png "}, "/data/upload/1/a.png"),
        ({"other": "x"}, None),
        ({"image": ""}, None),
        ({"image": None}, None),
        ({"image": ["a.png", "b.png"]}, None),
        ({}, None),
    ],
)
def test_image_source(data: dict[str, Any], source: str | None) -> None:
    assert image_source(data, SPEC) == source


def test_image_source_inside_the_task_data() -> None:
    spec = parse_label_config(view('<Image name="img" value="$shot.url"/>', KIND))
    assert image_source({"shot": {"url": "a.png"}}, spec) == "a.png"
    assert image_source({"shot.url": "b.png", "shot": {"url": "a.png"}}, spec) == "b.png"
    assert image_source({"shot": "a.png"}, spec) is None


def test_latest_ground_truth_decides() -> None:
    found = [
        annotation(1, "cat", "2025-03-03", ground_truth=True),
        annotation(2, "dog", "2025-01-01", ground_truth=True),
        annotation(3, "owl", "2025-06-06"),
        annotation(4, "owl", "2025-06-07"),
        annotation(5, None, "2025-09-09", ground_truth=True),
    ]
    assert target_of(found, SPEC) == "cat"


def test_then_the_majority_then_the_latest() -> None:
    cat, cat2 = annotation(1, "cat", "2025-01-01"), annotation(2, "cat", "2025-01-02")
    dog, dog2 = annotation(3, "dog", "2025-01-03"), annotation(4, "dog", "2025-01-04")
    owl = annotation(5, "owl", "2025-01-05")
    assert target_of([cat, cat2, owl], SPEC) == "cat"
    assert target_of([owl, dog], SPEC) == "owl"
    assert target_of([dog, dog2, cat, cat2, owl], SPEC) == "dog"  # a draw of two: not the latest of all
    edited = annotation(1, "cat", "2025-02-01")  # an old annotation that was changed is the latest
    assert target_of([edited, owl], SPEC) == "cat"


def test_what_is_not_a_label() -> None:
    other = annotation(7, "cat")
    other["result"][0]["from_name"] = "mood"
    nothing = [
        annotation(1, None),
        annotation(2, "cat", was_cancelled=True),
        annotation(3, "no longer a class"),
        annotation(4, "cat", result=None),
        annotation(5, "cat", result=[{"from_name": "kind", "value": {"choices": ["cat", "dog"]}}]),
        annotation(6, "cat", result=[{"from_name": "kind", "value": None}, "odd"]),
        other,
    ]
    assert target_of(nothing, SPEC) is None
    assert countable(nothing, SPEC) == []
    assert target_of([], SPEC) is None
    good = annotation(8, "dog", "2025-05-05")
    good["result"].append({"from_name": "note", "type": "textarea", "value": {"text": ["blurred"]}})
    assert target_of([*nothing, good], SPEC) == "dog"
    assert countable([*nothing, good], SPEC) == [(8, "2025-05-05T00:00:00.000000Z")]


@pytest.mark.parametrize("label", ["z", "Ape"])
def test_label_studio_accepts_our_regions(label: str) -> None:
    config = view(
        IMAGE, '<Choices name="kind" toName="img"><Choice value="Zebra" alias="z"/><Choice value="Ape"/></Choices>'
    )
    spec = parse_label_config(config)
    prediction = {"result": to_region(spec, label, 0.25), "score": 0.5}
    assert LabelInterface(config).validate_prediction(prediction, return_errors=True) == []
    wrong = {"result": to_region(spec, "Zebra", 0.25), "score": 0.5}  # the value behind an alias is refused
    assert LabelInterface(config).validate_prediction(wrong, return_errors=True) != []
