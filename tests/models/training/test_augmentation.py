"""models.training.augmentation: images and masks stay together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models import IGNORE
from models.training.augmentation import augment_pairs


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(height: int, width: int, count: int = 1) -> tuple[Tensor, Tensor]:
    """Images whose pixel says where it is: (1 + y, 1 + x, 7), and masks with y * width + x."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([1 + y, 1 + x, torch.full_like(y, 7)], dim=-1).to(torch.uint8)
    mask = (y * width + x).to(torch.uint8)
    return image.expand(count, -1, -1, -1).clone(), mask.expand(count, -1, -1).clone()


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
