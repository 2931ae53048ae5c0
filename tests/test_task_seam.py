"""Nobody outside the folders of tasks asks which kind of task it is: a new kind is one folder on either side.

Read from the source. What differs between kinds is a method of :class:`backend.tasks.base.TaskKind` or
:class:`models.tasks.base.Task`, or a table by name where even those should not know of it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ASKED = ("backend", "models", "samplers", "demo", "benchmarks")
HOME = ("backend/tasks", "models/tasks")
"""Where the question may be asked."""

KIND_NAMES = frozenset({"classification", "multilabel", "segmentation"})

# Arrays whose number of dimensions says nothing of the kind of task, by file; outputs of a network are not among them.
DIMENSIONS_OF = {
    "models/data.py": {"pixels", "masks", "rows"},  # checked for what every kind hands over
    "models/losses/isda.py": {"covariance"},  # diagonal or full
    "benchmarks/data/image_sets.py": {"images"},  # gray or in color
    "benchmarks/data/copies.py": {"image"},  # the same
    "benchmarks/data/mask_folders.py": {"values"},
}


def source_files(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(found) >= len(folders), "is the test looking in the right place?"
    return found


@cache
def classes_of_one_kind() -> frozenset[str]:
    """Names of the classes that stand for one kind of task: those in the folders of tasks, and the networks, their
    configurations and the targets of each."""
    found: set[str] = set()
    for path in source_files(*HOME):
        if path.stem not in ("base", "records"):
            found |= {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)}
    for path in [*source_files("models/networks"), ROOT / "models" / "data.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                if bases & {"TaskNet", "TaskConfig", "Targets"}:
                    found.add(node.name)
    return frozenset(found)


def last_name(node: ast.AST) -> str:
    """``masks`` of ``data.targets.masks``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def names_a_kind(node: ast.AST) -> bool:
    """The name of a kind of task, or several of them."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(names_a_kind(item) for item in node.elts)
    if isinstance(node, ast.Attribute) and node.attr in ("name", "task"):
        return last_name(node.value) in classes_of_one_kind() | {name.upper() for name in KIND_NAMES}
    return isinstance(node, ast.Constant) and node.value in KIND_NAMES


def is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def questions(tree: ast.AST, dimensions_of: frozenset[str] | set[str] = frozenset()) -> Iterator[tuple[int, str]]:
    """(line, words) of each place that asks for the kind of task."""
    kinds = classes_of_one_kind()
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Call) and last_name(node.func) in ("isinstance", "issubclass") and len(node.args) == 2:
            asked = {last_name(part) for part in ast.walk(node.args[1])} & kinds
            if asked:
                yield line, f"asks for {', '.join(sorted(asked))}"
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(names_a_kind(side) for side in sides):
                yield line, "compares with the name of a kind of task"
            elif any(last_name(side) in kinds for side in sides):
                yield line, "compares with a class of one kind"
            elif any(is_none(side) for side in sides) and any(last_name(side) == "masks" for side in sides):
                yield line, "asks whether there are masks"
        elif isinstance(node, ast.MatchValue) and names_a_kind(node.value):
            yield line, "matches the name of a kind of task"
        elif isinstance(node, ast.MatchClass) and last_name(node.cls) in kinds:
            yield line, "matches a class of one kind"
        elif isinstance(node, ast.Attribute) and node.attr in ("dim", "ndim") and asks_dimensions(node, dimensions_of):
            yield line, f"asks for the dimensions of {last_name(node.value) or 'something'}"
        elif isinstance(node, ast.Call) and last_name(node.func) == "len" and node.args:
            shape = node.args[0]
            if isinstance(shape, ast.Attribute) and shape.attr == "shape" and asks_dimensions(shape, dimensions_of):
                yield line, f"asks for the dimensions of {last_name(shape.value) or 'something'}"


def asks_dimensions(node: ast.Attribute, dimensions_of: frozenset[str] | set[str]) -> bool:
    return last_name(node.value) not in dimensions_of


@pytest.mark.parametrize(
    "line",
    [
        "isinstance(spec, SegmentationSpec)",
        "not isinstance(net, Segmenter)",
        "isinstance(self.learner.net, (Classifier, Other))",
        "isinstance(config, networks.SegmenterConfig | NetConfig)",
        "isinstance(data.targets, MaskTargets)",
        "issubclass(kind, Multilabel)",
        "type(spec) is ChoicesSpec",
        'task == "segmentation"',
        '"classification" != learner.task',
        'data.task in ("segmentation", "multilabel")',
        'settings.task not in {"classification"}',
        "learner.task == Segmentation.name",
        "net.task.name != SEGMENTATION.name",
        "data.masks is None",
        "masks is not None",
        "logits.dim() == 2",
        "forward.logits.dim() > 2",
        "x.ndim == 4",
        "len(features.shape) == 4",
        "match task:\n    case 'segmentation':\n        pass",
        "match spec:\n    case SegmentationSpec():\n        pass",
    ],
)
def test_every_old_question_is_seen(line: str) -> None:
    """The test below would pass on anything if this reader saw nothing."""
    assert len(list(questions(ast.parse(line)))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "kind.name == version.metrics.get('task')",  # the same kind, whichever it is
        "learner.task != kind.name",
        'KINDS["segmentation"]',
        '{"classification": 256, "segmentation": 16}',
        "isinstance(error, ImageError)",
        "kept is None",
        "torch.cat([one], dim=1)",
        "logits.shape[0]",
        'name == "entropy"',
    ],
)
def test_what_is_none_of_them_is_left_alone(line: str) -> None:
    assert list(questions(ast.parse(line))) == []


def test_the_names_are_those_of_the_table() -> None:
    from backend.tasks import KINDS
    from models.tasks import TASKS

    assert set(KINDS) == set(TASKS) == KIND_NAMES
    assert {kind.__name__ for kind in KINDS.values()} <= classes_of_one_kind()
    assert {"Segmenter", "Classifier", "MaskTargets", "SegmenterConfig", "ChoicesSpec"} <= classes_of_one_kind()


def test_nobody_outside_the_folders_of_tasks_asks_which_kind_of_task_it_is() -> None:
    asked = []
    for path in source_files(*ASKED):
        place = str(path.relative_to(ROOT))
        if not place.startswith(tuple(f"{folder}/" for folder in HOME)):
            found = questions(ast.parse(path.read_text()), DIMENSIONS_OF.get(place, frozenset()))
            asked += [f"{place}:{line} {words}" for line, words in found]
    assert not asked, "\n".join(asked)


@pytest.mark.parametrize("place", DIMENSIONS_OF)
def test_what_is_excused_is_there(place: str) -> None:
    found = list(questions(ast.parse((ROOT / place).read_text())))
    assert {words.removeprefix("asks for the dimensions of ") for _, words in found} == DIMENSIONS_OF[place]
