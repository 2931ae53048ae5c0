"""Where the device's memory does not suffice: what is trained and scored in the end, and what its owner is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from backend.errors import OwnerError
from backend.learning import device_memory
from backend.learning.learner import Learner
from backend.learning.pool import ScoredPool
from backend.settings.core import Settings
from models.data import Runtime
from tests.samplers.worlds import CPU, make_data

SETTINGS = Settings(
    task_net="resnet18",
    task_width=4,
    epochs=1,
    batch_size=64,
    sampler="vaal",
    vaal_width=4,
    vaal_latent=4,
    vaal_iterations=2,
    vaal_batch_size=16,
)
CLASSES = ("a", "b", "c")
WORDS = "CUDA out of memory. Tried to allocate 20.00 GiB"


class Cache:
    """As many pixels as the tests need of an image cache: task n is row n."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def rows(self, tasks: np.ndarray) -> np.ndarray:
        return tasks


@pytest.fixture
def largest(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Batches above these do not fit, like in the memory of a small device; and what was tried."""
    limits = {"train": 10_000, "score": 10_000}
    train, score = Learner.trained.__func__, ScoredPool.scored.__func__  # type: ignore[attr-defined]

    def small_train(cls: type, settings: Settings, *rest: Any) -> Any:
        if max(settings.batch_size, settings.vaal_batch_size) > limits["train"]:
            raise torch.OutOfMemoryError(WORDS)
        return train(cls, settings, *rest)

    def small_score(cls: type, learner: Learner, cache: Any, tasks: np.ndarray, runtime: Runtime) -> Any:
        if runtime.eval_batch_size > limits["score"]:
            raise torch.OutOfMemoryError(WORDS)
        return score(cls, learner, cache, tasks, runtime)

    monkeypatch.setattr(Learner, "trained", classmethod(small_train))
    monkeypatch.setattr(ScoredPool, "scored", classmethod(small_score))
    return limits


def weights(learner: Learner) -> list[torch.Tensor]:
    return list(learner.net.state_dict().values())


def test_batches_are_halved_until_they_fit_and_training_begins_anew(
    largest: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    data, runtime = make_data(3), Runtime(CPU, 0)
    expected, _ = Learner.trained(replace(SETTINGS, batch_size=8, vaal_batch_size=8), CLASSES, data, runtime)
    largest["train"] = 10
    learner, _ = device_memory.trained(SETTINGS, CLASSES, data, runtime, None)
    assert all(torch.equal(a, b) for a, b in zip(weights(learner), weights(expected), strict=True))
    assert [record.message.rsplit(" ", 1)[1] for record in caplog.records if "memory" in record.message] == [
        "32",
        "16",
        "8",
    ]


def test_what_fits_is_trained_as_it_is(largest: dict[str, int]) -> None:
    data, runtime = make_data(3), Runtime(CPU, 0)
    expected, _ = Learner.trained(SETTINGS, CLASSES, data, runtime)
    learner, _ = device_memory.trained(SETTINGS, CLASSES, data, runtime, None)
    assert all(torch.equal(a, b) for a, b in zip(weights(learner), weights(expected), strict=True))


def test_scores_are_those_of_smaller_batches(largest: dict[str, int]) -> None:
    data, runtime = make_data(3), Runtime(CPU, 0)
    learner, _ = Learner.trained(SETTINGS, CLASSES, data, runtime)
    cache: Any = Cache(data.pixels)
    expected = device_memory.scored(learner, cache, data.unlabeled, runtime)
    largest["score"] = 7
    found = device_memory.scored(learner, cache, data.unlabeled, runtime)
    np.testing.assert_allclose(found.acquisition, expected.acquisition, rtol=1e-4)


def test_where_nothing_fits_the_owner_is_told_what_to_set(largest: dict[str, int]) -> None:
    data, runtime = make_data(3), Runtime(CPU, 0)
    largest["train"] = 0
    with pytest.raises(OwnerError, match=r"not even in batches of \d \(CUDA out of memory\).*image_size"):
        device_memory.trained(SETTINGS, CLASSES, data, runtime, None)
