"""What a segmentation project asks: its classes, and the controls that draw them on its one image.

They are found by type, whatever their names; other controls are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from backend.errors import LabelConfigError
from backend.tasks.base import NotAsked
from backend.tasks.label_config import attribute, data_key_of, images_of, read_interface
from models import IGNORE

if TYPE_CHECKING:
    from label_studio_sdk.label_interface import LabelInterface
    from label_studio_sdk.label_interface.control_tags import ControlTag

BACKGROUND = "background"
"""A label of this name, in any case, paints class 0: holes, and what is surely none of the classes."""

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
}  # drawn areas of other tags → what to use instead


@dataclass(frozen=True)
class Control:
    """A control that draws regions; ``labels`` as Label Studio stores them: the alias where there is one."""

    kind: Kind
    name: str
    labels: tuple[str, ...]

    @property
    def type(self) -> str:
        """The ``type`` of its regions, and the key of their labels."""
        return f"{self.kind}labels"


@dataclass(frozen=True)
class SegmentationSpec:
    """Where the question stands in the label config. ``classes[i]`` is the value i + 1 of a mask; 0 is background.

    ``asks_more``: the label config has other controls too, which may be all that an annotation answers.
    """

    to_name: str
    data_key: str
    classes: tuple[str, ...]
    controls: tuple[Control, ...]
    asks_more: bool = False

    @property
    def has_background_label(self) -> bool:
        """Whether annotators can paint class 0. Without it, a project that ignores unlabelled pixels never shows it."""
        return any(_is_background(label) for control in self.controls for label in control.labels)

    def kind_of(self, region: Any) -> Kind | None:
        """Which of our controls drew an item of a ``result``; None for what is no region of ours."""
        if not isinstance(region, Mapping) or region.get("to_name", self.to_name) != self.to_name:
            return None
        drawn = str(region.get("type")).lower()
        return next((control.kind for control in self.controls if control.type == drawn), None)

    def index_of(self, label: str) -> int | None:
        """A label's value in a mask; None when the label config has no such label."""
        if label in self.classes:
            return self.classes.index(label) + 1
        return 0 if any(label in control.labels for control in self.controls) else None

    def control_for(self, label: str, kind: Kind) -> Control:
        """The control that draws ``label``: one of ``kind`` if there is one, else the first brush or polygon."""
        able = [control for control in self.controls if label in control.labels and control.kind != "rectangle"]
        return next((control for control in able if control.kind == kind), able[0])


def segmentation_spec(label_config: str, *, rectangles: bool = False) -> SegmentationSpec:
    """Find the ``BrushLabels`` and ``PolygonLabels`` of one ``Image``; with ``rectangles`` its ``RectangleLabels`` too.

    Several controls make one list of classes, in the order in which their labels first appear. Rectangles are read as
    filled boxes and never drawn, so their labels must also be in a brush or a polygon control.

    Raises:
        NotAsked: there are none.
        LabelConfigError: they cannot be served. Both say why in one sentence.
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
    if not labels:
        raise LabelConfigError(f'The <{tag.tag} name="{tag.name}"> has no <Label> tags: list the classes there.')
    return Control(_TAGS[tag.tag.lower()], str(tag.name), labels)


def _check(spec: SegmentationSpec) -> None:
    if not spec.classes:
        raise LabelConfigError("The label config draws background only: add a <Label> for each class of things.")
    if len(spec.classes) >= IGNORE:
        raise LabelConfigError(f"The label config has {len(spec.classes)} classes: at most {IGNORE - 1} are served.")
    drawn = {label for control in spec.controls if control.kind != "rectangle" for label in control.labels}
    for label in spec.classes:
        if label not in drawn:
            raise LabelConfigError(
                f'The label "{label}" is in a <RectangleLabels> only: add it to a <BrushLabels> or <PolygonLabels>, '
                "which its pixels can be answered with."
            )


def _instead(interface: LabelInterface, images: set[str]) -> NotAsked:
    """Why a config without brush and polygon labels is refused."""
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
