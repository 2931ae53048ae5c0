"""The owner's page in a browser, of a project in a real Label Studio.

The picture of it that stands in the README's documentation is taken by this file too, after more cycles:

    PAGE_SCREENSHOT=benchmarks/results/owners-page.png \\
        .venv/bin/python -m pytest tests/integration/test_owners_page.py -k looks
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from benchmarks.data.datasets import fashion_mnist
from tests.integration.editor import PATIENCE_MS, expect_task
from tests.integration.helpers import PATIENCE, LabelProject, Seen, Studio, png
from tests.rig.servers import BackendServer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

SCREENSHOT = os.environ.get("PAGE_SCREENSHOT", "")
TASKS, ROUNDS, CONTROL = (900, (80, 80, 80, 80), 0.25) if SCREENSHOT else (40, (21,), 0.0)


@pytest.fixture(scope="module")
def project(backend: BackendServer, studio: Studio) -> Iterator[LabelProject]:
    """Pieces of clothing, labeled in the published order, each begun from what was filled in, as by the editor."""
    images, labels, *_, classes, _ = fashion_mnist()
    names = [classes[label] for label in labels[:TASKS]]
    files = {f"{place:04d}.png": png(images[place]) for place in range(TASKS)}
    project = studio.make_project("Clothes", classes, files)
    settings = {"sampler": "margin", "budget": 1000, "task_width": 0, "control_fraction": CONTROL}
    project.connected(backend.url, settings)
    project.wait_for_cycle(0)
    truths = dict(zip(sorted(project.tasks()), names, strict=True))  # the tasks are numbered in the files' order
    for number, count in enumerate(ROUNDS, 1):
        open_ones = project.unlabelled()
        order = [task for task in project.published_order() if task in open_ones]
        shown = {one["task"]: one["id"] for one in project.predictions(project.version()) if one["result"]}
        for task in order[:count]:
            project.annotate(task, truths[task], parent_prediction=shown.get(task))
        project.start_training()
        project.wait_for_cycle(number, timeout=PATIENCE)
    yield project
    project.delete()


def opened(browser: Browser, address: str, width: int = 1400, scheme: Any = "light") -> Page:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.goto(
        address, wait_until="load"
    )  # all images are there; to wait by a function, the page would have to allow eval
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert problems == [], "the page's own policy forbids something that it needs"
    return page


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1400, "light"),
        pytest.param(390, "dark", marks=pytest.mark.long),
        pytest.param(1400, "dark", marks=pytest.mark.long),
        pytest.param(390, "light", marks=pytest.mark.long),
    ],
)
def test_it_looks_as_it_should_on_any_screen(
    browser: Browser, backend: BackendServer, project: LabelProject, tmp_path: Path, width: int, scheme: str
) -> None:
    page = opened(browser, f"{backend.url}/projects/{project.id}", width, scheme)
    expect(page.locator("h1")).to_have_text("Clothes")
    expect(page.locator(".next img").first).to_be_visible()
    for chart in ("h3:text-is('Learning curve') ~ ", ".calibration"):
        shown, hidden = (".narrow", ".wide") if width < 500 else (".wide", ".narrow")
        expect(page.locator(f"{chart}{shown}").first).to_be_visible()
        expect(page.locator(f"{chart}{hidden}").first).to_be_hidden()
    expect(page.locator(".next .why").first).to_contain_text("margin: the two most probable answers are")
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0, "the page can be scrolled sideways"
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    if SCREENSHOT and (width, scheme) == (1400, "light"):
        page.screenshot(path=tmp_path / "top.png", full_page=True, clip={"x": 0, "y": 0, "width": 1400, "height": 1480})
        small = Image.open(tmp_path / "top.png").convert("RGB").quantize(128)  # a third of the size
        small.save(SCREENSHOT, optimize=True)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.context.close()


def test_the_overview_leads_to_the_project(browser: Browser, backend: BackendServer, project: LabelProject) -> None:
    """By keyboard alone: the second stop after the link that skips to the content."""
    page = opened(browser, backend.url)
    assert Axe().run(page).violations_count == 0
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Clothes":
            break
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Clothes")
    assert page.url == f"{backend.url}/projects/{project.id}"
    page.context.close()


def test_the_map_shows_the_image_that_the_arrow_keys_or_the_pointer_come_to(
    browser: Browser, backend: BackendServer, project: LabelProject
) -> None:
    page = opened(browser, f"{backend.url}/projects/{project.id}")
    drawing, tip = page.locator(".map svg"), page.locator(".tip")
    expect(tip).to_be_hidden()
    drawing.focus()
    seen = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
        expect(tip).to_contain_text(re.compile(r"^Task \d+: (labeled|next|not labeled)"))
        expect(page.locator("#said")).to_have_text(tip.inner_text())
        seen.append(tip.inner_text())
    assert seen[0] != seen[1] != seen[2]
    page.locator(".tip img").evaluate("image => image.decode()")  # raises unless it is there
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    first = page.locator(".map path.next").get_attribute("d")
    across, down = (int(number) for number in re.findall(r"\d+", first or "")[:2])
    box = drawing.bounding_box()
    assert box is not None
    scale = box["width"] / 2000  # of the drawing's own units
    page.mouse.move(box["x"] + scale * across + 2, box["y"] + scale * down)
    expect(tip).to_contain_text("next, at place")
    page.mouse.move(box["x"] - 5, box["y"])
    expect(tip).to_be_hidden()
    page.context.close()


def test_without_scripts_the_map_is_a_drawing(browser: Browser, backend: BackendServer, project: LabelProject) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{backend.url}/projects/{project.id}")
    expect(page.locator(".map path.next")).to_be_attached()
    expect(page.locator(".legend")).to_contain_text("next of the queue")
    expect(page.locator(".scripted")).to_be_hidden()
    context.close()


_NOTE_THE_BAR = """() => {
  const place = document.querySelector('[data-live]');
  window.bars = new Set();
  new MutationObserver(() => {
    const bar = place.querySelector('progress[aria-label="Done of this phase"]');
    if (bar) window.bars.add(`${place.querySelector('.big').innerText} ${bar.value}`);
  }).observe(place, {childList: true});
}"""


def in_a_hurry(route: Route) -> None:
    """The page as it is, but that it asks every tenth of a second for what runs."""
    answer = route.fetch()
    route.fulfill(response=answer, body=re.sub(r'data-seconds="\d+"', 'data-seconds="0.1"', answer.text()))


def test_what_runs_is_shown_as_it_runs(
    browser: Browser, backend: BackendServer, project: LabelProject, seen: Seen
) -> None:
    """During a cycle the bar moves, then the page says that there is a new order, and the curve has a point more."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    context.route(re.compile(rf"/projects/{project.id}(\?part=now)?$"), in_a_hurry)
    page = context.new_page()
    page.goto(f"{backend.url}/projects/{project.id}", wait_until="load")
    points = page.locator("h3:text-is('Learning curve') + svg.wide .point")
    before, drawn = project.version(), points.count()
    assert drawn >= 1
    page.evaluate(_NOTE_THE_BAR)
    project.start_training()
    expect(page.locator("#version-changed")).to_be_visible(timeout=1000 * PATIENCE)
    bars = page.evaluate("[...window.bars]")
    assert len(bars) > 1, f"the bar does not move: {bars}"
    assert before != project.version()
    expect(page.locator("[data-live] > div")).to_have_attribute("data-version", project.version())
    page.locator("#version-changed a").click()
    expect(points).to_have_count(drawn + 1)
    expect(page.locator("#version-changed")).to_be_hidden()
    context.unroute_all(behavior="ignoreErrors")
    context.close()


def test_every_link_leads_where_it_says(
    page: Page, browser: Browser, backend: BackendServer, project: LabelProject
) -> None:
    """Those to the backend, and those into Label Studio, asked for with the cookies of somebody who has logged in."""
    mine = opened(browser, f"{backend.url}/projects/{project.id}")
    links: list[tuple[str, str]] = mine.eval_on_selector_all(
        "a[href]", "all => all.map(one => [one.textContent, one.href])"
    )
    ids = mine.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
    mine.context.close()
    tasks, tabs = project.tasks(), project.studio.get("/api/dm/views/", project=project.id)
    titles = {str(tab["id"]): tab["data"]["title"] for tab in tabs}
    kinds = set()
    for words, address in links:
        place = urlsplit(address)
        inside = f"{place.path}?{place.query}".removeprefix(f"/projects/{project.id}/")
        if address.startswith(backend.url):
            kinds.add((requests.get, address.partition("#")[0]))
            assert not place.fragment or place.fragment in ids
        elif shown := re.fullmatch(r"data\?task=(\d+)", inside):
            assert words == f"Task {shown[1]}" and int(shown[1]) in tasks
            kinds.add((page.request.get, f"{project.studio.url}{place.path}?task={min(tasks)}"))  # they are alike
        else:
            tab = re.fullmatch(r"data\?tab=(\d+)(&labeling=1)?", inside)
            assert titles[tab[1]].startswith("Acquisition queue") if tab else inside == "settings/ml?", address
            kinds.add((page.request.get, f"{project.studio.url}{place.path}?{place.query}"))
    assert {words for words, _ in links} >= {"Label in this order", "Open the queue", "Connection settings", "metrics"}
    assert len(kinds) >= 8
    for get, address in kinds:
        answer = get(address, headers={"Accept": "text/html"})
        assert (answer.status_code if get is requests.get else answer.status) == 200, address
        assert "/user/login" not in answer.url


def test_the_link_begins_to_label_in_the_published_order(
    page: Page, browser: Browser, backend: BackendServer, project: LabelProject
) -> None:
    """In a browser that has never labeled here, where a bare ``?labeling=1`` would serve by number."""
    mine = opened(browser, f"{backend.url}/projects/{project.id}")
    address = mine.get_by_role("link", name="Label in this order").get_attribute("href")
    first = mine.locator(".next li a").first.inner_text()
    mine.context.close()
    open_ones = project.unlabelled()
    order = [task for task in project.published_order(project.version()) if task in open_ones]
    assert first == f"Task {order[0]}"
    # Label Studio says that it is at localhost, where the browser of this test has not logged in
    place = re.fullmatch(rf"http://localhost:\d+(/projects/{project.id}/data\?tab=\d+&labeling=1)", address or "")
    assert place is not None, address
    page.goto(f"{project.studio.url}{place[1]}", wait_until="domcontentloaded")
    expect_task(page, order[0])
