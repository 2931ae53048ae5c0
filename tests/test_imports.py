"""The house's rooms, who may enter whom, and how large a module may be, read from the source.

The design's table in code: a newcomer who breaks it hears about it here, with the line. A room is a folder, or a file
that stands beside the folders of its package. Imports under `if TYPE_CHECKING:` do not run, and count only where the
outside has one door and for what a package may import at all.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("backend", "models", "samplers", "demo", "benchmarks", "tests/rig")
PRODUCT = ("backend", "models", "samplers")

# Top-level names that a package may import besides the standard library; those that are not here, any.
MAY_IMPORT = {
    "models": {"models", "torch", "torchvision", "timm", "safetensors", "numpy", "scipy", "faiss"},
    "samplers": {"samplers", "models", "torch", "numpy"},
}

# Room -> the rooms of its package that it may enter. From the bottom up: a room enters only what stands above it here,
# save for the pairs in MUTUAL.
BACKEND: dict[str, set[str]] = {
    "errors": set(),
    "ending": set(),
    "plain": set(),
    "logs": {"plain"},
    "files": set(),
    "memory": {"errors"},
    "settings": {"errors"},
    "control": set(),
    "state": {"errors", "plain"},
    "labelstudio": {"errors", "memory"},
    "images": {"errors", "files", "labelstudio", "memory", "settings"},
    "store": {"errors", "files", "images", "settings", "state"},
    "tasks": {"errors", "files", "images", "labelstudio", "plain", "settings", "state"},
    "learning": {"control", "errors", "files", "images", "settings", "state", "tasks"},
    "engine": {"errors", "memory"},
    "events": {"errors", "state"},
    "head": {"settings", "state"},
    "backup": {"errors", "files", "settings", "state", "store"},
    "adoption": {"errors", "labelstudio", "settings", "state", "tasks"},
    "exposure": {"settings"},
    "reporting": {"control", "errors", "exposure", "files", "head", "settings", "state", "store", "tasks"},
    "replay": {
        *("control", "errors", "files", "images", "learning", "plain", "reporting", "settings", "state", "tasks"),
    },
    "joining": {"files", "images", "learning", "state", "worker"},
    "cycle": {
        *("control", "errors", "files", "head", "images", "joining", "learning", "reporting"),
        *("settings", "state", "tasks", "worker"),
    },
    "worker": {
        *("adoption", "control", "cycle", "engine", "errors", "events", "files", "head", "images", "joining"),
        *("labelstudio", "learning", "memory", "replay", "reporting", "settings", "state", "store", "tasks"),
    },
    "supervisor": {"errors", "logs"},
    "web": {
        *("adoption", "control", "errors", "events", "exposure", "files", "images", "labelstudio", "learning", "logs"),
        *("memory", "plain", "reporting", "settings", "state", "store", "supervisor", "tasks"),
    },
    "_wsgi": {"web"},
    "status": {"plain", "reporting"},
    "arguments": set(),
    "__main__": {
        *("adoption", "arguments", "backup", "ending", "errors", "exposure", "files", "logs", "plain", "replay"),
        *("reporting", "settings", "state", "status", "supervisor", "tasks", "worker"),
    },
}
MODELS: dict[str, set[str]] = {
    "files": set(),
    "annotators": set(),
    "lending": set(),
    "deadline": set(),
    "data": {"deadline", "lending"},
    "pixels": set(),
    "checkpoint": {"files"},
    "intervals": set(),
    "threads": set(),
    "geometry": {"data", "files", "threads"},
    "index_masks": {"data", "inference"},
    "networks": {"data", "geometry", "inference", "pixels"},
    "inference": {"data", "deadline", "geometry", "lending", "networks", "pixels"},
    "losses": {"data", "index_masks", "inference", "networks", "pixels", "training"},
    "training": {
        *(
            "data",
            "deadline",
            "geometry",
            "index_masks",
            "inference",
            "intervals",
            "losses",
            "networks",
            "pixels",
            "tasks",
        ),
        "threads",
    },
    "tasks": {"data", "index_masks", "inference", "losses", "networks", "training"},
}
# Rooms of which parts stand on each other: no circle of modules comes of it, as the last test sees.
MUTUAL = [
    {"joining", "worker"},  # tasks join an order in a job of the worker's
    {"cycle", "worker"},  # the one story calls the publisher, and the worker calls the one story
    {"index_masks", "inference", "networks"},  # networks stream their batches as inference does
    {"losses", "training", "tasks"},  # an objective is asked for by what it is trained in
]
# Rooms that do not belong to the product, and what they may enter of each other.
WORKSHOP: dict[str, set[str]] = {
    "tests.rig": set(),
    "benchmarks.data": set(),
    "demo": {"benchmarks.data", "tests.rig"},
    "benchmarks.speed": {"benchmarks.data", "demo", "tests.rig"},
    "benchmarks.curves": {"benchmarks.data", "benchmarks.speed", "demo"},
    "benchmarks.copies": {"benchmarks.data", "benchmarks.speed"},
    "benchmarks.scale": set(),
    "benchmarks.gan": {"benchmarks.curves", "benchmarks.data"},
    "benchmarks.gpu": {"benchmarks.data", "benchmarks.speed"},
    "benchmarks.label_studio": {"benchmarks.speed", "demo", "tests.rig"},
    "benchmarks.neighbors": {"benchmarks.speed"},
    "benchmarks.papers": {"benchmarks.curves", "benchmarks.data", "benchmarks.speed"},
    "benchmarks.replay": set(),
    "benchmarks.__main__": {
        *("benchmarks.copies", "benchmarks.curves", "benchmarks.data", "benchmarks.gan", "benchmarks.gpu"),
        *("benchmarks.label_studio", "benchmarks.neighbors", "benchmarks.papers", "benchmarks.replay"),
        "benchmarks.scale",
        "benchmarks.speed",
    },
}

LARGEST_MODULE = 300
"""Lines of a module. One that has more usually has two subjects: take out the one that a reader would look for under
another name."""

# What only these modules and folders of backend/ may import: one place to look when the outside changes.
ONLY_IN: dict[str, set[str]] = {
    "label_studio_sdk": {"tasks"},  # parses label configs, talks to nobody
    "label_studio_tools": {"labelstudio"},
    "requests": {"labelstudio"},
    "httpx": {"labelstudio"},
    "jwt": {"labelstudio"},
    "urllib.request": {"labelstudio"},
    "sqlalchemy": {"state"},
    "sqlite3": {"state"},
    "psycopg": {"state"},
    "prometheus_client": {"web.acceptance_metrics", "web.control_metrics", "web.metrics", "web.team_metrics"},
    "PIL": {"images.decoding", "images.encoding", "images.thumbnails"},
    "cv2": {"tasks.segmentation"},
    "ray": {"engine"},
    "waitress": {"web.door"},
    "label_studio_ml": {"web.app", "web.compat", "web.plugin"},
    "flask": {
        *("web.accept", "web.app", "web.body", "web.compat", "web.errors", "web.plugin"),
        *("web.pages.answers", "web.pages.routes"),
    },
    "jinja2": {"web.pages.rendering"},
}

# Only these rooms of backend/ need torch when they are imported: it takes seconds and hundreds of megabytes, which
# neither the web process at its start nor an idle worker should pay. These few names of models/ come without it.
WITH_TORCH = {"cycle", "engine", "joining", "learning", "replay"}
WITHOUT_TORCH = {
    *("models.IGNORE", "models.ProgressFn", "models.intervals.student_deviations", "models.intervals.wilson_interval"),
    *(f"models.files.{name}" for name in ("DRAFT", "replace_file", "sync_folder", "whole_file")),
    *("models.lending.Lend", "models.lending.Lent"),
    *("models.intervals.exact_interval", "models.annotators.votes.weighed_votes"),
    *(f"models.annotators.agreement.{name}" for name in ("cohens_kappa", "jaccard", "krippendorffs_alpha")),
}


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
    def importer(self) -> str:
        """The module that it stands in, dotted in full."""
        return module_of(self.path)

    def is_within(self, module: str) -> bool:
        return within(self.name, module)


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str, package: str) -> str | None:
    """The room of ``package`` that a module or a name in it belongs to; None where it is the package's own face."""
    parts = module.removeprefix(package).strip(".").split(".")
    inside = ROOT / package.replace(".", "/") / parts[0]
    return parts[0] if parts[0] and (inside.is_dir() or inside.with_suffix(".py").is_file()) else None


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


def entered(package: str, room: str) -> list[tuple[str, Import]]:
    """(room, import) for each room of ``package`` that a room of it enters when it runs."""
    found = []
    for one in all_imports(package):
        if room_of(one.importer, package) == room and one.is_within(package) and not one.typing_only:
            other = room_of(one.name, package)
            if other is not None and other != room:
                found.append((other, one))
    return found


def test_the_reader_of_imports_sees_every_form() -> None:
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
    assert {found.importer for found in seen} == {"backend.state.probe"}


@pytest.mark.parametrize(
    ("module", "package", "room"),
    [
        ("backend.tasks.segmentation.masks", "backend", "tasks"),
        ("backend.tasks", "backend", "tasks"),
        ("backend.errors.OwnerError", "backend", "errors"),
        ("backend.__main__", "backend", "__main__"),
        ("backend.__version__", "backend", None),
        ("backend", "backend", None),
        ("models.IGNORE", "models", None),
    ],
)
def test_a_room_is_a_folder_or_a_file_beside_the_folders(module: str, package: str, room: str | None) -> None:
    assert room_of(module, package) == room


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_models_and_samplers_import_only_what_they_may(package: str) -> None:
    allowed = MAY_IMPORT[package] | set(sys.stdlib_module_names)
    assert [str(found) for found in all_imports(package) if found.name.split(".")[0] not in allowed] == []


def test_the_index_of_neighbors_has_one_door() -> None:
    """faiss, which nothing loads before it is needed."""
    users = [found for package in PACKAGES for found in all_imports(package) if found.is_within("faiss")]
    assert {(found.importer, found.at_start) for found in users} == {("models.geometry.neighbor_index", False)}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_models_and_samplers_never_read_the_environment(package: str) -> None:
    reads = []
    for path in sources(package):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "attr", None) or getattr(node, "id", None) or getattr(node, "name", None)
            if name in ("environ", "environb", "getenv"):
                reads.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', '?')}")
    assert reads == []


def test_the_product_needs_neither_demo_nor_benchmarks_nor_tests() -> None:
    outside = [
        str(found)
        for package in PRODUCT
        for found in all_imports(package)
        if any(found.is_within(name) for name in ("demo", "benchmarks", "tests"))
    ]
    assert outside == []


@pytest.mark.parametrize(("package", "table"), [("backend", BACKEND), ("models", MODELS)])
def test_the_table_names_every_room(package: str, table: Mapping[str, set[str]]) -> None:
    rooms = {room for path in sources(package) if (room := room_of(module_of(path), package))}
    assert set(table) == rooms
    assert {room for entered in table.values() for room in entered} <= rooms


def test_what_is_said_of_rooms_is_said_of_rooms_that_exist() -> None:
    assert set(BACKEND) >= WITH_TORCH
    assert all(pair <= set(BACKEND) or pair <= set(MODELS) for pair in MUTUAL)
    doors = {f"backend.{door}" for found in ONLY_IN.values() for door in found}
    modules = {module_of(path) for path in sources("backend")}
    assert doors <= modules


@pytest.mark.parametrize(
    ("package", "room"), [("backend", room) for room in BACKEND] + [("models", room) for room in MODELS]
)
def test_rooms_enter_only_those_they_may(package: str, room: str) -> None:
    allowed = {"backend": BACKEND, "models": MODELS}[package][room]
    assert [str(found) for other, found in entered(package, room) if other not in allowed] == []


@pytest.mark.parametrize("table", [BACKEND, MODELS], ids=["backend", "models"])
def test_the_table_goes_in_one_direction(table: Mapping[str, set[str]]) -> None:
    place = {room: number for number, room in enumerate(table)}
    upwards = [
        (room, other)
        for room, may_enter in table.items()
        for other in may_enter
        if place[other] > place[room] and not any({room, other} <= pair for pair in MUTUAL)
    ]
    assert upwards == []


@pytest.mark.parametrize("room", WORKSHOP)
def test_demo_benchmarks_and_rig_stand_on_top(room: str) -> None:
    """They may use all of the product, and of each other what the table says."""
    package = room.replace(".", "/") if (ROOT / room.replace(".", "/")).is_dir() else room.split(".")[0]
    allowed = {*PRODUCT, *WORKSHOP[room], room}
    wrong = [
        str(found)
        for found in all_imports(package)
        if within(found.importer, room) and found.name.split(".")[0] in (*PRODUCT, "demo", "benchmarks", "tests")
        if not any(found.is_within(name) for name in allowed)
    ]
    assert wrong == []


def test_the_workshop_is_all_that_is_not_the_product() -> None:
    modules = {module_of(path) for package in ("demo", "benchmarks", "tests/rig") for path in sources(package)}
    beside = {module for module in modules if not any(within(module, room) for room in WORKSHOP)}
    assert beside == {"benchmarks"}


@pytest.mark.parametrize("module", ONLY_IN)
def test_the_outside_has_one_door(module: str) -> None:
    special = [name for name in ONLY_IN if name.startswith(module + ".")]
    wrong = [
        str(found)
        for found in all_imports("backend")
        if found.is_within(module)
        and not any(found.is_within(name) for name in special)
        and not any(within(found.importer, f"backend.{door}") for door in ONLY_IN[module])
    ]
    assert wrong == []


def test_only_the_cycle_and_what_it_is_made_of_need_torch_at_start() -> None:
    heavy = ("torch", "torchvision", "models", *(f"backend.{room}" for room in WITH_TORCH))
    wrong = [
        str(found)
        for found in all_imports("backend")
        if found.at_start and not found.typing_only and room_of(found.importer, "backend") not in WITH_TORCH
        if found.name not in WITHOUT_TORCH and any(found.is_within(name) for name in heavy)
    ]
    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_has_one_subject_that_fits_three_hundred_lines(package: str) -> None:
    lines = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in sources(package)}
    assert {str(path): count for path, count in lines.items() if count > LARGEST_MODULE} == {}


SLOW_IN_TORCH = {"torchvision", "torch._dynamo", "torch._inductor", "sympy"}
"""What comes with `import torchvision`: as much processor time again as torch itself."""
HEAVY = {"torch", "torchvision", "cv2", "PIL", "label_studio_sdk.label_interface"}


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        (("backend.web.app", "backend.tasks"), HEAVY),
        (("backend.worker.worker", "demo.run", "samplers", "models.intervals"), {"torch", "torchvision", "cv2"}),
        (("backend.cycle", "backend.learning.learner"), {*SLOW_IN_TORCH, "cv2"}),
        (("models.geometry.typical",), {"faiss"}),
        (("models",), {"torch", "torchvision", "numpy"}),
    ],
)
def test_what_is_loaded_at_once_loads_nothing_heavy(modules: tuple[str, ...], without: set[str]) -> None:
    """The web process and an idle worker start small, and a table of samplers is read in no time: what these modules
    import in the end, not only by name."""
    code = f"import sys, {', '.join(modules)}; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert set(modules) <= loaded
    assert without & loaded == set()


def test_a_network_of_our_own_predicts_without_torchvision() -> None:
    """It is loaded for pretrained weights and for the networks that are its own, no sooner. (Training loads
    torch._dynamo, with torch's optimizers.)"""
    code = """
        import sys
        import numpy as np
        import torch
        from models.data import Runtime
        from models.inference.predictions import predict
        from models.networks.classifier import NetConfig
        from models.networks.segmenter import SegmenterConfig
        from models.tasks import task_named

        nets = {"classification": [NetConfig("resnet18", 3, 32, 4), NetConfig("vgg16-bn", 3, 32, 4)]}
        nets["segmentation"] = [SegmenterConfig("drn-d-22", 3, 1)]
        for task, configs in nets.items():
            for config in configs:
                net = task_named(task).build(config, 0)
                predict(net, np.zeros((2, 32, 32, 3), np.uint8), np.arange(2), Runtime(torch.device("cpu"), 0))
        print(*sorted(sys.modules))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    # torch takes sympy when it moves a network from the meta device
    assert set(done.stdout.split()) & SLOW_IN_TORCH <= {"sympy"}


def test_modules_import_each_other_in_one_direction() -> None:
    """No cycle among the imports that run when modules are loaded."""
    modules = {module_of(path): path for package in PACKAGES for path in sources(package)}
    needs: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = {found.name for found in imports_of(path) if found.at_start and not found.typing_only}
        targets = {name if name in modules else name.rpartition(".")[0] for name in names}
        needs[module] = (targets & set(modules)) - {module}
    while free := {module for module, targets in needs.items() if not targets & set(needs)}:
        for module in free:
            del needs[module]
    while above := set(needs) - set().union(*needs.values()):  # stand on a circle, and are in none
        for module in above:
            del needs[module]
    assert needs == {}, "these modules import each other in a circle"
