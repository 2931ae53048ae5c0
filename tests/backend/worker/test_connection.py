"""Whose project it is: what is concluded from Label Studio's list of connections and the version in force."""

from __future__ import annotations

import pytest

from backend.labelstudio.records import MLBackend
from backend.worker.connection import judge

OURS = {"margin-c0-11111111", "margin-c1-22222222"}
THEIRS = "entropy-c4-abcdef01"
HERE = MLBackend(5, "http://here:9090", "AL", True, "margin-c1-22222222")


def other(number: int, version: str = THEIRS, answers: bool = True) -> MLBackend:
    return MLBackend(number, f"http://other:{number}", "AL", answers, version)


@pytest.mark.parametrize(
    ("rows", "in_force"),
    [
        ([HERE], "margin-c1-22222222"),
        ([HERE], "margin-c0-11111111"),  # a settings page that was opened before the last cycle
        ([HERE], ""),
        ([HERE], "AL"),  # the title, which Label Studio puts there while there is no version
        ([HERE], "gold-2024"),  # predictions that the owner imported
        ([HERE, other(6)], "margin-c1-22222222"),  # another backend that leaves the queue alone
        ([HERE, other(6, "yolo-8")], "gold-2024"),
        ([HERE, other(6, "")], "gold-2024"),
    ],
)
def test_there_is_no_other_hand_in_the_queue(rows: list[MLBackend], in_force: str) -> None:
    standing = judge(HERE, rows, in_force, OURS, None)
    assert (standing.row, standing.reason, standing.rival, standing.warning) == (HERE, "", None, "")


@pytest.mark.parametrize(
    ("rival", "in_force"),
    [
        (other(6), THEIRS),
        (other(6, "entropy-c3-00000000"), THEIRS),  # its answer is older than its last cycle
        (other(6, "", answers=False), THEIRS),  # switched off for now
        (other(6, "their-own-naming"), "their-own-naming"),
    ],
)
def test_of_two_that_order_the_queue_the_one_connected_first_stands_back(rival: MLBackend, in_force: str) -> None:
    standing = judge(HERE, [HERE, rival], in_force, OURS, None)
    assert standing.rival == rival.id and rival.url in standing.reason and not standing.warning


def test_the_one_connected_last_takes_the_queue_back_and_says_so() -> None:
    standing = judge(HERE, [other(4), HERE], THEIRS, OURS, None)
    assert not standing.reason and standing.rival is None
    assert "http://other:4" in standing.warning and THEIRS in standing.warning


def test_one_that_is_not_listed_is_overruled_and_mentioned() -> None:
    standing = judge(HERE, [HERE], THEIRS, OURS, None)
    assert not standing.reason and THEIRS in standing.warning


def test_who_stands_back_goes_on_standing_back_while_the_other_is_listed() -> None:
    """Also when a stale settings page puts our version in force for a moment: otherwise the two would take turns."""
    assert judge(HERE, [HERE, other(6)], "margin-c1-22222222", OURS, 6).rival == 6
    assert judge(HERE, [HERE], THEIRS, OURS, 6).reason == ""  # its connection was removed
    renewed = MLBackend(7, HERE.url, "AL", True, "margin-c1-22222222")
    assert judge(renewed, [other(6), renewed], THEIRS, OURS, 6).reason == ""  # ours was made anew
