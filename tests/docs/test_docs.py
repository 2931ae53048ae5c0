"""The documentation is true: generated parts are up to date, and whatever it names exists."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import flask
import pytest

from backend.errors import OwnerError
from backend.settings.core import Settings, project_keys
from backend.web.app import create_app
from benchmarks.__main__ import main as benchmarks
from tests.docs.generate import PARTS
from tests.docs.markdown import PAGES, ROOT, Page, between, broken_links, rows

README = ROOT / "README.md"
DOCS = ROOT / "docs"
BACKEND = "python -m backend"
BENCHMARKS = "python -m benchmarks"

pages = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)


@cache
def output_of(*command: str) -> str:
    """What a command of this project prints."""
    run = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    return run.stdout


def commands(path: Path, start: str) -> list[list[str]]:
    """The words after ``start`` of every line of code that calls it, up to the end of the command."""
    found: list[list[str]] = []
    for line in Page.read(path).code:
        calls = re.findall(rf"(?:^|[\s/]){re.escape(start)}(?=\s|$)([^|&;]*)", line)
        found += [call.split() for call in calls]
    return found


# -- links -------------------------------------------------------------------------------------------------------------


@pages
def test_every_relative_link_and_anchor_leads_somewhere(path: Path) -> None:
    assert broken_links(path, ROOT) == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [README]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        links = [link.partition("#")[0] for link in Page.read(page).links if ":" not in link]
        waiting += [(page.parent / link).resolve() for link in links if link]
    assert set(PAGES) <= reached


def test_the_readme_stays_short() -> None:
    assert len(README.read_text().splitlines()) <= 140


# -- generated parts and settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "name"), PARTS)
def test_generated_parts_are_up_to_date(page: str, name: str) -> None:
    assert between((DOCS / page).read_text(), name) == PARTS[page, name](), "run `python -m tests.docs.generate`"


def test_the_table_of_settings_is_the_one_that_the_command_prints() -> None:
    assert between((DOCS / "settings.md").read_text(), "settings") == output_of("backend", "settings")


@pages
def test_every_example_of_extra_params_is_accepted(path: Path) -> None:
    page = Page.read(path)
    examples = [content for language, content in page.blocks if language == "json"]
    examples += [span for span in page.spans if span.startswith("{")]
    for example in examples:
        try:
            Settings().for_project(json.loads(example))
        except OwnerError as refused:
            pytest.fail(f"{path.name}: {example} is refused: {refused}")


@pytest.mark.parametrize("name", ["samplers.md", "segmentation.md", "multilabel.md"])
def test_settings_named_in_the_text_exist(name: str) -> None:
    named = {span for span in Page.read(DOCS / name).spans if re.fullmatch(r"[a-z]+(_[a-z]+)+", span)}
    assert named, "the page names settings"
    assert named - set(project_keys()) == set()


# -- samplers ----------------------------------------------------------------------------------------------------------


def test_the_table_of_samplers_names_those_that_the_command_lists() -> None:
    table = rows(between((DOCS / "samplers.md").read_text(), "samplers"))
    listed = [line.split(":")[0] for line in output_of("backend", "samplers").splitlines()]
    assert [row[0] for row in table] == [f"`{name}`" for name in listed]


# -- commands ----------------------------------------------------------------------------------------------------------


@pages
def test_every_make_target_and_its_variables_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    for words in commands(path, "make"):
        named = [word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)]
        assert set(named) <= targets, words
        for variable in re.findall(r"([A-Z_]+)=", " ".join(words)):
            assert re.search(rf"\$\({variable}\)|\b{variable} \?=", makefile), f"make takes no {variable}"


@pages
def test_every_command_of_the_backend_and_its_options_exist(path: Path) -> None:
    for words in commands(path, BACKEND):
        command = [word for word in words[:1] if not word.startswith("-")]
        known = output_of("backend", *command, "--help")
        for option in (word for word in words if word.startswith("--")):
            assert option in known, f"{BACKEND} {' '.join(words)}"


@cache
def help_of_the_benchmarks(*command: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as written, contextlib.suppress(SystemExit):
        benchmarks([*command, "--help"])  # in this process: a new one would import torch
    return written.getvalue()


@pages
def test_every_command_of_the_benchmarks_and_its_options_exist(path: Path) -> None:
    for words in commands(path, BENCHMARKS):
        known = help_of_the_benchmarks(*words[:1])
        for option in (word for word in words if word.startswith("--")):
            assert option in known, f"{BENCHMARKS} {' '.join(words)}"


@pages
def test_every_file_that_is_called_exists(path: Path) -> None:
    """Programs, tests and requirement files in examples, as paths from the root; what an owner makes from an example
    (`docker/.env`) has that example."""
    called = [word for line in Page.read(path).code for word in line.split()]
    files = [word for word in called if re.fullmatch(r"(\.ci|\.github|tests|docker|backend|samplers)/[\w./-]+", word)]
    files += [word for word in called if re.fullmatch(r"requirements[\w-]*\.(txt|in)", word)]
    missing = [name for name in files if not (ROOT / name).exists() and not (ROOT / f"{name}.example").exists()]
    assert missing == []


# -- endpoints and metrics ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> flask.Flask:
    return create_app(Settings(model_dir=str(tmp_path_factory.mktemp("backend"))))


def spans_of_first_column(heading: str) -> set[str]:
    section = (DOCS / "operations.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall("`([^`]+)`", " ".join(row[0] for row in rows(section))))


def test_the_table_of_endpoints_is_complete(app: flask.Flask) -> None:
    assert spans_of_first_column("Endpoints") == {rule.rule for rule in app.url_map.iter_rules()}


def test_the_table_of_metrics_is_complete(app: flask.Flask) -> None:
    answer = app.test_client().get("/metrics").get_data(as_text=True)
    names = set(re.findall(r"^# TYPE active_learning_(\w+) ", answer, re.MULTILINE))
    assert spans_of_first_column("Metrics") == {name for name in names if not name.endswith("_created")}


# -- messages ----------------------------------------------------------------------------------------------------------

LABEL_STUDIO_SAYS = ("URL resolves to a reserved network address", "Can't connect to ML backend")


def test_messages_quoted_for_troubleshooting_are_those_of_the_backend() -> None:
    trees = [ast.parse(path.read_text()) for path in (ROOT / "backend").rglob("*.py")]
    said = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    texts = [text for text in said if isinstance(text, str)]
    table = rows((DOCS / "troubleshooting.md").read_text())
    quoted = [quote.removesuffix(" …") for row in table for quote in re.findall(r'"([^"]+)"', row[0])]
    ours = [quote for quote in quoted if quote not in LABEL_STUDIO_SAYS]
    assert len(ours) >= 5
    assert [quote for quote in ours if not any(quote in text for text in texts)] == []


# -- words -------------------------------------------------------------------------------------------------------------

BRITISH = re.compile(
    r"\b(\w*label+led|\w*labelling|behaviour|colour\w*|neighbour\w*|licen[c]e|centre\w*|modelling|favour\w*|grey\w*|"
    r"(optim|normal|initial|organ|recogn|summar|minim|maxim|general|regular|real)is(e|es|ed|er|ers|ing|ation))\b",
    re.IGNORECASE,
)


@pages
def test_the_spelling_is_american(path: Path) -> None:
    text = re.sub(r"<!-- settings -->.*<!-- /settings -->", "", path.read_text(), flags=re.DOTALL)
    assert [match[0] for match in BRITISH.finditer(Page.of(text).prose)] == []
