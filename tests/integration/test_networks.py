"""Two workers on machines of their own, one of which is cut off from the network in the middle of a cycle: the other
finishes, and the lost one changes nothing when it is back. PostgreSQL and an object store are all that they share."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.helpers import FAST, LabelProject, Studio, wait_for
from tests.integration.two_workers import BUDGET, LONG, POOL, SINGLE, Hand, Rig, check, check_it_comes_back_to_nothing
from tests.rig import networks
from tests.rig.networks import Network, Relay
from tests.rig.object_store import ObjectStoreServer, settings_for
from tests.rig.proxy import Passed, Proxy
from tests.rig.servers import PostgresServer, WorkerProcess

pytestmark = [pytest.mark.machines, pytest.mark.long]

DELETED = r"<Key>[^<]*/files/([^</]+)</Key>"
WRITES = ("PUT", "POST", "PATCH", "DELETE")


class Remote(WorkerProcess):
    """A worker in a network namespace."""

    prefix: list[str]

    def command(self) -> list[str]:
        return [*self.prefix, sys.executable, "-m", "backend", "worker"]


class RemoteHand(Hand):
    """Its ways to Label Studio, to PostgreSQL and to the store all go through its machine's cable. ``was_storing``:
    it was cut off when it sent a file to the store."""

    was_storing = False

    def __init__(self, network: Network, database: PostgresServer, store: str, *rest: object) -> None:
        self.machine = network.machine()
        self.host, self._store = network.address, store
        self.relay = Relay(network.address, database.port)
        super().__init__(*rest)  # type: ignore[arg-type]

    def worker_of(self, folder: Path, studio: Studio, name: str, settings: dict[str, str]) -> WorkerProcess:
        self.proxy = Proxy(studio.url, self.host)
        self.store_proxy = Proxy(self._store, self.host)
        database = re.sub(r"@[^/]*/", f"@{self.host}:{self.relay.port}/", settings["DATABASE_URL"])
        own = {"DATABASE_URL": database, "AWS_ENDPOINT": self.store_proxy.url}
        key = studio.server.personal_access_token()
        made = Remote(folder, self.proxy.url, key, env=FAST | settings | own, log_name=f"{name}.log")
        made.prefix = self.machine.prefix
        return made

    def writes_since(self, moment: float) -> list[Passed]:
        """Also in the store. There, whoever has the lease next, which may be this one, deletes the file that was on
        its way when the cable was cut, and which nobody knows of."""
        sent = list(self.store_proxy.requests)
        stored = [one for one in sent if one.at >= moment and one.method in WRITES]
        if self.was_storing:
            *_, cut = (one.path.rpartition("/")[2] for one in sent if one.method == "PUT" and "/files/" in one.path)
            stored = [one for one in stored if re.findall(DELETED, one.body) != [cut]]
        return self.changes_since(moment) + stored

    def close(self) -> None:
        super().close()
        self.relay.close()
        self.store_proxy.close()


@pytest.fixture(scope="module")
def rig(
    studio: Studio, postgres: PostgresServer, object_store: ObjectStoreServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    if not networks.available():
        pytest.skip("network namespaces cannot be made here: that takes root, and the program ip")
    network = Network()
    shared = {"DATABASE_URL": postgres.create_database(), **settings_for(object_store.url, "networks")}

    def hand(folder: Path, studio: Studio, name: str, settings: dict[str, str]) -> Hand:
        return RemoteHand(network, postgres, object_store.url, folder, studio, name, settings)

    made = Rig(tmp_path_factory.mktemp("networks"), studio, shared, hand)
    for one in made.hands:
        one.worker.start()
    yield made
    made.close()
    network.close()


@pytest.fixture
def project(rig: Rig, make_project: Callable[..., LabelProject]) -> Iterator[LabelProject]:
    made = make_project(tasks=POOL).connected(rig.web.url, LONG)
    made.wait_for_version()
    wait_for("all to be done", lambda: rig.seen.idle(made))
    yield made
    for hand in rig.hands:
        hand.proxy.clear()
        hand.store_proxy.clear()  # type: ignore[attr-defined]
        print(hand.worker.log_tail())  # shown when the test failed


def test_one_that_is_cut_off_in_training_changes_nothing_when_it_is_back(rig: Rig, project: LabelProject) -> None:
    project.label_served(BUDGET)
    rig.seen.wait_for_training(project)
    lost, _ = rig.at_work(project)
    lost.machine.cut_off()  # type: ignore[attr-defined]
    the_other_finishes(rig, project, lost)


def test_one_that_is_cut_off_while_it_publishes_changes_nothing_when_it_is_back(
    rig: Rig, project: LabelProject
) -> None:
    lost = cut_off_at(rig, "proxy", SINGLE, body="-c1-", nth=3)
    project.label_served(BUDGET)
    the_other_finishes(rig, project, wait_for("one to be cut off", lambda: lost and lost[0]), cycle=1)


def test_one_that_is_cut_off_while_it_stores_changes_nothing_when_it_is_back(rig: Rig, project: LabelProject) -> None:
    lost = cut_off_at(rig, "store_proxy", ("PUT", "/files/"))
    project.label_served(BUDGET)
    hand = wait_for("one to be cut off", lambda: lost and lost[0])
    hand.was_storing = True  # type: ignore[attr-defined]
    the_other_finishes(rig, project, hand)


def cut_off_at(rig: Rig, where: str, call: tuple[str, str], **how: object) -> list[Hand]:
    """Cut off whichever worker makes that call first, before it gets there. Returns where it will stand."""
    lost: list[Hand] = []

    def cut(hand: Hand) -> Callable[[], None]:
        def strike() -> None:
            if not lost:
                lost.append(hand)
                hand.machine.cut_off()  # type: ignore[attr-defined]

        return strike

    for hand in rig.hands:
        getattr(hand, where).set(*call, before=cut(hand), **how)
    return lost


def the_other_finishes(rig: Rig, project: LabelProject, lost: Hand, cycle: int = 2) -> None:
    assert isinstance(lost, RemoteHand)
    version = project.wait_for_cycle(cycle)
    wait_for("the cycle to be recorded", lambda: rig.seen.labels(project) == {cycle: BUDGET})
    check_it_comes_back_to_nothing(rig, project, lost, version, lost.machine.join_again)
    project.label_served(BUDGET)  # and both go on
    check(rig, project, project.wait_for_cycle(cycle + 1))
