"""The pages can be read by everybody: colors contrast, controls and pictures have names, headings are in order.

A test in a browser asks more (tests/integration/test_owners_page.py); these need none.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from backend.web.pages.rendering import ASSETS
from tests.backend.web.pages.conftest import WITH_PASSWORD, Site
from tests.backend.web.pages.world import fill

CSS = ASSETS["page.css"][0].decode()
ENOUGH, ENOUGH_FOR_SHAPES = 4.5, 3.0
"""Of WCAG 2.2, level AA: success criteria 1.4.3 and 1.4.11."""

TEXT = [
    *(("text", ground) for ground in ("ground", "card", "good-ground")),
    *(("quiet", ground) for ground in ("ground", "card", "good-ground")),
    *(("accent", ground) for ground in ("ground", "card")),
    *[("on-accent", "accent"), ("error", "error-ground"), ("warning", "warning-ground")],
]
SHAPES = [("accent", "card"), ("accent", "ground"), ("second", "card"), ("second", "ground")]


def colors(dark: bool) -> dict[str, str]:
    light, darker = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6,8})", part)) for part in CSS.split("prefers-color-scheme")
    )
    return light | darker if dark else light


def luminance(color: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard() -> None:
    """Black on white is 21; #767676 on white is known as the lightest gray that suffices."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") >= 4.5 > contrast("#777777", "#ffffff")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_and_shape_contrasts_with_its_ground(dark: bool) -> None:
    found = colors(dark)
    weak = [pair for pair in TEXT if contrast(found[pair[0]], found[pair[1]]) < ENOUGH]
    weak += [pair for pair in SHAPES if contrast(found[pair[0]], found[pair[1]]) < ENOUGH_FOR_SHAPES]
    assert weak == []


class Reader(HTMLParser):
    """What a screen reader starts from."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.language = ""
        self.refers: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.refers += [value for name, value in attrs if name == "aria-labelledby" and value]
        if tag == "html":
            self.language = found.get("lang") or ""
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img" and not found.get("alt"):
            self.problems.append("a picture without a name")
        if tag == "progress" and not found.get("aria-label"):
            self.problems.append("a bar without a name")
        if tag == "svg" and found.get("aria-hidden") != "true":
            self.problems.append("a chart that a screen reader would spell out")
        if tag == "th" and not found.get("scope"):
            self.problems.append("a heading of a table without a direction")
        if found.get("tabindex") == "0" and not found.get("aria-label"):
            self.problems.append("a place to stop at without a name")


@pytest.mark.parametrize("path", ["/", "/projects/1"])
def test_everything_has_a_name_and_a_place(locked: Site, path: str) -> None:
    fill(locked.state, locked.settings)
    reader = Reader(locked.text(path, WITH_PASSWORD))
    assert reader.problems == [] and reader.language == "en"
    assert reader.headings[0] == 1 and reader.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(reader.headings, reader.headings[1:], strict=False))
    assert len(set(reader.ids)) == len(reader.ids) and set(reader.refers) <= set(reader.ids)
