"""People who label: each with an account of their own, one task after the other, as Label Studio serves them."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.integration.helpers import LabelProject, Studio
from tests.rig.accounts import sign_up

PAUSE = 0.5  # before a request is sent again that found no Label Studio


def accounts(studio: Studio, count: int) -> list[str]:
    """The tokens of ``count`` new users of Label Studio, who sign up as people do."""
    return [sign_up(studio.url, f"annotator-{number}@example.com", "annotate-me-too") for number in range(count)]


class Pace:
    """At most so many per second, all annotators together."""

    def __init__(self, per_second: float) -> None:
        self._gap, self._next, self._lock = 1.0 / per_second, time.monotonic(), threading.Lock()

    def wait(self) -> None:
        with self._lock:
            mine = max(self._next, time.monotonic())
            self._next = mine + self._gap
        time.sleep(max(0.0, mine - time.monotonic()))


@dataclass
class Floor:
    """What the annotators share: when to pause, when to go home, and how many have a task in hand."""

    pace: Pace
    open: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    confirmed: set[int] = field(default_factory=set)
    """The annotations that Label Studio has confirmed."""
    hands_full: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self) -> bool:
        """Whether to take a task now. Waits while the floor is closed; False: it is time to go home."""
        while not self.over.is_set():
            if self.open.wait(0.2):
                with self.lock:
                    if self.open.is_set():
                        self.hands_full += 1
                        return True
        return False

    def leave(self) -> None:
        with self.lock:
            self.hands_full -= 1

    def quiet(self, timeout: float) -> bool:
        """Close the floor. Returns whether everybody has handed in their task in time."""
        self.open.clear()
        until = time.monotonic() + timeout
        while self.hands_full and time.monotonic() < until:
            time.sleep(0.05)
        return not self.hands_full


class Annotator(threading.Thread):
    """Labels what is served until the floor is over or nothing is left."""

    def __init__(self, project: LabelProject, token: str, floor: Floor, seed: int) -> None:
        super().__init__(name=f"annotator-{seed}", daemon=True)
        self.project, self.floor = project, floor
        self._headers = {"Authorization": f"Token {token}"}
        self._random = random.Random(seed)

    def run(self) -> None:
        while self.floor.enter():
            try:
                self.floor.pace.wait()
                task = self.next_task()
                if task is not None:
                    self.label(task)
            finally:
                self.floor.leave()
            if task is None:
                return

    def next_task(self) -> dict[str, Any] | None:
        """What the stream opens; None when nothing is left. Asks again while Label Studio is away."""
        answer = self._until_answered("GET", f"/api/projects/{self.project.id}/next/")
        if answer.status_code == 404:
            return None
        found: dict[str, Any] = answer.json()
        return found

    def label(self, task: dict[str, Any]) -> None:
        """Submit what the task's file says, or now and then something else. A submission that got no answer is looked
        for before it is sent again, as one would on a page that did not move on."""
        wrong = self._random.random() < 0.05
        label = self._random.choice(self.project.classes) if wrong else self.project.truth(task)
        from_name, to_name, _ = self.project.names
        region = {"from_name": from_name, "to_name": to_name, "type": "choices", "value": {"choices": [label]}}
        path = f"/api/tasks/{task['id']}/annotations/"
        while True:
            try:
                answer = self._request("POST", path, {"result": [region], "lead_time": 1.0})
                answer.raise_for_status()
                self.floor.confirmed.add(int(answer.json()["id"]))
                return
            except requests.RequestException:
                time.sleep(PAUSE)
            held = self._until_answered("GET", path).json()
            if held:
                self.floor.confirmed.update(int(one["id"]) for one in held)
                return

    def _until_answered(self, method: str, path: str) -> requests.Response:
        while True:
            try:
                answer = self._request(method, path)
                if answer.ok or answer.status_code == 404:
                    return answer
            except requests.RequestException:
                pass
            time.sleep(PAUSE)

    def _request(self, method: str, path: str, body: Any = None) -> requests.Response:
        url = self.project.studio.url + path
        return requests.request(method, url, json=body, headers=self._headers, timeout=60)
