"""The files that other tools read, as far as they can be checked without those tools."""

from __future__ import annotations

import configparser
import re
from typing import Any

import pytest
import yaml

from tests.docs.markdown import ROOT

HOOKS = ROOT / ".pre-commit-config.yaml"
WORKFLOWS = ROOT / ".github" / "workflows"


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def steps(workflow: str) -> list[dict[str, Any]]:
    return [step for job in read(f".github/workflows/{workflow}")["jobs"].values() for step in job["steps"]]


def hooks() -> list[dict[str, Any]]:
    return [hook for repo in yaml.safe_load(HOOKS.read_text())["repos"] for hook in repo["hooks"]]


def test_github_runs_the_check_that_decides() -> None:
    assert steps("ci.yml")[-1]["run"] == ".ci/run"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_the_update_of_dependencies_calls_make_lock() -> None:
    assert any(step.get("run") == "make lock LOCK_ARGS=--upgrade" for step in steps("dependencies.yml"))
    assert "$(LOCK_ARGS)" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(
    "update", read(".github/dependabot.yml")["updates"], ids=lambda update: update["package-ecosystem"]
)
def test_dependabot_looks_where_there_is_something(update: dict[str, Any]) -> None:
    patterns = {
        "github-actions": ".github/workflows/*.yml",
        "docker": "Dockerfile",
        "docker-compose": "docker-compose.yml",
    }
    folder = ROOT / update["directory"].strip("/")
    assert list(folder.glob(patterns[update["package-ecosystem"]]))


def test_the_hooks_need_no_network() -> None:
    assert {repo["repo"] for repo in yaml.safe_load(HOOKS.read_text())["repos"]} == {"local"}
    for hook in hooks():
        assert hook["language"] == "system" and hook["entry"].startswith(".venv/bin/python "), hook["id"]


def test_the_hooks_run_what_lint_runs_and_tests_that_exist() -> None:
    entries = [hook["entry"] for hook in hooks()]
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert lint is not None
    for line in lint[1].splitlines():
        assert line.strip().replace("$(RUN)", ".venv/bin/python") in entries
    tests = [word for entry in entries for word in entry.split() if word.startswith("tests/")]
    assert tests and all((ROOT / name).exists() for name in tests)


def test_the_editor_is_told_the_line_length_of_the_linter() -> None:
    editor = configparser.ConfigParser()
    editor.read_string("[top]\n" + (ROOT / ".editorconfig").read_text())
    linter = re.search(r"line-length = (\d+)", (ROOT / "pyproject.toml").read_text())
    assert linter is not None and editor["*"]["max_line_length"] == linter[1]
