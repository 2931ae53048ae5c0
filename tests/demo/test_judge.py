"""Versions that are judged while the next labels are given."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backend.state import Version
from benchmarks.data.datasets import Dataset
from demo.judge import Judge
from demo.subjects.base import Stopped
from demo.subjects.classification import SingleItems

VERSION = Version(1, 1, 0, "margin-c1", "margin", "current", "there", [], {}, 0.0, 0.0, None)


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> SingleItems:
    """One whose versions have a network, none of which is ever read."""
    images = np.zeros((4, 28, 28), np.uint8)
    labels = np.arange(4)
    made = SingleItems(Dataset(images, labels, images, labels, tuple("abcd"), "made up"), np.arange(4))
    learner = SimpleNamespace(name="its networks")
    monkeypatch.setattr(made, "learner", lambda version: learner if version.checkpoint else None)
    return made


def judged_by(monkeypatch: pytest.MonkeyPatch, subject: SingleItems, how: Callable[[Any], float]) -> Judge:
    monkeypatch.setattr(subject, "judge", how)
    return Judge(subject)


def test_nobody_waits_for_a_judgment_until_it_is_asked_for(
    subject: SingleItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = threading.Event()
    judge = judged_by(monkeypatch, subject, lambda learner: float(may_go_on.wait(30)))
    judgment = judge.judge(VERSION)  # did not wait, or this would be the end
    may_go_on.set()
    assert judgment() == judgment() == 1.0
    judge.stop()


def test_a_version_without_a_network_is_not_judged(subject: SingleItems, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = judged_by(monkeypatch, subject, lambda learner: pytest.fail("there is none"))
    assert judge.judge(Version(1, 1, 0, "c0", "margin", "current", None, [], {}, 0.0, 0.0, None))() is None
    judge.stop()


def test_what_fails_is_raised_where_it_is_asked_for(subject: SingleItems, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(learner: Any) -> float:
        raise ValueError("broken weights")

    judge = judged_by(monkeypatch, subject, fail)
    judgment = judge.judge(VERSION)
    with pytest.raises(ValueError, match="broken weights"):
        judgment()
    judge.stop()


def test_whoever_stops_it_waits_for_none_of_them(subject: SingleItems, monkeypatch: pytest.MonkeyPatch) -> None:
    began = threading.Event()

    def long(learner: Any) -> float:
        began.set()
        for _ in range(3000):
            subject.go_on("embed", 0, 1)
            time.sleep(0.01)
        raise AssertionError("it was not stopped")

    judge = judged_by(monkeypatch, subject, long)
    judgments = [judge.judge(VERSION) for _ in range(3)]
    assert began.wait(30)
    judge.stop()
    assert [judgment() for judgment in judgments] == [None, None, None]
    with pytest.raises(Stopped):
        subject.go_on()
