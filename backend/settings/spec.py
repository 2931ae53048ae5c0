"""What is known of one setting besides its name, type and default, and how a field of a settings dataclass says it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import Field, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """What a setting may be: ``allowed`` says it in words that fit a reason phrase, ``holds`` decides."""

    allowed: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Spec:
    """What is known about one setting besides its name, type and default."""

    help: str
    check: Check
    per_project: bool
    secret: bool


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


def matching(pattern: str, words: str) -> Check:
    return Check(words, lambda value: re.fullmatch(pattern, value) is not None)


ANY_TEXT = Check("text", lambda value: "\n" not in value and "\r" not in value)
YES_NO = Check("true or false", lambda value: True)


def setting(default: Any, help: str, check: Check, *, per_project: bool = False, secret: bool = False) -> Any:
    spec = Spec(help, check, per_project, secret)
    return field(default=default, repr=not secret, metadata={"spec": spec})


def project(default: Any, help: str, check: Check) -> Any:
    return setting(default, help, check, per_project=True)


def spec_of(item: Field[Any]) -> Spec:
    spec = item.metadata["spec"]
    assert isinstance(spec, Spec)
    return spec
