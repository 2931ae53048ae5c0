"""models.miou: worked values, and scikit-learn as the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score
from torch import Tensor

from models.masks import IGNORE
from models.miou import ConfusionMatrix, confusion_counts, iou_of, mean_iou_of


def masks_of(*values: list[list[int]]) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8)


def test_values_by_hand() -> None:
    """Class 0: two of three right, one false; IoU 2/4. Class 1: one right, one missed, one false; 1/3. Class 2 is not
    there and nobody said so. Class 3 is not there and was predicted once: 0.
    """
    masks = masks_of([[0, 0, 0], [1, 1, IGNORE]])
    predicted = torch.tensor([[[0, 0, 1], [1, 0, 2]]])
    counted = ConfusionMatrix(4)
    counted.update(predicted, masks)
    assert counted.confusion.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0] * 4, [0] * 4]
    iou = counted.iou()
    assert iou[:2].tolist() == pytest.approx([2 / 4, 1 / 3])
    assert iou[2:].isnan().all()
    assert counted.mean_iou().item() == pytest.approx((1 / 2 + 1 / 3) / 2)
    counted.update(torch.tensor([[[3]]]), masks_of([[0]]))
    assert counted.iou().tolist()[0::3] == pytest.approx([2 / 5, 0.0])
    assert counted.mean_iou().item() == pytest.approx((2 / 5 + 1 / 3 + 0) / 3)


def test_the_same_as_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 4, 6, IGNORE], (6, 17, 23), p=[0.5, 0.2, 0.1, 0.05, 0.05, 0.1]).astype(np.uint8)
    predicted = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 6, truth.shape))
    predicted[predicted == IGNORE] = 3
    labelled = truth != IGNORE
    counted = ConfusionMatrix(8)
    for start in (0, 1, 4):
        stop = {0: 1, 1: 4, 4: 6}[start]
        counted.update(torch.from_numpy(predicted[start:stop]), torch.from_numpy(truth[start:stop]))
    expected = confusion_matrix(truth[labelled], predicted[labelled], labels=range(8))
    assert np.array_equal(counted.confusion.numpy(), expected)
    present = np.union1d(truth[labelled], predicted[labelled])
    assert 7 not in present
    each = jaccard_score(truth[labelled], predicted[labelled], average=None, labels=present)
    assert counted.iou()[present.astype(np.int64)].tolist() == pytest.approx(each.tolist())
    mean = jaccard_score(truth[labelled], predicted[labelled], average="macro")
    assert counted.mean_iou().item() == pytest.approx(mean)


def test_counts_of_each_image_and_of_all() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 3, (4, 5, 6), generator=generator, dtype=torch.uint8)
    predicted = torch.randint(0, 3, (4, 5, 6), generator=generator)
    counts = confusion_counts(predicted, masks, 3)
    assert counts.shape == (4, 3, 3)
    assert counts.dtype == torch.int64
    for row in range(4):
        assert torch.equal(counts[row], confusion_counts(predicted[row : row + 1], masks[row : row + 1], 3)[0])
    assert iou_of(counts).shape == (4, 3)
    assert mean_iou_of(counts).shape == (4,)
    counted = ConfusionMatrix(3)
    counted.update(predicted, masks)
    assert torch.equal(counted.confusion, counts.sum(dim=0))


def test_extremes() -> None:
    masks = masks_of([[0, 1], [2, 2]])
    counted = ConfusionMatrix(3)
    counted.update(masks, masks)
    assert counted.mean_iou().item() == 1.0
    counted = ConfusionMatrix(3)
    counted.update((masks.long() + 1) % 3, masks)
    assert counted.mean_iou().item() == 0.0


def test_nothing_labelled_is_no_figure() -> None:
    counted = ConfusionMatrix(3)
    assert math.isnan(counted.mean_iou().item())
    counted.update(torch.zeros(1, 2, 2, dtype=torch.int64), torch.full((1, 2, 2), IGNORE, dtype=torch.uint8))
    assert counted.confusion.sum() == 0
    assert math.isnan(counted.mean_iou().item())


def test_a_class_that_there_is_not_is_an_error() -> None:
    for first in (True, False):  # whichever image of the batch it is in
        masks = torch.zeros(2, 1, 2, dtype=torch.uint8)
        masks[0 if first else 1, 0, 0] = 3
        with pytest.raises(RuntimeError):
            confusion_counts(torch.zeros(2, 1, 2, dtype=torch.int64), masks, 3)


def test_the_largest_class_and_uint8_predictions_do_not_overflow() -> None:
    masks = torch.full((1, 2, 2), 254, dtype=torch.uint8)
    assert confusion_counts(masks, masks, 255)[0, 254, 254] == 4
