"""Which network the settings mean, and what is refused before anything is trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from backend.errors import SettingsError
from backend.settings.core import Settings
from backend.tasks import KINDS, backbones
from backend.tasks.backbones import (
    BUNDLED,
    Backbone,
    backbone_of,
    check_backbone,
    check_segmenter,
    known_to_timm,
    may_need_timm,
    segmenter_of,
)
from models.networks import backbones as networks
from tests.backend.tasks.examples import EXAMPLES
from tests.integration.helpers import FRUIT


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, Backbone(BUNDLED, "imagenet", True)),
        ({"training": "finetune"}, Backbone(BUNDLED, "imagenet", False)),
        ({"weights": "none"}, Backbone("resnet18", "none", False)),
        ({"task_width": 16}, Backbone("resnet18", "none", False)),
        ({"pretrained": True}, Backbone("resnet18", "imagenet", False)),
        ({"task_net": "resnet18"}, Backbone("resnet18", "none", False)),
        ({"task_net": "vgg16-bn", "weights": "imagenet"}, Backbone("vgg16-bn", "imagenet", False)),
        ({"task_net": "resnet50"}, Backbone("resnet50", "imagenet", True)),
        ({"task_net": "resnet50", "weights": "none", "training": "finetune"}, Backbone("resnet50", "none", False)),
    ],
)
def test_what_is_left_open_is_decided(given: dict[str, object], meant: Backbone) -> None:
    settings = Settings(**given)  # type: ignore[arg-type]
    assert backbone_of(settings) == meant


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, Backbone(BUNDLED, "imagenet", True)),
        ({"training": "finetune"}, Backbone(BUNDLED, "imagenet", False)),
        ({"weights": "none"}, Backbone("drn-d-22", "none", False)),
        ({"task_width": 16}, Backbone("drn-d-22", "none", False)),
        ({"weights": "none", "training": "head"}, Backbone(BUNDLED, "none", True)),
        (
            {"segmentation_net": "deeplabv3-resnet50", "pretrained": True},
            Backbone("deeplabv3-resnet50", "imagenet", False),
        ),
        # As before there were such settings for masks: what is meant for whole images is no reason to refuse these.
        ({"segmentation_net": "drn-d-22", "training": "head", "weights": "a.pth"}, Backbone("drn-d-22", "none", False)),
        ({"segmentation_net": "resnet50", "training": "finetune"}, Backbone("resnet50", "imagenet", False)),
    ],
)
def test_what_is_left_open_for_masks_is_decided(given: dict[str, object], meant: Backbone) -> None:
    settings = Settings(**given)  # type: ignore[arg-type]
    assert segmenter_of(settings) == meant


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ({}, True),
        ({"task_net": "resnet18"}, True),  # masks still come from the bundled one
        ({"task_net": "resnet18", "segmentation_net": "drn-d-22"}, False),
        ({"weights": "none"}, False),
        ({"weights": "none", "training": "head"}, True),
        ({"task_width": 16}, False),
    ],
)
def test_timm_is_imported_where_a_project_may_need_it(given: dict[str, object], needed: bool) -> None:
    assert may_need_timm(Settings(**given)) is needed  # type: ignore[arg-type]


def test_a_network_for_masks_that_cannot_be_had_is_refused_in_words() -> None:
    with pytest.raises(SettingsError, match="segmentation_net: timm knows no network called unet"):
        check_segmenter(Settings(segmentation_net="unet"))
    check_segmenter(Settings())


def test_a_file_of_weights_is_in_the_backends_own_folder(tmp_path: Path) -> None:
    settings = Settings(model_dir=str(tmp_path), task_net="resnet50", weights="lesions.pth")
    assert backbone_of(settings).weights == str(tmp_path / "weights" / "lesions.pth")
    with pytest.raises(SettingsError, match=r"no file lesions\.pth in MODEL_DIR/weights"):
        check_backbone(settings)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "lesions.pth").touch()
    check_backbone(settings)


@pytest.mark.parametrize("name", ["../secret.pth", "/etc/passwd", "a/b.pth", ".pth"])
def test_no_other_file_can_be_named(name: str) -> None:
    with pytest.raises(SettingsError, match="a file's name"):
        Settings().for_project({"weights": name})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"task_net": "resnet-eighteen"}, "timm knows no network called resnet-eighteen"),
        ({"task_net": "resnet18", "training": "head"}, "is trained as a whole"),
        ({"task_net": "resnet18", "weights": "some.pth"}, "for networks of timm"),
        ({"task_net": "test_resnet"}, "ImageNet weights of test_resnet are not on the backend's machine"),
    ],
)
def test_what_cannot_be_had_is_refused_in_words(
    given: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    settings = Settings().for_project(given)
    with pytest.raises(SettingsError, match=words):
        KINDS["classification"].read(EXAMPLES["classification"].config(FRUIT), settings)


@pytest.mark.parametrize("sampler", ["bald", "mc-dropout"])
@pytest.mark.parametrize("given", [{}, {"training": "finetune"}])
def test_dropout_inside_a_network_of_timm_is_refused_in_words(sampler: str, given: dict[str, str]) -> None:
    settings = Settings().for_project({"sampler": sampler, "dropout_place": "stages", **given})
    for kind, key, other in (
        ("classification", "task_net", "resnet18"),
        ("multilabel", "task_net", "resnet18"),
        ("segmentation", "segmentation_net", "drn-d-22"),
    ):
        config = EXAMPLES[kind].config(FRUIT)
        with pytest.raises(SettingsError, match=f'set "{key}" to .*"{other}".* or "dropout_place" to "features"'):
            KINDS[kind].read(config, settings)
        KINDS[kind].read(config, settings.for_project({key: other, "training": "auto"}))
        KINDS[kind].read(config, settings.for_project({"dropout_place": "features"}))
        KINDS[kind].read(config, settings.for_project({"sampler": "entropy"}))


def test_weights_that_timm_has_fetched_before_are_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--timm--resnet34d.ra2_in1k" / "snapshots" / "0123"
    kept.mkdir(parents=True)
    (kept / "model.safetensors").touch()
    check_backbone(Settings(task_net="resnet34d"))
    with pytest.raises(SettingsError, match="not on the backend's machine"):
        check_backbone(Settings(task_net="resnet34"))


def test_the_default_is_checked_without_torch() -> None:
    """The web process answers `/setup` within three seconds, and starts without torch."""
    code = (
        "import sys; from backend.settings.core import Settings; from backend.tasks.backbones import *; "
        "check_backbone(Settings()); check_backbone(Settings(task_net='resnet50', weights='none')); "
        "assert not {'torch', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_both_halves_mean_the_same_network() -> None:
    assert backbones.BUNDLED == networks.BUNDLED
    assert known_to_timm(networks.BUNDLED) and known_to_timm("resnet50")


def test_a_preset_of_a_paper_trains_the_papers_network() -> None:
    assert backbone_of(Settings().for_project({"preset": "ta-vaal-cifar10"})) == Backbone("resnet18", "none", False)
