"""Hosts are asked as fast as they let us: by a clock of the test's own."""

from __future__ import annotations

import itertools
import threading

import pytest

from backend.errors import ImageLater
from backend.labelstudio.pacing import GIVE_UP_AFTER, GIVE_UP_SECONDS, LONGEST_PAUSE_SECONDS, Hosts, retry_after


class Clock:
    def __init__(self) -> None:
        self.now, self.guard = 1000.0, threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self.guard:
            self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hosts(clock: Clock) -> Hosts:
    return Hosts(clock, clock.sleep)


def test_a_host_that_never_objects_is_never_waited_for(hosts: Hosts, clock: Clock) -> None:
    for _ in range(100):
        hosts.wait_for_turn("one")
        hosts.answered("one")
    assert clock.now == 1000.0


def test_what_a_host_asks_for_is_waited_for_and_others_are_not(hosts: Hosts, clock: Clock) -> None:
    assert hosts.refused("one", 3.0) == 3.0
    hosts.wait_for_turn("other")
    assert clock.now == 1000.0
    hosts.wait_for_turn("one")
    assert clock.now == 1003.0


def test_a_long_wait_is_not_waited_for_but_said(hosts: Hosts, clock: Clock) -> None:
    hosts.refused("one", 30.0)
    with pytest.raises(ImageLater, match="one asks to be asked again later") as later:
        hosts.wait_for_turn("one")
    assert later.value.seconds == 30.0 and clock.now == 1000.0


def test_after_a_refusal_requests_keep_a_distance_that_shrinks_again(hosts: Hosts, clock: Clock) -> None:
    hosts.refused("one", 1.0)
    times = []
    for _ in range(40):
        hosts.wait_for_turn("one")
        times.append(clock.now)
        hosts.answered("one")
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps[0] > 0.03 and gaps == sorted(gaps, reverse=True) and gaps[-1] == 0.0
    assert sum(gaps) < 1.0


def test_refusals_of_requests_that_were_on_their_way_together_count_once(hosts: Hosts) -> None:
    pauses = [hosts.refused("one", None) for _ in range(8)]
    assert max(pauses) <= 2.0


def test_without_a_time_the_pause_grows_up_to_a_minute(hosts: Hosts, clock: Clock) -> None:
    pauses = []
    for _ in range(12):
        pauses.append(hosts.refused("one", None))
        clock.now += pauses[-1] + 10
    assert pauses[:3] == [1.0, 2.0, 4.0] and pauses[-1] == LONGEST_PAUSE_SECONDS
    hosts.answered("one")
    assert hosts.refused("one", None) == 1.0


def test_a_host_that_is_down_is_left_alone_for_a_minute(hosts: Hosts, clock: Clock) -> None:
    for _ in range(GIVE_UP_AFTER):
        hosts.wait_for_turn("one")
        hosts.failed("one")
    with pytest.raises(ImageLater, match="could not be reached a moment ago"):
        hosts.wait_for_turn("one")
    clock.now += GIVE_UP_SECONDS
    hosts.wait_for_turn("one")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 0 "}, 0.0),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "1e3"}, None),
        ({"Retry-After": "9" * 30}, 86_400.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:01:00 GMT"}, 50.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:05 GMT"}, 0.0),
        ({"Retry-After": "Thu, 01 Jan 2026 00:01:00 GMT", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 60.0),
    ],
)
def test_how_long_a_response_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=10.0) == seconds
