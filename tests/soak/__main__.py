"""``python -m tests.soak --minutes 10``: labels at speed while everything fails, then counts what was lost or doubled.

A real Label Studio, a web process and two workers over one PostgreSQL, annotators with accounts of their own; with
`--database sqlite` a web process and its worker over one file. Meanwhile each part is killed at random instants, also
PostgreSQL and Label Studio, Label Studio is slow, or answers 401, 429, 500 or garbage, and the disk is full. Every few
seconds everybody stops, and the task that Label Studio serves has to be the first of the published order. In the end
all is made well, and has to come out even:

    annotations given / seen = 1
    predictions of the current version for each readable unlabeled task of the published head = 1
    predictions of one version for one task, and tabs of the queue: none twice
    served order = published order, at every sample

The exit code is 0 if all of them hold. Nothing leaves this machine, and all that is started ends with the soak.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from backend.settings.core import Settings
from tests.integration.helpers import FAST, LabelProject, Seen, Studio, drawings
from tests.rig.proxy import Proxy
from tests.rig.servers import BackendServer, LabelStudioServer, PostgresServer, WorkerProcess
from tests.rig.waiting import wait_for
from tests.soak import books
from tests.soak.annotators import Annotator, Floor, Pace, accounts
from tests.soak.faults import Faults, Parts, small_disk

CLASSES = ("apple", "pear", "plum")
SETTINGS = FAST | {
    "BUDGET": "50",
    "SAMPLER": "margin",
    "SHORTLIST": "10",
    "LEASE_SECONDS": "10",
    "RECONCILE_SECONDS": "10",  # webhooks are lost with the process that they were sent to
    "CLEANUP_SECONDS": "20",
    "WORKER_NICENESS": "10",  # as for an owner
}
UPLOAD = 500


def main() -> int:
    args = _arguments()
    with ExitStack() as ends:
        directory = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        server = LabelStudioServer(directory / "label-studio")
        server.start()
        ends.callback(server.stop)
        studio = Studio(server)
        project = studio.make_project("Soak", CLASSES)
        files = drawings(args.tasks, CLASSES)
        for start in range(0, args.tasks, UPLOAD):
            project.upload(dict(list(files.items())[start : start + UPLOAD]))
        tokens = accounts(studio, args.annotators)
        proxy = Proxy(server.url)
        ends.callback(proxy.close)
        parts, url = _started(ends, args, directory, server, proxy)
        project.connected(parts.backend.url)
        seen = Seen(url)
        project.seen = seen
        wait_for("the first order", lambda: _is_published(project, seen), timeout=600)
        running = "serve --no-worker and two workers over PostgreSQL" if parts.database else "serve over SQLite"
        _say(f"{running}: {args.tasks} tasks, connected. {args.minutes:g} minutes begin.")
        return _soak(args, project, seen, Faults(parts, args.every, args.seed), tokens, directory)


def _started(
    ends: ExitStack, args: argparse.Namespace, directory: Path, studio: LabelStudioServer, proxy: Proxy
) -> tuple[Parts, str]:
    """The backend, on whatever database was asked for, until ``ends`` are closed; the database's address."""
    disk = directory / "backend"
    full = ends.enter_context(small_disk(disk))
    if not full:
        _say("A small disk cannot be made here: a full one is not tried.")
    database, url = None, f"sqlite:///{disk / 'state.sqlite3'}"
    if args.database == "postgresql":
        database = PostgresServer(durable=True)
        database.start()
        ends.callback(database.stop)
        url = database.create_database()
    alone, env, key = database is None, SETTINGS | {"DATABASE_URL": url}, studio.personal_access_token()
    backend = BackendServer(disk, proxy.url, key, env=env, worker=alone)
    workers = [] if alone else [WorkerProcess(disk, proxy.url, key, env=env) for _ in range(2)]
    for name, process in zip(("backend", "worker-1", "worker-2"), (backend, *workers), strict=False):
        process.log_path = directory / f"{name}.log"
        process.start()
        ends.callback(process.stop)
    return Parts(studio, proxy, backend, workers, database, disk if full else None), url


def _is_published(project: LabelProject, seen: Seen) -> bool:
    """Whether the head of an order is written and in force; of a large pool no more is."""
    current = seen.state.versions.current(project.id)
    return current is not None and current.status == "current" and project.version() == current.name


def _soak(
    args: argparse.Namespace, project: LabelProject, seen: Seen, faults: Faults, tokens: list[str], directory: Path
) -> int:
    floor = Floor(Pace(args.rate))
    people = [Annotator(project, token, floor, seed) for seed, token in enumerate(tokens)]
    samples = books.Samples()
    began = time.monotonic()
    floor.open.set()
    for thread in (*people, faults):
        thread.start()
    while time.monotonic() - began < 60 * args.minutes and any(person.is_alive() for person in people):
        time.sleep(args.sample)
        books.sample(project, floor, people[0], samples)
    labeled_for = time.monotonic() - began
    faults.over.set()
    faults.join()
    floor.over.set()
    for person in people:
        person.join()
    books.sample(project, floor, people[0], samples)
    _say("Everything is made well; waiting for the books to come out even.")
    settings = Settings.from_env({**SETTINGS, "LABEL_STUDIO_URL": project.studio.url, "LABEL_STUDIO_API_KEY": "unused"})
    missing = books.wait_until_settled(seen, project, settings, args.settle)
    books.sample(project, floor, people[0], samples)
    return _report(args, project, seen, settings, faults, floor, samples, missing, labeled_for, directory)


def _report(
    args: argparse.Namespace,
    project: LabelProject,
    seen: Seen,
    settings: Settings,
    faults: Faults,
    floor: Floor,
    samples: books.Samples,
    missing: list[str],
    labeled_for: float,
    directory: Path,
) -> int:
    held = books.given(project)
    books.wait_until_settled(seen, project, settings, 1.0)
    read = books.seen_by(seen, project)
    times, _ = books.published(seen, project, settings)
    spread = Counter(times.values())
    lost = floor.confirmed - held
    double = books.twice(project)
    cycles = Counter(cycle.status for cycle in seen.state.cycles.recent(project.id, limit=1000))
    logs = "".join(path.read_text(errors="replace") for path in directory.glob("*.log"))
    seconds = max(1.0, labeled_for)
    _say(f"annotators: {args.annotators}; annotations: {len(held)} in {seconds:.0f} s, {len(held) / seconds:.1f}/s")
    labeled = sum(task["is_labeled"] for task in project.tasks().values())
    _say(
        f"tasks labeled: {labeled}; the others are second annotations of a task that Label Studio served to two at once"
    )
    _say("faults: " + ", ".join(f"{kind}: {count}" for kind, count in sorted(faults.counts.items())))
    _say("cycles: " + ", ".join(f"{status}: {count}" for status, count in sorted(cycles.items())))
    _say(f"tracebacks in the backend's log: {logs.count('Traceback')}")
    ratio = len(held & read) / len(held) if held else 1.0
    _say(f"annotations given / seen = {len(held)} / {len(read)}; of those given, seen: {ratio:.4f}")
    _say(f"predictions of the current version per unlabeled task of the published head: {dict(spread)} (times: tasks)")
    compared = samples.equal + len(samples.different)
    _say(
        f"served order = published order: {samples.equal} of {compared} samples ({samples.skipped} could not be taken)"
    )
    unseen, unknown = len(held - read), len(read - held)
    _say(f"lost: {len(lost)} annotations by Label Studio, {unseen} by the backend; twice: {len(double)}")
    problems = [*missing, *samples.different, *faults.failed, *double]
    problems += [f"Label Studio lost annotations it had confirmed: {sorted(lost)[:10]}"] if lost else []
    problems += ["nothing could be compared"] if not compared else []
    problems += [] if held == read else [f"given, not seen: {unseen}; seen, not there: {unknown}"]
    problems += [] if set(spread) <= {1} else ["some task has no prediction or several"]
    for problem in problems:
        _say(f"PROBLEM: {problem}")
    if args.keep:
        kept = Path(args.keep)
        kept.mkdir(parents=True, exist_ok=True)
        for path in directory.glob("*.log"):
            (kept / path.name).write_bytes(path.read_bytes())
    _say("Nothing was lost." if not problems else "Not all came out even.")
    return 1 if problems else 0


def _say(words: str) -> None:
    print(words, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="how long people label and things fail; at most 30")
    parser.add_argument(
        "--database",
        choices=("postgresql", "sqlite"),
        default="postgresql",
        help="two workers over PostgreSQL, or one worker over SQLite",
    )
    parser.add_argument("--tasks", type=int, default=3_000, help="people go home earlier if all are labeled")
    parser.add_argument("--annotators", type=int, default=4)
    parser.add_argument("--rate", type=float, default=20, help="annotations a second at most, all annotators together")
    parser.add_argument("--every", type=float, default=6, help="seconds between faults, on average")
    parser.add_argument("--sample", type=float, default=15, help="seconds between samples of the order")
    parser.add_argument("--settle", type=float, default=10, help="minutes that the books may take to come out even")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--keep", help="folder for the backend's logs")
    args = parser.parse_args()
    args.minutes = min(args.minutes, 30.0)
    return args


if __name__ == "__main__":
    sys.exit(main())
