"""What a page shows of a replay: its chart, its table, and the command where there is none yet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backend.files import project_folder
from backend.reporting import replays
from backend.web.pages.charts import NARROW, WIDE
from backend.web.pages.replay_chart import looks, replay_chart
from tests.backend.reporting.test_replays import CANNOT, HELPS
from tests.backend.web.pages.conftest import Site
from tests.backend.web.pages.test_pages import words_of
from tests.backend.web.pages.world import fill


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("shares", [(0.6, 0.8), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0), (0.501, 0.502)])
def test_every_curve_is_within_the_frame(width: int, shares: tuple[float, float]) -> None:
    found = replace(HELPS, samplers=tuple(replace(one, curve=shares) for one in HELPS.samplers))
    chart = replay_chart(found, width)
    assert len(chart.lines) == 5 and len({tick.words for tick in chart.rows}) == len(chart.rows) >= 3
    for line in chart.lines:
        places = [tuple(map(float, place.split(","))) for place in line.points.split()]
        assert [x for x, _ in places] == sorted(x for x, _ in places)
        assert all(chart.left <= x <= chart.right and 0 < y <= chart.bottom for x, y in places)


def test_the_best_stands_out_or_else_the_projects_own() -> None:
    assert looks(HELPS)["margin"] == "line" and looks(HELPS)["dast-al"] == "replay-other"
    assert looks(CANNOT)["dast-al"] == "line" and looks(CANNOT)["random"] == "replay-random"
    assert replay_chart(HELPS, WIDE).lines[-1].sampler == "margin", "it is drawn over the others"


def test_a_page_shows_the_last_replay_and_names_the_command_before_there_is_one(site: Site) -> None:
    fill(site.state, site.settings)
    before = words_of(site.text("/projects/1"))
    assert "python -m backend replay 1 on the backend's machine" in before
    project = site.state.projects.get(1)
    assert project is not None
    replays.keep(project_folder(site.settings.model_dir, project.folder_key), HELPS)
    html = site.text("/projects/1")
    text = words_of(html)
    assert replays.in_words(HELPS) in text
    assert "margin 100 (90 to more than all) +3.0 (+2.0 to +4.0) 0.004 ahead" in text
    assert "bald 100 (90 to more than all) −2.0 (−3.0 to −1.0) 0.004 behind" in text
    assert "of these labels, which dast-al chose" in text.lower()
    assert html.count('class="replay-random"') == 3, "in two charts and the legend"


def test_the_page_says_what_to_use_in_place_of_a_sampler_that_is_not_ahead(site: Site) -> None:
    fill(site.state, site.settings)
    project = site.state.projects.get(1)
    assert project is not None
    folder = project_folder(site.settings.model_dir, project.folder_key)
    replays.keep(folder, HELPS)
    assert "consider" not in words_of(site.text("/")), "margin, which it has, is ahead"
    site.state.projects.connect(1, project.key, project.label_config, {"sampler": "bald"}, project.studio, "")
    assert 'margin is ahead of random, and bald is behind random: consider "sampler": "margin".' in words_of(
        site.text("/")
    )
