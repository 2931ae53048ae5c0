"""The speed table: its arithmetic by hand, and every row's code once on a tiny input. No time is judged here."""

from __future__ import annotations

import io
import math
import socket
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.speed import command as bench
from benchmarks.speed import decoding
from benchmarks.speed.measuring import Bound, Measured, in_turns, machine, percentile
from benchmarks.speed.memory import PeakAnonymous
from benchmarks.speed.pool import SIZE, fill_cache
from benchmarks.speed.scoring import LIMITS
from samplers import SAMPLER_NAMES, SAMPLERS
from tests.rig.servers import LabelStudioServer


def row(**changes: object) -> Measured:
    values: dict[str, object] = {
        "key": "row",
        "title": "this ÷ that",
        "over": [2.0, 9.0, 4.0],
        "under": [1.0, 3.0, 4.0],
        "unit": "s",
        "limit": 2.0,
    }
    return Measured(**(values | changes))  # type: ignore[arg-type]


def test_the_ratio_is_the_median_of_the_pairs() -> None:
    """Pairs 2, 3 and 1; the ratio of the medians would be 4 ÷ 3."""
    assert row().ratio == 2.0 and row().spread == (1.0, 3.0) and row().met
    assert not row(limit=1.99).met


def test_a_row_is_short_when_a_further_limit_is() -> None:
    assert row(bounds=(Bound("p99", 200.0, 200.0, "ms"),)).met
    assert not row(bounds=(Bound("p99", 200.1, 200.0, "ms"),)).met


def test_a_row_without_a_limit_is_reported_and_not_judged() -> None:
    free = row(limit=None)
    assert free.met and not free.judged and row().judged
    assert bench.cells(bench.Outcome("row", free))[3:5] == ["", ""]
    late = row(limit=None, bounds=(Bound("p99", 200.1, 200.0, "ms"),))
    assert bench.cells(bench.Outcome("row", late))[3:5] == ["≤ 200 ms", "short"]
    shown = io.StringIO()
    Console(file=shown, width=160).print(bench.as_table([bench.Outcome("row", free), bench.Outcome("row", row())]))
    assert "this ÷ that" in shown.getvalue() and shown.getvalue().count("met") == 1


def test_what_several_rows_say_alike_stands_once() -> None:
    says = {"a": ("same", "own"), "b": ("same",), "c": ()}
    outcomes = [bench.Outcome(key, row(notes=notes)) for key, notes in says.items()]
    assert bench.notes_of([*outcomes, bench.Outcome("d", None, "broken")]) == [("a, b", "same"), ("a", "own")]
    many = [bench.Outcome(key, row(notes=("same",))) for key in "wxyz"]
    assert bench.notes_of(many) == [("w … z", "same")]


def test_every_sampler_has_a_row() -> None:
    assert {f"score-{name}" for name in SAMPLERS} <= set(bench.ROWS)
    assert set(LIMITS) <= set(SAMPLERS)


def test_in_turns_alternates_and_does_not_count_the_first() -> None:
    calls: list[str] = []
    over, under = in_turns(lambda: calls.append("o"), lambda: calls.append("u"), 3)
    assert "".join(calls) == "ou" + "ou" + "uo" + "ou"
    assert len(over) == len(under) == 3 and all(seconds >= 0 for seconds in over + under)


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(1, 0.99, 1), (99, 0.99, 99), (100, 0.99, 99), (200, 0.99, 198), (4, 0.5, 2)]
)
def test_percentile_is_the_nearest_rank(count: int, share: float, expected: int) -> None:
    assert percentile([float(value) for value in range(count, 0, -1)], share) == expected


def test_the_peak_of_memory_is_seen() -> None:
    """64 MiB that are allocated, touched and given back between two looks at the end."""
    sampler = PeakAnonymous()
    sampler.start()
    block = bytearray(64 << 20)
    for at in range(0, len(block), 4096):
        block[at] = 1
    while sampler.peak < 64 << 20:  # the test's own time limit ends a sampler that sees nothing
        pass
    del block
    assert sampler.stop() >= 64 << 20


def test_the_synthetic_cache_reads_like_a_real_one(tmp_path: Path) -> None:
    cache = fill_cache(tmp_path / "cache", 50)
    assert cache.pixels.shape == (50, SIZE, SIZE, 3) and cache.task_ids() == list(range(1, 51))
    assert cache.rows([1, 50, 51]).tolist() == [0, 49, -1]
    assert 100 < cache.pixels[7].mean() < 155  # noise, not zeros


def test_the_page_names_the_machine_but_not_its_host() -> None:
    facts = machine()
    assert {"date", "processor", "memory", "torch"} <= set(facts)
    outcomes = [bench.Outcome("row", row(notes=("so",))), bench.Outcome("gone", None, "OSError: no | disk")]
    text = bench.as_markdown(outcomes, facts, "make bench")
    assert socket.gethostname() not in text.split() and str(Path.home()) not in text
    assert "| this ÷ that | 2.000 | 1.000 … 3.000 | ≤ 2 | met | 4 ÷ 3 s, 3 pairs |" in text
    assert "| gone |  |  |  | failed | OSError: no \\| disk |" in text and "- **row**: so." in text


def test_a_failing_row_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(session: bench.Session) -> Measured:
        raise OSError("no disk")

    monkeypatch.setattr(bench, "ROWS", {"broken": broken, "fine": lambda session: row()})
    shown = io.StringIO()
    assert bench.main([], console=Console(file=shown, width=160)) == 1
    assert "OSError: no disk" in shown.getvalue() and "this ÷ that" in shown.getvalue()
    assert "Traceback" in capsys.readouterr().err, "the traceback goes to the person who runs it"
    assert bench.main(["--only", "fine"], console=Console(file=shown, width=160)) == 0


def test_the_table_is_stored_whole_or_some_rows_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "ROWS", {"fine": lambda session: row()})
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results" / "bench.md")
    assert bench.main(["--write"], console=Console(file=io.StringIO())) == 0
    assert "this ÷ that" in bench.RESULTS.read_text() and "`make bench`" in bench.RESULTS.read_text()
    for partly in (["--small"], ["--only", "fine"]):
        with pytest.raises(SystemExit):
            bench.parse([*partly, "--write"])
    some = tmp_path / "some.md"
    assert bench.main(["--only", "fine", "--write", str(some)], console=Console(file=io.StringIO())) == 0
    assert "`python -m benchmarks bench --only fine`" in some.read_text()


@pytest.mark.parametrize("shape", [(480, 640), (1536, 1100)])
def test_both_decoders_show_the_same_image(shape: tuple[int, int]) -> None:
    """They shrink by different filters, so not to the bit; a shift by one of 224 px would be seen."""
    file = decoding.photograph(0, shape)
    ours, theirs = (one(file, decoding.SIDE).astype(np.float64) for one in (decoding.decode, decoding.decode_reduced))
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() < 4.0 < np.abs(ours[:, 1:] - theirs[:, :-1]).mean()


WITH_SERVERS = ("page", "publish", "labeling", "served", "webhook")
OF_MEMORY = ("memory", "memory-masks")
ON_RAY = ("ray-bald", "ray-vaal", "ray-margin")


def check_rows(keys: Sequence[str], session: bench.Session) -> None:
    told: list[str] = []
    outcomes = bench.run_rows(keys, session, told.append)
    assert [outcome.failure for outcome in outcomes] == [""] * len(keys), "\n".join(told)
    for outcome in outcomes:
        measured = outcome.measured
        assert measured is not None and measured.key == outcome.key and measured.notes
        assert all(math.isfinite(value) and value > 0 for value in (*measured.over, *measured.under, measured.ratio))


@pytest.mark.long
@pytest.mark.slow
def test_every_row_measures_something(tmp_path: Path) -> None:
    """The rows on tiny inputs, through the real cache. Of the samplers' rows, which are one function, a few: with a
    limit, with networks beside the task network's, and with none."""
    few = {f"score-{name}" for name in ("random", "margin", "ensemble", "vaal")}
    left_out = {f"score-{name}" for name in SAMPLER_NAMES} - few | set(ON_RAY)
    keys = [key for key in bench.ROWS if key not in left_out and key not in (*WITH_SERVERS, *OF_MEMORY)]
    with bench.Session(tmp_path, small=True) as session:
        check_rows(keys, session)
    assert set(keys) == few | {
        "epmcm",
        "epmcm-fused",
        "epmcm-pixels",
        "vaal",
        "vaal-fused",
        "bfloat16",
        "decode",
        "embedding",
        "head",
        "score-features",
        "photographs",
        "k-center",
        "matching",
    }


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.machines
@pytest.mark.filterwarnings("default")  # Ray's own
@pytest.mark.skipif(find_spec("ray") is None, reason="requirements-ray.txt is not installed")
def test_the_rows_on_ray_measure_something(tmp_path: Path) -> None:
    """Apart from the others: see tests/backend/engine/test_ray_alone.py."""
    with bench.Session(tmp_path, small=True) as session:
        check_rows(ON_RAY, session)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("key", OF_MEMORY)
def test_the_rows_of_memory_measure_something(key: str, tmp_path: Path) -> None:
    """In two processes each, which import torch."""
    with bench.Session(tmp_path, small=True) as session:
        check_rows([key], session)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_every_row_with_servers_measures_something(label_studio: LabelStudioServer, tmp_path: Path) -> None:
    """On tiny inputs, through a real Label Studio, web process and worker."""
    with bench.Session(tmp_path, small=True, label_studio=label_studio) as session:
        check_rows(WITH_SERVERS, session)
    assert label_studio.running, "a server that was lent is not ended"
