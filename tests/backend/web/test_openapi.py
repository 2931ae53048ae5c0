"""The description of the endpoints says what there is. That it is also true, tests/fuzz shows."""

from __future__ import annotations

import re
from pathlib import Path

from backend.settings.core import Settings
from backend.web.app import create_app
from backend.web.openapi import description

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


def in_braces(path: str) -> str:
    """A route of Flask's as OpenAPI writes it."""
    return path.replace("<", "{").replace(">", "}")


def test_it_names_every_route_and_no_other(tmp_path: Path) -> None:
    app = create_app(Settings(model_dir=str(tmp_path)))
    routes = {
        (in_braces(rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, found in description()["paths"].items() for method in found} == routes
    assert app.test_client().get("/openapi.json").json == description()
    app.extensions["services"].close()


def test_the_documentation_names_the_same_endpoints() -> None:
    table = OPERATIONS.read_text().split("## Endpoints")[1].split("\n## ")[0]
    named = {path for row in re.findall(r"^\| (`/.*?) \|", table, re.MULTILINE) for path in re.findall(r"`(\S+)`", row)}
    assert {in_braces(path) for path in named} == set(description()["paths"])
