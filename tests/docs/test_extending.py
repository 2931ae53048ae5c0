"""The recipes of docs/extending.md, followed by the letter in a copy of what they change."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, Page


def blocks(language: str) -> list[str]:
    return [content for name, content in Page.read(ROOT / "docs" / "extending.md").blocks if name == language]


def block(marker: str, language: str = "python") -> str:
    """The one block of code that has this in it."""
    (found,) = (content for content in blocks(language) if marker in content)
    return found + "\n"


def copy(target: Path, *names: str) -> None:
    """A checkout of which these folders may be changed, and the others are the ones of this one."""
    for place in ROOT.iterdir():
        if place.name in names:
            shutil.copytree(place, target / place.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif place.suffix in (".toml", ".md") or (place.is_dir() and not place.name.startswith(".")):
            (target / place.name).symlink_to(place)


def insert(path: Path, before: str, new: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name}: {before}"
    path.write_text(text.replace(before, new + before))


def run(folder: Path, *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=600, check=False
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
    code = "from samplers import SAMPLERS; print(SAMPLERS['ratio'].reason(0.3))"
    assert run(tmp_path, "-c", code).strip() == "another class is nearly as probable as the predicted one"


KIND = """
from pathlib import Path
from backend.settings.core import Settings
from backend.state import StoredPrediction
from backend.tasks import kind_of
from demo.subjects import DEMOS
from tests.backend.tasks.examples import annotation
from tests.backend.tasks.test_contract import run

tree = '<Choice value="fruit"><Choice value="fig"/><Choice value="plum"/></Choice><Choice value="nut"/>'
image = '<Image name="i" value="$image"/>'
kind = kind_of(f'<View>{image}<Taxonomy name="t" toName="i">{tree}</Taxonomy></View>', Settings())
print(kind.name, kind.classes)

def said(*paths):
    return [{"from_name": "t", "to_name": "i", "type": "taxonomy", "value": {"taxonomy": list(paths)}}]

for paths in ([["fruit", "plum"]], [["fruit"]], [["nut"], ["fruit", "fig"]], [], ["nut"], [["nut"]]):
    print(kind.label_of([annotation(1, said(*paths))], "a.png"), end=" ")
(region,) = kind.result(StoredPrediction(1, "v", "fruit > plum", 0.75, 0.5), None)
print("\\n", region)
cycle = run("taxonomy", Path("cycle"))
print(cycle.learner.task, cycle.learner.net.task.name, len(cycle.stored()), DEMOS["taxonomy"].sampler)
"""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kind_of_task_is_a_file_and_a_line_on_each_side(tmp_path: Path) -> None:
    """From the label config to a cycle that trains, as the contract of all kinds has it."""
    copy(tmp_path, "backend", "models", "demo", "tests")
    backend, models, demo = (tmp_path / name for name in ("backend/tasks", "models", "demo/subjects"))
    examples = tmp_path / "tests" / "backend" / "tasks" / "examples.py"
    (backend / "taxonomy.py").write_text(block("class Taxonomy(Classification)"))
    (models / "tasks" / "taxonomy.py").write_text(block("class TaxonomyTask"))
    (demo / "taxonomy.py").write_text(block("class ItemsOfATree"))
    insert(backend / "__init__.py", "\nKINDS", block("from backend.tasks.taxonomy"))
    insert(backend / "__init__.py", '}\n"""By name', block('    "taxonomy": Taxonomy,'))
    insert(models / "__init__.py", '}\n"""The kinds', block("models.tasks.taxonomy:TaxonomyTask"))
    insert(demo / "__init__.py", "\n\n@dataclass", block("import ItemsOfATree"))
    insert(demo / "__init__.py", "    )\n}", block("Demo(ItemsOfATree"))
    insert(examples, "EXAMPLES = {", block("def taxonomy_config") + "\n\n")
    insert(examples, '}\n"""By kind', block("Example(taxonomy_config, picked)"))

    kind, labels, region, cycle = run(tmp_path, "-c", KIND).splitlines()
    assert kind == "taxonomy ('fruit > fig', 'fruit > plum', 'nut')"
    assert labels.split(" None") == ["fruit > plum", "", "", "", " nut "]
    assert "'value': {'taxonomy': [['fruit', 'plum']]}, 'type': 'taxonomy', 'from_name': 't'" in region
    assert cycle == "taxonomy taxonomy 5 uherding"
    assert "one of auto, classification, multilabel, segmentation, taxonomy" in run(
        tmp_path, "-m", "backend", "settings"
    )


PAGE = """
import sys
from backend.settings.core import Settings
from backend.web.app import create_app

app = create_app(Settings(model_dir="data"))
state = app.extensions["services"].state
state.projects.connect(7, "7.1", "<View/>", None, "http://localhost", "token")
state.projects.update(7, title="<b>Pets")
answer = app.test_client().get("/workers")
print(answer.status_code, answer.content_type, "torch" in sys.modules)
print(answer.get_data(as_text=True))
"""


def test_a_page_is_a_template_a_method_and_a_line(tmp_path: Path) -> None:
    copy(tmp_path, "backend")
    pages = tmp_path / "backend" / "web" / "pages"
    (pages / "templates" / "workers.html").write_text(block("<h1>Workers</h1>", "html"))
    insert(pages / "routes.py", "    # -- what they have in common", block("def workers(self)") + "\n")
    insert(pages / "routes.py", '            ("/assets/<name>"', block("self.workers)"))
    status, *lines = run(tmp_path, "-c", PAGE).splitlines()
    assert status == "200 text/html; charset=utf-8 False"
    row = '<tr><th scope="row">7</th><td>&lt;b&gt;Pets</td><td>nobody</td></tr>'
    assert row in lines and "<title>Workers</title>" in lines


@pytest.mark.long
def test_an_image_source_is_a_class_and_a_line(tmp_path: Path) -> None:
    copy(tmp_path, "backend")
    source, settings = (tmp_path / "backend" / name for name in ("images/source.py", "settings/process.py"))
    insert(source, "def sources(", block("class FolderSource") + "\n\n")
    text = source.read_text()
    for line in block("import unquote, unquote_to_bytes").splitlines():
        start = line.rpartition(" import ")[0]
        text = re.sub(rf"^{start} import .*\n", "", text, flags=re.MULTILINE)
        text = text.replace("\nfrom backend.errors", f"{line}\n\nfrom backend.errors", 1)
    source.write_text(text)
    row = block("FolderSource(settings.image_folder)")
    source.write_text(re.sub(r"^    return \(DataUriSource\(\), LabelStudio.*\n", row, source.read_text(), flags=re.M))
    insert(settings, "    log_level: str", block("    image_folder: str"))
    (tmp_path / "test_source.py").write_text(block("def test_images_come_from_the_folder"))
    run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_source.py")
    code = (
        "from backend.images.source import sources; from backend.settings.core import Settings\n"
        "print(sources(None, Settings.from_env({'IMAGE_FOLDER': '/photos'}))[1])"
    )
    assert run(tmp_path, "-c", code).strip() == "FolderSource(folder='/photos')"
