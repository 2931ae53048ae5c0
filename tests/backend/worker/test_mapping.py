"""The map of the pool before the first cycle: drawn with the first order, and again while images are embedded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.images.cache import ImageCache
from backend.learning.features import Features
from backend.reporting import pool_map
from backend.reporting.pool_map import PoolMap
from backend.settings.core import Settings
from backend.state import Version
from backend.tasks.classification import Classification
from backend.worker.job import Job
from backend.worker.mapping import draw_first_map
from backend.worker.sync import read_truth
from backend.worker.truth import Truth
from tests.backend.worker.model_studio import CONFIG, ModelStudio
from tests.backend.worker.test_asking import version_of
from tests.backend.worker.test_sync import job_on

COUNT = 30
HEAD = Settings(task_net="test_efficientnet", weights="none", training="head", sampler="margin")


class FirstOrder:
    """Of thirty images without a label, none of which is embedded yet."""

    def __init__(self, folder: Path, settings: Settings = HEAD) -> None:
        studio = ModelStudio()
        self.tasks = np.array(studio.import_tasks(COUNT))
        self.job: Job = job_on(studio, folder)
        self.truth: Truth = read_truth(self.job)
        self.version: Version = version_of(self.job, self.tasks[::-1].tolist(), "margin-c0")
        cache = ImageCache(folder / "images-32", 32)
        with cache._writing(), cache._batch() as batch:
            for task in self.tasks.tolist():
                batch.add(task, bytes([task] * 16), np.zeros((32, 32, 3), dtype=np.uint8))
        self.features = Features.open(Classification.read(CONFIG, settings), cache, torch.device("cpu"))

    def embed(self, count: int) -> None:
        """The first ``count`` of the order."""
        kept = self.features.kept
        assert kept is not None
        found = kept.missing(self.tasks[::-1][:count])
        kept.write(found, np.random.default_rng(count).normal(size=(len(found), kept.width)).astype(np.float16))

    def drawn(self) -> PoolMap | None:
        draw_first_map(self.job, self.truth, self.features, self.version)
        return PoolMap.kept(self.job.folder)


@pytest.fixture
def first(tmp_path: Path) -> Iterator[FirstOrder]:
    made = FirstOrder(tmp_path)
    yield made
    made.job.state.close()


def test_it_shows_what_is_embedded_and_the_first_of_the_order(first: FirstOrder) -> None:
    assert first.drawn() is None, "nothing is embedded"
    first.embed(12)
    found = first.drawn()
    order = first.tasks[::-1].tolist()
    assert found is not None and found.queue.tolist() == order[:12] and found.tasks.tolist() == sorted(order[:12])
    assert found.key == first.features.config.feature_key


def test_it_is_drawn_again_while_more_are_embedded_and_then_stays(
    first: FirstOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first.embed(12)
    before = first.drawn()
    first.embed(20)
    more = first.drawn()
    assert before is not None and more is not None and len(more.tasks) == 20
    assert np.array_equal(more.axes, before.axes), "the plane stays until there are twice as many"
    first.embed(COUNT)
    assert len((first.drawn() or more).tasks) == COUNT
    monkeypatch.setattr(pool_map, "drawn", lambda *args: pytest.fail("it was drawn again"))
    first.drawn()


def test_of_a_network_that_reads_the_images_itself_there_is_none(tmp_path: Path) -> None:
    first = FirstOrder(tmp_path, Settings(sampler="margin", task_width=4))
    assert first.features.kept is None and first.drawn() is None
    first.job.state.close()
