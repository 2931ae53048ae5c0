"""What is predicted for a pool, in shares of its classes."""

from __future__ import annotations

import numpy as np
import pytest

from backend.learning.pool import CLASSES_KEPT, ScoredPool, predicted_shares
from models.inference.predictions import Predictions
from tests.backend.learning.test_health import learner


def pool(predicted: list[object]) -> ScoredPool:
    count = len(predicted)
    return ScoredPool(np.arange(count), np.zeros(count), Predictions(np.array(predicted), np.ones(count)))


def test_of_one_class_each_the_images_are_counted() -> None:
    """Of four images, two are said to be of the third class, one of the first, one of the sixth."""
    found = predicted_shares(learner("entropy"), pool([2, 0, 2, 5]))
    assert found == {"c": 0.5, "a": 0.25, "f": 0.25, "b": 0.0, "d": 0.0, "e": 0.0}
    assert next(iter(found)) == "c", "the largest comes first"


def test_of_several_classes_the_probabilities_are_added() -> None:
    rows = [[0.9, 0.0, 0.0, 0.1, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0, 0.0, 0.0]]
    found = predicted_shares(learner("margin", "multilabel"), pool(rows))
    assert found["a"] == pytest.approx(0.7) and found["b"] == pytest.approx(0.25) and found["d"] == pytest.approx(0.05)


def test_nothing_is_said_of_what_no_network_has_seen() -> None:
    assert predicted_shares(learner("random"), ScoredPool.shuffled(np.arange(5), 0)) == {}
    assert predicted_shares(learner("entropy"), pool([])) == {}
    assert CLASSES_KEPT >= 100
