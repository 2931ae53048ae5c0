"""``Choices`` on an ``Image``: the choices that a label config offers and an annotation selects, and results of
predictions.

There must be one ``Choices`` for the whole image. It is found by its type, whatever its name; other controls are
ignored. It takes a single choice (:mod:`backend.tasks.classification`) or several (:mod:`backend.tasks.multilabel`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.errors import LabelConfigError
from backend.tasks.base import NotAsked
from backend.tasks.label_config import (
    Annotation,
    attribute,
    conditions,
    data_key_of,
    images_of,
    read_interface,
    refuse_classes_from_data,
)
from backend.tasks.records import ELSEWHERE, EMPTY, SKIPPED, Result

if TYPE_CHECKING:
    from label_studio_sdk.label_interface import LabelInterface
    from label_studio_sdk.label_interface.control_tags import ControlTag
    from label_studio_sdk.label_interface.object_tags import ObjectTag

NOT_RECOGNIZABLE = frozenset({"not recognizable", "not recognisable", "unrecognizable", "unrecognisable"})
"""Names of a class that says of a generated image what a skip says: that it shows nothing."""

_SINGLE = ("single", "single-radio")  # values of the attribute "choice" for a single choice; the first is the default


@dataclass(frozen=True)
class ChoicesSpec:
    """The ``Choices`` of a label config, its image, and its choices.

    ``classes`` are the values as Label Studio stores them in a result: a choice's ``alias`` if it has one.
    ``asks_more``: the label config has other controls too, so that an annotation may contain results of these only.
    """

    from_name: str
    to_name: str
    data_key: str
    classes: tuple[str, ...]
    asks_more: bool = False


def choices_spec(xml: str, *, several: bool = False) -> ChoicesSpec:
    """Find the one ``Choices`` on an ``Image`` that takes a single choice or, with ``several``, any number of choices.

    Both errors say what is wrong in one sentence.

    Raises:
        NotAsked: there is none.
        LabelConfigError: there is more than one, or it cannot be served.
    """
    interface = read_interface(xml)
    control, image = _control_and_image(interface, several)
    classes = _classes(interface, control)
    if len(classes) < (1 if several else 2):
        needs = "one or more" if several else "two or more"
        raise LabelConfigError(
            f'The <Choices name="{control.name}"> has {len(classes)} <Choice> tag(s): a classifier needs {needs}.'
        )
    more = len(list(interface.controls)) > 1
    return ChoicesSpec(str(control.name), str(image.name), data_key_of(image), classes, more)


def choices_of(annotation: Annotation, spec: ChoicesSpec) -> frozenset[str] | None:
    """The choices that an annotation selects in our control, whether they are in the label config or not. None if it
    was skipped or has no result."""
    result = annotation.get("result")
    if annotation.get("was_cancelled") or not isinstance(result, list):
        return None
    named: set[str] = set()
    for region in result:
        if not isinstance(region, Mapping) or region.get("from_name") != spec.from_name:
            continue
        value = region.get("value")
        choices = value.get("choices") if isinstance(value, Mapping) else None
        if isinstance(choices, list):
            named.update(choice for choice in choices if isinstance(choice, str))
        elif isinstance(choices, str):
            named.add(choices)
    return frozenset(named)


def why_no_choice(annotation: Annotation, spec: ChoicesSpec, *, several: bool = False) -> str:
    """Why an annotation that is no label is none: see :meth:`backend.tasks.base.TaskKind.why_not`."""
    if annotation.get("was_cancelled"):
        return SKIPPED
    named = choices_of(annotation, spec) or frozenset()
    if named - set(spec.classes) and (several or len(named) == 1):
        return "a choice that is not in the label config"
    if len(named) > 1:
        return "several choices"
    return ELSEWHERE if annotation.get("result") else EMPTY


def choices_result(spec: ChoicesSpec, choices: Iterable[str], score: float) -> Result:
    """The ``result`` of a prediction that selects ``choices``; ``score`` is the network's confidence, in [0, 1]."""
    region: dict[str, Any] = {
        "value": {"choices": list(choices)},  # first, because the Data Manager shows the beginning of this as text
        "type": "choices",
        "from_name": spec.from_name,
        "to_name": spec.to_name,
        "score": round(float(score), 4),  # shown to people
    }
    return [region]


# -- label config ------------------------------------------------------------------------------------------------------


def _control_and_image(interface: LabelInterface, several: bool) -> tuple[ControlTag, ObjectTag]:
    """The ``Choices`` and its image. Raises if there is none, more than one, or one that cannot be served."""
    images = images_of(interface)
    on_image = [
        tag
        for tag in interface.controls
        if tag.tag.lower() == "choices" and images.keys() & set(tag.to_name) and not _per_region(interface, tag)
    ]
    if not on_image:
        raise NotAsked(
            "The label config has no <Choices> on its <Image> (with toName set to the image's name, for the whole "
            "image): this backend ranks images for classification."
        )
    # one that is always asked has precedence over follow-up questions, which only show after some choice
    always = [tag for tag in on_image if not conditions(interface, tag)] or on_image
    asked = [tag for tag in always if (attribute(tag, "choice", "single").lower() in _SINGLE) != several]
    if not asked:
        raise NotAsked(_other_number(always[0], several))
    if len(asked) > 1:
        names = ", ".join(f'"{tag.name}"' for tag in asked)
        kind = "several-choice" if several else "single-choice"
        raise LabelConfigError(
            f"The label config has {len(asked)} {kind} <Choices> on its <Image> ({names}): keep one, because "
            "only one question can order the queue."
        )
    control = asked[0]
    if len(control.to_name) > 1:
        raise LabelConfigError(f'The <Choices name="{control.name}"> has several objects in toName: name one image.')
    if control.dynamic_value or attribute(control, "value").startswith("$"):
        raise LabelConfigError(
            f'The <Choices name="{control.name}"> takes its choices from the task data: list them as <Choice> tags.'
        )
    return control, images[control.to_name[0]]


def _other_number(control: ControlTag, several: bool) -> str:
    if several:
        return (
            f'The <Choices name="{control.name}"> takes a single answer: set choice="multiple", so that an image can '
            "have several classes."
        )
    return (
        f'The <Choices name="{control.name}"> takes several answers: set choice="single", so that each image has one '
        "class."
    )


def _classes(interface: LabelInterface, control: ControlTag) -> tuple[str, ...]:
    """The choices, in order. Wrappers (View, Header) between ``Choices`` and ``Choice`` make no difference.

    Choices inside a choice are shown but never stored, unless ``allowNested`` is set, which stores paths of choices.
    """
    node = next(
        node
        for node in interface._tree.iter()  # the only place that keeps the order and the duplicates of choices
        if isinstance(node.tag, str) and node.tag.lower() == "choices" and node.get("name") == control.name
    )
    nested = False
    values = []
    for choice in node.iter():
        if not isinstance(choice.tag, str) or choice.tag.lower() != "choice":
            continue
        above = [parent.tag.lower() for parent in choice.iterancestors() if isinstance(parent.tag, str)]
        if "choice" in above[: above.index("choices")]:
            nested = True
        elif value := choice.get("alias") or choice.get("value"):
            values.append(value)
    if nested and attribute(control, "allowNested").lower() == "true":
        raise LabelConfigError(
            f'The <Choices name="{control.name}"> allows nested choices: list the classes on one level.'
        )
    refuse_classes_from_data(control, "Choice", values)
    duplicates = sorted(value for value, count in Counter(values).items() if count > 1)
    if duplicates:
        raise LabelConfigError(f'The <Choices name="{control.name}"> has the choice "{duplicates[0]}" more than once.')
    return tuple(values)


def _per_region(interface: LabelInterface, tag: ControlTag) -> bool:
    """Whether a control is for a drawn region or an item of a list, not for the whole image."""
    flags = ("perRegion", "perItem")
    return any(attribute(tag, flag).lower() == "true" for flag in flags) or "region-selected" in conditions(
        interface, tag
    )


def says_nothing(name: str) -> bool:
    """Whether a class has one of the names in :data:`NOT_RECOGNIZABLE`, however it is spaced and capitalized."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split()) in NOT_RECOGNIZABLE
