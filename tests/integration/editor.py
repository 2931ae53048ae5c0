"""Label Studio's editor in Chromium, driven like a person's: by the mouse, at places of the image that are seen."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from playwright.sync_api import Locator, Page, expect

from tests.integration.helpers import LabelProject

PATIENCE_MS = 90_000
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
)
"""Chromium's, for a machine without a screen, and so that nothing outside of it is asked for. A route of Playwright's
that says so would switch the cache off, and each page loads a dozen megabytes of scripts."""

BRUSH, ERASER = 15, 10
"""Their widths in pixels of the screen, where the view is not zoomed."""

_KEEPS_ITS_PLACE = """() => new Promise(done => {
  let last = '', frames = 0;
  const look = () => {
    const box = document.querySelector('.lsf-image img')?.getBoundingClientRect();
    const now = box ? [box.x, box.y, box.width, box.height].join() : '';
    frames = now && now === last ? frames + 1 : 0;
    last = now;
    frames < 20 ? requestAnimationFrame(look) : done();
  };
  look();
})"""
"""Waits until the image has been where it is for twenty frames of the page."""

Point = tuple[float, float]


def expect_task(page: Page, task: int) -> None:
    """The stream shows this task: its number stands bottom left."""
    number = page.locator(".lsf-current-task__task-id")
    expect(number).to_have_text(re.compile(rf"^#?{task}(\s|$)"), use_inner_text=True, timeout=PATIENCE_MS)


class Editor:
    """One open task. Places are (x, y) in pixels of the image as it is shown, (0, 0) its upper left corner."""

    def __init__(self, page: Page, size: tuple[int, int]) -> None:
        """``size`` is (H, W) of the image as it is shown."""
        self.page, self.size, self.turned = page, size, False

    def open_task(self, project: LabelProject, task: int) -> None:
        """As after a click on its row in the Data Manager."""
        where = f"{project.studio.url}/projects/{project.id}/data?task={task}"
        self.page.goto(where, wait_until="domcontentloaded")
        self.wait_for_task(task)

    def open_stream(self, project: LabelProject, task: int) -> None:
        """As after "Label All Tasks"; ``task`` is the one that has to come."""
        self.page.goto(f"{project.studio.url}/projects/{project.id}/data", wait_until="domcontentloaded")
        self.page.get_by_role("button", name="Label All Tasks").click()
        self.wait_for_task(task)

    def wait_for_task(self, task: int) -> None:
        """Until the task is there and its image has come."""
        expect_task(self.page, task)
        expect(self.page.locator(".konvajs-content canvas").first).to_be_visible()
        self.page.wait_for_function("document.querySelector('.lsf-image img')?.naturalWidth > 0")
        self.page.evaluate(_KEEPS_ITS_PLACE)  # it is fitted to the window in two steps

    # -- the mouse

    def scale(self) -> float:
        """Pixels of the screen for one of the image."""
        return self._box()["width"] / self.size[0 if self.turned else 1]

    def zoom(self) -> float:
        """By how much the view is larger than the one that the editor makes for the image."""
        found: float = self.page.evaluate("Htx.annotationStore.selected.objects[0].zoomScale")
        return found

    def at(self, x: float, y: float) -> tuple[int, int]:
        """Where on the page a place of the image is."""
        box, along, down = self._box(), x / self.size[1], y / self.size[0]
        if self.turned:
            along, down = 1 - down, along
        place = round(box["x"] + along * box["width"]), round(box["y"] + down * box["height"])
        over = self.page.evaluate("([x, y]) => !!document.elementFromPoint(x, y)?.closest('.konvajs-content')", place)
        assert over, f"({x}, {y}) of the image is at {place} on the page, and hidden there"
        return place

    def turn(self) -> None:
        """A quarter clockwise, by the editor's button. Places are still those of the image as it was."""
        self.tool("rotate-right")
        self.turned = True
        self.page.evaluate(_KEEPS_ITS_PLACE)

    def choose(self, label: str, control: int = 0) -> None:
        """A click on a label of the ``control``-th of the label config's controls that have it: for a new region."""
        self.page.keyboard.press("Escape")  # else the chosen region would get the label
        one = self.page.locator(".lsf-label").filter(has_text=re.compile(rf"^\s*{label}\s*\d?\s*$")).nth(control)
        one.click()
        expect(one).to_have_class(re.compile("lsf-label_selected"))

    def tool(self, name: str) -> None:
        """One of the toolbar's: brush-tool, eraser, move-tool."""
        self.page.locator(f"[aria-label={name}]").click()

    def region(self, number: int) -> Locator:
        """The row of the ``number``-th region, from 0, in the list at the right."""
        return self.page.locator(".lsf-outliner-item__content").nth(number)

    def expect_regions(self, *labels: str) -> None:
        """The list at the right comes to show regions of these labels and no others, in this order."""
        titles = self.page.locator(".lsf-outliner-item__title")
        expect(titles).to_have_text(labels, use_inner_text=True, timeout=PATIENCE_MS)

    def draft(self) -> list[dict[str, Any]]:
        """The regions as they would be submitted now."""
        found: list[dict[str, Any]] = self.page.evaluate("Htx.annotationStore.selected.serializeAnnotation()")
        return found

    def drag(self, *places: Point, steps: int = 4) -> None:
        """The button goes down at the first place and up at the last: a stroke of the brush, a box, a moved corner."""
        self.page.mouse.move(*self.at(*places[0]))
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*self.at(*place), steps=steps)
        self.page.mouse.up()
        self._let_pass(100)

    def click(self, *places: Point) -> None:
        """A click at each place: a polygon's corners, the first one again to close it."""
        for place in places:
            self.page.mouse.click(*self.at(*place))
            self._let_pass(250)  # two clicks in a quarter of a second are a double click

    def submit(self) -> dict[str, Any]:
        """The annotation as Label Studio has stored it."""
        with self.page.expect_response(_stores) as sent:
            self.page.get_by_test_id("bottombar-submit-button").click()
        assert sent.value.ok, sent.value.text()
        stored: dict[str, Any] = sent.value.json()
        return stored

    def _let_pass(self, milliseconds: int) -> None:
        """Time as the page counts it, which a busy machine may keep behind ours: its own timers have run by then."""
        self.page.evaluate("milliseconds => new Promise(done => setTimeout(done, milliseconds))", milliseconds)

    def _box(self) -> Any:
        """Where the image is on the page. The canvas over it may show less of it than all."""
        box = self.page.locator(".lsf-image img").bounding_box()
        assert box is not None
        return box


def _stores(answer: Any) -> bool:
    return answer.request.method in ("POST", "PATCH") and bool(re.search(r"/annotations(/|\?|$)", answer.url))


def distance_to(line: Sequence[Point], size: tuple[int, int]) -> np.ndarray:
    """(H, W): how far the middle of each pixel of an image is from a line through points (x, y), in pixels."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    nearest = np.full(size, np.inf)
    for (x0, y0), (x1, y1) in itertools.pairwise(line):
        along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0)))
    return nearest
