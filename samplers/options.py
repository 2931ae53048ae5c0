"""A sampler's options: each with its default, one line of help and a check. Needs no torch, so that every process can
list them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from samplers.deferred import models

if TYPE_CHECKING:
    from models.training.schedule import Recipe

T = TypeVar("T", bool, int, float, str)


@dataclass(frozen=True)
class Check:
    """What a value may be: ``allowed`` says it in words that fit a reason phrase, ``holds`` decides."""

    allowed: str
    holds: Callable[[Any], bool]


def one_of(*choices: str) -> Check:
    return Check("one of " + ", ".join(choices), lambda value: value in choices)


def at_least(low: int) -> Check:
    return Check(f"at least {low}", lambda value: value >= low)


def between(low: float, high: float) -> Check:
    return Check(f"{low} to {high}", lambda value: low <= value <= high)


def zero_or(low: int, high: int) -> Check:
    return Check(f"0, or {low} to {high}", lambda value: value == 0 or low <= value <= high)


def above(low: float, high: float) -> Check:
    return Check(f"above {low}, up to {high}", lambda value: low < value <= high)


@dataclass(frozen=True)
class About:
    """What is known of an option besides its name; its type is the default's."""

    default: bool | int | float | str
    help: str
    check: Check


def option(default: T, help: str, check: Check) -> T:
    """A field of a sampler's options that is a setting of this name, with this default and line in docs/settings.md."""
    return field(default=default, metadata={"option": About(default, help, check)})


def about(item: Field[Any]) -> About | None:
    """What `option` was told; None for a field that stands for a general setting, such as `epochs`."""
    known = item.metadata.get("option")
    assert known is None or isinstance(known, About)
    return known


@dataclass(frozen=True)
class SamplerOptions:
    """Base of every sampler's options, and all there is for a sampler without any.

    A field made by `option` is a setting of its own; several samplers share one by inheriting the class that has it. A
    plain field takes the value of the general setting of the same name, and has the same default.
    """


@dataclass(frozen=True)
class TrainingOptions(SamplerOptions):
    """The general settings of the task network's training, for samplers that train by the same recipe."""

    epochs: int = 0
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    train_images: int = 0

    def recipe(self) -> Recipe:
        return models.training.schedule.Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            images=self.train_images,
        )
