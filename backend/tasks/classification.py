"""What a project asks and what was answered: label config ↔ classes, annotations → targets, answers → regions.

Here the question is one class for each image: one single-choice ``Choices`` on one ``Image``. Both are found by type,
whatever their names; every other control beside them is left alone. Masks are asked for in
``backend.tasks.segmentation.config``; ``backend.tasks.kinds`` knows which of the two a project asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from backend.errors import LabelConfigError

if TYPE_CHECKING:
    from label_studio_sdk.label_interface import LabelInterface
    from label_studio_sdk.label_interface.control_tags import ControlTag
    from label_studio_sdk.label_interface.object_tags import ObjectTag

_SINGLE = ("single", "single-radio")  # Label Studio's names for "one answer"; absent means the first


@dataclass(frozen=True)
class LabelSpec:
    """Where the question stands in the label config, and its possible answers.

    ``classes`` are the values as Label Studio stores them in a result: a choice's ``alias`` where it has one.
    """

    from_name: str
    to_name: str
    data_key: str
    classes: tuple[str, ...]

    @property
    def task(self) -> Literal["classification"]:
        return "classification"


class NoQuestion(LabelConfigError):
    """The label config asks for no class of an image. ``several``: it does, but takes several answers."""

    def __init__(self, message: str, *, several: bool = False) -> None:
        super().__init__(message)
        self.several = several


def parse_label_config(xml: str) -> LabelSpec:
    """Find the one single-choice ``Choices`` on an ``Image``.

    Raises:
        NoQuestion: there is none.
        LabelConfigError: there is more than one, or it cannot be served. Both say why in one sentence.
    """
    interface = _interface(xml)
    control, image = _question(interface)
    return LabelSpec(
        from_name=str(control.name),
        to_name=str(image.name),
        data_key=_data_key(image),
        classes=_classes(interface, control),
    )


class AnySpec(Protocol):
    """What a spec of either kind has: which field of a task's data holds its image, and what is asked of it."""

    @property
    def data_key(self) -> str: ...

    @property
    def task(self) -> Literal["classification", "segmentation"]: ...


def image_source(task_data: Mapping[str, Any], spec: AnySpec) -> str | None:
    """The address of a task's image, or None when the task has none. ``$a.b`` looks inside ``a``."""
    value: Any = task_data.get(spec.data_key)
    if value is None:
        value = task_data
        for part in spec.data_key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    return value.strip() or None if isinstance(value, str) else None


def target_of(annotations: Sequence[Mapping[str, Any]], spec: LabelSpec) -> str | None:
    """The class that a task's annotations give it, or None when none of them is a label.

    The latest ground truth decides; without one the class that most annotations name, and among equals the one that was
    named last. Skipped and empty annotations, and choices that left the label config, are not labels.
    """
    labels = [(annotation, label) for annotation in annotations if (label := _label(annotation, spec))]
    truths = [pair for pair in labels if pair[0].get("ground_truth")]
    if truths:
        return max(truths, key=lambda pair: age(pair[0]))[1]
    if not labels:
        return None
    votes = Counter(label for _, label in labels)
    most = max(votes.values())
    return max((pair for pair in labels if votes[pair[1]] == most), key=lambda pair: age(pair[0]))[1]


def countable(annotations: Sequence[Mapping[str, Any]], spec: LabelSpec) -> list[tuple[int, str]]:
    """(annotation id, ``updated_at``) of those annotations that are labels: what a budget counts."""
    return [(int(a["id"]), str(a.get("updated_at") or "")) for a in annotations if _label(a, spec)]


def to_region(spec: LabelSpec, label: str, score: float) -> list[dict[str, Any]]:
    """The ``result`` of a prediction that answers ``label``; ``score`` is the net's confidence in it, in [0, 1]."""
    region = {
        "value": {"choices": [label]},  # first: the Data Manager's column shows the beginning of this as text
        "type": "choices",
        "from_name": spec.from_name,
        "to_name": spec.to_name,
        "score": round(float(score), 4),  # shown to people
    }
    return [region]


# -- label config ------------------------------------------------------------------------------------------------------


def _interface(xml: str) -> LabelInterface:
    from label_studio_sdk.label_interface import LabelInterface  # here: the SDK takes seconds to import

    if not xml or not xml.strip():
        raise LabelConfigError("The project has no label config yet: set one up in Settings > Labeling Interface.")
    try:
        return LabelInterface(xml)
    except Exception as error:  # lxml's and the SDK's own, of many kinds: the config cannot be read
        raise LabelConfigError(f"The label config cannot be read: {_one_line(error)}") from error


def _question(interface: LabelInterface) -> tuple[ControlTag, ObjectTag]:
    """The control and its image; everything that makes the choice ambiguous or impossible is said in words."""
    images = {tag.name: tag for tag in interface.objects if tag.tag.lower() == "image"}
    if not images:
        raise LabelConfigError('The label config has no <Image name="..." value="$..."/>: this backend ranks images.')
    on_image = [
        tag
        for tag in interface.controls
        if tag.tag.lower() == "choices" and images.keys() & set(tag.to_name) and not _per_region(tag)
    ]
    if not on_image:
        raise NoQuestion(
            "The label config has no <Choices> on its <Image> (with toName set to the image's name, for the whole "
            "image): this backend ranks images for classification."
        )
    single = [tag for tag in on_image if _attribute(tag, "choice", "single").lower() in _SINGLE]
    if not single:
        raise NoQuestion(
            f'The <Choices name="{on_image[0].name}"> takes several answers: set choice="single", so that each image '
            "has one class.",
            several=True,
        )
    # a follow-up question that only shows after another answer is no rival of the one that always shows
    always = [tag for tag in single if not _attribute(tag, "visibleWhen")] or single
    if len(always) > 1:
        names = ", ".join(f'"{tag.name}"' for tag in always)
        raise LabelConfigError(
            f"The label config has {len(always)} single-choice <Choices> on its <Image> ({names}): keep one, because "
            "one question can order the queue."
        )
    control = always[0]
    if len(control.to_name) > 1:
        raise LabelConfigError(f'The <Choices name="{control.name}"> has several objects in toName: name one image.')
    if control.dynamic_value or _attribute(control, "value").startswith("$"):
        raise LabelConfigError(
            f'The <Choices name="{control.name}"> takes its choices from the task data: list them as <Choice> tags.'
        )
    return control, images[control.to_name[0]]


def _data_key(image: ObjectTag) -> str:
    value = _attribute(image, "value")
    if _attribute(image, "valueList"):
        raise LabelConfigError(f'The <Image name="{image.name}"> shows a list of images: one image a task is served.')
    if not image.value_is_variable or value.count("$") > 1:
        raise LabelConfigError(
            f'The <Image name="{image.name}"> has value="{value}": it must be one field of the task, such as "$image".'
        )
    return value[1:]


def _classes(interface: LabelInterface, control: ControlTag) -> tuple[str, ...]:
    """The choices in their order. Wrappers (View, Header) between ``Choices`` and ``Choice`` make no difference.

    Choices inside a choice are shown but never stored, unless ``allowNested`` makes every answer a path.
    """
    node = next(
        node
        for node in interface._tree.iter()  # the only place where the order and the doubles of choices survive
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
    if nested and _attribute(control, "allowNested").lower() == "true":
        raise LabelConfigError(
            f'The <Choices name="{control.name}"> allows nested choices: list the classes on one level.'
        )
    doubles = sorted(value for value, count in Counter(values).items() if count > 1)
    if doubles:
        raise LabelConfigError(f'The <Choices name="{control.name}"> has the choice "{doubles[0]}" more than once.')
    if len(values) < 2:
        raise LabelConfigError(
            f'The <Choices name="{control.name}"> has {len(values)} <Choice> tag(s): a classifier needs two or more.'
        )
    return tuple(values)


def _per_region(tag: ControlTag) -> bool:
    """Asked of a drawn region or of one item of a list, not of the whole image."""
    flags = ("perRegion", "perItem")
    return (
        any(_attribute(tag, flag).lower() == "true" for flag in flags)
        or _attribute(tag, "visibleWhen").lower() == "region-selected"
    )


def _attribute(tag: ControlTag | ObjectTag, name: str, default: str = "") -> str:
    return str(tag.get_attr(name, default)).strip()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


# -- annotations -------------------------------------------------------------------------------------------------------


def _label(annotation: Mapping[str, Any], spec: LabelSpec) -> str | None:
    """The class that one annotation names, or None."""
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
    label = named.pop() if len(named) == 1 else None
    return label if label in spec.classes else None


def age(annotation: Mapping[str, Any]) -> tuple[datetime, int]:
    """Orders annotations from the oldest to the latest."""
    stamp = annotation.get("updated_at") or annotation.get("created_at")
    try:
        moment = datetime.fromisoformat(str(stamp))
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment, int(annotation.get("id") or 0)
