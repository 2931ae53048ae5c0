"""The control arm in a published order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backend.control import Arm, interleaved
from backend.learning.control_order import in_drawn_places, with_drawn
from backend.learning.pool import ScoredPool
from models.inference.predictions import Predictions

ARM = Arm("7.2024", 0.1, [[0.0, 0.1]])


def scored(tasks: np.ndarray, acquisition: np.ndarray) -> ScoredPool:
    return ScoredPool(tasks, acquisition, Predictions(tasks % 3, tasks / 10_000))


@given(count=st.integers(0, 200), drawn=st.integers(0, 40), equal=st.booleans(), seed=st.integers(0, 9))
def test_the_published_order_is_the_sampler_s_with_the_arm_between(
    count: int, drawn: int, equal: bool, seed: int
) -> None:
    """Also where the sampler finds all tasks alike, so that chance alone orders them."""
    rng = np.random.default_rng(seed)
    tasks = rng.permutation(1_000)[: count + drawn].astype(np.int64)
    chosen = scored(tasks[:count], np.zeros(count) if equal else rng.normal(size=count))
    behind = scored(tasks[count:], rng.normal(size=drawn))
    found = with_drawn(chosen, behind, 0.1, seed)
    wanted = interleaved(chosen.head(None, seed), behind.tasks.tolist(), 0.1)
    assert found.head(None, seed) == wanted
    if count + drawn:
        assert found.predictions is not None
        assert found.predictions.predicted.tolist() == (found.tasks % 3).tolist()
        assert found.predictions.confidence.tolist() == (found.tasks / 10_000).tolist()


def test_the_sampler_s_own_scores_stay_what_they_say() -> None:
    """Of VAAL the discriminator's output: the arm moves no score of the others."""
    rng = np.random.default_rng(0)
    chosen = scored(np.arange(90), rng.normal(size=90))
    found = with_drawn(chosen, scored(np.arange(90, 100), np.zeros(10)), 0.1, 3)
    own = dict(zip(chosen.tasks.tolist(), chosen.priority_scores(3).tolist(), strict=True))
    now = dict(zip(found.tasks.tolist(), found.priority_scores(3).tolist(), strict=True))
    assert max(abs(now[task] - score) for task, score in own.items()) < 1e-12


def test_without_an_arm_the_pool_is_the_sampler_s() -> None:
    chosen = scored(np.arange(9), np.arange(9.0))
    assert with_drawn(chosen, ScoredPool.unordered(np.arange(0)), 0.0, 1) is chosen


def test_tasks_that_join_have_the_place_that_chance_gives_them_and_not_the_network() -> None:
    """A thousand tasks join an order of a thousand: of the arm, those with a low place come early, so that among any
    first places as many are of the arm as before."""
    rng = np.random.default_rng(1)
    tasks = np.arange(1, 1_001, dtype=np.int64)
    joining = scored(tasks, np.where(np.isin(tasks, ARM.of(tasks)), 50.0, rng.normal(size=1_000)))
    published = np.sort(1 / (1 + np.exp(rng.normal(size=1_000))))
    found = in_drawn_places(joining, ARM, published, 0)
    order = found.head(None, 0)
    of_arm = [task for task in order if task in set(ARM.of(tasks).tolist())]
    assert of_arm == ARM.of(tasks).tolist()
    for first in (250, 500, 750):
        share = np.isin(order[:first], of_arm).mean()
        assert abs(share - len(of_arm) / 1_000) < 4 * np.sqrt(0.1 * 0.9 / first)


def test_a_task_of_the_arm_can_join_an_order_that_is_empty() -> None:
    drawn = ARM.of(np.arange(1, 2_000))[:3]
    found = in_drawn_places(ScoredPool.unordered(drawn), ARM, np.empty(0), 0)
    assert found.head(None, 0) == drawn.tolist()
