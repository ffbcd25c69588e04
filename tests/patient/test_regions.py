"""Boolean recipes of regions."""

import numpy as np
import pytest

from cantlie.core.errors import StructureError
from cantlie.core.grid import Grid
from cantlie.patient.regions import Regions, intersect, joined, minus, union

GRID = Grid((1, 1, 4), (10, 10, 10), (0, 0, 0))


def row(*values):
    return np.array([[values]], dtype=np.float32)


REGIONS = Regions(
    GRID,
    {
        "Liver": row(1, 1, 0.5, 0),
        "GTV_1": row(0.3, 0, 0, 0),
        "GTV_2": row(0, 0.6, 0, 0),
        "Kidney_L": row(0, 0, 0.4, 1),
        "Kidney_R": row(0, 0, 0, 0),
    },
)


def test_volume_of_recipes():
    assert REGIONS.volume_cc("Liver") == pytest.approx(2.5)
    gtv = REGIONS.union("GTV_1", "GTV_2")
    np.testing.assert_allclose(gtv, row(0.3, 0.6, 0, 0))
    remaining = REGIONS.with_region("GTV", gtv).minus("Liver", "GTV")
    np.testing.assert_allclose(remaining, row(0.7, 0.4, 0.5, 0))
    np.testing.assert_allclose(REGIONS.intersect("Liver", "Kidney_L"), row(0, 0, 0.4, 0))
    np.testing.assert_allclose(REGIONS.union("Kidney_L", "Kidney_R"), row(0, 0, 0.4, 1))


def test_union_and_difference_leave_their_inputs_alone():
    a, b = row(1, 0.5, 0, 0), row(0, 0.5, 1, 0)
    for result in (union(a), minus(a), intersect(a), joined(a, b), union(a, b)):
        result[:] = 9
    np.testing.assert_array_equal(a, row(1, 0.5, 0, 0))
    np.testing.assert_allclose(joined(a, b), row(1, 1, 1, 0))


def test_more_than_a_hundred_lesions():
    rng = np.random.default_rng(0)
    masks = {f"GTV_{n}": (rng.random((4, 20, 20)) > 0.99).astype(np.float32) for n in range(123)}
    regions = Regions(Grid((4, 20, 20), (1, 1, 1), (0, 0, 0)), masks)
    np.testing.assert_array_equal(regions.union(*masks), np.max(np.stack(list(masks.values())), axis=0))


def test_unknown_region_and_wrong_shape_are_refused():
    with pytest.raises(StructureError, match="no region is called 'Heart'"):
        REGIONS["Heart"]
    with pytest.raises(StructureError, match="shape"):
        Regions(GRID, {"x": np.zeros((2, 2, 2), dtype=np.float32)})
    assert "liver" in REGIONS and "Heart" not in REGIONS
