"""The classes of a segmentation project, and the controls of its label config that draw them on its image.

Controls are found by their type, whatever their names; others are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from backend.errors import LabelConfigError
from backend.tasks.base import NotAsked
from backend.tasks.label_config import attribute, data_key_of, images_of, read_interface, refuse_classes_from_data
from models import IGNORE

if TYPE_CHECKING:
    from label_studio_sdk.label_interface import LabelInterface
    from label_studio_sdk.label_interface.control_tags import ControlTag

BACKGROUND = "background"
"""A label with this name, in upper or lower case, draws class 0: holes, and areas that certainly show no class."""

Kind = Literal["brush", "polygon", "rectangle"]
_TAGS: dict[str, Kind] = {"brushlabels": "brush", "polygonlabels": "polygon", "rectanglelabels": "rectangle"}
_UNREAD = {
    "brush": "BrushLabels",
    "polygon": "PolygonLabels",
    "rectangle": "BrushLabels or PolygonLabels",
    "rectanglelabels": "BrushLabels or PolygonLabels",
    "magicwand": "BrushLabels",
    "bitmask": "BrushLabels",
    "bitmasklabels": "BrushLabels",
    "ellipse": "PolygonLabels",
    "ellipselabels": "PolygonLabels",
    "vector": "PolygonLabels",
    "vectorlabels": "PolygonLabels",
}  # tags that draw areas but are not supported → what to use instead


@dataclass(frozen=True)
class Control:
    """A control that draws regions. ``labels`` are as Label Studio stores them: a label's alias if it has one."""

    kind: Kind
    name: str
    labels: tuple[str, ...]

    @property
    def type(self) -> str:
        """The ``type`` of its regions, which is also the key of their labels."""
        return f"{self.kind}labels"


@dataclass(frozen=True)
class SegmentationSpec:
    """The image of a label config, its classes, and the controls that draw them.

    ``classes[i]`` is the value i + 1 in a mask; 0 is background. ``asks_more``: the label config has other controls
    too, so that an annotation may contain results of these only.
    """

    to_name: str
    data_key: str
    classes: tuple[str, ...]
    controls: tuple[Control, ...]
    asks_more: bool = False

    @property
    def has_background_label(self) -> bool:
        """Whether annotators can draw class 0. If not, a project that ignores unlabeled pixels has no background."""
        return any(_is_background(label) for control in self.controls for label in control.labels)

    def kind_of(self, region: Any) -> Kind | None:
        """The kind of control that drew an item of a ``result``; None if it is not a region of these controls."""
        if not isinstance(region, Mapping) or region.get("to_name", self.to_name) != self.to_name:
            return None
        drawn = str(region.get("type")).lower()
        return next((control.kind for control in self.controls if control.type == drawn), None)

    def index_of(self, label: str) -> int | None:
        """A label's value in a mask; None if the label config has no such label."""
        if label in self.classes:
            return self.classes.index(label) + 1
        return 0 if any(label in control.labels for control in self.controls) else None

    def control_for(self, label: str, kind: Kind) -> Control:
        """The control to draw a predicted ``label`` with: one of ``kind`` if there is one, else the first brush or
        polygon."""
        able = [control for control in self.controls if label in control.labels and control.kind != "rectangle"]
        return next((control for control in able if control.kind == kind), able[0])


def segmentation_spec(label_config: str, *, rectangles: bool = False) -> SegmentationSpec:
    """Find the ``BrushLabels`` and ``PolygonLabels`` of an ``Image``, and with ``rectangles`` its ``RectangleLabels``.

    The labels of all these controls form one list of classes, in the order of their first appearance. Rectangles are
    read as filled boxes but never predicted, so their labels must also be in a brush or polygon control. Both errors
    say what is wrong in one sentence.

    Raises:
        NotAsked: there are none.
        LabelConfigError: they cannot be served.
    """
    interface = read_interface(label_config)
    images = images_of(interface)
    tags = [
        tag
        for tag in interface.controls
        if _TAGS.get(tag.tag.lower(), "rectangle") != "rectangle" and images.keys() & set(tag.to_name)
    ]
    if not tags:
        raise _instead(interface, set(images))
    names = {name for tag in tags for name in tag.to_name}
    if len(names) > 1:
        listed = ", ".join(f'"{name}"' for name in sorted(names))
        raise LabelConfigError(f"The label config draws regions on several objects ({listed}): draw on one <Image>.")
    (to_name,) = names
    if rectangles:
        tags = [tag for tag in interface.controls if tag.tag.lower() in _TAGS and to_name in tag.to_name]
    controls = tuple(_control(tag) for tag in tags)
    labels = dict.fromkeys(label for control in controls for label in control.labels)
    classes = tuple(label for label in labels if not _is_background(label))
    asks_more = len(list(interface.controls)) > len(tags)
    spec = SegmentationSpec(to_name, data_key_of(images[to_name]), classes, controls, asks_more)
    _check(spec)
    return spec


def _control(tag: ControlTag) -> Control:
    if tag.dynamic_value or attribute(tag, "value").startswith("$"):
        raise LabelConfigError(
            f'The <{tag.tag} name="{tag.name}"> takes its labels from the task data: list them as <Label> tags.'
        )
    if attribute(tag, "choice", "single").lower() == "multiple":
        raise LabelConfigError(
            f'The <{tag.tag} name="{tag.name}"> gives a region several labels: remove choice="multiple", so that each '
            "pixel has one class."
        )
    labels = tuple(str(label) for label in tag.labels or ())
    refuse_classes_from_data(tag, "Label", labels)
    if not labels:
        raise LabelConfigError(f'The <{tag.tag} name="{tag.name}"> has no <Label> tags: list the classes there.')
    return Control(_TAGS[tag.tag.lower()], str(tag.name), labels)


def _check(spec: SegmentationSpec) -> None:
    if not spec.classes:
        raise LabelConfigError("The label config has labels for background only: add a <Label> for each class.")
    if len(spec.classes) >= IGNORE:
        raise LabelConfigError(f"The label config has {len(spec.classes)} classes: at most {IGNORE - 1} are served.")
    drawn = {label for control in spec.controls if control.kind != "rectangle" for label in control.labels}
    for label in spec.classes:
        if label not in drawn:
            raise LabelConfigError(
                f'The label "{label}" is in a <RectangleLabels> only: add it to a <BrushLabels> or <PolygonLabels>, '
                "which can show predicted pixels."
            )


def _instead(interface: LabelInterface, images: set[str]) -> NotAsked:
    """The error for a label config without brush and polygon labels."""
    for tag in interface.controls:
        better = _UNREAD.get(tag.tag.lower())
        if better and images & set(tag.to_name):
            return NotAsked(
                f'The regions of <{tag.tag} name="{tag.name}"> are not read as masks: use {better} on the <Image>.',
                instead=True,
            )
    return NotAsked(
        "The label config has no <BrushLabels> or <PolygonLabels> on its <Image> (with toName set to the image's "
        "name): segmentation learns from one of them."
    )


def _is_background(label: str) -> bool:
    return label.strip().lower() == BACKGROUND
