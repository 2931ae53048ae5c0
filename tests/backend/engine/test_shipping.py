"""What goes along with a computation, and what does not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.speed.pool import trained_learner
from models.data import Runtime, no_progress
from models.inference.executors import Computed, Pass
from models.networks import kept_backbones
from models.networks.backbones import NOTHING
from models.networks.kept_backbones import kept_backbone
from tests.backend.engine.passes import WHOLE, assert_same_bits, pool_of_features, pool_of_images, scores
from tests.samplers.worlds import EVERY_OR_FAMILY

if find_spec("ray") is None:
    pytest.skip("requirements-ray.txt is not installed", allow_module_level=True)
pytestmark = pytest.mark.filterwarnings("default")  # Ray's own

CPU = torch.device("cpu")


def there_and_back(compute: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    from backend.engine import shipping

    return shipping.unpacked(shipping.packed(compute, images=False), CPU)


def refused(compute: Callable[..., tuple[Tensor, ...]], words: str) -> None:
    from backend.engine import shipping

    with pytest.raises(shipping.CannotTravel, match=words):
        shipping.packed(compute, images=False)


def test_networks_go_along_with_the_layout_of_their_weights() -> None:
    net = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    moved = there_and_back(lambda images: (net.weight, net(images)))
    images = torch.rand(2, 3, 8, 8)
    weight, values = moved(images)
    assert weight.stride() == net.weight.stride() and weight is not net.weight
    assert torch.equal(values, net(images))


def test_of_a_view_goes_along_what_is_seen() -> None:
    from backend.engine import shipping

    seen = torch.zeros(1_000_000)[:10]
    assert len(shipping.packed(lambda: (seen,), images=False)) < 10_000


def test_the_process_it_comes_from_does_not_go_along(tmp_path: Path) -> None:
    """What a runtime holds besides, a lock of the progress and the features of the pool, stays."""
    lock = threading.Lock()
    features = pool_of_features(tmp_path, 10, 4)
    runtime = replace(Runtime(CPU, 7, features=features), progress=lambda *_: lock.acquire() and None)
    moved = there_and_back(lambda: (runtime,))  # type: ignore[arg-type, return-value]
    (found,) = moved()
    assert isinstance(found, Runtime)
    assert (found.seed, found.features, found.progress) == (7, None, no_progress)


def test_what_cannot_be_shared_stays(tmp_path: Path) -> None:
    generator, lock, features = torch.Generator(), threading.Lock(), pool_of_features(tmp_path, 10, 4)
    refused(lambda: (torch.rand(1, generator=generator),), "Generator")
    refused(lambda: (torch.from_numpy(features[:1]),), "memmap")
    refused(lambda: (lock,), "lock")  # type: ignore[return-value]


def test_a_backbone_that_another_process_has_loaded_is_taken_over() -> None:
    """Its file of weights need not be where it is used."""
    given = kept_backbone("test_efficientnet", NOTHING, 32, CPU)
    kept_backbones.take_over({("test_efficientnet", "/nowhere/weights.pth", 32, CPU): given})
    assert kept_backbone("test_efficientnet", "/nowhere/weights.pth", 32, CPU) is given


def test_rows_are_found_again_by_where_they_lie_in_their_file(tmp_path: Path) -> None:
    from backend.engine.reading import MappedRows

    features = pool_of_features(tmp_path, 20, 6)
    part = features[3:, 1:4]
    found = MappedRows.of(part)
    assert found is not None
    assert found.opened().tolist() == part.tolist() and found.opened().dtype == np.float16
    assert MappedRows.of(np.zeros((2, 3))) is None
    (tmp_path / "rows.f16").rename(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"rows\.f16"):
        found.opened()


class Packing:
    """An executor that packs a pass, unpacks it, and computes it in this process."""

    def __init__(self) -> None:
        self.passes = 0

    def computed(self, work: Pass) -> Computed:
        from backend.engine import shipping

        self.passes += 1
        data = shipping.packed(work.compute, images=work.sources[0].dtype == np.uint8)
        return self._computed(work, shipping.unpacked(data, CPU))

    def _computed(self, work: Pass, compute: Callable[..., tuple[Tensor, ...]]) -> Computed:
        for part in work.parts:
            with torch.inference_mode():
                read = [torch.from_numpy(np.array(source[work.rows[part]])) for source in work.sources]
                yield part, tuple(one.numpy() for one in compute(*read))


@pytest.mark.slow
@EVERY_OR_FAMILY
def test_what_each_sampler_computes_of_a_pool_can_go_along(name: str, tmp_path: Path) -> None:
    """And gives the same bits there."""
    cache = pool_of_images(tmp_path, 40)
    learner, runtime = trained_learner(cache, replace(WHOLE, sampler=name, fit_seconds=2), labels=20)
    packing, rows = Packing(), np.arange(40)
    assert_same_bits(
        scores(learner, cache.pixels, rows, runtime, packing), scores(learner, cache.pixels, rows, runtime, None)
    )
    assert packing.passes or name == "random", "it reads nothing of the pool"
