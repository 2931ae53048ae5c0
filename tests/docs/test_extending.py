"""The recipes of docs/extending.md, followed by the letter in a copy of what they change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.docs.markdown import ROOT, Page


def blocks(language: str) -> list[str]:
    return [content for name, content in Page.read(ROOT / "docs" / "extending.md").blocks if name == language]


def run(folder: Path, *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_sampler_is_one_file_and_one_line(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "samplers", tmp_path / "samplers", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("backend", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    file, line = (block for block in blocks("python") if "samplers.ratio" in block or "class RatioSampler" in block)
    (tmp_path / "samplers" / "ratio.py").write_text(file + "\n")
    table = tmp_path / "samplers" / "__init__.py"
    before = '    "samplers.max_prob:MaxProbSampler",\n'
    text = table.read_text()
    assert text.count(before) == 1
    table.write_text(text.replace(before, f"{line}\n{before}"))

    assert "ratio: where another class is nearly as probable" in run(tmp_path, "-m", "backend", "samplers")
    settings = run(tmp_path, "-m", "backend", "settings")
    assert "| `RATIO_RANK` | `ratio_rank` | `2` | 2 to 1000 | Ratio: rank of" in settings
    assert "entropy, ratio, max-prob" in settings
    # p = (4, 2, 1) / 7: the second class has half the probability of the first, the third a quarter
    code = (
        "import math, torch; from samplers.ratio import log_ratio\n"
        "z = torch.tensor([[0.0, math.log(2), math.log(4)]])\n"
        "print([round(math.exp(log_ratio(z, rank).item()), 6) for rank in (2, 3, 9)])"
    )
    assert run(tmp_path, "-c", code).strip() == "[0.5, 0.25, 0.25]"
