from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.grid import Grid
from cantlie.plan.goals import (
    Rule,
    goal_of_rule,
    graded_part,
    metric_value,
    quality_terms,
    rules_of_protocol,
    tighten,
)
from cantlie.plan.normalise import best_factors, factor_for_coverage, factor_for_dose, rounded_mu
from cantlie.plan.objectives import SquaredOverdose, value
from cantlie.plan.problem import COURSE, Problem, Term
from cantlie.plan.request import PlanTarget
from cantlie.plan.voxels import PlanningVoxels
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.metric import Metric

N = 1000
GRID = Grid((10, 10, 10), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
ONES = np.full(N, 0.125)
VOXELS = PlanningVoxels(GRID, np.arange(N), {"PTV": ONES, "Organ": ONES}, {"PTV": np.zeros(N)})
RAMP = np.linspace(0, 60, N)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dmax", 60), ("Dmin", 0), ("Dmean", 30), ("D50%", 30), ("D95%", 3), ("D12.5cc", 54), ("V30Gy[%]", 50),
        ("V30Gy[cc]", 62.5), ("V90%[%]", 55), ("CV15Gy[cc]", 31.25), ("Dmean[%]", 100),
    ],
)  # fmt: skip
def test_metrics_of_a_ramp(text: str, expected: float) -> None:
    assert metric_value(Metric.parse(text), RAMP, ONES, 30.0) == pytest.approx(expected, abs=0.1)


def test_rules_of_zhang2021() -> None:
    targets = [PlanTarget(name, 30.0, 15) for name in ("PTV1", "PTV2")]
    rules = rules_of_protocol(load_protocol("zhang2021-alternating"), targets)
    means = [(r.structure, r.scope, r.op, r.limit) for r in rules if r.kind == "normalisation"]
    assert means[:2] == [("PTV1", "PTV1", "<=", pytest.approx(30.6)), ("PTV1", "PTV1", ">=", pytest.approx(29.4))]
    assert [(r.structure, r.scope, str(r.metric), r.limit) for r in rules if r.kind == "coverage"] == [
        ("PTV1", "PTV1", "V90%[%]", 95),
        ("PTV2", "PTV2", "V90%[%]", 95),
    ]
    organs = [(r.structure, str(r.metric), r.limit) for r in rules if r.kind == "constraint"]
    assert organs == [
        ("Stomach", "Dmax", 40),
        ("Stomach", "V45Gy[%]", 15),
        ("SpinalCord", "Dmax", 40),
        ("Bowel_Small", "V50Gy[%]", 15),
        ("Kidney_L + Kidney_R", "V20Gy[%]", 30),
        ("Liver - GTV*", "V30Gy[%]", 50),
    ]
    assert {r.scope for r in rules if r.kind == "constraint"} == {COURSE}


METRICS = ["Dmax", "Dmin", "Dmean", "D95%", "D0.5cc", "V20Gy[%]", "V20Gy[cc]", "CV15Gy[cc]", "V95%[%]", "D2%[%]"]


@settings(deadline=None, max_examples=60)
@given(text=st.sampled_from(METRICS), op=st.sampled_from(["<=", ">="]), seed=st.integers(0, 1000))
def test_the_objective_vanishes_only_when_the_rule_holds(text: str, op: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    metric = Metric.parse(text)
    dose = rng.uniform(0, 40, N)
    middle = metric_value(metric, dose, ONES, 30.0)
    rule = Rule("Organ", metric, op, middle * rng.uniform(0.6, 1.4), COURSE, 30.0)
    goal = goal_of_rule(rule, VOXELS, 30.0, 0.05)
    if value(goal.objective, dose) == 0:
        assert rule.met(middle, 1e-6 * max(abs(rule.limit), 1) + 0.2)  # a voxel more or less


def test_penalties_rise_only_for_unmet_rules() -> None:
    problem = Problem(("PTV",), [])
    unmet = goal_of_rule(Rule("Organ", Metric.parse("Dmax"), "<=", 50, COURSE, 30.0), VOXELS, 30.0, 0.05)
    met = goal_of_rule(Rule("Organ", Metric.parse("Dmax"), "<=", 70, COURSE, 30.0), VOXELS, 30.0, 0.05)
    before = unmet.objective.weight, met.objective.weight
    assert tighten([unmet, met], problem, VOXELS, [RAMP])
    assert unmet.objective.weight > before[0] and met.objective.weight == before[1]
    assert not tighten([met], problem, VOXELS, [RAMP])


def test_a_goal_learns_what_the_final_dose_shows() -> None:
    goal = goal_of_rule(Rule("Organ", Metric.parse("V30Gy[%]"), "<", 50, COURSE, 30.0), VOXELS, 30.0, 0.0)
    share = goal.objective.volume_share  # type: ignore[union-attr]
    goal.learn(seen=45.0, delivered=48.0)
    assert goal.bias == 3
    assert goal.objective.volume_share == pytest.approx(share - 0.03)  # type: ignore[union-attr]
    assert goal.seen_rule.limit == 47


def test_problem_gradient_is_that_of_every_scope() -> None:
    rng = np.random.default_rng(4)
    voxel_goal = goal_of_rule(Rule("Organ", Metric.parse("V30Gy[%]"), "<", 30, COURSE, 30.0), VOXELS, 30.0, 0.05)
    own = goal_of_rule(Rule("PTV", Metric.parse("Dmax"), "<=", 15, "B", 30.0), VOXELS, 30.0, 0.05)
    problem = Problem(("A", "B"), [voxel_goal, Term("B", own.objective)], [np.full(N, 0.5), np.full(N, -0.3)])
    doses = [rng.uniform(0, 30, N), rng.uniform(0, 30, N)]
    base, gradients = problem.evaluate(doses)
    for plan in range(2):
        direction = rng.normal(size=N)
        moved = list(doses)
        moved[plan] = doses[plan] + 1e-6 * direction
        assert (problem.evaluate(moved)[0] - base) / 1e-6 == pytest.approx(float(gradients[plan] @ direction), rel=1e-3)


def test_factors_for_the_rules_of_the_papers() -> None:
    assert factor_for_dose(Metric.parse("Dmean"), 45, RAMP, ONES) == pytest.approx(1.5)
    assert factor_for_dose(Metric.parse("D95%"), 6, RAMP, ONES) == pytest.approx(2, rel=0.03)
    factor = factor_for_coverage(27.0, 95.0, RAMP + 20, ONES)
    covered = metric_value(Metric.parse("V27Gy[%]"), factor * (RAMP + 20), ONES, 30.0)
    assert 95 <= covered < 95.2


def test_best_factors_mend_what_scaling_can_mend() -> None:
    problem = Problem(("PTV",), [])
    rules = [
        Rule("PTV", Metric.parse("Dmean"), ">=", 29.4, "PTV", 30.0),
        Rule("PTV", Metric.parse("Dmean"), "<=", 30.6, "PTV", 30.0),
    ]
    assert best_factors(rules, problem, VOXELS, [np.full(N, 30.0)]) == (1.0,)
    (factor,) = best_factors(rules, problem, VOXELS, [np.full(N, 29.0)])
    assert 29.4 <= 29.0 * factor <= 30.6
    assert abs(factor - 29.4 / 29.0) < 0.01


@pytest.mark.parametrize("d95_gy", [29.5, 30.0, 30.5])
def test_what_covers_the_target_is_brought_to_the_prescription_and_not_left_within_its_tolerance(d95_gy: float) -> None:
    problem = Problem(("PTV",), [])
    rules = [
        Rule("PTV", Metric.parse("D95%"), op, limit, "PTV", 30.0, "normalisation")
        for op, limit in ((">=", 29.4), ("<=", 30.6))
    ]
    (factor,) = best_factors(rules, problem, VOXELS, [np.full(N, d95_gy)])
    assert d95_gy * factor == pytest.approx(30.0, rel=1e-4)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.5, 60), min_size=1, max_size=20), st.sampled_from([0.01, 0.1, 1.0]))
def test_rounding_keeps_the_sum(values: list[float], resolution: float) -> None:
    mu = np.array(values) + 2.0
    rounded = rounded_mu(mu, resolution, 2.0)
    assert abs(rounded.sum() - mu.sum()) <= 0.5 * resolution + 1e-9
    assert rounded.min() >= 2.0 - 1e-9
    np.testing.assert_allclose(rounded / resolution, np.round(rounded / resolution), atol=1e-6)


def test_a_feathered_target_is_asked_for_its_level_of_dose_in_every_voxel() -> None:
    level = np.linspace(0.0, 1.0, N)
    volumes = {"PTV": ONES, "BODY": ONES, graded_part("PTV"): ONES * level}
    voxels = PlanningVoxels(GRID, np.arange(N), volumes, {"PTV": np.zeros(N)})
    terms = quality_terms([PlanTarget("PTV", 30.0, 15)], (), voxels, "BODY")
    graded = sum(value(term.objective, 30.0 * level) for term in terms)
    assert graded == pytest.approx(0, abs=1e-12)
    assert sum(value(term.objective, np.full(N, 30.0)) for term in terms) > 0.1


def test_the_structure_named_first_is_spared_before_the_others() -> None:
    voxels = PlanningVoxels(
        GRID,
        np.arange(N),
        dict.fromkeys(("BODY", "Liver", "Heart", "Cord"), ONES) | {"PTV": 0 * ONES + 1e-6},
        {"PTV": np.ones(N)},
    )
    terms = quality_terms([PlanTarget("PTV", 30.0, 15)], ("Absent", "Liver", "Heart", "Cord"), voxels, "BODY")
    values = [value(term.objective, RAMP) for term in terms if term.purpose == "spare"]
    assert values[2:] == pytest.approx([v / 3 for v in values[:2]] * 2)


def test_a_hot_spot_beside_the_target_counts_by_its_volume_and_not_by_the_size_of_the_body() -> None:
    inside = np.where(np.arange(N) < 100, ONES, 0.0)
    away = np.where(inside > 0, 0.0, 60.0)
    hot = np.where(np.arange(N) >= N - 10, 36.0, 0.0) + np.where(inside > 0, 30.0, 0.0)
    found = []
    for size in (1.0, 5.0):
        body = np.where((away > 0) & (np.arange(N) < N - 10), size * ONES, ONES)
        voxels = PlanningVoxels(GRID, np.arange(N), {"PTV": inside, "BODY": body}, {"PTV": away})
        terms = quality_terms([PlanTarget("PTV", 30.0, 15)], (), voxels, "BODY")
        squared = [t.objective for t in terms if t.purpose == "outside" and isinstance(t.objective, SquaredOverdose)]
        found.append(sum(value(objective, hot) for objective in squared))
    # 1.25 cc by 36 - 0.97 · 30 Gy, beside a target of 12.5 cc
    assert found == pytest.approx([10.0 * 0.1 * ((36.0 - 29.1) / 30.0) ** 2] * 2, rel=1e-6)
