"""What is known of one setting besides its name, type and default, and how a field of a settings dataclass says it."""

from __future__ import annotations

import re
from dataclasses import Field, dataclass, field
from typing import Any

from samplers.options import Check


@dataclass(frozen=True)
class SettingSpec:
    """What is known about one setting besides its name, type and default."""

    help: str
    check: Check
    per_project: bool
    secret: bool


def matching(pattern: str, words: str) -> Check:
    return Check(words, lambda value: re.fullmatch(pattern, value) is not None)


ANY_TEXT = Check("text", lambda value: "\n" not in value and "\r" not in value)
YES_NO = Check("true or false", lambda value: True)


def setting(default: Any, help: str, check: Check, *, per_project: bool = False, secret: bool = False) -> Any:
    spec = SettingSpec(help, check, per_project, secret)
    return field(default=default, repr=not secret, metadata={"spec": spec})


def project(default: Any, help: str, check: Check) -> Any:
    return setting(default, help, check, per_project=True)


def spec_of(item: Field[Any]) -> SettingSpec:
    spec: SettingSpec = item.metadata["spec"]
    return spec
