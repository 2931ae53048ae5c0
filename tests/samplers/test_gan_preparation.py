"""A GAN that is trained apart from cycles: taken over once it is there, and entropy's order until then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.data import CycleData, Runtime
from models.deadline import Deadline
from samplers import asal, gan_preparation
from samplers.base import Answered, Preparation, Sampler
from samplers.gan_base import MISSING
from tests.samplers.worlds import CPU, NOBODY, Fitted, fit, make_data, net_for, sampler_for

NAMES = pytest.mark.parametrize("name", ["asal", "gaal"])
ALL = np.arange(40)


def prepare(
    sampler: Sampler[Any], data: CycleData, before: dict[str, Any] | None = None, rows: np.ndarray = ALL, seed: int = 0
) -> Preparation:
    return sampler.prepare(before or {}, data.pixels, rows, Runtime(CPU, seed), lambda: False)


def with_prepared(state: dict[str, Any] | None) -> Runtime:
    return Runtime(CPU, 0, prepared=state)


@NAMES
def test_until_its_gan_is_there_the_order_is_that_of_entropy_and_it_says_why(name: str) -> None:
    data = make_data(3)
    net, sampler, entropy = net_for(data), sampler_for(name, data), fit("entropy", 3)
    found = sampler.fit(net, data, with_prepared({}))
    assert found == {MISSING: 1.0} and "still being trained" in sampler.doubts(found)
    rows, again = data.unlabeled, sampler_for(name, data)
    again.load_state_dict(sampler.state_dict())  # as after a restart
    for one in (sampler, again):
        scored = one.score(net, data.pixels, rows, Runtime(CPU, 0)).acquisition
        assert (scored == entropy.sampler.score(net, data.pixels, rows, Runtime(CPU, 0)).acquisition).all()
        answered = Answered(data.labeled, NOBODY)
        assert one.generate(net, data.pixels, 2, answered, Runtime(CPU, 0)) is None


@NAMES
def test_a_gan_that_is_ready_is_taken_over_and_measured_once(name: str) -> None:
    data = make_data(3)
    net, sampler = net_for(data), sampler_for(name, data)
    sampler.fit(net, data, with_prepared({}))
    ready = prepare(sampler, data).ready
    assert ready is not None
    first = sampler.fit(net, data, with_prepared(ready))
    assert first["gan_images"] == len(ALL) and "gan_precision" in first and sampler.doubts(first) != ""
    assert "gan_iterations" not in first  # nothing is trained in the cycle
    later = sampler_for(name, data)
    later.load_state_dict(sampler.state_dict())
    again = later.fit(net, data, with_prepared(ready))
    assert "gan_images" not in again and again["gan_precision"] == first["gan_precision"]
    lost = later.fit(net, data, with_prepared({}))  # the files are gone, the checkpoint has it
    assert MISSING not in lost
    assert np.isfinite(Fitted(later, net, data).score(data.unlabeled)).all()


def test_pieces_go_on_where_the_last_one_ended_until_the_iterations_are_done() -> None:
    data = make_data(3)
    sampler, before, done = sampler_for("asal", data, gan_iterations=3), {}, []
    while True:
        found = sampler.prepare(before, data.pixels, ALL, Runtime(CPU, 0), lambda: True)
        before = found.training
        done.append((found.done, found.total, found.ready is not None))
        if found.ready is not None:
            break
    assert done == [(1, 3, False), (2, 3, False), (3, 3, True)]
    assert found.sample is not None and found.sample.shape == (64, 32, 32, 3) and found.sample.dtype == np.uint8
    whole = prepare(sampler, data)
    assert whole.ready is not None
    assert all(torch.equal(found.ready["generator"][key], value) for key, value in whole.ready["generator"].items())


def test_it_ends_after_its_seconds_whatever_the_iterations() -> None:
    data = make_data(3)
    found = prepare(sampler_for("asal", data, gan_iterations=10_000_000, gan_seconds=1), data)
    assert found.ready is not None and found.training["gan"]["taken"] < 10_000 and found.done == found.total


def test_it_goes_on_once_the_pool_has_grown_and_starts_anew_for_other_networks() -> None:
    data = make_data(3)
    sampler = sampler_for("asal", data, gan_growth=0.5)
    first = prepare(sampler, data, rows=ALL[:20])
    assert first.ready is not None and first.enough_for == 30
    same = prepare(sampler, data, first.training, ALL[:30])
    assert same.training["gan"]["taken"] == 2 and same.enough_for == 30
    grown = prepare(sampler, data, same.training, ALL[:31])
    assert grown.training["gan"]["taken"] == 4 and grown.enough_for == 46
    other = prepare(sampler_for("asal", data, gan_width=6), data, grown.training)
    assert other.training["gan"]["taken"] == 2 and other.training["gan"]["config"]["width"] == 6


def test_a_larger_pool_is_learned_from_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gan_preparation, "LEARNED_AT_ONCE", 8)
    first = gan_preparation.some_rows(ALL, 0, Runtime(CPU, 0))
    later = gan_preparation.some_rows(ALL, 7, Runtime(CPU, 0))
    assert len(set(first)) == 8 and set(first) <= set(ALL) and set(first) != set(later)


def test_a_change_of_what_is_trained_is_told_by_the_key() -> None:
    data = make_data(3)
    plain = sampler_for("asal", data).preparation_key
    changes: list[dict[str, object]] = [{"gan": "wgan-gp"}, {"gan_width": 8}, {"gan_seconds": 5}, {"gan_iterations": 7}]
    assert len({plain, *(sampler_for("asal", data, **change).preparation_key for change in changes)}) == 5
    assert sampler_for("asal", data, asal_images=7).preparation_key == plain


def test_a_deadline_ends_a_piece() -> None:
    data = make_data(3)
    sampler = sampler_for("asal", data, gan_iterations=1000)
    found = sampler.prepare({}, data.pixels, ALL, Runtime(CPU, 0, deadline=Deadline.after(0.0)), lambda: False)
    assert found.ready is None and found.done == 1


def test_an_autoencoder_follows_the_gan_where_it_is_the_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asal, "CODER_ITERATIONS", 2)
    data = make_data(3)
    net, sampler = net_for(data), sampler_for("asal", data, asal_space="autoencoder")
    pieces: list[Preparation] = []
    while not pieces or pieces[-1].ready is None:
        before = pieces[-1].training if pieces else {}
        pieces.append(sampler.prepare(before, data.pixels, ALL, Runtime(CPU, 0), lambda: True))
    assert [(piece.done, piece.total, piece.enough_for) for piece in pieces] == [(1, 2, 0), (1, 2, 0), (2, 2, 48)]
    gan_alone = {key: value for key, value in (pieces[-1].ready or {}).items() if key != "autoencoder"}
    assert sampler.fit(net, data, with_prepared(gan_alone)) == {MISSING: 1.0}
    assert sampler.fit(net, data, with_prepared(pieces[-1].ready))["matches"] == 5
    assert sampler.preparation_key != sampler_for("asal", data).preparation_key


def test_an_autoencoder_learns_to_draw_the_images_again() -> None:
    data = make_data(3)
    training = sampler_for("asal", data, asal_space="autoencoder")._coder_training(None, Runtime(CPU, 0))
    training.run(data.pixels, ALL, 1, Runtime(CPU, 0))
    first = float(training.losses)
    training.run(data.pixels, ALL, 25, Runtime(CPU, 0))
    assert float(training.losses) < 0.7 * first
