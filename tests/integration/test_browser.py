"""What a person sees: the labeling stream opens the lowest score with our choice ticked, and goes on from there.

The picture of the ordered queue that stands in the README is taken by this file too, after more training:

    QUEUE_SCREENSHOT=benchmarks/results/queue.png .venv/bin/python -m pytest tests/integration/test_browser.py -k tab
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from benchmarks.data.datasets import fashion_mnist
from tests.integration.editor import PATIENCE_MS, expect_task
from tests.integration.helpers import PATIENCE, LabelProject, Seen, Studio, png, wait_for, wait_until_quiet
from tests.rig.servers import BackendServer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

SCREENSHOT = os.environ.get("QUEUE_SCREENSHOT", "")
TASKS, LABELS = (400, 200) if SCREENSHOT else (60, 20)
NETWORK = (
    {"epochs": 0, "task_width": 0, "batch_size": 128, "preannotate_above": 0}
    if SCREENSHOT
    else {"epochs": 20, "task_width": 8}
)


@pytest.fixture(scope="module")
def project(backend: BackendServer, studio: Studio) -> Iterator[LabelProject]:
    """Pieces of clothing, a third to a half of them labeled, ordered by what was learnt from those."""
    images, labels, *_, classes, _ = fashion_mnist()
    names = [classes[label] for label in labels[:TASKS]]
    files = {f"{place:04d}.png": png(images[place]) for place in range(TASKS)}
    project = studio.make_project("Clothes", classes, files)
    project.connected(backend.url, {"sampler": "dast-al", "budget": 1000} | NETWORK)
    project.wait_for_cycle(0)
    truths = dict(zip(sorted(project.tasks()), names, strict=True))  # the tasks are numbered in the files' order
    for task in project.published_order()[:LABELS]:
        project.annotate(task, truths[task])
    project.start_training()
    version = project.wait_for_cycle(1, timeout=550 if SCREENSHOT else PATIENCE)
    wait_for("the first order to be cleared away", lambda: project.predictions() == project.predictions(version))
    yield project
    project.delete()


def test_the_stream_serves_the_lowest_score_with_our_choice_ticked(
    page: Page, project: LabelProject, tmp_path: Path
) -> None:
    version = project.version()
    order = project.published_order(version)
    answers = {item["task"]: item["result"][0]["value"]["choices"][0] for item in project.predictions(version)}
    page.goto(f"{project.studio.url}/projects/{project.id}/data", wait_until="domcontentloaded")
    page.get_by_role("button", name="Label All Tasks").click()

    for task in order[:2]:
        expect_task(page, task)
        expect(page.locator(".lsf-choices input:checked")).to_have_attribute("name", answers[task])
        page.screenshot(path=tmp_path / f"task-{task}.png")
        with page.expect_response(
            lambda answer: answer.request.method == "POST" and "/annotations" in answer.url
        ) as sent:
            page.get_by_test_id("bottombar-submit-button").click()

        assert sent.value.ok, sent.value.text()
        assert f"/api/tasks/{task}/" in sent.value.url
        (annotation,) = project.studio.get(f"/api/tasks/{task}/annotations/")
        assert annotation["result"][0]["value"]["choices"] == [answers[task]]
    expect_task(page, order[2])


def submit(page: Page, project: LabelProject, task: int) -> Any:
    """Presses the button; the annotation as Label Studio then has it."""
    with page.expect_response(lambda answer: answer.request.method == "POST" and "/annotations" in answer.url) as sent:
        page.get_by_test_id("bottombar-submit-button").click()
    assert sent.value.ok and f"/api/tasks/{task}/" in sent.value.url, sent.value.text()
    (annotation,) = project.studio.get(f"/api/tasks/{task}/annotations/")
    return annotation


@pytest.mark.long
def test_what_an_annotator_leaves_was_accepted_and_what_she_changes_was_not(
    page: Page, project: LabelProject, seen: Seen
) -> None:
    """She submits the first task as it opens, says something else of the second, and opens the third from the list and
    begins anew, without what was filled in, of which Label Studio keeps no trace. A program labels a fourth. Then the
    predictions go."""
    version = project.version()
    open_tasks = project.unlabelled()
    order = [task for task in project.published_order(version) if task in open_tasks][:4]
    found = {item["task"]: item for item in project.predictions(version)}
    answers = {task: found[task]["result"][0]["value"]["choices"][0] for task in order}

    def counted() -> tuple[int, int]:
        seen.state.hints.add(project.id, tasks=True)
        figures = known(seen, project) or {"n": 0, "value": 0.0}
        return figures["n"], round(figures["value"] * figures["n"])

    seen.state.hints.add(project.id, tasks=True)
    wait_until_quiet(seen, project)
    begun, same = counted()  # by earlier tests
    page.goto(f"{project.studio.url}/projects/{project.id}/data", wait_until="domcontentloaded")
    page.get_by_role("button", name="Label All Tasks").click()

    expect_task(page, order[0])
    expect(page.locator(".lsf-choices input:checked")).to_have_attribute("name", answers[order[0]])
    left = submit(page, project, order[0])
    expect_task(page, order[1])
    other = next(name for name in project.classes if name != answers[order[1]])
    page.locator(f'.lsf-choices input[name="{other}"]').click(force=True)
    changed = submit(page, project, order[1])
    page.goto(f"{project.studio.url}/projects/{project.id}/data?task={order[2]}", wait_until="domcontentloaded")
    expect_task(page, order[2])
    page.get_by_label("Create an annotation").click()
    expect(page.locator(".lsf-choices input:checked")).to_have_count(0)
    page.locator(f'.lsf-choices input[name="{answers[order[2]]}"]').click(force=True)
    anew = submit(page, project, order[2])
    project.annotate(order[3], answers[order[3]])

    assert [one["parent_prediction"] for one in (left, changed)] == [found[task]["id"] for task in order[:2]]
    assert anew["parent_prediction"] is None
    wait_for("two that were begun from a prediction", lambda: counted() == (begun + 2, same + 1))
    for task in order[:2]:
        project.studio.delete(f"/api/predictions/{found[task]['id']}/")
    (gone,) = project.studio.get(f"/api/tasks/{order[0]}/annotations/")
    assert gone["parent_prediction"] is None, "Label Studio forgets it"
    project.annotate(sorted(project.unlabelled())[-1], project.classes[0])
    wait_for("that nothing is forgotten", lambda: seen.pending(project) >= 5 and counted() == (begun + 2, same + 1))


def known(seen: Seen, project: LabelProject) -> Any:
    found = seen.state.projects.get(project.id)
    assert found is not None
    return found.acceptance


def test_a_task_opens_ticked_where_the_head_is_sure_enough_and_else_unticked(
    page: Page, backend: BackendServer, studio: Studio
) -> None:
    """Trousers and bags are easily told, shirts and T-shirts are not. All tasks have their place in the order, and most
    of what is ticked is right."""
    images, labels, *_, classes, _ = fashion_mnist()
    asked = ("T-shirt/top", "Trouser", "Shirt", "Bag")
    chosen = [place for place in range(400) if classes[labels[place]] in asked][:80]
    project = studio.make_project("Ticked", asked, {f"{place:04d}.png": png(images[place]) for place in chosen})
    try:
        project.connected(backend.url, {"sampler": "margin", "budget": 1000, "task_width": 0})
        project.wait_for_cycle(0)
        truths = dict(zip(sorted(project.tasks()), [classes[labels[place]] for place in chosen], strict=True))
        for task in sorted(truths)[:45]:
            project.annotate(task, truths[task])
        project.start_training()
        version = project.wait_for_cycle(1, timeout=550)
        open_tasks = project.unlabelled()
        answers = {one["task"]: one["result"] for one in project.predictions(version) if one["task"] in open_tasks}
        ticked = {task: result[0]["value"]["choices"] for task, result in answers.items() if result}
        unticked = [task for task in answers if task not in ticked]
        assert len(ticked) + len(unticked) == 35 and len(ticked) >= 3 and len(unticked) >= 3
        assert sum(choices == [truths[task]] for task, choices in ticked.items()) >= 0.8 * len(ticked)

        def opened(task: int) -> Locator:
            page.goto(f"{studio.url}/projects/{project.id}/data?task={task}", wait_until="domcontentloaded")
            expect_task(page, task)
            expect(page.locator(".lsf-choices input")).to_have_count(len(asked))
            return page.locator(".lsf-choices input:checked")

        sure, (expected,) = next(iter(ticked.items()))
        expect(opened(sure)).to_have_attribute("name", expected)
        expect(opened(unticked[0])).to_have_count(0)
    finally:
        project.delete()


def test_the_queue_tab_shows_the_order(page: Page, project: LabelProject, tmp_path: Path) -> None:
    version = project.version()
    unlabeled = project.unlabelled()
    order = [task for task in project.published_order(version) if task in unlabeled]
    scores = {item["task"]: item["score"] for item in project.predictions(version)}
    answers = {item["task"]: item["result"][0]["value"]["choices"][0] for item in project.predictions(version)}
    page.goto(f"{project.studio.url}/projects/{project.id}/data", wait_until="domcontentloaded")
    page.get_by_text(re.compile(rf"^Acquisition queue · (\d+ % · )?{re.escape(version)}$")).click()

    rows = page.locator(".lsf-table-row")
    for place, task in enumerate(order[:5]):
        for words in (str(task), f"{scores[task]:.3f}", version, answers[task]):
            expect(rows.nth(place)).to_contain_text(words, timeout=PATIENCE_MS)
    page.wait_for_function("[...document.images].every(image => image.complete)")
    page.mouse.move(700, 890)  # off the tab, whose name would be half hidden,
    page.wait_for_timeout(500)  # and long enough for that to fade
    page.screenshot(path=tmp_path / "queue.png")
    if SCREENSHOT:
        shutil.copy(tmp_path / "queue.png", SCREENSHOT)
