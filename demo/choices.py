"""Choices in Label Studio: the label config that asks for them, and a choice as a region and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from demo.annotator import PreannotationError

CONTROL, IMAGE = "class", "image"
"""Names of the Choices and of the Image in :func:`choices_config`."""


def choices_config(classes: Sequence[str], *, several: bool = False) -> str:
    """A label config with one ``Choices`` on one ``Image``, of which an annotator picks one, or any number."""
    choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in classes)
    choice = "multiple" if several else "single"
    return (
        f'<View><Image name="{IMAGE}" value="$image"/>'
        f'<Choices name="{CONTROL}" toName="{IMAGE}" choice="{choice}" showInline="true">{choices}</Choices></View>'
    )


def choose(names: Sequence[str]) -> list[dict[str, Any]]:
    """The ``result`` of an annotation that picks these choices; without any it is empty, as Label Studio stores it."""
    region = {"from_name": CONTROL, "to_name": IMAGE, "type": "choices", "value": {"choices": list(names)}}
    return [region] if names else []


def chosen(result: Iterable[dict[str, Any]], classes: Sequence[str]) -> set[str]:
    """The choices that a result picks.

    Raises:
        PreannotationError: a region is of another kind, picks what is not in ``classes``, or picks a choice again.
    """
    names: list[str] = []
    for region in result:
        kind = (region.get("type"), region.get("from_name"), region.get("to_name"))
        if kind != ("choices", CONTROL, IMAGE):
            raise PreannotationError(f"a region is {kind}, not one of the choices")
        picked = (region.get("value") or {}).get("choices")
        if not isinstance(picked, list) or not set(picked) <= set(classes):
            raise PreannotationError(f"a region picks {picked}, not choices of the label config")
        names += picked
    if len(set(names)) < len(names):
        raise PreannotationError(f"the same choice is picked twice: {names}")
    return set(names)
