"""The trials of a replay: what is held out, what is bought, and that they are paired."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from backend.errors import SettingsError
from backend.replay.project import check_trials, summarized
from backend.replay.trials import FEWEST_LABELS, STAGES, Design, Played, SamplerFailed, Trained, play
from tests.backend.replay.owners import Asked, Scenes

SCENES = np.random.default_rng(0).integers(0, 40, 200)


def played(samplers: tuple[str, ...], trials: int = 10, seed: int = 0, train: Scenes | None = None) -> Played:
    return play(samplers, len(SCENES), 2, trials, seed, train or Scenes(SCENES), lambda *_: None, lambda: 0.0)


@pytest.mark.parametrize(("labels", "classes"), [(FEWEST_LABELS, 2), (61, 40), (200, 10), (5_000, 1_000)])
def test_every_stage_has_more_labels_than_the_one_before_and_the_last_has_all(labels: int, classes: int) -> None:
    design = Design.of(labels, classes)
    assert len(design.stages) == STAGES
    assert all(np.diff(design.stages) > 0)
    assert design.stages[-1] + design.held_out == labels
    assert design.stages[0] >= min(8, design.stages[-1] // 2)


@dataclass(frozen=True)
class Recorder(Scenes):
    """Notes what it is given."""

    seen: list[tuple[str, tuple[int, ...], tuple[int, ...], int]] = field(default_factory=list)

    def __call__(
        self, sampler: str, labeled: np.ndarray, unlabeled: np.ndarray, seed: int, previous: Trained | None
    ) -> Asked:
        self.seen.append((sampler, tuple(labeled.tolist()), tuple(unlabeled.tolist()), seed))
        return super().__call__(sampler, labeled, unlabeled, seed, previous)


def test_samplers_of_a_trial_differ_in_nothing_but_what_they_buy() -> None:
    recorder = Recorder(SCENES)
    played(("new", "random"), trials=1, train=recorder)
    ours, randoms = recorder.seen[:STAGES], recorder.seen[STAGES:]
    assert [one[3] for one in ours] == [one[3] for one in randoms]
    assert ours[0][1] == randoms[0][1] and ours[-1][1] == randoms[-1][1]  # the first labels, and the whole pool
    assert ours[1][1] != randoms[1][1]
    pool = set(ours[-1][1])
    for (_, before, _, _), (_, labeled, unlabeled, _) in pairwise(ours):
        assert (
            set(before) < set(labeled) and set(labeled) | set(unlabeled) == pool and not set(labeled) & set(unlabeled)
        )
    assert len(pool) == 140  # 30 % of 200 are held out, and no training ever sees them


def test_the_same_seed_gives_the_same_curves_and_another_one_does_not() -> None:
    assert played(("random",), 2).curves == played(("random",), 2).curves
    assert played(("random",), 2).curves != played(("random",), 2, seed=1).curves


def test_a_sampler_that_fails_is_left_out_and_the_others_go_on() -> None:
    @dataclass(frozen=True)
    class Failing(Scenes):
        def __call__(
            self, sampler: str, labeled: np.ndarray, unlabeled: np.ndarray, seed: int, previous: Trained | None
        ) -> Asked:
            if sampler == "new" and len(labeled) > 50:
                raise SamplerFailed("its training diverged")
            return super().__call__(sampler, labeled, unlabeled, seed, previous)

    steps: list[tuple[int, int]] = []
    found = play(
        ("new", "random"), len(SCENES), 2, 3, 0, Failing(SCENES), lambda *step: steps.append(step), lambda: 0.0
    )
    assert list(found.curves) == ["random"] and len(found.curves["random"]) == 3
    assert found.failed == {"new": "its training diverged"}
    assert steps[-1][0] == steps[-1][1]  # what will not be trained is not waited for


def test_a_replay_tells_who_helps_from_who_hurts() -> None:
    """40 scenes, each shown about five times: asking for unseen ones needs about 40 labels, and for seen ones all."""
    found = summarized(played(("new", "known", "random")), 200, 10, 0, "known", 1e9)
    new, known, random = (found.of(name) for name in ("new", "known", "random"))
    assert new and known and random
    assert (new.verdict, known.verdict, random.verdict) == ("ahead", "behind", "")
    assert found.best is new
    assert new.needed.value and random.needed.value and new.needed.value < random.needed.value
    assert new.needed.low is not None and new.needed.low <= new.needed.value
    assert new.p == pytest.approx(2 / 1024) and new.corrected == pytest.approx(4 / 1024)
    assert found.target == pytest.approx(random.curve[-1]) == pytest.approx(new.curve[-1])


@pytest.mark.parametrize(("compared", "needed"), [(1, 6), (2, 7), (5, 8), (25, 10)])
def test_trials_that_could_not_tell_anything_are_refused(compared: int, needed: int) -> None:
    """The smallest p of T trials is 2 / 2^T; of 6 that is 0.031, and of 7 for two samplers 2 · 0.016."""
    check_trials(needed, compared)
    with pytest.raises(SettingsError, match=f"take at least {needed}"):
        check_trials(needed - 1, compared)
