"""Settings: read once from the environment, overridden per project by the owner's ``extra_params``.

Every setting is one field of :class:`Settings`; those of single samplers are the options that stand in samplers/. Its
type is its default's type; what is allowed, the one line of help and whether a project may override it stand in the
same place, and the table in docs/settings.md is made from it (:mod:`backend.settings.table`). The environment uses the
upper-case name, ``extra_params`` the lower-case one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from backend.errors import SettingsError
from backend.settings.kinds import KindSettings
from backend.settings.process import ProcessSettings
from backend.settings.samplers import PRESETS, SamplerSettings
from backend.settings.spec import YES_NO, matching, project, spec_of
from backend.settings.values import checked, from_json, from_text, parse_extra_params, shown
from samplers import SAMPLER_NAMES
from samplers.base import TASKS
from samplers.options import Check, above, at_least, between, one_of, zero_or

SHOWN_KEYS = 12


@dataclass(frozen=True)
class Settings(ProcessSettings, KindSettings, SamplerSettings):
    """All settings of a process or, after :meth:`for_project`, of a project. Secrets are not in its repr."""

    sampler: str = project(
        "uherding",
        "What orders the queue; where none is named, dast-al for segmentation and margin for multilabel.",
        one_of(*SAMPLER_NAMES),
    )
    preset: str = project(
        "",
        "A paper's values for many settings at once; what is given alongside it wins.",
        Check("empty or one of " + ", ".join(PRESETS), lambda value: value == "" or value in PRESETS),
    )
    budget: int = project(50, "New annotations that make a cycle due.", between(1, 1_000_000))
    budget_growth: float = project(
        0.0,
        "Share of the labels that the last cycle learned from: so many new annotations make the next one due, if that "
        "is more than `budget`; 0: always `budget`.",
        between(0, 1),
    )
    control_fraction: float = project(
        0.1,
        "Share of what is served that is drawn by chance and not chosen by the sampler; half of it is kept out of "
        "training, to measure. 0: none.",
        between(0, 0.5),
    )
    task: str = project(
        "auto",
        "What is learned; auto: by the label config: classification where it has a single-choice `Choices`, else "
        "segmentation where it has brush or polygon labels, else multilabel where it has a multiple-choice `Choices`.",
        one_of("auto", *TASKS),
    )
    consensus: str = project(
        "auto",
        "What a task with several annotations is learned with: latest; majority, the latest of those that tie; "
        "weighted: by how often each annotator is estimated to be right; auto: majority, of masks latest. A ground "
        "truth comes first.",
        one_of("auto", "latest", "majority", "weighted"),
    )
    task_net: str = project(
        "auto",
        "The task network of whole images: resnet18 or vgg16-bn, trained as a whole, or any network of timm; auto: "
        "tf_efficientnet_lite0, whose weights are installed with the backend, but resnet18 where `weights` is none or "
        "`pretrained` or `task_width` is set.",
        matching(r"[A-Za-z0-9_.-]{1,80}", "auto, resnet18, vgg16-bn or the name of a network of timm"),
    )
    weights: str = project(
        "auto",
        "What the task network begins with: imagenet, none, or the name of a file in MODEL_DIR/weights; auto: imagenet "
        "for networks of timm, none for others unless `pretrained` is set.",
        matching(r"auto|imagenet|none|\w[\w.-]*\.(pth|pt|bin|safetensors)", "auto, imagenet, none or a file's name"),
    )
    training: str = project(
        "auto",
        "Networks of timm; head: the backbone stays as it is, and a head is trained on its features, which are kept, "
        "or a decoder for masks; finetune: the head or decoder first, then all of it; auto: head.",
        one_of("auto", "head", "finetune"),
    )
    semi_supervised: str = project(
        "auto",
        "Whether a head learns from unlabeled images, too; auto: while there are up to 300 labels, as far as "
        "cross-validation on them says that it helps.",
        one_of("auto", "off"),
    )
    objective: str = project(
        "auto",
        "What the task network trains on; isda: DAST-AL's augmentation of the features, with `isda_lambda` and "
        "`covariance`, under a sampler that has no objective of its own; auto: the sampler's, or else cross entropy.",
        one_of("auto", "isda"),
    )
    segmentation_net: str = project(
        "auto",
        "The task network of masks: drn-d-22, deeplabv3-resnet50 or lraspp-mobilenetv3, trained as a whole, or any "
        "convolutional network of timm, with a decoder; auto: tf_efficientnet_lite0, but drn-d-22 where `weights` is "
        "none or `task_width` is set.",
        matching(
            r"[A-Za-z0-9_.-]{1,80}",
            "auto, drn-d-22, deeplabv3-resnet50, lraspp-mobilenetv3 or the name of a network of timm",
        ),
    )
    task_width: int = project(
        0,
        "Channels of the first stage of resnet18 and vgg16-bn; 0: the paper's 64 on CUDA, 16 on a CPU; drn-d-22: 16 "
        "and 4.",
        zero_or(4, 512),
    )
    pretrained: bool = project(False, "Start from torchvision's ImageNet weights.", YES_NO)
    image_size: int = project(
        0,
        "Side of the cached images in pixels; 0: 32 for images up to 40 px, else 224. Masks: the longer side, at least "
        "32; 0: that of the first images, at most 256 on a CPU and 1024 on CUDA.",
        zero_or(16, 1024),
    )
    epochs: int = project(0, "Epochs of task training in a cycle; 0: scaled to labels and device.", zero_or(1, 10_000))
    train_images: int = project(
        0,
        "Most images that the training of a network looks at in a cycle, epochs × labels; 0: no bound.",
        zero_or(100, 1_000_000_000),
    )
    fit_seconds: float = project(
        0.0,
        "Most seconds that a cycle trains, the task network and the sampler's own networks together; 0: no bound.",
        zero_or(1, 604_800),
    )
    batch_size: int = project(128, "Batch of task training.", between(2, 4096))
    learning_rate: float = project(
        0.1,
        "Initial learning rate of the task network's SGD; fine-tuning of a network of timm: a tenth of it for the head "
        "and a hundredth for the backbone.",
        above(0, 10),
    )
    momentum: float = project(0.9, "Momentum of the task network's SGD.", between(0, 0.999))
    weight_decay: float = project(5e-4, "Weight decay of the task network's SGD.", between(0, 1))
    target_accuracy: float = project(
        0.0,
        "The accuracy that is wanted: the page and `status` say with how many labels it will be met, by the learning "
        "curve; 0: none. Nothing stops by itself.",
        between(0, 1),
    )
    warm_start: bool = project(True, "Go on from the last cycle's networks instead of fresh ones.", YES_NO)
    score_dtype: str = project(
        "float32",
        "What convolutions compute in while scoring; bfloat16: for CUDA, images with close scores change places.",
        one_of("float32", "bfloat16"),
    )
    subset: int = project(0, "Score so many tasks, chosen by `candidates`; 0: the whole pool.", at_least(0))
    candidates: str = project(
        "random",
        "How the tasks of a `subset` are chosen; random: by chance; uncertainty: those that the last cycle's network "
        "is least sure of; neighborhood: those nearest to labeled images, by its features.",
        one_of("random", "uncertainty", "neighborhood"),
    )
    seed: int = project(0, "Where all randomness starts.", between(0, 2**31 - 1))
    manage_queue: bool = project(
        True,
        "Set the project's sampling and model version, whoever changes them, and make the “Acquisition queue” tab; "
        "false: the owner does.",
        YES_NO,
    )
    publish: str = project(
        "auto",
        "How much of an order is written to Label Studio; auto: up to 1,000 tasks all of it, else its head; head: the "
        "next 200 tasks, or twice the `budget` if that is more, filled up as they are labeled; all: every task.",
        one_of("auto", "head", "all"),
    )
    health: str = project(
        "on",
        "Whether the order of a sampler that shows no sign of having learned is replaced by that of `typiclust`, or, "
        "for masks, of `margin`.",
        one_of("on", "off"),
    )
    auto_sampler: bool = project(
        False,
        "Where the last replay of the project's labels puts another sampler ahead of random and not this one, go on "
        "with it; not again before 200 more labels.",
        YES_NO,
    )
    diversity: float = project(
        0.0,
        "1 / β of power acquisition: noise on the scores, so that the head of the queue is not many near-duplicates. 1 "
        "is its paper's; 0: none. Samplers whose picks differ anyway are left alone.",
        between(0, 10),
    )
    allow_synthetic_tasks: bool = project(
        False,
        "Let a sampler that asks for images which it generates, `gaal`, import them into the project as tasks.",
        YES_NO,
    )
    synthetic_share: float = project(
        0.2, "Of the annotations from one order to the next: how many may be of generated images.", between(0, 1)
    )
    shortlist: int = project(10, "Predictions written one by one before the queue switches.", between(1, 1000))
    given: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    """No setting: the names of those that the environment or the project gives a value, so that a kind of task can
    have a default of its own."""

    @property
    def directory(self) -> Path:
        """``model_dir`` as a path, with ``~`` resolved. It may not exist yet."""
        return Path(self.model_dir).expanduser()

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Reads the environment; an empty variable counts as unset. Raises SettingsError naming the variable."""
        given: dict[str, Any] = {}
        for item in all_settings():
            text = environ.get(item.name.upper(), "").strip()
            if text:
                given[item.name] = checked(item, from_text(item, text), item.name.upper())
        values: dict[str, Any] = {**PRESETS.get(given.get("preset", ""), {}), **given}
        settings = cls(**values, given=frozenset(values))
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
        known = {item.name: item for item in all_settings()}
        given: dict[str, Any] = {}
        for key, value in parse_extra_params(extra_params).items():
            item = known.get(key)
            if item is None:
                raise SettingsError(f"extra_params: unknown key {shown(key)}; {_known_keys(key)}")
            if not spec_of(item).per_project:
                raise SettingsError(
                    f"extra_params: {key} cannot be set per project; set {key.upper()} in the backend's environment"
                )
            given[key] = checked(item, from_json(item, value), f"extra_params: {key}")
        values: dict[str, Any] = {**PRESETS.get(given.get("preset", ""), {}), **given}
        return replace(self, **values, given=self.given | set(values))

    def budget_after(self, labels: int) -> int:
        """How many new annotations make a cycle due after one that learned from so many ``labels``. With growth, the
        number of cycles grows with the logarithm of the labels."""
        return max(self.budget, round(self.budget_growth * labels))

    def options(self) -> dict[str, Any]:
        """The settings a project may override, by name: what samplers and training choose theirs from."""
        return {key: getattr(self, key) for key in project_keys()}

    def secrets(self) -> tuple[str, ...]:
        """Values that must not appear in an answer or a log line."""
        return tuple(value for item in all_settings() if spec_of(item).secret and (value := getattr(self, item.name)))


@cache
def all_settings() -> tuple[Field[Any], ...]:
    """Every setting; those that depend on the kind of task, and then those of single samplers, last."""
    last = {item.name: place for place, part in enumerate((KindSettings, SamplerSettings), 1) for item in fields(part)}
    every = [item for item in fields(Settings) if "spec" in item.metadata]
    return tuple(sorted(every, key=lambda item: last.get(item.name, 0)))


def project_keys() -> tuple[str, ...]:
    """Names of the settings that ``extra_params`` may hold."""
    return tuple(item.name for item in all_settings() if spec_of(item).per_project)


def _known_keys(key: str) -> str:
    close = get_close_matches(key, project_keys(), n=1)
    if close:
        return f"did you mean {close[0]}?"
    # it is shown in a small dialog: not all of them
    return f"known are {', '.join(project_keys()[:SHOWN_KEYS])} and others; docs/settings.md lists all"
