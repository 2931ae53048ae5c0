"""The threat model names tests that there are, one for each line."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.markdown import ROOT, rows

LINES = rows((ROOT / "SECURITY.md").read_text().split("## What holds")[1].split("\n## ")[0])


def test_it_has_lines() -> None:
    assert len(LINES) > 10
    assert all(len(line) == 3 for line in LINES)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_each_line_is_held_by_a_test(line: list[str]) -> None:
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", line[2])
    assert named
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (path, name)
