"""``python -m benchmarks neighbors``: what large pools cost the samplers that compare images with each other.

Rows of features are made up (:func:`make_features`), or taken from a file, and lie in a mapped file, as those of a
pool do. An index of neighbors, matching by it, greedy k-center and typical images over the whole pool, each beside
exact figures on some rows, and beside the random sample that was looked at before.

    python -m benchmarks neighbors --rows 10000 100000 1000000 --write
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.measuring import machine
from benchmarks.speed.memory import status_bytes
from models.data import Runtime
from models.geometry import herding, k_center, typical
from models.geometry.k_center_whole import greedy_of_all
from models.geometry.matching import NearestRows, matches_by_index
from models.geometry.neighbor_index import NeighborIndex
from models.geometry.space import Read, Space, in_parts
from models.inference.streaming import read_rows

RESULTS = Path(__file__).parent / "results" / "neighbors.md"
SIZES = (10_000, 100_000, 1_000_000)
FEATURES, CLUSTERS, LOCAL, PART = 1280, 1_000, 24, 8_192
QUESTIONS, NEIGHBORS, WANTED = 100, 20, 100
LABELED, PICKS, SEED = 500, 1_000, 0
FIRST, JUDGES = 100, 1_000
"""Typical images that are judged, and rows of the pool that they are judged by."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock and of a processor, and by how many bytes the process's own memory grew at most."""

    wall: float
    processor: float
    grown: float

    def __str__(self) -> str:
        return f"{self.wall:,.1f} s ({self.processor:,.1f} of a processor), {self.grown / 2**20:,.0f} MiB"


def cost_of(work: Callable[[], Any]) -> tuple[Any, Cost]:
    """What ``work`` returns, and what it took. Pages of mapped files are not counted: the system takes them back."""
    before, most, over = status_bytes("RssAnon"), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.02):
            most = max(most, status_bytes("RssAnon"))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    wall, processor = time.perf_counter(), time.process_time()
    found = work()
    spent = Cost(time.perf_counter() - wall, time.process_time() - processor, 0.0)
    over.set()
    watcher.join()
    return found, Cost(spent.wall, spent.processor, max(0, most - before))


def make_features(path: Path, count: int) -> np.ndarray:
    """(N, 1280) float16 in a file: `CLUSTERS` of uneven sizes, each with directions of its own in which it is spread,
    and a rest without structure. Together they vary as the features of a backbone do: 3/4 in 64 directions.
    """
    draw, rows = np.random.default_rng(SEED), np.memmap(path, np.float16, "w+", shape=(count, FEATURES))
    spread = (np.arange(1, FEATURES + 1) ** -0.6).astype(np.float32)
    centers = draw.standard_normal((CLUSTERS, FEATURES), dtype=np.float32) * spread
    turns = draw.standard_normal((CLUSTERS, LOCAL, FEATURES), dtype=np.float32) * spread / LOCAL**0.5
    sizes = np.arange(1, CLUSTERS + 1) ** -0.7
    for start in range(0, count, PART):
        many = min(PART, count - start)
        of_row = draw.choice(CLUSTERS, many, p=sizes / sizes.sum())
        values = centers[of_row] + 0.3 * spread * draw.standard_normal((many, FEATURES), dtype=np.float32)
        away = draw.standard_normal((many, LOCAL), dtype=np.float32)
        away *= draw.lognormal(0.0, 0.3, (many, 1)).astype(np.float32)
        for which in np.unique(of_row):
            inside = of_row == which
            values[inside] += away[inside] @ turns[which]
        rows[start : start + many] = values
    rows.flush()
    return np.memmap(path, np.float16, "r", shape=(count, FEATURES))


def rows_of(path: Path, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A file of kept features, and the rows that are there: all, but where a file ``….done`` has a byte for each."""
    rows = np.memmap(path, np.float16, "r").reshape(-1, width)[:, :FEATURES]
    done = path.with_suffix(".done")
    return rows, np.flatnonzero(np.fromfile(done, np.uint8)) if done.exists() else np.arange(len(rows))


def reader(features: np.ndarray) -> Read:
    return lambda rows: read_rows(features, rows, torch.device("cpu")).float()


class Exactly:
    """The rows nearest to questions (Q, F), by comparing with all: numbers (Q, `NEIGHBORS`) in `which`."""

    def __init__(self, asked: Tensor) -> None:
        self._asked, self._best = asked, torch.empty(len(asked), 0)
        self.which = torch.empty(len(asked), 0, dtype=torch.int64)

    def add(self, points: Tensor, rows: np.ndarray) -> None:
        best = torch.cat([self._best, torch.cdist(self._asked, points)], dim=1)
        which = torch.cat([self.which, torch.from_numpy(rows.astype(np.int64)).expand(len(best), -1)], dim=1)
        nearest = best.topk(min(NEIGHBORS, best.shape[1]), largest=False)
        self._best, self.which = nearest.values, which.gather(1, nearest.indices)


def shared(found: Tensor, exact: Tensor) -> float:
    """The share of the exact neighbors that were found."""
    pairs = zip(found.tolist(), exact.tolist(), strict=True)
    return float(np.mean([len(set(ours) & set(theirs)) / len(theirs) for ours, theirs in pairs]))


def of_index(rows: np.ndarray, read: Read, runtime: Runtime, folder: Path, say: Callable[[str], None]) -> None:
    """The index, and matching by it."""
    index, building = cost_of(lambda: NeighborIndex.build(rows, read, runtime))
    path = folder / "neighbors.npz"
    index.save(path)
    index, loading = cost_of(lambda: NeighborIndex.load(path))
    say(f"index, built | {building}; file {path.stat().st_size / 2**20:,.0f} MiB, loaded in {loading.wall:.1f} s")
    draw = np.random.default_rng(SEED + 1)
    questions = read(np.sort(draw.choice(rows, QUESTIONS, replace=False)))
    exact, short = Exactly(questions), Exactly(index.space.coordinates(questions))
    for start in range(0, len(rows), PART):
        part = rows[start : start + PART]
        points = read(part)
        exact.add(points, part)
        short.add(index.space.coordinates(points), part)
    near, asking = cost_of(lambda: index.roughly(index.space.coordinates(questions), NEIGHBORS)[1])
    close, comparing = cost_of(lambda: index.nearest(questions, NEIGHBORS, read)[1])
    say(
        f"{NEIGHBORS} neighbors, by coordinates | {asking.wall / QUESTIONS * 1e3:.1f} ms a question; recall "
        f"{shared(near, short.which):.3f} of the nearest by coordinates, "
        f"{shared(near, exact.which):.3f} by all features"
    )
    say(
        f"{NEIGHBORS} neighbors, compared by all features | {comparing.wall / QUESTIONS * 1e3:.1f} ms a question; "
        f"recall {shared(close, exact.which):.3f}"
    )
    some = torch.from_numpy(draw.choice(rows, 2 * WANTED, replace=False))
    first, second = read(some.numpy()).split(WANTED)
    wanted = 0.7 * first + 0.3 * second  # between two rows, as what is generated

    def everything() -> tuple[Tensor, Tensor]:
        nearest = NearestRows(wanted)
        for start in range(0, len(rows), PART):
            part = rows[start : start + PART]
            nearest.add(read(part), torch.from_numpy(part.astype(np.int64)))
        return nearest.unique()

    (best, away), matching = cost_of(everything)
    (found, distances), asking = cost_of(lambda: matches_by_index(index, wanted, rows, read))
    say(f"{WANTED} matches, exactly | {matching}")
    same = len(set(found.tolist()) & set(best.tolist())) / len(best)
    farther = float(distances.mean() / away.mean()) - 1
    say(
        f"{WANTED} matches, by the index | {asking}; the same row {100 * same:.0f} %, "
        f"farther away {100 * farther:.2f} %"
    )


def of_k_center(rows: np.ndarray, read: Read, runtime: Runtime, say: Callable[[str], None]) -> None:
    """All of the pool, and a random sample of it, by how far the farthest row of the pool is from what is picked."""
    labeled, pool = rows[:LABELED], rows[LABELED:]
    centers = read(labeled)
    whole, spent = cost_of(lambda: greedy_of_all(pool, read, PICKS, centers, runtime))
    farthest = float(whole.nearest.max()) ** 0.5
    say(f"k-center, {PICKS:,} picks of all rows | {spent}; radius {farthest:.3f}")
    some = np.sort(runtime.rng("k-center sample").permutation(pool)[: k_center.MOST_POINTS])

    def sampled() -> Tensor:
        points = read(some)
        middle = torch.cat([centers, points]).double().mean(0)
        return k_center.k_center_greedy(points - middle, PICKS, centers - middle).chosen

    chosen, spent = cost_of(sampled)
    if len(some) == len(pool):
        same = float((chosen == whole.chosen).double().mean())
        say(f"k-center, {PICKS:,} picks, exactly | {spent}; the same picks {100 * same:.1f} %")
        return
    both = torch.cat([centers, read(some[chosen.numpy()])])
    left = greedy_of_all(pool, read, 0, both, runtime).nearest
    beyond = int((left.sqrt() > farthest).sum())
    say(
        f"k-center, {PICKS:,} picks of a sample of {len(some):,} | {spent}; radius {float(left.max()) ** 0.5:.3f}, "
        f"and up to {beyond:,} rows are beyond that of all rows"
    )


def of_typical(rows: np.ndarray, read: Read, runtime: Runtime, say: Callable[[str], None]) -> None:
    """All of the pool, and a random sample of it, by exact figures of some rows in the same coordinates."""
    nobody = rows[:0]
    picked, spent = cost_of(lambda: typical.typical_of_all(rows, nobody, read, runtime, "typical"))
    some = np.sort(runtime.rng("typical sample").permutation(rows)[: typical.LARGEST_SAMPLE])
    sampled, sampling = cost_of(lambda: typical.typical_first(read(some).numpy(), 0, runtime, "typical"))
    space = Space.of(rows, read, runtime, standard=True)
    points = in_parts(rows, read, space.coordinates, runtime, "embed")
    others = space.coordinates(read(np.sort(np.random.default_rng(SEED + 2).permutation(rows)[:JUDGES])))
    known = _mean_distances(others, points)
    for name, first, took in (
        (f"typical, {FIRST} of all rows", rows[picked[:FIRST]], spent),
        (f"typical, {FIRST} of a sample of {len(some):,}", some[sampled[:FIRST]], sampling),
    ):
        chosen = space.coordinates(read(first))
        denser = (_mean_distances(chosen, points)[:, None] < known).double().mean()
        away = torch.cdist(others, chosen).min(1).values.mean()
        say(
            f"{name} | {took}; typical beyond {100 * float(denser):.1f} % of the pool, {float(away):.3f} from a row of "
            "the pool to the nearest"
        )


def _mean_distances(asked: Tensor, points: Tensor) -> Tensor:
    """Of each to its 20 nearest of the points, itself among these: (Q,)."""
    best = torch.empty(len(asked), 0)
    for part in points.split(1 << 15):
        best = torch.cat([best, torch.cdist(asked, part)], dim=1).topk(typical.NEIGHBORS + 1, largest=False).values
    return best.sum(1) / typical.NEIGHBORS


def of_herding(rows: np.ndarray, read: Read, runtime: Runtime, say: Callable[[str], None]) -> None:
    """The first order's picks, of samples of two sizes, by how much of other rows they cover."""
    shuffled = runtime.rng("herding sample").permutation(rows)
    judges, points = shuffled[:5_000], shuffled[5_000:]
    for many in (herding.LARGEST_SAMPLE, 4 * herding.LARGEST_SAMPLE):
        if many > len(points):
            return
        some = np.sort(points[:many])
        compared = herding.comparable(read(np.concatenate([some, judges])), runtime)

        def pick(compared: Tensor = compared, many: int = many) -> Tensor:
            return herding.herd(compared[:many], 0, herding.PICKS, lambda done, total: None)

        chosen, spent = cost_of(pick)
        covered = float(herding.kernel(compared[many:], compared[chosen]).amax(dim=1).mean())
        say(f"first order, {herding.PICKS} of a sample of {many:,} | {spent}; covers {covered:.4f} of other rows")


def measure(rows: np.ndarray, read: Read, folder: Path, only: Sequence[str], say: Callable[[str], None]) -> None:
    runtime = Runtime(CPU, SEED)
    if "index" in only:
        of_index(rows, read, runtime, folder, say)
    for part, work in (("k-center", of_k_center), ("typical", of_typical), ("herding", of_herding)):
        if part in only:
            work(rows, read, runtime, say)


PARTS = ("index", "k-center", "typical", "herding")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks neighbors", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, metavar="N", help="sizes (default: %(default)s)")
    parser.add_argument(
        "--features", type=Path, metavar="FILE", help="kept features, float16, in place of made up ones"
    )
    parser.add_argument("--width", type=int, default=1776, help="numbers of an image in it (default: %(default)s)")
    parser.add_argument("--only", choices=PARTS, action="append", help="default: all")
    parser.add_argument("--write", nargs="?", type=Path, const=RESULTS, metavar="FILE", help="store the page")
    given = parser.parse_args(arguments)
    if min(given.rows) < 2 * LABELED:
        parser.error(f"--rows are at least {2 * LABELED}")
    what = f" --rows {' '.join(map(str, given.rows))}" if given.features is None else " --features FILE"
    lines = ["# Large pools", "", f"`python -m benchmarks neighbors{what}`", ""]
    lines += [f"- {name}: {value}" for name, value in machine().items()]

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(f"| {line} |")
        if given.write:  # as far as it is: some lines take minutes
            given.write.write_text("\n".join(lines) + "\n")

    with tempfile.TemporaryDirectory(prefix="neighbors-") as scratch:
        folder = Path(scratch)
        for count in given.rows if given.features is None else [0]:
            if given.features is None:
                features, rows = make_features(folder / "features.f16", count), np.arange(count)
            else:
                features, rows = rows_of(given.features, given.width)
            lines += ["", f"## {len(rows):,} rows", "", "| what | figures |", "|---|---|"]
            measure(rows, reader(features), folder, given.only or PARTS, say)
    return 0
