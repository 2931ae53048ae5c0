"""A running installation of 0.3.0 is upgraded on the spot: that version wrote the archive's MODEL_DIR, and was killed
while it published; the present one goes on from there, with the same Label Studio."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.integration.helpers import LabelProject, Studio, cycle_of, drawings
from tests.rig.processes import HOST, free_port
from tests.rig.proxy import Proxy
from tests.rig.servers import BackendServer, LabelStudioServer
from tests.rig.waiting import wait_for
from tests.upgrade.installation import ENVIRONMENT, KINDS, Kept, answered_for, move, restore, status

CACHES = {"segmentation": "frame-32x40", "classification": "images-32"}
UNFINISHED = "classification"
"""The project whose second cycle was killed while its order was being published."""
STEPPED = (".running_mean", ".running_var", ".num_batches_tracked", ".optimisers")
"""What follows the data from step to step whatever the learning rate: running statistics, an optimizer's memory."""


@dataclass(frozen=True)
class Upgraded:
    """The present version, web and worker, on such an installation, with its Label Studio behind ``proxy``."""

    kept: Kept
    projects: dict[str, LabelProject]
    server: BackendServer
    proxy: Proxy

    def held(self, kind: str) -> Any:
        """What Label Studio held before the upgrade."""
        return self.kept.facts["projects"][kind]

    def newest(self, kind: str) -> str:
        """The name of the newest version that the old one made."""
        told = next(one for one in self.kept.facts["status"]["projects"] if one["id"] == self.projects[kind].id)
        return str(told["versions"][0]["name"])

    def published(self, kind: str) -> None:
        """Waits until the old version's newest order is out."""
        project, name = self.projects[kind], self.newest(kind)
        last = cycle_of(name)
        project.wait_for_version(lambda version: version == name or cycle_of(version) > last)

    def images_asked_for(self, kind: str) -> list[str]:
        return [
            item.path.rsplit("-", 1)[1]
            for item in list(self.proxy.requests)
            if item.path.startswith(f"/data/upload/{self.projects[kind].id}/")
        ]

    def told(self, kind: str) -> Any:
        return next(one for one in status(self.server)["projects"] if one["id"] == self.projects[kind].id)


@pytest.fixture(scope="module")
def upgraded(label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    kept = Kept.unpacked(tmp_path_factory.mktemp("upgraded"))
    studio, proxy, port = Studio(label_studio), Proxy(label_studio.url), free_port()
    with answered_for(f"http://{HOST}:{port}") as setups:  # the old version, before it was ended
        projects = {
            kind: restore(studio, held, f"http://{HOST}:{port}") for kind, held in kept.facts["projects"].items()
        }
    move(kept, setups[-1]["hostname"], setups[-1]["access_token"])
    key = label_studio.personal_access_token()
    server = BackendServer(kept.model_dir, proxy.url, key, port=port, env=ENVIRONMENT)
    try:
        server.start()
        yield Upgraded(kept, projects, server, proxy)
    finally:
        print(server.log_tail())
        server.stop()
        proxy.close()
        for project in projects.values():
            project.delete()


def test_an_order_that_the_old_version_had_begun_to_publish_is_finished_once(upgraded: Upgraded, left: Kept) -> None:
    project, version = upgraded.projects[UNFINISHED], upgraded.newest(UNFINISHED)
    scores = left.scores(version)
    held = {one["task"] for one in upgraded.held(UNFINISHED)["predictions"] if one["model_version"] == version}
    noted = {task for task, row in scores.items() if row["written"]}
    assert len(noted) + 1 == len(held) < len(scores)  # the last one had arrived, but it did not know

    upgraded.published(UNFINISHED)

    written = [task for item in upgraded.proxy.writes(version) for task in tasks_of(item.body)]
    assert sorted(written) == sorted(scores.keys() - held)
    found = project.predictions(version)
    assert Counter(item["task"] for item in found) == Counter(scores.keys())
    for item in found:
        row = scores[item["task"]]
        assert item["score"] == pytest.approx(row["score"], abs=1e-9)
        assert item["result"][0]["value"] == {"choices": [row["label"]]}
    assert (project.version(), project.info()["sampling"]) == (version, "Uncertainty sampling")
    wait_for("the cycle to be closed", lambda: upgraded.told(UNFINISHED)["cycles"][0]["status"] == "done")
    told = upgraded.told(UNFINISHED)
    assert (told["current_version"], told["due"], len(told["cycles"])) == (version, [], 3)


def tasks_of(body: str) -> list[int]:
    """Of the predictions in a request."""
    found = json.loads(body)
    return [item["task"] for item in (found if isinstance(found, list) else [found])]


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_task_joins_the_order_by_the_old_model(kind: str, upgraded: Upgraded) -> None:
    project, version = upgraded.projects[kind], upgraded.newest(kind)
    upgraded.published(kind)

    project.upload(drawings(1, ["new"]))
    project.wait_for_version(lambda name: name == version)

    newest = max(project.tasks())
    (joined,) = [item for item in project.predictions(version) if item["task"] == newest]
    assert 0 < joined["score"] < 1
    if kind == "classification":
        assert joined["result"][0]["value"]["choices"][0] in ("stripes", "checks", "plain")
    assert upgraded.images_asked_for(kind) == ["new.png"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_cycle_goes_on_from_the_old_model(kind: str, upgraded: Upgraded, left: Kept) -> None:
    project, old, held = upgraded.projects[kind], upgraded.newest(kind), upgraded.held(kind)
    upgraded.published(kind)
    labels, budget = len(held["annotations"]), held["extra_params"]["budget"]

    for one in held["annotations"][:budget]:  # what is drawn or chosen does not matter
        task = project.next_task()
        assert task is not None
        project.studio.post(f"/api/tasks/{task['id']}/annotations/", {"result": one["result"], "lead_time": 1.0})
    version = project.wait_for_version(lambda name: name != old)

    assert cycle_of(version) == cycle_of(old) + 1
    told = upgraded.told(kind)
    assert told["cycles"][0]["labels"] == labels + budget
    assert told["broken_images"] == []
    assert "from scratch" not in upgraded.server.log_path.read_text().lower()
    before, after = left.project_folder(project.id), upgraded.kept.project_folder(project.id)
    old_model, new_model = (load(folder, name) for folder, name in ((before, old), (after, version)))
    for part in ("net", "sampler"):
        check_carried_over(old_model[part], new_model[part], part)
    check_caches(before / CACHES[kind], after / CACHES[kind], budget)
    assert set(upgraded.images_asked_for(kind)) <= {"new.png"}  # those of the archive are nowhere
    wait_for("the old versions to be removed", lambda: versions_held(project) == {version})
    files = after / "checkpoints"
    wait_for("their checkpoints to be removed", lambda: [path.stem for path in files.iterdir()] == [version])


def load(folder: Path, version: str) -> Any:
    return torch.load(folder / "checkpoints" / f"{version}.pt", weights_only=True)


def check_carried_over(old: Any, new: Any, where: str) -> None:
    """``new`` holds the weights of ``old``, after some steps of next to nothing."""
    if where.endswith(STEPPED):
        return
    if isinstance(old, dict):
        assert old.keys() <= new.keys(), where
        for name, one in old.items():
            check_carried_over(one, new[name], f"{where}.{name}")
    elif isinstance(old, torch.Tensor):
        torch.testing.assert_close(new, old, atol=1e-3, rtol=1e-3, msg=lambda words: f"{where}: {words}")
    else:
        assert new == old, where


def check_caches(old: Path, new: Path, labels: int) -> None:
    """Rows of images and masks are where they were. Those of one image and of ``labels`` masks may come after them."""
    for name, count, more in (("pixels.u8", 24, 1), ("masks/masks.u8", 4, labels)):
        if (old / name).exists():
            before, after = (old / name).read_bytes(), (new / name).read_bytes()
            assert after.startswith(before), f"{name} was written again"
            assert len(after) <= len(before) // count * (count + more), f"{name} has more new rows than are new"


def versions_held(project: LabelProject) -> set[str]:
    found = project.studio.get(f"/api/projects/{project.id}/model-versions/")
    return {version for version, count in found.items() if count}
