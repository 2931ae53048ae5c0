"""The demo: a Label Studio, the backend and a project of images, ready to be labeled in a browser.

    python -m demo                       stays until Ctrl-C
    python -m demo --oracle --rounds 3   labels by itself, checks the queue, prints a table and ends
    python -m demo --task multilabel     images with several classes to tick
    python -m demo --task segmentation   images with masks to paint

Everything it starts listens on the loopback address, keeps its files in one temporary directory, and ends with it.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from backend.errors import BackendError
from backend.reporting.words import phase_in_words
from backend.settings.core import Settings
from backend.state import State
from demo.annotator import Annotator, LabelStudioError
from demo.judge import get_ready
from demo.narration import Narrator
from demo.oracle import BackendFailed, Oracle, QueueError, Round, wait_for_version
from demo.report import LearnedNothing, check_rise, say_round, table
from demo.subjects import DEMOS, Demo
from demo.subjects.base import Subject
from samplers import SAMPLERS
from tests.rig.servers import BackendServer, LabelStudioServer, ServerError

FAILURES = (ServerError, LabelStudioError, QueueError, BackendFailed, BackendError, LearnedNothing)


@dataclass(frozen=True)
class Site:
    """What is running: the two servers, the project in them, and how to look at it."""

    label_studio: LabelStudioServer
    backend: BackendServer
    annotator: Annotator
    state: State
    project: int
    subject: Subject
    budget: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo; returns the exit code. Ctrl-C ends it in order, with 0 when there was nothing left to prove."""
    options = parse(arguments)
    narrator = Narrator()
    _on_interrupt(_interrupt)
    directory = Path(tempfile.mkdtemp(prefix="active-learning-demo-"))
    stack = ExitStack()
    try:
        site = set_up(options, directory, narrator, stack)
        if options.oracle:
            play_oracle(options, site, narrator)
        else:
            stay(site, narrator)
    except KeyboardInterrupt:
        narrator.say("Stopped.")
        return 130 if options.oracle else 0
    except FAILURES as error:
        narrator.fail(str(error), _log_tails(directory))
        return 1
    finally:
        _on_interrupt(signal.SIG_IGN)  # a second Ctrl-C must not leave half of it running
        stack.close()
        if options.keep:
            narrator.say(f"Everything is kept in {directory}")
        else:
            _remove(directory)
    return 0


def _remove(directory: Path) -> None:
    """What was killed a moment ago may still be writing there."""
    for _ in range(50):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.1)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    def each(words: Callable[[Demo], object]) -> str:
        return "; ".join(f"{task}: {words(demo)}" for task, demo in DEMOS.items())

    parser = argparse.ArgumentParser(prog="python -m demo", description=str(__doc__).split("\n")[0])
    first = next(iter(DEMOS))
    parser.add_argument("--task", choices=DEMOS, default=first, help=f"what is asked of each image ({first})")
    parser.add_argument("--oracle", action="store_true", help="label with the data set's own labels, check, and end")
    parser.add_argument("--rounds", type=int, default=3, help="versions that the oracle waits for (3)")
    budgets = each(lambda demo: f"{demo.budget}, oracle {demo.oracle_budget}")
    parser.add_argument("--budget", type=int, help=f"annotations per cycle ({budgets})")
    samplers = each(lambda demo: demo.sampler)
    parser.add_argument("--sampler", choices=SAMPLERS, help=f"what orders the queue ({samplers})")
    parser.add_argument("--tasks", type=int, help=f"images in the project ({each(lambda demo: demo.images)})")
    parser.add_argument(
        "--held-out", type=int, help="images that the oracle judges versions by (some hundreds to 1000)"
    )
    parser.add_argument("--port", type=int, help="Label Studio's port (a free one)")
    parser.add_argument("--timeout", type=float, default=1_200, help="seconds to wait for one version (1200)")
    parser.add_argument("--keep", action="store_true", help="leave the files where they are at the end")
    options = parser.parse_args(arguments)
    demo = DEMOS[options.task]
    options.sampler = options.sampler or demo.sampler
    options.tasks = demo.images if options.tasks is None else options.tasks
    if options.budget is None:
        options.budget = demo.oracle_budget if options.oracle else demo.budget
    held_out = 1 if options.held_out is None else options.held_out
    if min(options.rounds, options.budget, options.tasks, held_out) < 1:
        parser.error("--rounds, --budget, --tasks and --held-out are at least 1")
    if reason := SAMPLERS[options.sampler].refusals.get(options.task):
        parser.error(f"--sampler {options.sampler} is not for {options.task}: {reason}")
    return options


def set_up(options: argparse.Namespace, directory: Path, narrator: Narrator, stack: ExitStack) -> Site:
    """Starts both servers, fills the project, connects it, and waits for its first order."""
    # what goes at the end need not wait for the disk, as every label would
    label_studio = LabelStudioServer(directory / "label-studio", options.port, durable=options.keep)
    stack.callback(label_studio.stop)
    label_studio.launch()
    with narrator.step("Reading the images, while Label Studio starts"):
        subject = DEMOS[options.task].subject.of_fashion(options.tasks, options.held_out)
        if options.oracle:
            get_ready()
    narrator.say(f"{subject.count} images of {len(subject.classes)} classes: {subject.source}")
    with narrator.step("Starting Label Studio"):
        label_studio.wait_healthy()
        token = label_studio.personal_access_token()

    backend = BackendServer(directory / "backend", label_studio.url, token)
    stack.callback(backend.stop)
    backend.launch()
    annotator = Annotator(label_studio.url, token)
    project = annotator.create_project(subject.title, subject.label_config)
    with narrator.bar("Importing the images, while the backend starts", subject.count) as advance:
        annotator.add(project, subject.images(), advance)
    with narrator.step("Starting the backend"):
        backend.wait_healthy()
    narrator.say(f"Watch it at {backend.url}: what the backend does, and whether it helps")
    with narrator.step("Connecting the backend"):
        settings = {**subject.settings, "sampler": options.sampler, "budget": options.budget}
        if SAMPLERS[options.sampler].generates:
            settings |= {"allow_synthetic_tasks": True}
        annotator.connect(project, backend.url, settings)

    state = State.for_settings(Settings.from_env({"MODEL_DIR": str(backend.directory)}))
    stack.callback(state.close)
    site = Site(label_studio, backend, annotator, state, project, subject, options.budget)
    with watching(site, narrator, "Waiting for the first order"):
        wait_for_version(state, project, None, timeout=options.timeout, look=lambda: look(site, narrator))
    return site


def stay(site: Site, narrator: Narrator) -> None:
    """Says where to go, then shows what the backend does until it is interrupted."""
    address = f"{site.label_studio.url}/projects/{site.project}/data"
    narrator.panel(
        "Label Studio is ready",
        [
            ("Open", address),
            ("Log in", f"{site.label_studio.email}   password: {site.label_studio.password}"),
            ("Then", "press “Label All Tasks”: the most valuable image comes first"),
            *site.subject.how_to,
            ("See it", f"{site.backend.url}   what the backend does, and whether it helps"),
            ("Log", str(site.backend.log_path)),
            ("End", "Ctrl-C ends everything and removes it"),
        ],
    )
    with watching(site, narrator, "Waiting for labels"):
        while True:
            look(site, narrator)
            time.sleep(0.5)


def play_oracle(options: argparse.Namespace, site: Site, narrator: Narrator) -> list[Round]:
    """Labels what is served, round after round; prints the table even when a check failed. Returns the rounds."""
    oracle = Oracle(site.annotator, site.state, site.project, site.subject)
    rounds: list[Round] = []
    if SAMPLERS[options.sampler].prepares:
        wait_for_preparation(site, narrator, options.timeout)
    try:
        version, cycle = wait_for_version(site.state, site.project, None, timeout=options.timeout)
        rounds.append(oracle.open_round(version, cycle, 0.0))
        for number in range(1, options.rounds + 1):
            with narrator.bar(f"Round {number} of {options.rounds}: labeling", options.budget) as advance:
                for done in range(options.budget):
                    if oracle.label(rounds[-1], 1) == 0:
                        raise QueueError(f"no task was left to label after {len(oracle.labeled)} labels")
                    advance(done + 1)
            began = time.monotonic()
            with watching(site, narrator, f"Round {number} of {options.rounds}: waiting for the new order"):
                version, cycle = wait_for_version(
                    site.state,
                    site.project,
                    rounds[-1].version,
                    timeout=options.timeout,
                    look=lambda: look(site, narrator),
                )
            rounds.append(oracle.open_round(version, cycle, time.monotonic() - began))
            say_round(rounds[-1], site.subject, narrator)
        oracle.check_next(rounds[-1])
    except BaseException:
        oracle.judge.stop()
        raise
    finally:
        if rounds:
            narrator.show(table(rounds, site.subject))
    served = sum(row.served for row in rounds)
    narrator.say(f"All {served} tasks were served in the published order, lowest score first.")
    if answered := oracle.recognized + oracle.skipped:
        narrator.say(
            f"{answered} of them were generated images: {oracle.recognized} were recognized, by a classifier of the "
            f"whole data set, and {oracle.skipped} skipped, because it was not sure."
        )
    if site.subject.must_rise:
        check_rise(rounds, site.subject, narrator)
    return rounds


def wait_for_preparation(site: Site, narrator: Narrator, timeout: float) -> None:
    """Until the sampler's networks have learned from the images. An annotator need not wait; the oracle's rounds would
    be over before.

    Raises:
        BackendFailed: they were not trained, or not in time.
    """
    until = time.monotonic() + timeout
    with watching(site, narrator, "Waiting for what the sampler learns from the images"):
        while True:
            look(site, narrator)
            project = site.state.projects.get(site.project)
            known = project.preparation if project else None
            if known and known.get("error"):
                raise BackendFailed(str(known["error"]))
            if known and known["over"]:
                return
            if time.monotonic() > until:
                raise BackendFailed(f"the sampler's networks were not trained within {timeout:.0f} seconds")
            time.sleep(0.5)


@contextmanager
def watching(site: Site, narrator: Narrator, title: str) -> Iterator[None]:
    with narrator.live(title):
        look(site, narrator)
        yield


def look(site: Site, narrator: Narrator) -> None:
    """Shows what the backend is doing now. Raises ServerError when a server has ended by itself."""
    for server in (site.label_studio, site.backend):
        if not server.running:
            raise ServerError(f"{server.name} ended by itself")
    version = site.state.versions.current(site.project)
    running = [cycle for cycle in site.state.cycles.running() if cycle.project_id == site.project]
    order = f"order: {version.name}" if version else "no order yet"
    if running:
        cycle = running[0]
        narrator.progress(f"cycle {cycle.number}, {cycle.phase} ({order})", cycle.done, cycle.total)
        return
    row = site.state.projects.get(site.project)
    if row and row.preparation and not row.preparation["over"]:
        known = row.preparation
        narrator.progress(f"{phase_in_words(known['phase'])} ({order})", known["done"], known["total"])
        return
    waiting = f"{row.pending_annotations} of {site.budget} new labels, {order}" if row else "not connected yet"
    narrator.progress(f"{waiting}{f', last error: {row.last_error}' if row and row.last_error else ''}", 0, 0)


def _log_tails(directory: Path) -> list[str]:
    logs = [*directory.glob("*/label-studio.log"), *directory.glob("*/backend.log")]
    return [f"--- {log} ---\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]) for log in logs]


def _on_interrupt(action: Any) -> None:
    """SIGTERM and a closed terminal end the demo as Ctrl-C does: in order, with nothing left running."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, action)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
