"""Which labels count as drawn by chance, and which of them nothing learns from, whatever people do."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from backend import cycle
from backend.control import Arm
from backend.errors import NoLabels
from backend.learning.checkpoints import last_learner
from backend.reporting.snapshot import snapshot
from backend.web.app import create_app
from backend.worker.images import open_images
from backend.worker.job import Job
from backend.worker.sync import read_truth
from backend.worker.truth import Truth
from models.training.comparison import FEWEST
from tests.backend.workbench import Workbench, workbench
from tests.backend.worker.model_studio import CLASSES, ModelStudio
from tests.backend.worker.test_sync import OWNER, job_on
from tests.rig.servers import LabelStudioServer


def publish(job: Job, fraction: float) -> None:
    """An order with such an arm is in use from now on."""
    state = job.state
    number = state.cycles.next_number(1)
    state.cycles.start(1, OWNER, number, "margin", 0)
    version = state.versions.add(
        1,
        OWNER,
        cycle=number,
        name=f"margin-c{number}",
        sampler="margin",
        checkpoint=None,
        classes=CLASSES,
        metrics={"control_fraction": fraction},
        task_ids=np.arange(0),
        priority_score=np.empty(0),
        class_index=None,
        confidence=None,
    )
    state.versions.switch_to(version, OWNER)


def with_fraction(job: Job, fraction: float) -> Job:
    return replace(job.reread(), settings=replace(job.settings, control_fraction=fraction))


def assert_kept_apart(truth: Truth) -> None:
    held_out, drawn, chosen = truth.control.held_out, truth.control.drawn, truth.control.chosen
    parts = [*held_out.tolist(), *drawn.tolist(), *chosen.tolist()]
    assert sorted(parts) == sorted(truth.labels)
    assert truth.held_out.keys() == set(held_out.tolist())
    assert not truth.held_out.keys() & truth.to_learn.keys()
    assert truth.held_out.keys() | truth.real_to_learn.keys() == truth.labels.keys()


@pytest.mark.parametrize("seed", range(2))
def test_whatever_people_do_a_held_out_label_is_never_learned_from(tmp_path: Path, seed: int) -> None:
    """Skips, deletions, corrections, second annotators, late tasks, and a fraction that is changed, in any order."""
    rng, studio = np.random.default_rng(seed), ModelStudio()
    studio.import_tasks(60)
    job = job_on(studio, tmp_path, control_fraction=0.5)
    for task in list(studio.contents)[:15]:  # an installation of before: the sampler chose these
        studio.annotate(task, "cat")
    before = set(studio.contents) & {task for task, one in studio.contents.items() if one.annotations}
    assert not read_truth(job).held_out
    publish(job, 0.5)
    read_truth(job)
    learned: set[int] = set()
    """Labels of the arm that a cycle has learned from: by the annotation that was given first."""
    for _ in range(40):
        studio.now += 100
        task = int(rng.choice(sorted(studio.contents)))
        numbers = sorted(studio.contents[task].annotations)
        match int(rng.integers(7)):
            case 0:
                studio.import_tasks(3)
            case 1 if numbers:
                studio.delete_annotation(task, numbers[-1])
            case 2:
                studio.annotate(task, "dog", skipped=True)
            case 3 if numbers:
                studio.update(task, numbers[0], str(rng.choice(CLASSES)), skipped=False)
            case 4 if task not in before:
                studio.delete_task(task)
            case 5:
                fraction = float(rng.choice([0.2, 0.4, 0.5]))
                job = with_fraction(job, fraction)
                publish(job, fraction)
                read_truth(job)
            case _ if not numbers:
                studio.annotate(task, str(rng.choice(CLASSES)))
        truth = read_truth(job)
        assert_kept_apart(truth)
        first = {one: min(studio.contents[one].annotations) for one in truth.labels}
        held_out = {first[one] for one in truth.held_out}
        assert not held_out & learned, "it measures what has learned from it"
        learned |= {first[one] for one in truth.real_to_learn}
        untouched = {task for task in before if task in first and first[task] <= 75}
        assert not untouched & truth.held_out.keys(), "the sampler chose these"


def test_the_arm_of_a_new_project_begins_with_its_first_order(tmp_path: Path) -> None:
    """Nobody has labeled anything: the whole of the arm counts, as soon as a comparison sees the order in use."""
    studio = ModelStudio()
    tasks = studio.import_tasks(200)
    job = job_on(studio, tmp_path, control_fraction=0.5)
    read_truth(job)
    publish(job, 0.5)
    assert read_truth(job).control.arm.history == [[0.0, 0.5]]
    for task in tasks:
        studio.annotate(task, "cat")
    truth = read_truth(job.reread())
    arm = Arm(job.project.folder_key, 0.5, [[0.0, 0.5]])
    assert sorted([*truth.control.held_out, *truth.control.drawn]) == sorted(arm.of(np.array(tasks)).tolist())
    assert len(truth.held_out) == int(arm.measures(truth.control.held_out).sum()) > 20


def test_without_an_arm_all_labels_are_learned_from_at_once(tmp_path: Path) -> None:
    studio = ModelStudio()
    tasks = studio.import_tasks(100)
    job = job_on(studio, tmp_path, control_fraction=0.5)
    publish(job, 0.5)
    read_truth(job)
    for task in tasks:
        studio.annotate(task, "cat")
    assert read_truth(job.reread()).held_out
    assert len(read_truth(with_fraction(job, 0.0)).to_learn) == 100


def test_labels_that_only_measure_make_no_cycle_due(tmp_path: Path) -> None:
    """With a budget of 1 a worker would begin it again and again."""
    studio = ModelStudio()
    tasks = np.array(studio.import_tasks(50))
    job = job_on(studio, tmp_path, control_fraction=0.5, budget=1)
    publish(job, 0.5)
    read_truth(job)
    arm = Arm(job.project.folder_key, 0.5)
    drawn = arm.of(tasks)
    studio.annotate(int(drawn[arm.measures(drawn)][0]), "cat")
    truth = read_truth(job.reread())
    assert (len(truth.labels), len(truth.to_learn), truth.new_annotations) == (1, 0, 0)
    studio.annotate(int(np.setdiff1d(tasks, drawn)[0]), "dog")
    assert read_truth(job.reread()).new_annotations == 2


# -- in a cycle, with a real Label Studio ------------------------------------------------------------------------------


def in_order(bench: Workbench) -> list[int]:
    version = bench.state.versions.current(bench.project.id)
    assert version is not None
    waiting = bench.project.unlabelled()
    return [task for task in bench.order(version) if task in waiting]


@pytest.mark.slow
def test_a_cycle_serves_the_arm_in_between_and_learns_from_half_of_it(
    label_studio: LabelStudioServer, tmp_path: Path
) -> None:
    """Of the first 12 tasks of the first order, every third is the arm's next one; what is held out is in no training,
    and all the others are; the tasks of the arm are published like any other, with a prediction."""
    with workbench(label_studio, tmp_path, tasks=60, pictures=True, sampler="entropy", control_fraction=1 / 3) as bench:
        cycle.cold_start(bench.job, read_truth(bench.job))
        arm = read_truth(bench.job.reread()).control.arm
        assert arm.history == [[0.0, 1 / 3]]
        drawn = arm.of(np.array(bench.tasks)).tolist()
        first = in_order(bench)
        assert [task for task in first[:12] if task in drawn] == first[2:12:3] == drawn[:4]
        kinds = {task: one["data"]["kind"] for task, one in bench.project.tasks().items()}
        for task in first[:24]:
            bench.project.annotate(task, kinds[task])
        version = cycle.run_cycle(bench.job.reread())
        held_out = arm.measures(np.array(drawn[:8]))
        assert version.labels == 24 - held_out.sum()
        assert version.metrics["control_fraction"] == pytest.approx(1 / 3)
        order = bench.order(version)
        assert sorted(order) == sorted(set(bench.tasks) - set(first[:24]))
        left = drawn[8:][:4]  # how many of 60 tasks are drawn is chance: about 20, and sometimes fewer than 12
        assert order[2::3][: len(left)] == left
        assert all(row.label is not None for row in bench.state.scores.all(version))
        assert last_learner(bench.job.folder, [version], bench.job.device) is not None


@pytest.mark.slow
def test_a_cycle_over_labels_that_only_measure_says_what_to_do(label_studio: LabelStudioServer, tmp_path: Path) -> None:
    with workbench(label_studio, tmp_path, tasks=30, pictures=True, sampler="entropy", control_fraction=0.5) as bench:
        cycle.cold_start(bench.job, read_truth(bench.job))
        arm = read_truth(bench.job.reread()).control.arm
        drawn = arm.of(np.array(bench.tasks))
        task = int(drawn[arm.measures(drawn)][0])
        bench.project.annotate(task, bench.project.tasks()[task]["data"]["kind"])
        with pytest.raises(NoLabels, match="kept out of training"):
            cycle.run_cycle(bench.job.reread())


@pytest.mark.long
@pytest.mark.slow
def test_what_the_page_says_is_what_the_oracle_knows(label_studio: LabelStudioServer, tmp_path: Path) -> None:
    """120 drawings, of which an oracle labels 100 in the published order, half of them drawn by chance. The share of
    right answers on the page is that of the labels that were kept out, by the version's own predictions; its interval
    has that of all images that nothing learned from; and the page, ``status`` and ``/metrics`` say the same."""
    settings = {"task_width": 0, "sampler": "margin", "control_fraction": 0.5, "budget": 100}
    with workbench(label_studio, tmp_path, tasks=120, pictures=True, **settings) as bench:
        kinds = {task: one["data"]["kind"] for task, one in bench.project.tasks().items()}
        cycle.cold_start(bench.job, read_truth(bench.job))
        for task in in_order(bench)[:100]:
            bench.project.annotate(task, kinds[task])
        version = cycle.run_cycle(bench.job.reread())
        control = read_truth(bench.job.reread()).control
        learner = last_learner(bench.job.folder, [version], bench.job.device)
        assert learner is not None
        truth = read_truth(bench.job.reread())
        cache = open_images(bench.job, truth, lambda *_: None)
        unlearned = np.setdiff1d(bench.tasks, sorted(truth.to_learn))
        predicted, _ = learner.predict(cache.pixels[cache.rows(unlearned)])
        names = [learner.classes[index] for index in predicted.predicted]
        right = {task: name == kinds[task] for task, name in zip(unlearned.tolist(), names, strict=True)}
        (project,) = snapshot(bench.state, bench.job.settings)["projects"]
        found, saved = project["control"], project["labels_saved"]
        assert found["n"] == len(control.held_out) > 5
        assert found["value"] == pytest.approx(np.mean([right[task] for task in control.held_out.tolist()]), abs=1e-4)
        # with room for chance: which tasks are drawn differs with their numbers
        assert found["low"] - 0.1 <= np.mean(list(right.values())) <= found["high"] + 0.1
        assert found["labels"] == len(control.held_out) + len(control.drawn) > 30
        smaller = min(len(control.held_out), len(control.drawn), len(control.chosen))
        assert found["difference"] is None if smaller < FEWEST else found["difference"]["labels"] == smaller
        html = page_of(bench)
        assert found["sentence"] in html
        assert f"<strong>{found['n']}</strong> random images" in html
        shown = f"Labels saved: <strong>{saved['value']}</strong>" if "value" in saved else saved["why"]
        assert shown in html


def page_of(bench: Workbench) -> str:
    app = create_app(bench.job.settings)
    try:
        answer = app.test_client().get(f"/projects/{bench.project.id}", headers={"Accept": "text/html"})
        return unescape(answer.get_data(as_text=True))
    finally:
        app.extensions["services"].close()
