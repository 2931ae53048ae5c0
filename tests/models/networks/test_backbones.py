"""Backbones of timm: weights from the installation, from files and by order, and what is read of the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from models.networks.backbones import (
    BUNDLED,
    IMAGENET,
    NOTHING,
    SMALLEST_SIDE,
    Backbone,
    build_backbone,
    bundled_file,
    digest_of,
    dimensions_of,
)
from models.networks.base import PretrainedUnavailable
from models.networks.kept_backbones import kept_backbone
from models.pixels import normalize

TINY = "test_efficientnet"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    return build_backbone(BUNDLED, IMAGENET, 224)


def test_the_installed_weights_know_a_palace_and_a_daisy(lite0: Backbone) -> None:
    """scikit-learn's sample photographs, through the classifier that the weights' file holds besides the backbone."""
    from sklearn.datasets import load_sample_images  # here: slow to import
    from timm.data import ImageNetInfo

    state = torch.load(bundled_file(), weights_only=True)
    said = []
    for image in load_sample_images().images:  # (427, 640, 3) each
        left = (image.shape[1] - image.shape[0]) // 2
        square = np.ascontiguousarray(image[None, :, left : left + image.shape[0]])
        with torch.inference_mode():
            features, _ = lite0.features_and_taps(normalize(torch.from_numpy(square)))
        logits = functional.linear(features, state["_fc.weight"], state["_fc.bias"])
        said.append(ImageNetInfo().index_to_description(int(logits.argmax())))
    assert said == ["palace", "daisy"]


def test_the_dimensions_of_the_installed_backbone_are_those_it_has(lite0: Backbone) -> None:
    features, taps = lite0.features_and_taps(torch.zeros(1, 3, SMALLEST_SIDE, SMALLEST_SIDE))
    known = dimensions_of(BUNDLED)
    assert (features.shape[1], tuple(tap.shape[1] for tap in taps)) == (known.features, known.taps)


@pytest.mark.parametrize("name", [TINY, "test_resnet", "test_vit"])
def test_dimensions_of_a_network_are_found_without_running_it_on_images(name: str) -> None:
    features, taps = build_backbone(name, NOTHING, 32).features_and_taps(torch.zeros(2, 3, 32, 32))
    known = dimensions_of(name)
    assert features.shape == (2, known.features)
    assert [tap.shape for tap in taps] == [(2, channels) for channels in known.taps]


def test_inputs_are_scaled_as_the_network_expects() -> None:
    """EfficientNet-Lite0 was trained on x / 127.5 - 1."""
    backbone = Backbone(nn.Identity(), 4, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    images = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    torch.testing.assert_close(
        backbone._inputs(normalize(images)), images.permute(0, 3, 1, 2) / 127.5 - 1, atol=1e-6, rtol=0
    )


def test_a_network_without_weights_is_the_same_each_time_and_leaves_global_generators_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (build_backbone(TINY, NOTHING, 32).state_dict() for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("renamed", [False, True])
def test_weights_of_a_file_are_found_by_name_or_in_their_order(tmp_path: Path, renamed: bool) -> None:
    import timm  # here: slow to import

    with torch.random.fork_rng():
        torch.manual_seed(1)
        theirs = timm.create_model(TINY, num_classes=7).state_dict()
    given = {f"layer{place}": value for place, value in enumerate(theirs.values()) if value.ndim}
    torch.save({"state_dict": given if renamed else theirs}, tmp_path / "tiny.pth")
    own = build_backbone(TINY, str(tmp_path / "tiny.pth"), 32).model.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in own.items() if value.ndim)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    import timm  # here: slow to import

    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "other.pth")
    with pytest.raises(PretrainedUnavailable, match="another network"):
        build_backbone(TINY, str(tmp_path / "other.pth"), 32)


def test_a_file_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pth")
    for asked in (lambda: digest_of(TINY, missing), lambda: build_backbone(TINY, missing, 32)):
        with pytest.raises(PretrainedUnavailable, match="cannot be read"):
            asked()


def test_a_name_that_timm_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="knows no network 'resnet-eighteen'"):
        build_backbone("resnet-eighteen", NOTHING, 32)


def test_digests_tell_weights_apart(tmp_path: Path) -> None:
    found = {digest_of(BUNDLED, IMAGENET), digest_of(TINY, IMAGENET), digest_of(TINY, NOTHING)}
    for place in range(2):
        (tmp_path / f"{place}.pth").write_bytes(bytes([place]))
        found.add(digest_of(TINY, str(tmp_path / f"{place}.pth")))
    assert len(found) == 5


def test_batch_normalization_keeps_its_statistics_in_training() -> None:
    backbone = build_backbone(TINY, NOTHING, 32).train()
    before = {key: value.clone() for key, value in backbone.state_dict().items() if "running" in key}
    backbone.features_and_taps(torch.randn(2, 3, 32, 32))
    assert before
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items() if key in before)


def test_a_kept_backbone_is_one_for_all_and_is_not_trained() -> None:
    one = kept_backbone(TINY, NOTHING, 32, CPU)
    assert kept_backbone(TINY, NOTHING, 32, CPU) is one
    assert not any(parameter.requires_grad for parameter in one.parameters())
