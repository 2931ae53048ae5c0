"""A project's folder goes from one machine to another through a store, whoever dies on the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from backend.errors import LeaseLost, StoreUnavailable
from backend.files import learned_picture
from backend.images.cache import ImageCache
from backend.images.features import FeatureCache
from backend.store import row_chunks
from backend.store.mirror import Mirror
from backend.store.objects import Objects
from tests.integration.helpers import png

SIDE = 32


@dataclass
class Machine:
    """A machine with a folder of its own; ``counts`` is what the state says, which all machines share."""

    folder: Path
    store: Path
    counts: list[str] = field(default_factory=lambda: [""])
    holds: bool = True

    @property
    def mirror(self) -> Mirror:
        return Mirror(Objects(str(self.store)), self.folder)

    def pull(self) -> bool:
        return self.mirror.pull(self.counts[0], self.check)

    def push(self, *, rows: bool = True) -> bool:
        return self.mirror.push(self.commit, self.check, rows=rows)

    def commit(self, name: str) -> None:
        self.check()
        self.counts[0] = name

    def check(self) -> None:
        if not self.holds:
            raise LeaseLost("another worker has it")

    def write(self, path: str, content: str) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(content)

    def files(self) -> dict[str, str]:
        """Path → content, without caches."""
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        own = [path for path in found if not path.parts[0].startswith(("images-", ".stored"))]
        return {path.as_posix(): (self.folder / path).read_text() for path in own}

    def images(self, **sources: str) -> ImageCache:
        """The cache of images, after those of ``sources`` ("t7": its gray) were fetched."""
        cache = ImageCache(self.folder / f"images-{SIDE}", SIDE)
        for task, gray in sources.items():  # one by one: their rows are in this order
            cache.sync([(int(task[1:]), gray)], lambda _, gray: png(np.full((SIDE, SIDE, 3), int(gray), np.uint8)))
        return cache

    def grays(self, *tasks: int) -> list[int]:
        cache = self.images()
        return [int(cache.pixels[row].mean().round()) if row >= 0 else -1 for row in cache.rows(list(tasks))]

    def features(self) -> FeatureCache:
        return FeatureCache(self.images(), "net", 4)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    counts = [""]
    yield (
        Machine(tmp_path / "one" / "7-1700", tmp_path / "store", counts),
        Machine(tmp_path / "two" / "7-1700", tmp_path / "store", counts),
    )


def objects(machine: Machine) -> list[str]:
    return Objects(str(machine.store)).names("projects/")


# -- files -------------------------------------------------------------------------------------------------------------


def test_another_machine_finds_the_files(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one.pull()
    one.write("checkpoints/a.pt", "network")
    one.write("map.npz", "map")
    one.write("checkpoints/b.draft", "half a network")
    one.write("trying/17", "an image that is being decoded")
    assert one.push()
    assert two.pull()
    assert two.files() == {"checkpoints/a.pt": "network", "map.npz": "map"}
    assert not two.pull()  # nothing has changed


def test_what_changed_and_what_was_deleted_arrives(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one.write("checkpoints/a.pt", "network")
    one.write("map.npz", "map")
    one.push()
    two.pull()
    two.write("map.npz", "another map")
    two.write("checkpoints/b.pt", "the next network")
    (two.folder / "checkpoints/a.pt").unlink()
    two.push()
    one.write("left-over", "what a killed cycle left here")
    one.pull()
    expected = {"map.npz": "another map", "checkpoints/b.pt": "the next network"}
    assert one.files() == expected | {"left-over": "what a killed cycle left here"}


def test_nothing_new_sends_nothing(machines: tuple[Machine, Machine]) -> None:
    one, _ = machines
    one.write("map.npz", "map")
    one.images(t1="10")
    one.push()
    before, counted = objects(one), one.counts[0]
    one.push()
    assert (objects(one), one.counts[0]) == (before, counted)


def test_a_worker_that_lost_the_project_changes_nothing(machines: tuple[Machine, Machine]) -> None:
    """It was cut off after it had sent an object: the other one goes on, and sweeps what is named by no manifest."""
    one, two = machines
    one.write("map.npz", "map")
    one.push()
    two.pull()
    two.write("map.npz", "the map of two")
    two.push()
    counted = one.counts[0]
    one.write("map.npz", "a map that is too late")
    sent = one.mirror._objects
    sent.put("projects/7-1700/files/late", b"an object that is too late")
    one.holds = False
    with pytest.raises(LeaseLost):
        one.push()
    assert one.counts[0] == counted
    one.holds = True
    one.pull()
    assert one.files() == {"map.npz": "the map of two"}
    assert "projects/7-1700/files/late" not in objects(one)


def test_a_kill_between_sending_and_committing_loses_nothing(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one.write("map.npz", "map")
    one.push()
    one.write("map.npz", "the second map")

    def killed(name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.mirror.push(killed, one.check)
    two.pull()
    assert two.files() == {"map.npz": "map"}
    one.pull()
    assert one.files() == {"map.npz": "the second map"}  # nobody else has worked on it, so it is still true
    one.push()
    two.pull()
    assert two.files() == {"map.npz": "the second map"}


def test_objects_that_nobody_names_any_more_are_deleted_with_the_next_manifest(
    machines: tuple[Machine, Machine],
) -> None:
    one, _ = machines
    for number in range(4):
        one.write("map.npz", f"map {number}")
        one.push()
    assert len([name for name in objects(one) if "/files/" in name]) == 2  # who reads the last one is not cut off
    assert len([name for name in objects(one) if "/manifests/" in name]) == 2


def test_a_lost_state_goes_on_with_the_newest(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    for number in range(3):
        one.write("map.npz", f"map {number}")
        one.push()
    one.counts[0] = ""
    two.pull()
    assert two.files() == {"map.npz": "map 2"}


def test_a_state_from_a_backup_goes_on_with_the_newest(machines: tuple[Machine, Machine]) -> None:
    """It names a manifest that is deleted by now, on a machine that knows an older one yet."""
    one, two = machines
    one.write("map.npz", "map 0")
    one.push()
    two.pull()
    names = []
    for number in range(1, 5):
        one.write("map.npz", f"map {number}")
        one.push()
        names.append(one.counts[0])
    one.counts[0] = names[0]
    assert two.pull()
    assert two.files() == {"map.npz": "map 4"}


def test_who_loses_the_project_while_fetching_stops(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one.images(t1="10")
    one.push()
    two.holds = False
    with pytest.raises(LeaseLost):
        two.pull()
    two.holds = True
    two.pull()
    assert two.grays(1) == [10]


def test_a_clock_that_is_behind_does_not_make_a_manifest_older(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machines
    one.write("map.npz", "map")
    one.push()
    two.pull()
    monkeypatch.setattr("backend.store.manifest.time.time_ns", lambda: 1)
    two.write("map.npz", "a later map")
    two.push()
    one.counts[0] = ""
    one.pull()
    assert one.files() == {"map.npz": "a later map"}


def test_an_object_that_somebody_deleted_costs_only_itself(
    machines: tuple[Machine, Machine], caplog: pytest.LogCaptureFixture
) -> None:
    one, two = machines
    one.write("checkpoints/a.pt", "network")
    one.write("map.npz", "map")
    one.images(t1="10", t2="20")
    one.push()
    gone = one.mirror._record().manifest
    mirror = one.mirror
    mirror._objects.delete([f"projects/7-1700/{gone.files['map.npz'][0]}"])
    mirror._objects.delete([f"projects/7-1700/{name}" for name in gone.caches[f"images-{SIDE}"].chunks.values()])
    two.pull()
    assert two.files()["checkpoints/a.pt"] == "network"
    assert not (two.folder / "map.npz").exists()
    assert "lost" in caplog.text
    assert two.grays(1, 2) == [-1, -1]
    two.images(t1="10", t2="20")
    two.push()
    assert one.pull() and one.grays(1, 2) == [10, 20]


def test_another_store_is_filled_from_what_is_here(machines: tuple[Machine, Machine], tmp_path: Path) -> None:
    one, two = machines
    one.write("map.npz", "map")
    one.push()
    one.store = two.store = tmp_path / "another"
    assert not one.pull()
    one.push()
    two.pull()
    assert two.files() == {"map.npz": "map"}


# -- rows --------------------------------------------------------------------------------------------------------------


def test_images_and_features_arrive_in_the_same_rows(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_chunks, "CHUNK_BYTES", 2 * 3 * SIDE * SIDE)  # two images a chunk
    one, two = machines
    one.images(t5="50", t6="60", t7="70", t8="80", t9="90")
    one.features().write(np.array([6, 9]), np.array([[6, 6, 6, 6], [9, 9, 9, 9]]))
    one.push()
    two.pull()
    assert two.grays(5, 6, 7, 8, 9) == [50, 60, 70, 80, 90]
    assert two.images().rows([5, 6, 7, 8, 9]).tolist() == one.images().rows([5, 6, 7, 8, 9]).tolist()
    there = two.features()
    assert there.present([5, 6, 7, 8, 9]).tolist() == [6, 9]
    assert there.rows[two.images().rows([9])].tolist() == [[9, 9, 9, 9]]


def test_only_what_changed_is_sent_and_fetched(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_chunks, "CHUNK_BYTES", 2 * 3 * SIDE * SIDE)
    one, two = machines
    one.images(t1="10", t2="20", t3="30", t4="40")
    one.push()
    two.pull()
    before = set(objects(one))
    one.images(t3="33", t5="50")
    one.images().forget([1])
    one.images(t6="60")
    one.push()
    chunks = [name for name in objects(one) if "/rows/" in name and name not in before]
    assert 1 <= len(chunks) <= 3
    taken: list[int] = []
    take = row_chunks.ImageRows.put_back
    monkeypatch.setattr(
        row_chunks.ImageRows, "put_back", lambda self, start, *rest: (taken.append(start), take(self, start, *rest))
    )
    two.pull()
    assert len(taken) == len(chunks)
    assert two.grays(1, 2, 3, 4, 5, 6) == [-1, 20, 33, 40, 50, 60] == one.grays(1, 2, 3, 4, 5, 6)


def test_rows_that_were_never_stored_give_way_to_those_that_were(machines: tuple[Machine, Machine]) -> None:
    """Both have fetched images of their own: the one whose rows count has them, and a task never has two rows."""
    one, two = machines
    one.images(t1="10", t2="20")
    two.images(t9="99", t2="20", t8="88")
    two.features().write(np.array([9]), np.ones((1, 4)))
    one.push()
    two.pull()
    assert two.grays(1, 2) == [10, 20]
    ids = two.images().task_ids()
    assert len(ids) == len(set(ids))
    assert two.features().present([1, 2, 8, 9]).tolist() == []  # its rows are another's by now
    two.images(t8="88", t9="99")
    assert two.grays(1, 2, 8, 9) == [10, 20, 88, 99]
    two.push()
    one.pull()
    assert one.grays(1, 2, 8, 9) == [10, 20, 88, 99]


def test_what_gives_way_is_stored_later(machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_chunks, "CHUNK_BYTES", 3 * SIDE * SIDE)
    one, two = machines
    one.images(**{f"t{task}": str(task) for task in range(1, 12)})
    looks = iter([False, True])
    assert not one.mirror.push(one.commit, one.check, rows=True, enough=lambda: next(looks))
    two.pull()
    assert 0 < sum(gray > 0 for gray in two.grays(*range(1, 12))) < 11
    assert one.push()
    two.pull()
    assert two.grays(*range(1, 12)) == list(range(1, 12))


def test_released_caches_come_back(machines: tuple[Machine, Machine]) -> None:
    one, _ = machines
    one.images(t1="10", t2="20")
    one.features().write(np.array([2]), np.ones((1, 4)))
    one.write("map.npz", "map")
    one.push()
    released = one.mirror.release_caches()
    assert [path.name for path in released] == [f"images-{SIDE}"]
    shutil.rmtree(released[0])
    assert one.pull()
    assert one.grays(1, 2) == [10, 20]
    assert one.features().present([1, 2]).tolist() == [2]
    assert one.files()["map.npz"] == "map"


def test_rows_of_another_version_of_the_decoder_are_left_out(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machines
    one.images(t1="10")
    one.push()
    monkeypatch.setattr("backend.store.mirror.FORMAT", 999)
    two.pull()
    assert not (two.folder / f"images-{SIDE}").exists()


# -- who only reads ----------------------------------------------------------------------------------------------------


def test_a_reader_fetches_what_it_wants(machines: tuple[Machine, Machine]) -> None:
    one, web = machines
    one.write("answers/v1/a.probabilities", "predictions")
    one.write("checkpoints/v1.pt", "network")
    one.images(t1="10")
    one.push()
    assert web.mirror.pull_some(web.counts[0], lambda path: path.startswith("answers/v1"))
    assert web.files() == {"answers/v1/a.probabilities": "predictions"}
    assert web.mirror.pull_some(web.counts[0], lambda path: path.startswith("checkpoints/"))
    assert web.files() == {"answers/v1/a.probabilities": "predictions", "checkpoints/v1.pt": "network"}


def test_what_a_reader_left_out_is_not_taken_for_deleted(machines: tuple[Machine, Machine]) -> None:
    """A worker begins on the reader's machine."""
    one, two = machines
    one.write("answers/v1/a", "predictions")
    one.write("checkpoints/v1.pt", "network")
    one.images(t1="10")
    one.push()
    two.mirror.pull_some(two.counts[0], lambda path: path.startswith("answers/"))
    two.pull()
    two.push()
    one.pull()
    assert one.files()["checkpoints/v1.pt"] == two.files()["checkpoints/v1.pt"] == "network"
    assert one.grays(1) == two.grays(1) == [10]


def test_a_reader_that_is_behind_undoes_nothing(machines: tuple[Machine, Machine]) -> None:
    one, _ = machines
    one.write("map.npz", "map")
    one.push()
    old = one.counts[0]
    one.write("map.npz", "the second map")
    one.write("answers/v2/a", "predictions")
    one.push()
    assert one.mirror.pull_some(old, lambda path: True)
    assert one.files() == {"map.npz": "the second map", "answers/v2/a": "predictions"}


def test_all_of_a_project_is_removed(machines: tuple[Machine, Machine]) -> None:
    one, _ = machines
    one.write(learned_picture(Path()).as_posix(), "a picture")
    one.images(t1="10")
    one.push()
    other = Machine(one.folder.parent / "8-1700", one.store)
    other.write("map.npz", "map")
    other.push()
    one.mirror.remove()
    assert objects(one) and all(name.startswith("projects/8-1700/") for name in objects(one))


def test_a_store_that_does_not_respond_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.store.objects.RETRY_SECONDS", 0.1)
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "ENDPOINT": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with pytest.raises(StoreUnavailable, match=r"The store s3://bucket/al \(STORE\) cannot be used"):
        Mirror(Objects("s3://bucket/al"), tmp_path / "7-1700").pull("manifests/1.json", lambda: None)


@pytest.mark.parametrize("path", ["../../state.sqlite3", "/etc/passwd", "checkpoints/../../../x", ""])
def test_a_manifest_that_names_files_elsewhere_is_refused(machines: tuple[Machine, Machine], path: str) -> None:
    """Whoever can write to the store can write into a project's folder, and nowhere else."""
    one, two = machines
    one.write("map.npz", "map")
    one.push()
    mirror, name = one.mirror, f"projects/7-1700/{one.counts[0]}"
    content = mirror._objects.get(name).replace(b'"map.npz"', json.dumps(path).encode())
    mirror._objects.put(name, content)
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        two.pull()
    assert [found for found in two.folder.parent.parent.rglob("*") if found.name in ("passwd", "x")] == []
    assert two.files() == {}
