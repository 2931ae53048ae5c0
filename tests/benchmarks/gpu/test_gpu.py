"""The measurement of the papers' cycles: that it runs, refuses in words without a GPU, and counts correctly."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu import classification, command, segmentation
from benchmarks.gpu.shares import flops_of
from benchmarks.gpu.sizes import SMOKE
from models.data import MaskTargets, targets_of
from models.networks.classifier import NetConfig, build_classifier
from models.networks.segmenter import SegmenterConfig, build_segmenter
from tests.rig.processes import REPOSITORY


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_it_refuses_in_words_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 2
    assert "CUDA" in capsys.readouterr().err


def test_a_tiny_version_runs_on_the_cpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SAMPLERS", ["random", "learning-loss"])  # the others take their time
    assert command.main(["--cpu-smoke", "--write", str(tmp_path / "gpu.md")]) == 0
    text = (tmp_path / "gpu.md").read_text()
    assert text.endswith(capsys.readouterr().out)
    rows = table(text)
    names = [cells[0].split(",")[0].strip() for cells in rows]
    costs = ["sampler", "---", "random", "learning-loss"]
    of_masks = ["what", "---", "masks", "masks", "masks"]
    assert names == ["DAST-AL"] * 3 + ["VAAL"] * 2 + costs + of_masks + costs
    for cells in (rows[0], rows[1], rows[3], *rows[11:14]):
        assert float(cells[1]) >= 0 and float(cells[3]) > 0 and re.fullmatch(r" \d+\.\d% ", cells[4])


def table(text: str) -> list[list[str]]:
    return [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")][2:]


def test_costs_of_a_cycle(capsys: pytest.CaptureFixture[str]) -> None:
    """The module of learning loss on ResNet-18 × 4: 4 branches (4 + 8 + 16 + 32 + 4) * 128 and 513, in MiB. DAST-AL
    has no network of its own; a committee of two has one more than the task network."""
    names = ("learning-loss", "dast-al", "ensemble")
    assert command.main(["--cpu-smoke", "--task", "classification", "--costs", *names]) == 0
    rows = table(capsys.readouterr().out)
    parameters = {cells[0].strip(): float(cells[1]) for cells in rows}
    net = build_classifier(NetConfig("resnet18", classification.NUM_CLASSES, classification.SIZE, SMOKE.task_width), 0)
    beside = 4 * sum(parameter.numel() for parameter in net.parameters()) / 2**20
    assert parameters == {
        "learning-loss": round(4 * (64 * 128 + 513) / 2**20, 2),
        "dast-al": 0.0,
        "ensemble": round(beside, 2),
    }
    for _, _, train, fit, score, whole, _ in rows:
        assert min(float(train), float(score)) > 0
        assert float(whole) == pytest.approx(float(train) + float(fit) + float(score), abs=0.02)


def test_costs_of_a_cycle_with_masks(capsys: pytest.CaptureFixture[str]) -> None:
    """Without those that have no meaning for masks. A committee of two has one more DRN-D-22 × 4."""
    assert command.main(["--cpu-smoke", "--task", "segmentation", "--costs", "entropy", "ads", "ensemble", "ceal"]) == 0
    printed = capsys.readouterr().out
    parameters = {cells[0].strip(): float(cells[1]) for cells in table(printed)}
    net = build_segmenter(SegmenterConfig("drn-d-22", segmentation.MASK_CLASSES, SMOKE.mask_width), 0)
    beside = 4 * sum(parameter.numel() for parameter in net.parameters()) / 2**20
    assert parameters == {"entropy": 0.0, "ensemble": round(beside, 2)}
    assert "4 labels of 32 × 64 px" in printed and "images of 32 px" not in printed


def test_patches_and_their_masks_belong_together() -> None:
    """Pixels of a class are alike in all images: their means by the masks differ as the colors do."""
    data = segmentation.patchwork(SMOKE)
    targets = targets_of(data, MaskTargets)
    assert data.frame == (32, 64) and data.num_classes == segmentation.MASK_CLASSES
    assert (len(data.labeled), len(data.unlabeled)) == (4, 6)
    for label in range(segmentation.MASK_CLASSES):
        ours = data.pixels[data.labeled][targets.masks[targets.rows] == label].astype(int)
        if len(ours):
            assert (ours.max(axis=0) - ours.min(axis=0) <= 63).all()  # the noise and nothing else


def test_operations_are_counted_as_the_formula_says() -> None:
    """(8×16) · (16×32) is 8·16·32 multiplications and as many additions."""
    a, b = torch.ones(8, 16), torch.ones(16, 32)
    assert flops_of(lambda: a @ b) == 2 * 8 * 16 * 32


def test_patterns_stand_in_for_a_data_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Images of a class are alike: the mean of each is nearest to its own pattern."""
    monkeypatch.setattr(classification, "DEBIAN", tmp_path / "absent")
    pixels, targets, source = classification.images(600)
    assert pixels.shape == (600, 32, 32, 3) and pixels.dtype == np.uint8 and "noise" in source
    halves = [pixels[part].astype(float) for part in (slice(0, 300), slice(300, 600))]
    means = [
        np.stack([half[targets[part] == number].mean(axis=0) for number in range(10)])
        for half, part in zip(halves, (slice(0, 300), slice(300, 600)), strict=True)
    ]
    distance = ((means[0][:, None] - means[1][None]) ** 2).sum(axis=(2, 3, 4))
    assert distance.argmin(axis=1).tolist() == list(range(10))


@pytest.mark.long
def test_it_needs_nothing_but_numpy_and_torch() -> None:
    """What a lent machine with a GPU does not have is not imported."""
    absent = ("label_studio_sdk", "sqlalchemy", "flask", "requests", "httpx", "rich", "prometheus_client")
    code = (
        f"import sys\nfor name in {absent!r}: sys.modules[name] = None\n"
        "from benchmarks.__main__ import main\nsys.exit(main(['gpu', '--cpu-smoke', '--costs', 'random']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
