"""What is known of samplers without torch, and that it is torch all the same once they are used."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import models.inference.streaming
from samplers import deferred
from samplers.deferred import Deferred

ROOT = Path(__file__).parents[2]


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return ended.stdout.strip()


def test_the_table_the_options_and_the_settings_are_read_without_torch() -> None:
    loaded = run(
        "import sys, samplers, backend.settings.core as core, backend.settings.table as table\n"
        "table.settings_table(); core.Settings().options()\n"
        "print(len(samplers.SAMPLERS), *sorted(sys.modules))"
    ).split()
    assert int(loaded[0]) > 20
    assert {"samplers.vaal", "samplers.dast_al", "backend.settings.core"} <= set(loaded)
    heavy = ("torch", "torchvision", "models")
    assert [name for name in loaded if name.partition(".")[0] in heavy] == ["models"], "its constants alone"


def test_a_sampler_of_the_table_computes_with_the_real_torch() -> None:
    code = (
        "import sys, samplers\n"
        "sampler = samplers.build_sampler('dast-al', {}, task='classification', num_classes=3, image_size=32)\n"
        "import torch\n"
        "print(type(sampler.table) is torch.Tensor, tuple(sampler.table.shape), 'torch' in sys.modules)"
    )
    assert run(code) == "True (3, 3) True"


def test_every_module_of_models_is_known_to_the_type_checker() -> None:
    """Else mypy would not see `models.a.b.function` in a sampler's file that is the first to use it.

    But for the kinds of task: a sampler asks that of its network and names none.
    """
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "models").rglob("*.py")
        if path.name != "__init__.py"
    } - {place.partition(":")[0] for place in models.TASK_TABLE.values()}
    lines = Path(deferred.__file__).read_text().splitlines()
    listed = [line.split()[1] for line in lines if line.startswith("    import models.")]
    assert set(listed) == modules, "samplers/deferred.py lists the modules of models/"
    assert listed == sorted(listed)


def test_an_attribute_is_the_packages_own_or_its_submodule() -> None:
    packages = Deferred("models"), Deferred("torch")
    assert packages[0].inference.streaming is models.inference.streaming
    assert packages[1].nn.functional is torch.nn.functional
    assert packages[1].Tensor is torch.Tensor
    assert packages[0].IGNORE == 255


def test_looking_at_it_loads_nothing() -> None:
    nowhere = Deferred("no_such_package")
    assert not hasattr(nowhere, "__wrapped__")
    assert isinstance(copy.deepcopy(nowhere), Deferred)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        _ = nowhere.anything
