"""The dashboard for Grafana asks for metrics that there are. Whether Grafana shows it well, no test here knows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from backend.settings.core import Settings
from backend.state import State
from backend.web.app import create_app
from tests.backend.web.pages.world import fill
from tests.docs.markdown import ROOT

DASHBOARD = json.loads((ROOT / "docker" / "grafana-dashboard.json").read_text())


def expressions(part: Any) -> list[str]:
    """Every query of the dashboard, its variables' too."""
    if isinstance(part, dict):
        own = [part[key] for key in ("expr", "query") if isinstance(part.get(key), str)]
        return own + [found for value in part.values() for found in expressions(value)]
    return [found for value in part for found in expressions(value)] if isinstance(part, list) else []


def test_every_metric_of_the_dashboard_is_exported(tmp_path: Path) -> None:
    settings = Settings(model_dir=str(tmp_path))
    app = create_app(settings)
    state: State = app.extensions["services"].state
    fill(state, settings)
    client = app.test_client()
    client.get("/health")
    text = client.get("/metrics").get_data(as_text=True)  # some have no value yet, and stand there all the same
    exported = set(re.findall(r"^(?:# TYPE )?(active_learning_\w+)", text, re.MULTILINE))
    app.extensions["services"].close()
    named = {name for text in expressions(DASHBOARD) for name in re.findall(r"active_learning_\w+", text)}
    assert len(named) >= 12
    assert named - exported == set()


def test_no_two_panels_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + right, place["y"] + down) for right in range(place["w"]) for down in range(place["h"])}
        assert not taken & cells and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
