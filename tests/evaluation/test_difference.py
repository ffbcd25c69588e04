"""Plain dose differences, by hand."""

import numpy as np
import pytest

from cantlie.core.errors import DoseError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.evaluation.difference import dose_difference

GRID = Grid((4, 4, 4), (2.0, 2.0, 2.0), (0, 0, 0))


def test_dose_difference() -> None:
    values = np.full(GRID.shape, 20.0, dtype=np.float32)
    values[0] = 1.0
    other = values + np.float32(0.5)
    other[3] += 1.0
    result = dose_difference(Volume(GRID, values), Volume(GRID, other))
    assert result.judged == 48
    assert result.mean_gy == pytest.approx(0.5 + 1.0 / 3)
    assert result.largest_gy == pytest.approx(1.5)
    assert result.within_percent == pytest.approx(100 * 2 / 3)
    assert result.lowest_gy == pytest.approx(0.5)
    assert result.rms_gy**2 == pytest.approx(result.mean_gy**2 + result.sd_gy**2)


def test_what_the_evaluated_dose_does_not_reach_is_counted_not_judged() -> None:
    ones = np.ones(GRID.shape, dtype=np.float32)
    half = Volume(Grid((2, 4, 4), GRID.spacing_mm, GRID.origin_mm), 1.1 * ones[:2])
    result = dose_difference(Volume(GRID, ones), half)
    assert (result.judged, result.uncovered) == (32, 32)
    assert result.mean_gy == pytest.approx(0.1)
    assert np.isnan(result.difference.values[2:]).all()
    away = Volume(Grid(GRID.shape, GRID.spacing_mm, (900.0, 0.0, 0.0)), ones)
    with pytest.raises(DoseError, match="no voxel"):
        dose_difference(Volume(GRID, ones), away)


def test_a_region_limits_the_statistics() -> None:
    values = np.ones(GRID.shape, dtype=np.float32)
    other = values.copy()
    other[0] = 2.0
    region = np.zeros(GRID.shape, dtype=bool)
    region[0] = True
    result = dose_difference(Volume(GRID, values), Volume(GRID, other), region=region)
    assert result.judged == 16
    assert result.mean_gy == pytest.approx(1.0)
    assert result.within_percent == 0.0
