"""What the benchmark of Label Studio's processes counts. Its servers are tried in the integration tests."""

from __future__ import annotations

import pytest

from benchmarks import label_studio
from benchmarks.scale import PROCESSES, RESULTS
from tests.docs.markdown import ROOT


def test_a_task_that_was_served_again_is_counted() -> None:
    assert label_studio.twice([4, 2, 9]) == 0
    assert label_studio.twice([4, 2, 4, 4]) == 2


@pytest.mark.parametrize(
    ("served", "places"),
    [
        ([7, 5, 3, 1], 0),
        ([5, 7, 1, 3], 1),  # neighbors that changed places, as two people do
        ([7, 1, 5, 3], 2),
        ([7, 7, 5, 3], 0),  # what is served twice does not put the others out of order
        ([7, 99], 3),  # it has no prediction: behind all that have one
        ([], 0),
    ],
)
def test_how_far_the_order_was_left(served: list[int], places: int) -> None:
    assert label_studio.early(served, [7, 5, 3, 1]) == places


def test_the_numbers_of_processes_are_read_from_one_word() -> None:
    assert label_studio.counts_of("1,2,4") == [1, 2, 4]
    assert label_studio.counts_of("") == []


@pytest.mark.parametrize("arguments", [["--processes", "0"], ["--processes", "two"], ["--head", "999"]])
def test_what_cannot_be_measured_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        label_studio.main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m benchmarks label-studio" in capsys.readouterr().err


def test_without_the_programs_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.rig.scaled_studio._program", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        label_studio.main([])
    assert ended.value.code == 1
    assert "apt-get install nginx-light redis-server" in capsys.readouterr().err


def test_the_documentation_says_what_was_measured() -> None:
    def cells(page: str) -> dict[str, list[str]]:
        lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
        return {name.removesuffix(", as in the file"): rest for name, *rest in lines}

    measured = cells((RESULTS / PROCESSES).read_text())
    page = (ROOT / "docs" / "operations.md").read_text()
    shown = cells(page[page.index("**What it brings**") : page.index("One process computes")])
    heads = list(label_studio.HEADS[1:])
    for name in measured.keys() & shown.keys():
        row = dict(zip(heads, measured[name], strict=True))
        assert shown[name] == [row["core s a label"], f"{row['served twice']} of {row['labels']}"]
    assert len(measured.keys() & shown.keys()) == 3
