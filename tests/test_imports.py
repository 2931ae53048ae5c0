"""The house's rooms and who may enter whom, read from the source.

The design's table in code: a newcomer who breaks it hears about it here, with the line. Imports under
`if TYPE_CHECKING:` do not run and count only for models/ and samplers/.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("backend", "models", "samplers", "benchmarks")

# Top-level names that a package may import besides the standard library.
MAY_IMPORT = {
    "models": {"models", "torch", "torchvision", "numpy"},
    "samplers": {"samplers", "models", "torch", "numpy"},
}

# room of backend/ -> rooms of backend/ that it may import when it runs; `errors` and `settings` are open to all.
# A room that is missing here (an entry point, say) may be entered by none of these.
OPEN = {"errors", "settings"}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "settings": set(),
    "logs": set(),
    "writer": set(),
    "state": set(),
    "scores": set(),
    "labeling": set(),
    "question": {"labeling"},
    "masks": {"decoding", "labeling"},
    "answers": {"files", "labeling", "masks", "question", "state"},
    "labelstudio": {"labeling"},
    "decoding": set(),
    "files": set(),
    "imageindex": {"files"},
    "rowcache": {"imageindex"},
    "images": {"decoding", "files", "labelstudio", "rowcache"},
    "events": {"state"},
    "job": {"state", "labelstudio"},
    "truth": {"images", "job", "labeling", "labelstudio", "masks", "question", "state"},
    "maskcache": {"files", "images", "job", "labeling", "labelstudio", "masks", "rowcache", "truth"},
    "learner": {"scores"},
    "artefacts": {"answers", "images", "job", "learner", "state"},
    "publisher": {"answers", "job", "labeling", "labelstudio", "question", "state"},
    "cycle": {
        *("artefacts", "images", "job", "labeling", "labelstudio", "learner", "maskcache", "publisher", "question"),
        *("scores", "state", "truth"),
    },
    "leases": {"state"},
    "worker": {"artefacts", "cycle", "events", "job", "labelstudio", "leases", "publisher", "state", "truth"},
    "fresh": {"answers", "artefacts", "decoding", "labeling", "labelstudio", "learner", "question", "state"},
    "keycheck": {"labelstudio"},
    "compat": set(),
    "model": {
        *("answers", "compat", "events", "fresh", "job", "keycheck", "labeling", "labelstudio", "logs", "question"),
        *("state", "writer"),
    },
    "metrics": {"state"},
    "app": {"compat", "events", "labelstudio", "logs", "metrics", "model", "state"},
    "status": {"metrics", "state"},
    "supervisor": {"logs"},
}

# What only these rooms of backend/ may import: one place to look when the outside changes.
ONLY_IN: dict[str, set[str]] = {
    "label_studio_sdk": {"labelstudio"},
    "label_studio_sdk.label_interface": {"labeling"},  # parses label configs, talks to nobody
    "label_studio_tools": {"labelstudio"},
    "requests": {"labelstudio"},
    "httpx": {"labelstudio"},
    "urllib.request": {"labelstudio"},
    "sqlalchemy": {"state"},
    "sqlite3": {"state"},
    "psycopg": {"state"},
    "prometheus_client": {"metrics"},
    "PIL": {"decoding"},
    "cv2": {"masks"},
    "label_studio_ml": {"app", "compat", "model"},
    "flask": {"app", "compat", "model"},
}

# Only these rooms need torch when they are imported: it takes seconds and hundreds of megabytes, which neither the
# web process at its start nor an idle worker should pay.
WITH_TORCH = {"artefacts", "cycle", "learner"}


@dataclass(frozen=True)
class Import:
    """One imported name, dotted in full (`from a import b` gives a.b), with where it stands."""

    path: Path
    line: int
    name: str
    typing_only: bool
    at_start: bool  # outside of functions: runs when the module is imported

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.name}"

    @property
    def room(self) -> str:
        return room_of(self.path)

    def is_within(self, module: str) -> bool:
        return self.name == module or self.name.startswith(module + ".")


def room_of(path: Path) -> str:
    """The room a file is in. A room may have several files: state/schema.py is in "state", labelstudio_http.py in
    "labelstudio".
    """
    return room_named(Path(path.relative_to(ROOT).parts[1]).stem)


def room_named(module: str) -> str:
    """Room of a module of a package, by its name alone; __main__ is a room of its own."""
    return module if module.startswith("_") else module.partition("_")[0]


def sources(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"{package}/ holds no source: is the test looking in the right place?"
    return found


def imports_of(path: Path) -> Iterator[Import]:
    yield from _walk(path, ast.parse(path.read_text()), typing_only=False, at_start=True)


def _walk(path: Path, node: ast.AST, typing_only: bool, at_start: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(path, child.lineno, alias.name, typing_only, at_start)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:  # from . import x
                package = path.relative_to(ROOT).with_suffix("").parts[: -child.level]
                base = ".".join([*package, base] if base else package)
            for alias in child.names:
                yield Import(path, child.lineno, f"{base}.{alias.name}", typing_only, at_start)
        else:
            guarded = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _walk(path, child, typing_only or guarded, at_start and not inside)


@cache
def all_imports(package: str) -> tuple[Import, ...]:
    return tuple(found for path in sources(package) for found in imports_of(path))


def test_the_reader_of_imports_sees_every_form(tmp_path: Path) -> None:
    """The tests below would pass on anything if this reader saw nothing."""
    path = ROOT / "backend" / "state" / "probe.py"  # a name only; the text is parsed here
    text = (
        "import os.path as p, sys\nfrom a.b import c, d as e\nfrom . import near\nfrom ..errors import X\n"
        "if TYPE_CHECKING:\n    import heavy\ndef f():\n    from lazy import z\n"
        "try:\n    import fast\nexcept ImportError:\n    import slow\n"
    )
    seen = list(_walk(path, ast.parse(text), typing_only=False, at_start=True))
    assert [found.name for found in seen] == [
        *("os.path", "sys", "a.b.c", "a.b.d", "backend.state.near", "backend.errors.X"),
        *("heavy", "lazy.z", "fast", "slow"),
    ]
    assert [found.name for found in seen if found.typing_only] == ["heavy"]
    assert [found.name for found in seen if not found.at_start] == ["lazy.z"]
    assert {found.room for found in seen} == {"state"}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_models_and_samplers_import_only_what_they_may(package: str) -> None:
    allowed = MAY_IMPORT[package] | set(sys.stdlib_module_names)
    assert [str(found) for found in all_imports(package) if found.name.split(".")[0] not in allowed] == []


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_models_and_samplers_never_read_the_environment(package: str) -> None:
    reads = []
    for path in sources(package):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "attr", None) or getattr(node, "id", None) or getattr(node, "name", None)
            if name in ("environ", "environb", "getenv"):
                reads.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', '?')}")
    assert reads == []


def test_the_product_does_not_need_its_benchmarks_or_tests() -> None:
    outside = [
        str(found)
        for package in ("backend", "models", "samplers")
        for found in all_imports(package)
        if found.is_within("benchmarks") or found.is_within("tests")
    ]
    assert outside == []


def test_every_room_in_the_table_exists() -> None:
    rooms = {room_of(path) for path in sources("backend")}
    assert set(ROOMS) <= rooms
    assert rooms >= WITH_TORCH
    assert {room for names in ONLY_IN.values() for room in names} <= rooms


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_of_the_backend_enter_only_those_they_may(room: str) -> None:
    allowed = ROOMS[room] | OPEN | {room}
    wrong = [
        str(found)
        for found in all_imports("backend")
        if found.room == room and found.is_within("backend") and not found.typing_only
        if not found.is_within("backend.__version__")
        if room_named(found.name.split(".")[1]) not in allowed
    ]
    assert wrong == []


@pytest.mark.parametrize("module", ONLY_IN)
def test_the_outside_has_one_door(module: str) -> None:
    special = [name for name in ONLY_IN if name.startswith(module + ".")]
    wrong = [
        str(found)
        for found in all_imports("backend")
        if found.is_within(module)
        and not any(found.is_within(name) for name in special)
        and found.room not in ONLY_IN[module]
    ]
    assert wrong == []


def test_only_the_cycle_and_what_it_is_made_of_need_torch_at_start() -> None:
    heavy = ("torch", "torchvision", "models", "samplers")
    wrong = [
        str(found)
        for found in all_imports("backend")
        if found.room not in WITH_TORCH and found.at_start and not found.typing_only
        if any(found.is_within(name) for name in (*heavy, *(f"backend.{room}" for room in WITH_TORCH)))
    ]
    assert wrong == []


def test_the_web_process_starts_without_what_only_a_worker_needs() -> None:
    """What its modules import in the end, not only by name."""
    code = "import sys, backend.web.app; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"torch", "torchvision", "cv2", "PIL", "label_studio_sdk.client", "label_studio_sdk.label_interface"}
    assert heavy & set(run.stdout.split()) == set()


def test_modules_import_each_other_in_one_direction() -> None:
    """No cycle among the imports that run when modules are loaded."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in sources(package)
    }
    needs: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = {found.name for found in imports_of(path) if found.at_start and not found.typing_only}
        targets = {name if name in modules else name.rpartition(".")[0] for name in names}
        needs[module] = (targets & set(modules)) - {module}
    while free := {module for module, targets in needs.items() if not targets & set(needs)}:
        for module in free:
            del needs[module]
    assert needs == {}, "these modules import each other in a circle"
