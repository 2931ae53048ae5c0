"""A stored replay: what it says, what it advises, and what becomes of a damaged file."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.reporting.comparison import Needed
from backend.reporting.replays import FILE, Replay, ReplayedSampler, fallback, in_words, keep, kept, needed_in_words

AT = 1_764_417_600.0  # 29 November 2025, noon


def arm(
    name: str, gain: float | None = None, corrected: float | None = None, labels: float | None = 100
) -> ReplayedSampler:
    needed = Needed(labels, None if labels is None else labels - 10, None)
    if gain is None:
        return ReplayedSampler(name, (0.5, 0.8), needed, 12.0)
    return ReplayedSampler(name, (0.6, 0.8), needed, 12.0, gain, gain - 0.01, gain + 0.01, corrected, corrected)


def replay(*arms: ReplayedSampler) -> Replay:
    return Replay(AT, 240, 72, 10, 0, (17, 168), 0.81, "dast-al", (*arms, arm("random", labels=150)), {}, 60.0)


HELPS = replay(
    arm("dast-al", 0.001, 0.9), arm("margin", 0.03, 0.004), arm("badge", 0.02, 0.01), arm("bald", -0.02, 0.004)
)
CANNOT = replay(arm("dast-al", 0.001, 0.9), arm("margin", 0.03, 0.06))


def test_the_best_is_told_with_labels_p_and_for_how_many_it_is_corrected() -> None:
    assert in_words(HELPS) == (
        "Replay of 240 labels on 29 November 2025, 10 trials: margin is ahead of random (p 0.004, corrected for 4); "
        "for the accuracy of all 168, 81 %, it needs 100 (90 to more than all) labels, and random 150 (140 to more "
        "than all); badge is ahead of random, too; bald is behind random."
    )


def test_where_nothing_is_told_apart_that_is_said() -> None:
    assert in_words(CANNOT).endswith("no sampler is better than random by the corrected test at 5 %.")
    assert CANNOT.best is None


def test_another_sampler_is_named_only_if_the_projects_own_is_not_ahead() -> None:
    assert fallback(HELPS, "dast-al") == (
        "By the replay of 240 labels margin is ahead of random, and dast-al is not told apart from random: consider "
        '"sampler": "margin".'
    )
    assert "bald is behind random" in fallback(HELPS, "bald")
    assert fallback(HELPS, "random") == (
        'By the replay of 240 labels margin is ahead of random: consider "sampler": "margin".'
    )
    assert fallback(HELPS, "margin") == fallback(HELPS, "badge") == ""
    assert fallback(CANNOT, "dast-al") == fallback(HELPS, "vaal") == ""  # none is better; it was not replayed


def test_labels_that_are_never_enough_are_not_a_number() -> None:
    assert needed_in_words(Needed(None, None, None)) == "more than all"
    assert needed_in_words(Needed(80.4, 71.0, 95.6)) == "80 (71 to 96)"


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    assert kept(tmp_path) is None
    keep(tmp_path / "new", HELPS)
    found = kept(tmp_path / "new")
    assert found is not None and in_words(found) == in_words(HELPS) and found.best == HELPS.best


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1}', b"\xff\xfe"])
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert kept(tmp_path) is None
