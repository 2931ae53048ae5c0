"""The figures in docs/results.md are those that the benchmarks stored, rounded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backend.reporting.comparison import compared
from backend.settings.core import Settings
from benchmarks.curves import suite
from benchmarks.curves.versus import at_of, first_order_gains
from tests.docs.markdown import ROOT, between, rows

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"
CURVES = {"curves": "fashion-mnist", "curves-segmentation": "fashion-scenes"}
VERDICTS = {"+": "**ahead**", "~": "within the noise", "−": "not ahead", "": "baseline"}


def stored_curves(folder: str) -> dict[str, list[str]]:
    """Sampler → its row in the table that the benchmark wrote."""
    found = rows((RESULTS / "curves" / folder / "curves.md").read_text())
    return {row[0].strip("*"): row for row in found}


def numbers(text: str) -> list[float]:
    """The numbers in a cell: "+2.42 ± 0.33" → [2.42, 0.33]."""
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text.replace("−", "-").replace(",", ""))]


def same(shown: str, stored: str) -> bool:
    """Whether ``shown`` is ``stored`` with fewer digits."""
    digits = len(shown.partition(".")[2].split(" ")[0])
    pairs = zip(numbers(shown), numbers(stored), strict=True)
    return all(abs(ours - theirs) <= 0.51 * 10**-digits + 0.005 for ours, theirs in pairs)


@pytest.mark.parametrize(("shown", "stored", "equal"), [
    ("84.0 ± 0.4", "84.05 ± 0.38", True),
    ("+2.4 ± 0.3", "+2.42 ± 0.33", True),
    ("−1.3 ± 1.6", "+1.27 ± 1.64", False),
    ("84.0 ± 0.4", "84.15 ± 0.38", False),
    ("891", "891 MiB", True),
    ("891", "893 MiB", False),
])  # fmt: skip
def test_figures_are_compared_as_rounded(shown: str, stored: str, equal: bool) -> None:
    assert same(shown, stored) is equal


@pytest.mark.parametrize("name", CURVES)
def test_the_tables_of_curves_are_those_that_were_measured(name: str) -> None:
    stored = stored_curves(CURVES[name])
    shown = {row[0].strip("`"): row for row in rows(between(PAGE.read_text(), name))}
    assert shown.keys() == stored.keys()
    final = 4  # column of the final accuracy or mean IoU; segmentation has the pixel accuracy behind it
    labels = 5 if name == "curves" else 6
    for sampler, row in shown.items():
        found = stored[sampler]
        assert same(row[1], found[final]), row
        assert same(row[2], found[2]), row
        assert row[3] == VERDICTS[found[3]], row
        assert row[4] == found[labels].replace("not reached", "never"), row


def test_seconds_and_memory_are_those_that_were_measured() -> None:
    stored = stored_curves("fashion-mnist")
    for row in rows(between(PAGE.read_text(), "curves")):
        found = stored[row[0].strip("`")]
        train, fit = float(found[6]), float(found[7])
        assert abs(float(row[5]) - (train + fit)) <= 0.6, row
        assert same(row[6], found[8]) and same(row[7], found[9]), row


def test_the_rows_of_the_speed_table_are_those_that_were_measured() -> None:
    files: list[Path] = [RESULTS / "bench.md", RESULTS / "bench-segmentation.md"]
    stored = [line for path in files for line in path.read_text().splitlines()]
    lines = [line for line in between(PAGE.read_text(), "bench").splitlines() if line.startswith("| ")]
    assert len(lines) == 1 + 7
    assert [line for line in lines if line not in stored] == []


def test_the_rows_of_heads_and_features_are_those_that_were_measured() -> None:
    stored = (RESULTS / "bench-features.md").read_text().splitlines()
    lines = [line for line in between(PAGE.read_text(), "bench-features").splitlines() if line.startswith("| ")]
    assert len(lines) == 1 + 7 and [line for line in lines if line not in stored] == []


def test_the_readme_quotes_what_was_measured() -> None:
    """What the first order is ahead, and the labels that two samplers save; the default is the best one, and ahead of
    random order wherever it was played."""
    found, ahead = {}, {}
    for name in ("fashion-mnist", "digits", "fashion-mnist-x100", "fashion-mnist-copies", "photographs"):
        results = suite.stored()[name]
        labels = results.plan.labels()
        found[name] = {one.arm: one for one in compared(labels, results.curves(), at_of(labels))}
        gains = first_order_gains(results.plan, results.curves())
        ahead[name] = {count: round(100 * gain.value) for count, (_, _, gain) in gains.items()}
    best = max(found["fashion-mnist"].values(), key=lambda one: one.gain.mean).arm
    saved = {arm: [f"{100 * of[arm].saved.value:.0f} %" for of in found.values()] for arm in (best, "dast-al")}
    assert all(of[best].verdict == "+" for of in found.values())
    readme = " ".join((ROOT / "README.md").read_text().split())
    first, second, *_, photographs = saved[best]
    assert f"On photographs it needed {photographs} fewer than random's 200." in readme
    assert best == Settings.sampler
    assert f"**From there to some hundreds, `{best}`, the default for classification.**" in readme
    assert f"it needed {first} fewer labels than random's 400 on Fashion-MNIST, and {second} fewer on digits" in readme
    assert "`dast-al` saved {} and {}.".format(*saved["dast-al"][:2]) in readme
    late = suite.stored()["fashion-mnist-by-500"]
    labels = late.plan.labels()
    spared = {one.arm: f"{100 * one.saved.value:.0f} %" for one in compared(labels, late.curves(), at_of(labels))}
    assert f"`margin`, which costs nothing, needed {spared['margin']} fewer than random's {labels[-1]:,}" in readme
    assert f"`uherding` {spared['uherding']}." in readme
    points = ahead["fashion-mnist"]
    assert f"it was {points[20]} points ahead of random labels at 20, and {points[50]} at 50" in readme
