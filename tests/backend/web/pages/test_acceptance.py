"""What page, metrics and ``status`` say of pre-annotations that people left as they were."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from backend.reporting.snapshot import snapshot
from backend.status import show
from tests.backend.web.pages.conftest import Site
from tests.backend.web.pages.test_pages import words_of
from tests.backend.web.pages.world import OWNER, fill


def share(value: float, low: float, high: float, n: int) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n}


FIGURES: dict[str, Any] = {
    **share(0.84, 0.78, 0.89, 210),
    "cycles": [{"cycle": 1, **share(0.7, 0.55, 0.82, 50)}, {"cycle": 3, **share(0.9, 0.84, 0.94, 160)}],
}
SENTENCE = (
    "84 % of 210 pre-annotations were accepted unchanged (95 % interval 78 % to 89 %); of those of cycle 3, "
    "90 % of 160 (84 % to 94 %)."
)


def card_of(site: Site) -> str:
    html = site.text("/projects/1")
    return html[html.index('id="acceptance"') : html.index("<h3>Classes")]


def test_the_share_is_on_the_page_in_all_and_over_time_with_its_curve(site: Site) -> None:
    fill(site.state, site.settings)
    site.state.projects.update(1, OWNER, acceptance=FIGURES)
    card = card_of(site)
    text = words_of(card)
    assert SENTENCE in text
    assert "cycle 3 90 % 84 % to 94 % 160 cycle 1 70 % 55 % to 82 % 50" in text
    assert card.count('<circle class="point"') == 4, "two cycles, for wide and for narrow screens"
    assert "Cycle 1: 70 % (55 % to 82 %) with 50 labels" in card


def test_of_a_single_cycle_there_is_no_curve(site: Site) -> None:
    fill(site.state, site.settings)
    one = share(0.9, 0.84, 0.94, 160)
    site.state.projects.update(1, OWNER, acceptance=one | {"cycles": [{"cycle": 3, **one}]})
    card = card_of(site)
    assert "90 % of 160 pre-annotations were accepted unchanged (95 % interval 84 % to 94 %)." in words_of(card)
    assert "<svg" not in card and "<table" not in card


def test_where_nothing_was_pre_annotated_nothing_is_said_of_it(site: Site) -> None:
    fill(site.state, site.settings)
    assert 'id="acceptance"' not in site.text("/projects/1")
    assert "preannotations_accepted{" not in site.get("/metrics", {}).get_data(as_text=True)
    assert snapshot(site.state, site.settings)["projects"][0]["acceptance"] is None


def test_status_and_metrics_have_the_same_figures(site: Site) -> None:
    fill(site.state, site.settings)
    site.state.projects.update(1, OWNER, acceptance=FIGURES)
    found = snapshot(site.state, site.settings)
    assert found["projects"][0]["acceptance"] == FIGURES | {"sentence": SENTENCE}
    console = Console(record=True, width=250, file=io.StringIO())
    show(found, console)
    assert f"Project 1: {SENTENCE}" in console.export_text()
    lines = site.get("/metrics", {}).get_data(as_text=True)
    for line in (
        'active_learning_preannotations_accepted{project="1"} 0.84',
        'active_learning_preannotations_accepted_n{project="1"} 210.0',
        'active_learning_newest_preannotations_accepted{project="1"} 0.9',
        'active_learning_newest_preannotations_accepted_high{project="1"} 0.94',
    ):
        assert f"{line}\n" in lines
