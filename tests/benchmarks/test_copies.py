"""What the benchmark of near copies counts, on points of which the cosines are known."""

from __future__ import annotations

import numpy as np
import pytest

from backend.reporting.pool_map import NEAR
from benchmarks.copies import BOUNDS, COPIES, SIDES, table, wrongly_folded
from tests.docs.markdown import ROOT, rows


def at_angle(*degrees: float) -> np.ndarray:
    """Points of length 1 in the plane: the cosine of two is that of the angle between them."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_images_that_are_alike_are_counted_as_folded_wrongly() -> None:
    points = at_angle(0, 10, 90, 180)  # cos 10° = 0.985
    everything = [np.arange(4)] * 2
    assert wrongly_folded(points, everything, 0.98) == 0.25
    assert wrongly_folded(points, everything, 0.99) == 0.0
    assert wrongly_folded(points, [np.array([0, 1]), np.array([0, 2])], 0.98) == 0.25, "half of the first queue"


def test_a_row_has_the_share_of_each_sort_of_copies_from_its_bound_on() -> None:
    points = at_angle(0, 90, 180, 270)
    turned = at_angle(0, 100, 200, 300)  # cosines 1, 0.985, 0.940 and 0.866
    rows = table(points, {"burst": turned}, np.random.default_rng(0))
    found = {row.split(" | ")[0].strip("| "): row.split(" | ")[1:] for row in rows[2:]}
    assert len(found) == len(BOUNDS)
    assert found["0.85"] == ["100.0 %", "0.0 % |"]
    assert found["0.94"] == ["50.0 %", "0.0 % |"], "cos 20° is 0.9397"
    assert found["0.99"] == ["25.0 %", "0.0 % |"]


@pytest.mark.parametrize("sort", COPIES)
def test_a_copy_is_another_picture_of_the_same_size(sort: str) -> None:
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    copy = COPIES[sort](image, np.random.default_rng(2))
    assert copy.shape == image.shape and copy.dtype == np.uint8 and not np.array_equal(copy, image)


def test_the_products_bound_is_the_lowest_that_folds_hardly_any_different_images_in_what_is_stored() -> None:
    """It is chosen by Fashion-MNIST and digits; photographs only check it."""
    stored = (ROOT / "benchmarks" / "results" / "near-copies.md").read_text().split("\n## ")
    sections = {part.split(":")[0]: rows(part) for part in stored[1:]}
    assert set(sections) == set(SIDES)
    wrong = {
        bound: max(
            float(row[-1].split()[0])
            for name in ("fashion-mnist", "digits")
            for row in sections[name]
            if row[0] == f"{bound:.2f}"
        )
        for bound in BOUNDS
    }
    assert min(bound for bound in BOUNDS if wrong[bound] <= 0.1) == NEAR
    (checked,) = [row for row in sections["photographs"] if row[0] == f"{NEAR:.2f}"]
    page = (ROOT / "docs" / "owners-page.md").read_text()
    for cell in checked[1:]:
        assert cell in page, "the documentation has the figures of the check"
