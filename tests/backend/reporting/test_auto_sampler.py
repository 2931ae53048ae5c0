"""``auto_sampler``: when a replay changes what orders the queue, and when it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.reporting.auto_sampler import FEWEST_LABELS, FILE, in_force, last_switch, switched
from backend.reporting.comparison import Needed
from backend.reporting.replays import Replay, ReplayedSampler, keep
from backend.settings.core import Settings

AUTO = Settings().for_project({"auto_sampler": True, "sampler": "entropy"})


def replayed(folder: Path, at: float = 1e9, best: str = "margin", **verdicts: str) -> None:
    """Keep a replay in which ``best`` is ahead, and the others as ``verdicts`` say."""
    gains = {"ahead": (0.03, 0.001), "behind": (-0.03, 0.001), "": (0.001, 0.6)}
    arms: list[Any] = [ReplayedSampler("random", (0.5, 0.7), Needed(60.0, 50.0, None), 1.0)]
    for name, verdict in {best: "ahead", **verdicts}.items():
        gain, p = gains[verdict]
        extra = 0.02 if name == best else 0.0
        arms.append(
            ReplayedSampler(name, (0.5, 0.8), Needed(40.0, 30.0, 50.0), 1.0, gain + extra, gain, gain + extra, p, p)
        )
    keep(folder, Replay(at, 300, 90, 10, 0, (20, 210), 0.7, "entropy", arms, {}, 60.0))


def test_it_goes_on_with_the_sampler_that_a_replay_puts_ahead(tmp_path: Path) -> None:
    replayed(tmp_path, entropy="")
    assert in_force(AUTO, tmp_path).sampler == "entropy", "nothing is switched before a cycle ends"
    switch = switched(AUTO, tmp_path, "entropy", 300)
    assert switch is not None and (switch.sampler, switch.owners, switch.labels) == ("margin", "entropy", 300)
    now = in_force(AUTO, tmp_path)
    assert now.sampler == "margin" and "sampler" in now.given


@pytest.mark.parametrize(
    ("settings", "entropy"), [(Settings(sampler="entropy"), ""), (AUTO, "ahead")], ids=["off", "ahead itself"]
)
def test_it_stays_where_nobody_asked_or_nothing_is_wrong(tmp_path: Path, settings: Settings, entropy: str) -> None:
    replayed(tmp_path, entropy=entropy)
    assert switched(settings, tmp_path, "entropy", 300) is None
    assert in_force(settings, tmp_path).sampler == "entropy"


def test_without_a_replay_nothing_happens(tmp_path: Path) -> None:
    assert switched(AUTO, tmp_path, "entropy", 300) is None
    assert in_force(AUTO, tmp_path) is AUTO


def test_it_switches_once_by_a_replay_and_not_again_before_more_labels(tmp_path: Path) -> None:
    replayed(tmp_path, entropy="")
    assert switched(AUTO, tmp_path, "entropy", 300)
    assert switched(AUTO, tmp_path, "margin", 900) is None, "margin is ahead in that replay"
    replayed(tmp_path, at=2e9, best="typiclust", margin="", entropy="")
    assert switched(AUTO, tmp_path, "margin", 299 + FEWEST_LABELS) is None
    switch = switched(AUTO, tmp_path, "margin", 300 + FEWEST_LABELS)
    assert switch is not None and switch.sampler == "typiclust"
    assert in_force(AUTO, tmp_path).sampler == "typiclust"
    assert switched(AUTO, tmp_path, "margin", 9_000) is None, "by one replay, once"


def test_the_owner_has_the_last_word(tmp_path: Path) -> None:
    replayed(tmp_path, entropy="")
    switched(AUTO, tmp_path, "entropy", 300)
    for params in ({"auto_sampler": True, "sampler": "badge"}, {"sampler": "entropy"}):
        assert in_force(Settings().for_project(params), tmp_path).sampler == params["sampler"]


def test_a_file_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"sampler": "margin"}'):
        (tmp_path / FILE).write_text(text)
        assert last_switch(tmp_path) is None
        assert in_force(AUTO, tmp_path) is AUTO
