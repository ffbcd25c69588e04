"""Metrics, constraint rows, coverage rules and indices on DVHs that can be worked out by hand."""

import numpy as np
import pytest

from cantlie.core.errors import StructureError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.evaluation.constraints import constraint_table, judge
from cantlie.evaluation.coverage import judge_coverage
from cantlie.evaluation.dvh import Dvh, dvh
from cantlie.evaluation.indices import plan_indices
from cantlie.evaluation.metrics import metric_value
from cantlie.evaluation.verdict import decimals, holds, margin
from cantlie.protocol.loading import list_protocols, load_protocol
from cantlie.protocol.metric import Metric
from cantlie.protocol.schema import Constraint, Coverage


def ramp(low_gy: float, high_gy: float, volume_cc: float = 100.0, name: str = "ramp") -> Dvh:
    """A structure whose dose rises evenly: V(d) = volume (high - d) / (high - low)."""
    n = 100
    side_mm = (volume_cc * 1000.0 / (4 * n)) ** (1 / 3)
    grid = Grid((2, 2, n), (side_mm,) * 3, (0.0, 0.0, 0.0))
    dose_grid = Grid((2, 2, n + 2), grid.spacing_mm, (-side_mm, 0.0, 0.0))
    line = low_gy + (high_gy - low_gy) / n * (np.arange(n + 2) - 0.5)
    dose = Volume(dose_grid, np.maximum(np.broadcast_to(line, dose_grid.shape), 0).astype(np.float32))
    return dvh(dose, np.ones(grid.shape, dtype=np.float32), grid, name=name)


@pytest.fixture(scope="module")
def even() -> Dvh:
    return ramp(10.0, 50.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dmean", 30.0),
        ("Dmax", 50.0),
        ("Dmin", 10.0),
        ("D95%", 12.0),
        ("D2%", 49.2),
        ("V20Gy[%]", 75.0),
        ("V60Gy[%]", 0.0),
        ("V5Gy[%]", 100.0),
        ("V95%[%]", 100.0 * (50 - 28.5) / 40),
        ("Dmean[%]", 100.0),
    ],
)
def test_metrics__against_a_dose_ramp(even: Dvh, text: str, expected: float) -> None:
    assert metric_value(Metric.parse(text), even, 30.0) == pytest.approx(expected, rel=0.005, abs=0.1)


def test_absolute_volumes_add_up(even: Dvh) -> None:
    hot = metric_value(Metric.parse("V20Gy[cc]"), even)
    cold = metric_value(Metric.parse("CV20Gy[cc]"), even)
    assert hot + cold == pytest.approx(even.volume_cc)
    assert hot / even.volume_cc == pytest.approx(0.75, abs=0.003)
    half = metric_value(Metric.parse(f"D{even.volume_cc / 2:.6f}cc"), even)
    assert half == pytest.approx(30.0, rel=0.003)


def test_what_cannot_be_computed_is_said(even: Dvh) -> None:
    with pytest.raises(StructureError, match="less than"):
        metric_value(Metric.parse("D5000cc"), even)
    with pytest.raises(StructureError, match="prescribed"):
        metric_value(Metric.parse("V95%[%]"), even)


@pytest.mark.parametrize(
    ("op", "achieved", "limit", "expected", "left"),
    [
        ("<=", 40.0, 40.0, True, 0.0),
        ("<", 50.0, 50.0, False, 0.0),
        (">=", 699.0, 700.0, False, -1.0),
        (">", 2.0, 1.0, True, 1.0),
    ],
)
def test_operators(op: str, achieved: float, limit: float, expected: bool, left: float) -> None:
    assert holds(achieved, op, limit) is expected
    assert margin(achieved, op, limit) == left


@pytest.mark.parametrize(
    ("achieved", "limit", "usual", "printed"),
    [
        (50.02, 50.0, 1, "50.02"),
        (49.96, 50.0, 1, "49.96"),
        (49.9, 50.0, 1, "49.9"),
        (40.0, 40.0, 2, "40.00"),
        (39.99999, 40.0, 2, "40.0000"),
        (62.3, 50.0, 1, "62.3"),
    ],
)
def test_rounding_does_not_hide_on_which_side_of_a_limit_a_value_is(
    achieved: float, limit: float, usual: int, printed: str
) -> None:
    assert f"{achieved:.{decimals(achieved, limit, usual)}f}" == printed


def test_constraint_rows_have_limit_achieved_margin_verdict_and_place(even: Dvh) -> None:
    rule = Constraint(structure="Stomach", metric="Dmax", op="<=", limit=40.0, unit="Gy", place="Methods")
    row = judge(rule, even)
    assert row.verdict == "fail"
    assert row.achieved == pytest.approx(50.0, rel=0.005)
    assert row.margin == pytest.approx(-10.0, abs=0.3)
    assert row.place == "Methods"
    assert "ramp" in row.reason


def test_missing_structures_and_stand_ins() -> None:
    cord = ramp(1.0, 20.0, name="SpinalCanal")
    rules = [
        Constraint(structure="SpinalCord", stand_ins=("SpinalCanal",), metric="Dmax", op="<=", limit=40.0, unit="Gy"),
        Constraint(structure="Duodenum", metric="Dmax", op="<=", limit=40.0, unit="Gy"),
        Constraint(structure="SpinalCord", stand_ins=("SpinalCanal",), metric="D9000cc", op="<=", limit=4.0, unit="Gy"),
    ]
    table = constraint_table(rules, {"SpinalCanal": cord})
    assert [row.verdict for row in table] == ["pass", "not evaluable", "not evaluable"]
    assert table[0].reason == "evaluated on SpinalCanal"
    assert table[1].reason == "Duodenum is not contoured"
    assert table[1].achieved is None and table[1].margin is None
    assert "less than" in table[2].reason


def test_the_four_printed_forms_of_coverage_rules() -> None:
    target = ramp(26.0, 34.0, name="PTV")
    forms = [
        Coverage(
            target="PTV", isodose_percent=90, isodose_least_percent=85, isodose_most_percent=90, volume_percent=95
        ),
        Coverage(target="PTV", isodose_percent=95, volume_percent=99),
        Coverage(target="PTV", isodose_percent=100, volume_percent=95),
        Coverage(
            target="PTV", isodose_percent=90, isodose_least_percent=90, isodose_most_percent=95, volume_percent=95
        ),
        Coverage(target="PTV", isodose_percent=100, volume_percent=90),
    ]
    results = [judge_coverage(rule, target, 30.0) for rule in forms]
    inside = [100 * (34 - isodose * 0.3) / 8 for isodose in (90, 95, 100, 90, 100)]
    for result, expected in zip(results, inside, strict=True):
        assert result.achieved_percent == pytest.approx(expected, abs=0.5)
        assert result.verdict == ("pass" if expected >= result.required_percent else "fail")
        assert result.isodose_gy == pytest.approx(result.isodose_percent * 0.3)
    assert results[0].range_percent == pytest.approx((100.0, 87.5), abs=0.5)
    assert results[2].covering_isodose_percent == pytest.approx(100 * 26.4 / 30, abs=0.3)
    missing = judge_coverage(forms[0], None, 30.0)
    assert missing.verdict == "not evaluable" and missing.achieved_percent is None


def test_every_rule_of_every_built_in_protocol_can_be_evaluated() -> None:
    whole = ramp(0.5, 45.0, volume_cc=900.0)
    for name in list_protocols():
        protocol = load_protocol(name)
        assert protocol.constraints or protocol.reference_limits, name
        for rule in (*protocol.constraints, *protocol.reference_limits):
            row = judge(rule, whole, 30.0)
            assert row.verdict != "not evaluable" or "less than" in row.reason, row
        for coverage in protocol.coverage:
            assert judge_coverage(coverage, whole, 30.0).achieved_percent is not None


def test_indices__against_concentric_spheres() -> None:
    """Dose falls linearly from the centre, so every isodose is a sphere of known radius."""
    grid = Grid((100, 100, 100), (1.0, 1.0, 1.0), (-49.5, -49.5, -49.5))
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    dose = Volume(grid, np.clip(60.0 - radius, 0, None).astype(np.float32))

    def ball(r: float) -> np.ndarray:
        return np.clip(r - radius + 0.5, 0, 1).astype(np.float32)

    target, body = dvh(dose, ball(20.0), grid, name="PTV"), dvh(dose, ball(48.0), grid, name="BODY")
    result = plan_indices(target, body, 36.0)
    assert result.rtog_conformity == pytest.approx((24 / 20) ** 3, rel=0.01)
    assert result.paddick_conformity == pytest.approx((20 / 24) ** 3, rel=0.01)
    assert result.r50 == pytest.approx((42 / 20) ** 3, rel=0.01)
    assert result.gradient_index == pytest.approx((42 / 24) ** 3, rel=0.01)
    assert result.gradient_measure_cm == pytest.approx(1.8, abs=0.01)
    assert result.rtog_coverage == pytest.approx(40 / 36, rel=0.03)
    assert result.rtog_homogeneity == pytest.approx(60 / 36, rel=0.02)
    d2, d50, d98 = (60 - 20 * (p / 100) ** (1 / 3) for p in (2, 50, 98))
    assert result.icru_homogeneity == pytest.approx((d2 - d98) / d50, rel=0.01)
    nothing = plan_indices(target, body, 100.0)
    assert np.isnan(nothing.paddick_conformity) and np.isnan(nothing.gradient_index)
