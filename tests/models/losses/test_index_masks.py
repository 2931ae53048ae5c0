"""models.losses.index_masks: images and masks stay together, and what nobody labeled has no say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.data import DataError
from models.losses.index_masks import (
    IGNORE,
    augment_pairs,
    check_classes,
    class_counts,
    image_cross_entropy,
    inverse_log_weights,
    pixel_cross_entropy,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(height: int, width: int, count: int = 1) -> tuple[Tensor, Tensor]:
    """Images whose pixel says where it is: (1 + y, 1 + x, 7), and masks with y * width + x."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([1 + y, 1 + x, torch.full_like(y, 7)], dim=-1).to(torch.uint8)
    mask = (y * width + x).to(torch.uint8)
    return image.expand(count, -1, -1, -1).clone(), mask.expand(count, -1, -1).clone()


# --- augmentation ---


def test_every_crop_and_mirror_comes_and_nothing_else() -> None:
    images, masks = numbered(4, 5, 600)
    cropped, cut = augment_pairs(images, masks, (3, 2), seeded())
    assert cropped.dtype == cut.dtype == torch.uint8
    image, mask = images[0], masks[0]
    allowed = {}
    for top in range(2):
        for left in range(4):
            part, own = image[top : top + 3, left : left + 2], mask[top : top + 3, left : left + 2]
            allowed[part.numpy().tobytes(), own.numpy().tobytes()] = (top, left, False)
            allowed[part.flip(1).numpy().tobytes(), own.flip(1).numpy().tobytes()] = (top, left, True)
    seen = {
        allowed[one.numpy().tobytes(), other.numpy().tobytes()] for one, other in zip(cropped, cut, strict=True)
    }  # KeyError: not a crop, or a mask of another one
    assert seen == set(allowed.values())  # 16 outcomes, 600 draws: a missing one is a bug, not chance


def test_the_whole_image_is_only_mirrored() -> None:
    images, masks = numbered(4, 6, 40)
    same, masks_too = augment_pairs(images, masks, (4, 6), seeded())
    mirrored = [torch.equal(one, images[0].flip(1)) for one in same]
    assert 0 < sum(mirrored) < 40
    for one, mask, flipped in zip(same, masks_too, mirrored, strict=True):
        assert torch.equal(one, images[0].flip(1) if flipped else images[0])
        assert torch.equal(mask, masks[0].flip(1) if flipped else masks[0])


@pytest.mark.parametrize(("crop", "pad"), [((6, 9), 0), ((4, 5), 2), ((3, 8), 1)])
def test_outside_of_the_image_is_black_and_ignored(crop: tuple[int, int], pad: int) -> None:
    images, masks = numbered(4, 5, 300)
    cropped, cut = augment_pairs(images, masks, crop, seeded(), pad)
    assert cropped.shape == (300, *crop, 3)
    outside = cut == IGNORE
    assert outside.any()
    assert torch.equal(outside, (cropped == 0).all(dim=-1))
    assert (cropped[~outside][:, 2] == 7).all()
    # the mask's number names the image's own place
    y, x = cropped[~outside][:, 0].long() - 1, cropped[~outside][:, 1].long() - 1
    assert torch.equal(y * 5 + x, cut[~outside].long())


def test_a_crop_larger_than_the_image_holds_all_of_it() -> None:
    images, masks = numbered(4, 5, 60)
    _, cut = augment_pairs(images, masks, (6, 9), seeded())
    assert ((cut != IGNORE).sum(dim=(1, 2)) == 20).all()
    assert {(int(y), int(x)) for y, x in ((one != IGNORE).nonzero()[0] for one in cut)} == {
        (top, left) for top in range(3) for left in range(5)
    }


def test_augmentation_draws_per_seed() -> None:
    images, masks = numbered(8, 8, 8)
    first, again, other = (augment_pairs(images, masks, (5, 5), seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


# --- the loss ---


def test_loss_by_hand() -> None:
    """p = (1/4, 3/4) at every pixel; classes 0, 1, 1 and one that nobody labeled."""
    logits = torch.tensor([0.0, math.log(3.0)]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    masks = torch.tensor([[[0, 1], [1, IGNORE]]], dtype=torch.uint8)
    expected = (math.log(4) + 2 * math.log(4 / 3)) / 3
    assert pixel_cross_entropy(logits, masks).item() == pytest.approx(expected)
    # weights 3 and 1: (3 ln 4 + 2 ln 4/3) / 5
    weighted = pixel_cross_entropy(logits, masks, torch.tensor([3.0, 1.0])).item()
    assert weighted == pytest.approx((3 * math.log(4) + 2 * math.log(4 / 3)) / 5)


@pytest.mark.parametrize("weight", [None, torch.tensor([0.5, 2.0, 1.0, 7.0])])
def test_loss_is_pytorchs_where_that_is_defined(weight: Tensor | None) -> None:
    logits = torch.randn(3, 4, 5, 6, generator=seeded())
    masks = torch.randint(0, 4, (3, 5, 6), generator=seeded(1), dtype=torch.uint8)
    masks[0, :2] = IGNORE
    expected = functional.cross_entropy(logits, masks.long(), weight, ignore_index=IGNORE)
    torch.testing.assert_close(pixel_cross_entropy(logits, masks, weight), expected)


def test_ignored_pixels_get_no_gradient_and_change_nothing() -> None:
    logits = torch.randn(1, 3, 4, 4, generator=seeded(), requires_grad=True)
    masks = torch.randint(0, 3, (1, 4, 4), generator=seeded(1), dtype=torch.uint8)
    masks[:, 1] = IGNORE
    loss = pixel_cross_entropy(logits, masks)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[:, :, 1] == 0).all()
    assert (logits.grad[:, :, 0] != 0).all()
    elsewhere = logits.detach().clone()
    elsewhere[:, :, 1] = 1e4
    assert torch.equal(pixel_cross_entropy(elsewhere, masks), loss.detach())


@pytest.mark.parametrize("weight", [None, torch.ones(3)])
def test_a_batch_without_a_labeled_pixel_costs_nothing(weight: Tensor | None) -> None:
    """PyTorch's own mean is NaN here."""
    logits = torch.randn(2, 3, 4, 4, generator=seeded(), requires_grad=True)
    masks = torch.full((2, 4, 4), IGNORE, dtype=torch.uint8)
    loss = pixel_cross_entropy(logits, masks, weight)
    assert loss.item() == 0.0
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_loss_of_each_image() -> None:
    logits = torch.randn(3, 4, 5, 6, generator=seeded())
    masks = torch.randint(0, 4, (3, 5, 6), generator=seeded(1), dtype=torch.uint8)
    masks[0, :2] = IGNORE
    masks[2] = IGNORE
    losses = image_cross_entropy(logits, masks)
    for row in (0, 1):
        torch.testing.assert_close(losses[row], pixel_cross_entropy(logits[row : row + 1], masks[row : row + 1]))
    assert losses[2].item() == 0.0


# --- class weights ---


def test_a_class_that_there_is_not_is_found_before_anything_is_trained() -> None:
    masks = np.full((4, 5, 6), IGNORE, dtype=np.uint8)
    masks[0, :2] = 2
    masks[2, 4, 5] = 3
    masks.setflags(write=False)
    check_classes(masks, np.array([0, 1, 3]), 3)  # the third is nobody's label
    check_classes(masks, np.empty(0, dtype=np.int64), 1)
    check_classes(masks, np.array([2, 0, 2]), 4)
    with pytest.raises(DataError, match="the mask in row 2 holds the class 3, and there are 3"):
        check_classes(masks, np.array([0, 1, 2]), 3)
    with pytest.raises(DataError, match="the mask in row 0 holds the class 2, and there are 1"):
        check_classes(masks, np.array([0]), 1)


def test_class_counts() -> None:
    masks = torch.tensor([[[0, 2, 2], [IGNORE, 0, 2]], [[0, 0, IGNORE], [IGNORE, 3, 0]]], dtype=torch.uint8)
    assert class_counts(masks, 5).tolist() == [5, 0, 3, 1, 0]
    assert class_counts(masks, 5).dtype == torch.int64
    assert class_counts(torch.full((1, 2, 2), IGNORE, dtype=torch.uint8), 2).tolist() == [0, 0]
    assert class_counts(torch.full((1, 2, 2), 254, dtype=torch.uint8), 255)[254] == 4
    with pytest.raises(RuntimeError):
        class_counts(masks, 3)


def test_weights_of_enet() -> None:
    """Half, half of the rest twice, and a class that is nowhere: 1 / ln 1.52, 1 / ln 1.27 twice, 1 / ln 1.02."""
    weights = inverse_log_weights(torch.tensor([100, 50, 50, 0]))
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([2.38828, 4.18379, 4.18379, 50.49835], rel=1e-5)
    assert inverse_log_weights(torch.zeros(2, dtype=torch.int64)).tolist() == pytest.approx([50.49835] * 2)
    # 2 ** 24 + 1 is no float32: counts of a whole data set must not pass through one
    million = inverse_log_weights(torch.tensor([2**40, 2**40]))
    assert million.tolist() == pytest.approx([1 / math.log(1.52)] * 2)
