"""The simulated Label Studio that a large pool is put in front of: what it is asked does not depend on the pool."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.speed import million


@pytest.mark.long
def test_a_cycle_asks_for_as_much_of_a_large_pool_as_of_a_small_one(tmp_path: Path) -> None:
    results = [million.run(tmp_path / str(rows), rows, 4) for rows in (2_000, 6_000)]
    small, large = (result["cycles"][1:] for result in results)
    counted = ("project", "changed", "annotated_since", "update_project", "model_versions", "predictions")
    for one, other in zip(small, large, strict=True):
        assert [one["calls"].get(name) for name in counted] == [other["calls"].get(name) for name in counted]
        assert other["calls"].get("tasks") is None  # nothing was listed whole
        assert 100 <= other["calls"]["create_prediction"] <= 400
        assert abs(one["calls"]["create_prediction"] - other["calls"]["create_prediction"]) < 100
    first, second = million.report(results).splitlines()[-2:]
    assert first.startswith("| 2,000 |") and second.startswith("| 6,000 |")
    calls = [sum(one["calls"].values()) for one in results[1]["cycles"][2:]]
    assert f"| {min(calls)} … {max(calls)} |" in second
