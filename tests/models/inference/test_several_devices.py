"""One pass over several devices: the results of one device, to the last bit. The devices are names of the processor."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from models.data import Runtime
from models.inference.fused import placed_copy, scoring_copy
from models.inference.predictions import ForwardPass, measure, measure_forward, predict
from models.inference.several_devices import Through
from models.lending import Lend, Lent
from models.networks.classifier import Classifier, NetConfig
from models.tasks import CLASSIFICATION
from tests.rig.waiting import PATIENCE, wait_for

CPU, OTHERS = torch.device("cpu"), (torch.device("cpu:1"), torch.device("cpu:2"))
ROWS = np.random.default_rng(1).permutation(70)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def net() -> Classifier:
    return CLASSIFICATION.build(NetConfig("resnet18", 5, 16, 4), 0)


def lending(*devices: torch.device, wanted: Callable[[], bool] = lambda: False) -> Lend:
    @contextmanager
    def lend(besides: torch.device) -> Iterator[Sequence[Lent]]:
        assert besides == CPU
        yield [Lent(one, wanted) for one in devices]

    return lend


def runtime(*devices: torch.device, batch: int = 4, wanted: Callable[[], bool] = lambda: False) -> Runtime:
    return Runtime(CPU, 0, eval_batch_size=batch, idle=lending(*devices, wanted=wanted))


def threads_left() -> list[str]:
    return [one.name for one in threading.enumerate() if "_help" in one.name]


class Asked:
    """What a batch goes through, noting in which thread. `helper` is called before a batch of a helper's."""

    def __init__(self, helper: Callable[[], None] = lambda: None, own: Callable[[], None] = lambda: None) -> None:
        self.batches, self._helper, self._own = Counter[str](), helper, own
        self._main = threading.get_ident()

    def __call__(self, read: Tensor) -> tuple[Tensor, ...]:
        mine = threading.get_ident() == self._main
        (self._own if mine else self._helper)()
        self.batches["own" if mine else "helpers"] += 1
        return (read[:, 0, 0, 0].long(),)


def passed(asked: Asked, pixels: np.ndarray, how: Runtime, size: int = 2) -> list[int]:
    parts = [np.arange(start, min(start + size, len(pixels))) for start in range(0, len(pixels), size)]
    return [int(one) for (found,) in Through(asked, []).stream(pixels, parts, how) for one in found]


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_predictions_and_features_are_those_of_one_device(net: Classifier, pixels: np.ndarray, batch: int) -> None:
    alone = Runtime(CPU, 0, eval_batch_size=batch)
    spread = runtime(*OTHERS, batch=batch)
    for one, other in zip(predict_all(net, pixels, alone), predict_all(net, pixels, spread), strict=True):
        assert np.array_equal(one, other)


def predict_all(net: Classifier, pixels: np.ndarray, how: Runtime) -> list[np.ndarray]:
    said = predict(net, pixels, ROWS, how)
    whole = measure(net, pixels, ROWS, how, lambda features, logits: (features, logits))

    def all_of(forward: ForwardPass) -> tuple[Tensor, ...]:
        assert forward.images is not None
        return forward.features, forward.logits, *forward.taps, forward.images

    more = measure_forward(net, pixels, ROWS, how, all_of, with_images=True)
    assert len(more) == 3 + len(net.tap_channels) and np.array_equal(more[-1], pixels[ROWS])
    return [said.predicted, said.confidence, *whole, *more]


def test_what_is_done_with_batches_is_done_in_one_thread_in_their_order(net: Classifier, pixels: np.ndarray) -> None:
    seen: list[tuple[int, Tensor]] = []

    def compute(features: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
        seen.append((threading.get_ident(), logits))
        return (logits,)

    reports: list[int] = []
    how = Runtime(CPU, 0, lambda *report: reports.append(report[1]), 4, idle=lending(*OTHERS))
    found = measure(net, pixels, np.arange(70), how, compute)[0]
    assert {thread for thread, _ in seen} == {threading.get_ident()}
    assert np.array_equal(torch.cat([logits for _, logits in seen]).numpy(), found)
    assert reports == [*range(4, 70, 4), 70]


def test_devices_that_are_lent_do_their_share(pixels: np.ndarray) -> None:
    helped = threading.Event()
    asked = Asked(helped.set, lambda: helped.wait(PATIENCE) and None)
    assert passed(asked, pixels, runtime(OTHERS[0])) == pixels[:, 0, 0, 0].tolist()
    assert asked.batches["helpers"] and asked.batches["own"] and asked.batches.total() == 35


@pytest.mark.parametrize("how", [Runtime(CPU, 0), runtime()])
def test_without_another_device_all_is_done_here(how: Runtime, pixels: np.ndarray) -> None:
    asked = Asked()
    assert passed(asked, pixels, how) == pixels[:, 0, 0, 0].tolist()
    assert asked.batches == {"own": 35}


def test_few_batches_and_kept_features_are_not_spread(pixels: np.ndarray) -> None:
    def lend(besides: torch.device) -> object:
        raise AssertionError("nothing is to be lent")

    how = Runtime(CPU, 0, idle=lend)  # type: ignore[arg-type]
    assert passed(Asked(), pixels, how, size=24) == pixels[:, 0, 0, 0].tolist()
    kept = pixels.astype(np.float16)
    assert passed(Asked(), kept, how) == pixels[:, 0, 0, 0].tolist()


def test_a_device_that_is_wanted_is_left_after_the_batches_that_it_has(pixels: np.ndarray) -> None:
    wanted, helped = threading.Event(), threading.Event()

    def helper() -> None:
        wanted.set()
        helped.set()

    asked = Asked(helper, lambda: helped.wait(PATIENCE) and None)
    assert passed(asked, pixels, runtime(OTHERS[0], wanted=wanted.is_set)) == pixels[:, 0, 0, 0].tolist()
    assert 1 <= asked.batches["helpers"] <= 4, "those that it had begun to read"


def test_what_a_device_has_no_memory_for_is_done_by_the_others(pixels: np.ndarray) -> None:
    failed = threading.Event()

    def helper() -> None:
        failed.set()
        raise torch.OutOfMemoryError("there is none")

    asked = Asked(helper, lambda: failed.wait(PATIENCE) and None)
    assert passed(asked, pixels, runtime(*OTHERS)) == pixels[:, 0, 0, 0].tolist()
    assert asked.batches == {"own": 35}


def test_what_a_helper_meets_reaches_whoever_asked(pixels: np.ndarray) -> None:
    failed = threading.Event()

    def helper() -> None:
        failed.set()
        raise ValueError("broken weights")

    with pytest.raises(ValueError, match="broken weights"):
        passed(Asked(helper, lambda: failed.wait(PATIENCE) and None), pixels, runtime(OTHERS[0]))
    wait_for("the end of the helpers", lambda: not threads_left())


def test_a_pass_that_is_given_up_leaves_no_thread(net: Classifier, pixels: np.ndarray) -> None:
    def stopped(phase: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(net, pixels, ROWS, Runtime(CPU, 0, stopped, 1, idle=lending(*OTHERS)))
    wait_for("the end of the helpers", lambda: not threads_left())


def test_a_placed_copy_has_tensors_of_its_own_on_its_device(net: Classifier) -> None:
    """Those that belong to a module without being its parameters, too."""
    net.judge = torch.ones(3)  # type: ignore[assignment]
    scoring, meta = scoring_copy(net, Runtime(CPU, 0)), torch.device("meta")
    placed = placed_copy(scoring, meta)
    assert {one.device for one in (*placed.parameters(), *placed.buffers(), placed.judge)} == {meta}
    assert {one.device for one in (*scoring.parameters(), *scoring.buffers(), *net.parameters(), net.judge)} == {CPU}
    assert placed.head(torch.zeros(2, net.feature_channels, device=meta)).device == meta


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_say_what_one_says(net: Classifier, pixels: np.ndarray) -> None:
    first, second = torch.device("cuda:0"), torch.device("cuda:1")

    @contextmanager
    def lend(besides: torch.device) -> Iterator[Sequence[Lent]]:
        yield [Lent(second, lambda: False)]

    net = net.to(first)
    alone, spread = (
        predict(net, pixels, ROWS, Runtime(first, 0, eval_batch_size=4, idle=idle)) for idle in (None, lend)
    )
    assert np.array_equal(alone.predicted, spread.predicted)
    assert np.array_equal(alone.confidence, spread.confidence)
