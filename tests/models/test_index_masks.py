"""models.index_masks: classes that there are not, and how many pixels there are of each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models import IGNORE
from models.data import DataError
from models.index_masks import check_classes, class_counts


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
