"""What all kinds of task need of label configs and annotations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from backend.errors import LabelConfigError
from backend.plain import storable

if TYPE_CHECKING:
    from label_studio_sdk.label_interface import LabelInterface
    from label_studio_sdk.label_interface.control_tags import ControlTag
    from label_studio_sdk.label_interface.object_tags import ObjectTag

Annotation = Mapping[str, Any]
"""An annotation as Label Studio's API returns it."""

_FROM_DATA = re.compile(r"\$[\w\[\].{}]+", re.ASCII)
"""What Label Studio's editor replaces by a value from the task's data, anywhere in a tag's text."""

_PATH = re.compile(r"[^.\[\]]+")


def import_ahead() -> None:
    """Import the SDK's reader of label configs, which takes a second, so that no request and no first order has to wait
    for it."""
    import label_studio_sdk.label_interface  # noqa: F401


def read_interface(xml: str) -> LabelInterface:
    """Parse a label config.

    Raises:
        LabelConfigError: it is empty or cannot be parsed.
    """
    from label_studio_sdk.label_interface import LabelInterface  # here: it takes a second to import

    if not xml or not xml.strip():
        raise LabelConfigError("The project has no label config yet: set one up in Settings > Labeling Interface.")
    try:
        return LabelInterface(xml)
    except Exception as error:  # lxml and the SDK raise many kinds of errors
        raise LabelConfigError(f"The label config cannot be read: {_one_line(error)}") from error


def images_of(interface: LabelInterface) -> dict[str, ObjectTag]:
    """The ``Image`` tags, by name.

    Raises:
        LabelConfigError: there is none.
    """
    images = {str(tag.name): tag for tag in interface.objects if tag.tag.lower() == "image"}
    if not images:
        raise LabelConfigError('The label config has no <Image name="..." value="$..."/>: this backend ranks images.')
    return images


def data_key_of(image: ObjectTag) -> str:
    """The field of a task's data with the address of its image.

    Raises:
        LabelConfigError: the image is not given by a single field.
    """
    value = attribute(image, "value")
    if "{{" in value:
        raise LabelConfigError(
            f'The <Image name="{image.name}"> is repeated for each item of a list (<Repeater>): use one image for each '
            "task."
        )
    if attribute(image, "valueList"):
        raise LabelConfigError(f'The <Image name="{image.name}"> shows a list of images: use one image for each task.')
    if not image.value_is_variable or value.count("$") > 1:
        raise LabelConfigError(
            f'The <Image name="{image.name}"> has value="{value}": it must be one field of the task, such as "$image".'
        )
    return value[1:]


def attribute(tag: ControlTag | ObjectTag, name: str, default: str = "") -> str:
    """An attribute of a tag, without surrounding white space."""
    return str(tag.get_attr(name, default)).strip()


def taken_from_data(text: str) -> bool:
    """Whether a class with this ``value`` has another name in every task, so that it is none to a model."""
    return _FROM_DATA.search(text) is not None


def refuse_classes_from_data(tag: ControlTag, item: str, classes: Iterable[str]) -> None:
    """Raise LabelConfigError if one of the ``classes`` (the alias of an ``item``, or else its value) is taken from the
    task data: what annotations then say is in no label config."""
    for name in classes:
        if taken_from_data(name):
            raise LabelConfigError(
                f'The <{item} value="{name}"> of <{tag.tag} name="{tag.name}"> takes its text from the task data: '
                f'write out the class, or add an alias, such as <{item} value="{name}" alias="first"/>.'
            )


def conditions(interface: LabelInterface, tag: ControlTag) -> set[str]:
    """The values of ``visibleWhen``, in lower case, of a control and of everything around it: it is only asked where
    all of them hold. Empty: it is always asked."""
    return {found.lower() for found in _around(interface, tag, "visiblewhen")}


def _around(interface: LabelInterface, tag: ControlTag, attribute: str) -> Iterator[str]:
    """The values of an ``attribute`` (lower case, as the editor reads all of them) on a control and its wrappers."""
    for node in interface._tree.iter():
        if isinstance(node.tag, str) and node.tag.lower() == tag.tag.lower() and node.get("name") == tag.name:
            for each in (node, *node.iterancestors()):
                for name, value in each.items():
                    if name.lower() == attribute and value.strip():
                        yield value.strip()
            return


def image_source(task_data: Mapping[str, Any], data_key: str) -> str | None:
    """The address of a task's image, from the field ``data_key`` of its data, or None if the task has none. A field
    ``a.b`` may also be ``b`` inside ``a``, and ``a[0]`` the first item of the list ``a``."""
    value: Any = task_data.get(data_key)
    if value is None:
        value = task_data
        for part in path_of(data_key):
            if isinstance(value, Mapping):
                value = value.get(part)
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                return None
    return storable(value.strip()) or None if isinstance(value, str) else None


def path_of(data_key: str) -> list[str]:
    """The parts of a field ``a.b`` or ``a[0]``."""
    return _PATH.findall(data_key)


def age(annotation: Mapping[str, Any]) -> tuple[datetime, int]:
    """A sort key that orders annotations from the oldest to the latest."""
    stamp = annotation.get("updated_at") or annotation.get("created_at")
    try:
        moment = datetime.fromisoformat(str(stamp))
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment, int(annotation.get("id") or 0)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
