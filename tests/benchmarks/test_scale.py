"""Plans of large projects: from what was measured, in proportion."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import scale


def rows(*arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """What is planned → when, how much, and from what."""
    assert scale.main(arguments) == 0
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    return {name: [when, *rest] for when, name, *rest in lines[1:]}


def test_a_page_that_says_the_constants_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, so that a column that moves is noticed."""
    (tmp_path / "bench-features.md").write_text(
        "| scoring kept features ÷ a bare loop | 2.0; 2.50 s | 1.7 … 2.2 | ≤ 5 s | met | 1 ÷ 2 s |\n"
        "- **photographs**: a cycle takes 0.28 s; embedding took 40 ms an image, decoding included.\n"
    )
    (tmp_path / "large-projects.md").write_text(
        "| 200,000 | a table of another kind |\n"
        "| 1,000,000 | 20.0 | 5.00 (4.89 … 6.24) | 2.00, 1.92, 1.25, 0.24 | 710 | 162 MiB, 200 MiB | 50 ms |\n"
        "## What Label Studio alone costs\n"
        "| 200,000 | 0.80 | 0.20, 0.34 | 0.30, 0.42 | 0.70, 0.97 |\n"
    )
    (tmp_path / "label-studio-processes.md").write_text(
        "| 2 processes | 1.3 | 3.02, 5.02 | 2.77, 4.43 | 0.50 + 0.20 | 67 |\n"
        "| 4 processes | 2.0 | 1.94, 3.48 | 1.70, 4.45 | 0.60 + 0.25 | 92 |\n"
    )
    monkeypatch.setattr(scale, "RESULTS", tmp_path)
    found = {name: (one.value, one.at) for name, one in scale.measured().items()}
    assert found == {
        "import": (0.8, 1e3),
        "next": (0.2, 2e5),
        "submit": (0.3, 2e5),
        "label": (0.85, 5e3),
        "first read": (20.0, 1e6),
        "cycle": (5.0, 1e6),
        "memory": (200.0, 1e6),
        "embed": (0.04, 1),
        "score": (2.5, 1e6),
    }
    (tmp_path / "bench-features.md").write_text("| scoring has another name now |\n")
    with pytest.raises(ValueError, match="nothing in the results reads"):
        scale.measured()


def test_ten_times_the_images_take_ten_times_as_much(capsys: pytest.CaptureFixture[str]) -> None:
    small = rows("--images", "1000000", capsys=capsys)
    large = rows("--images", "10000000", capsys=capsys)
    assert small["features, float16"][1] == "3.6 GB" and large["features, float16"][1] == "35.5 GB"
    assert small["image cache, uint8"][1] == "150.5 GB" and large["image cache, uint8"][1] == "1.5 TB"
    assert large["scoring"][0] == "each cycle" and "× 10" in large["scoring"][2] and "× 1" in small["scoring"][2]


def test_people_need_processes_of_label_studio(capsys: pytest.CaptureFixture[str]) -> None:
    known = scale.measured()
    busy = known["next"].value + known["submit"].value
    few = rows("--annotators", "1", "--seconds", "60", capsys=capsys)
    many = rows("--annotators", "1000", "--seconds", "1", "--labels", "5000", capsys=capsys)
    name = "processes of Label Studio that serve and store them"
    assert few[name][1] == "1" and float(many[name][1].replace(",", "")) == pytest.approx(1000 * busy, abs=1)
    cores = "cores for them, PostgreSQL, Redis and the job workers included"
    assert few[cores][1] == "1"
    assert float(many[cores][1].replace(",", "")) == pytest.approx(1000 * known["label"].value, abs=1)
    assert many["time from one cycle to the next"][1] == "5.0 s"


@pytest.mark.parametrize("wrong", [("--images", "0"), ("--seconds", "-1"), ("--price", "-1")])
def test_a_project_of_nothing_is_refused(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        scale.main(wrong)
    assert "above 0" in capsys.readouterr().err
