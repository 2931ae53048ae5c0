"""Settings: read once from the environment, overridden per project by the owner's ``extra_params``.

Every setting is one field of :class:`Settings`. Its type is its default's type; what is allowed, the one line
of help and whether a project may override it stand beside it, and the README's table is made from the same
place. The environment uses the upper-case name, ``extra_params`` the lower-case one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from backend.errors import SettingsError

SAMPLER_NAMES = ("random", "entropy", "vaal", "dast-al")
"""Written out because ``samplers`` imports torch, which the web process does without; a test compares them."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_KIND = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


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


def above(low: int, high: int) -> Check:
    return Check(f"above {low}, up to {high}", lambda value: low < value <= high)


def matching(pattern: str, words: str) -> Check:
    return Check(words, lambda value: re.fullmatch(pattern, value) is not None)


ANY_TEXT = Check("text", lambda value: "\n" not in value and "\r" not in value)
YES_NO = Check("true or false", lambda value: True)


def _setting(default: Any, help: str, check: Check, *, per_project: bool = False, secret: bool = False) -> Any:
    spec = Spec(help, check, per_project, secret)
    return field(default=default, repr=not secret, metadata={"spec": spec})


def _project(default: Any, help: str, check: Check) -> Any:
    return _setting(default, help, check, per_project=True)


@dataclass(frozen=True)
class Settings:
    """All settings of a process or, after :meth:`for_project`, of a project. Secrets are not in its repr."""

    # The process: environment only.
    label_studio_url: str = _setting(
        "",
        "Where the backend reaches Label Studio; empty: the address that `/setup` brings.",
        matching(r"(https?://[^\s/]+\S*)?", "http(s)://host[:port], or empty"),
    )
    label_studio_api_key: str = _setting(
        "",
        "Personal access token or legacy token; empty: the token that `/setup` brings.",
        matching(r"[!-~]*", "a token without spaces"),
        secret=True,
    )
    model_dir: str = _setting("./data", "State, image cache and checkpoints.", matching(r"[^\r\n\0]+", "a directory"))
    basic_auth_user: str = _setting(
        "",
        "User name asked for on every endpoint but `/health`; set together with BASIC_AUTH_PASS.",
        matching(r"[^:\r\n]*", "text without a colon"),
    )
    basic_auth_pass: str = _setting("", "Password that goes with BASIC_AUTH_USER.", ANY_TEXT, secret=True)
    log_level: str = _setting("INFO", "How much is logged.", one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
    device: str = _setting(
        "auto",
        "Where networks run; auto: CUDA when there is one.",
        matching(r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda or cuda:N"),
    )
    database_url: str = _setting(
        "",
        "State database; empty: SQLite in MODEL_DIR.",
        matching(
            r"((sqlite|postgres(ql)?)(\+\w+)?://\S*)?",
            "sqlite:///path or postgresql://user:password@host/name, or empty",
        ),
        secret=True,
    )
    lease_seconds: int = _setting(
        60, "A worker that is silent this long loses its project to another worker.", between(2, 3600)
    )
    poll_seconds: float = _setting(1.0, "How often the worker looks for due work.", between(0.05, 60))
    reconcile_seconds: float = _setting(
        300.0, "How often the worker compares with Label Studio without a hint.", between(1, 86400)
    )
    cleanup_seconds: float = _setting(
        120.0, "Quiet time after which superseded versions are removed from Label Studio.", between(0, 86400)
    )
    download_workers: int = _setting(8, "Images fetched at a time.", between(1, 64))
    retry_broken_seconds: float = _setting(600.0, "Wait before a broken image is tried again.", between(1, 604800))

    # The project: environment, then extra_params.
    sampler: str = _project("dast-al", "What orders the queue.", one_of(*SAMPLER_NAMES))
    budget: int = _project(50, "New annotations that make a cycle due.", between(1, 1_000_000))
    task_net: str = _project("resnet18", "The task network.", one_of("resnet18", "vgg16-bn"))
    task_width: int = _project(
        0,
        "Channels of the task network's first stage; 0: the paper's 64 on CUDA, 16 on a CPU.",
        zero_or(4, 512),
    )
    pretrained: bool = _project(False, "Start from torchvision's ImageNet weights.", YES_NO)
    image_size: int = _project(
        0, "Side of the cached images in pixels; 0: 32 for images up to 40 px, else 224.", zero_or(16, 1024)
    )
    epochs: int = _project(0, "Epochs of task training in a cycle; 0: scaled to labels and device.", zero_or(1, 10_000))
    batch_size: int = _project(128, "Batch of task training.", between(2, 4096))
    learning_rate: float = _project(0.1, "Initial learning rate of the task network's SGD.", above(0, 10))
    momentum: float = _project(0.9, "Momentum of the task network's SGD.", between(0, 0.999))
    weight_decay: float = _project(5e-4, "Weight decay of the task network's SGD.", between(0, 1))
    warm_start: bool = _project(True, "Go on from the last cycle's networks instead of fresh ones.", YES_NO)
    subset: int = _project(0, "Score a random subset of this many tasks; 0: the whole pool.", at_least(0))
    seed: int = _project(0, "Where all randomness starts.", between(0, 2**31 - 1))
    manage_queue: bool = _project(
        True, "Set the project's sampling and model version, and make the “Acquisition queue” tab.", YES_NO
    )
    shortlist: int = _project(20, "Predictions written one by one before the queue switches.", between(1, 1000))
    isda_lambda: float = _project(0.5, "DAST-AL: strength λ of the semantic augmentation.", between(0, 100))
    covariance: str = _project("diag", "DAST-AL: class covariance.", one_of("diag", "full"))
    vaal_width: int = _project(
        0, "VAAL: channels of the autoencoder; 0: 128 (the paper's) on CUDA, 32 on a CPU.", zero_or(4, 1024)
    )
    vaal_latent: int = _project(32, "VAAL: size of the latent space.", between(1, 4096))
    vaal_beta: float = _project(1.0, "VAAL: weight β of the KL term.", between(0, 1000))
    vaal_lambda: float = _project(1.0, "VAAL: weight λ of the adversarial term.", between(0, 1000))
    vaal_iterations: int = _project(
        0, "VAAL: iterations in a cycle; 0: scaled to pool and device.", zero_or(1, 10_000_000)
    )
    vaal_epochs: int = _project(
        0, "VAAL: passes over the pool when `vaal_iterations` is 0; 0: scaled to device.", zero_or(1, 100_000)
    )
    vaal_vae_steps: int = _project(2, "VAAL: autoencoder steps in an iteration.", between(1, 100))
    vaal_discriminator_steps: int = _project(1, "VAAL: discriminator steps in an iteration.", between(1, 100))
    vaal_batch_size: int = _project(128, "VAAL: batch of each stream.", between(2, 4096))
    vaal_learning_rate: float = _project(5e-4, "VAAL: learning rate of both Adam optimisers.", above(0, 1))
    vaal_kl_reduction: str = _project("mean", "VAAL: how the KL term is reduced.", one_of("mean", "sum"))

    @property
    def directory(self) -> Path:
        """``model_dir`` as a path, with ``~`` resolved. It may not exist yet."""
        return Path(self.model_dir).expanduser()

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Reads the environment; an empty variable counts as unset. Raises SettingsError naming the variable."""
        given: dict[str, Any] = {}
        for item in fields(cls):
            text = environ.get(item.name.upper(), "").strip()
            if text:
                given[item.name] = _checked(item, _from_text(item, text), item.name.upper())
        settings = cls(**given)
        if bool(settings.basic_auth_user) != bool(settings.basic_auth_pass):
            raise SettingsError("BASIC_AUTH_USER and BASIC_AUTH_PASS must be set together")
        if settings.label_studio_api_key and not settings.label_studio_url:
            # /setup is open to whoever reaches the port, and would tell us where to send the key
            raise SettingsError("LABEL_STUDIO_API_KEY is sent only to an address that you name: set LABEL_STUDIO_URL")
        return settings

    def for_project(self, extra_params: Mapping[str, Any] | str | None) -> Settings:
        """These settings with a project's overrides: a mapping, the same as JSON text, or nothing.

        Raises SettingsError, one sentence with key, value and what is allowed, for an unknown key, for one
        that only the environment may set, and for a value of the wrong type or outside its range.
        """
        known = {item.name: item for item in fields(self)}
        given: dict[str, Any] = {}
        for key, value in parse_extra_params(extra_params).items():
            item = known.get(key)
            if item is None:
                raise SettingsError(f"extra_params: unknown key {_shown(key)}; {_known_keys(key)}")
            if not spec_of(item).per_project:
                raise SettingsError(
                    f"extra_params: {key} cannot be set per project; set {key.upper()} in the backend's environment"
                )
            given[key] = _checked(item, _from_json(item, value), f"extra_params: {key}")
        return replace(self, **given)

    def options(self) -> dict[str, Any]:
        """The settings a project may override, by name: what samplers and training choose theirs from."""
        return {key: getattr(self, key) for key in project_keys()}

    def secrets(self) -> tuple[str, ...]:
        """Values that must not appear in an answer or a log line."""
        return tuple(value for item in fields(self) if spec_of(item).secret and (value := getattr(self, item.name)))


def spec_of(item: Field[Any]) -> Spec:
    spec = item.metadata["spec"]
    assert isinstance(spec, Spec)
    return spec


def project_keys() -> tuple[str, ...]:
    """Names of the settings that ``extra_params`` may hold."""
    return tuple(item.name for item in fields(Settings) if spec_of(item).per_project)


def settings_table() -> str:
    """The Markdown table of all settings, as it stands in the README."""
    lines = ["| environment | extra params | default | allowed | what it does |", "|---|---|---|---|---|"]
    for item in fields(Settings):
        spec = spec_of(item)
        key = f"`{item.name}`" if spec.per_project else ""
        default = f"`{_default_text(item.default)}`" if item.default != "" else "empty"
        lines.append(f"| `{item.name.upper()}` | {key} | {default} | {spec.check.allowed} | {spec.help} |")
    return "\n".join(lines) + "\n"


def _default_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _known_keys(key: str) -> str:
    close = get_close_matches(key, project_keys(), n=1)
    return f"did you mean {close[0]}?" if close else "known are " + ", ".join(project_keys())


def parse_extra_params(extra_params: Mapping[str, Any] | str | None) -> Mapping[str, Any]:
    """The object that the owner typed, as Label Studio sends it: parsed, as text, or nothing. Keys are not checked."""
    if extra_params is None or extra_params == "":
        return {}
    if isinstance(extra_params, str):
        try:
            extra_params = json.loads(extra_params)
        except ValueError:
            raise SettingsError('extra_params is not valid JSON; write an object such as {"budget": 50}') from None
        if extra_params is None:
            return {}
    if not isinstance(extra_params, Mapping):
        raise SettingsError('extra_params must be a JSON object such as {"sampler": "vaal", "budget": 50}')
    return extra_params


def _from_text(item: Field[Any], text: str) -> Any:
    """The value that an environment variable spells; the text itself when it spells none of its type."""
    kind: Callable[[str], Any] = type(item.default)
    try:
        if kind is bool:
            return True if text.lower() in _TRUE else False if text.lower() in _FALSE else text
        if item.name == "log_level":
            return text.upper()
        return kind(text)
    except ValueError:
        return text


def _from_json(item: Field[Any], value: Any) -> Any:
    """JSON writes 1 for 1.0; everything else must have the type already."""
    if type(item.default) is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    return value


def _checked(item: Field[Any], value: Any, name: str) -> Any:
    kind, check = type(item.default), spec_of(item).check
    shown = "" if spec_of(item).secret else f", not {_shown(value)}"
    finite = not isinstance(value, float) or math.isfinite(value)
    if type(value) is not kind or not finite:
        words = _KIND[kind] if check.allowed == _KIND[kind] else f"{_KIND[kind]} ({check.allowed})"
        raise SettingsError(f"{name} must be {words}{shown}")
    if not check.holds(value):
        raise SettingsError(f"{name} must be {check.allowed}{shown}")
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
