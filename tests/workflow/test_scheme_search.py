"""The highest dose that meets the limits: which schemes are planned, which are refused without, and what is told."""

import importlib.util
import json
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.evaluation.dvh import dvh
from cantlie.evaluation.metrics import metric_value
from cantlie.machine.machine import load_machine
from cantlie.patient.regions import Regions
from cantlie.plan.planner import plan_targets
from cantlie.plan.request import (
    GoalOutcome,
    History,
    PlannedTarget,
    PlanningRequest,
    PlanningResult,
    PlanTarget,
)
from cantlie.plan.treatment import TreatmentPlan
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.metric import Metric
from cantlie.report.case_report import CaseReport
from cantlie.report.scheme_section import scheme_section
from cantlie.target.scheme_choice import choose_scheme
from cantlie.workflow.run_folder import RunFolder
from cantlie.workflow.scheme_search import SchemeSearch, scaled_metric
from cantlie.workflow.scheme_stage import plan_with_scheme, planning_weights, scheme_of, scheme_view

GRID = Grid((10, 20, 20), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
MONDAY = date(2026, 1, 5)
PEI = load_protocol("pei2019-imrt")


def regions() -> Regions:
    masks = {name: np.zeros(GRID.shape, dtype=np.float32) for name in ("BODY", "Liver", "GTV_1", "PTV", "Stomach")}
    masks["BODY"][:] = 1
    masks["Liver"][2:8, 2:18, 2:12] = 1
    masks["GTV_1"][4:6, 8:11, 5:8] = 1
    masks["PTV"][3:7, 7:12, 4:9] = 1
    masks["Stomach"][2:8, 2:18, 13:18] = 1
    return Regions(GRID, masks)


def plan(protocol, stomach_share: float, liver_share: float = 0.2, misses: float = 0.0) -> PlanningResult:
    """Return a result whose dose gives organs a share of the prescription, with the stomach's limit judged."""
    prescription = protocol.prescription("PTV")
    total = prescription.total_gy
    dose = np.full(GRID.shape, 0.0, dtype=np.float32)
    masks = regions().fractions
    dose[masks["Liver"] > 0] = liver_share * total
    dose[masks["PTV"] > 0] = total
    dose[masks["Stomach"] > 0] = stomach_share * total
    value = stomach_share * total + misses
    outcome = GoalOutcome("Stomach", "Dmax", "<=", 52.0, "Gy", "course", value, value, value <= 52.0)
    target = PlanTarget("PTV", total, prescription.fractions)
    treatment = TreatmentPlan("PTV", "machine", (), prescription.fractions, total, target_name="PTV")
    history = History((), np.zeros(0), np.zeros(0))
    return PlanningResult((PlannedTarget(target, treatment, Volume(GRID, dose), ()),), (outcome,), history, {})


def search(stomach_share: float, misses: float = 0.0, **changes) -> tuple[SchemeSearch, list[str]]:
    planned: list[str] = []

    def plan_of(protocol, scheme):
        planned.append(scheme)
        return plan(protocol, stomach_share, misses=misses)

    protocol = PEI.model_copy(update={"choice": PEI.choice.model_copy(update=changes)})
    return SchemeSearch(protocol, regions(), MONDAY, plan_of), planned


def test_the_highest_scheme_is_planned_once_where_it_meets_the_limits():
    found, planned = search(0.9)
    choice = choose_scheme(PEI, regions(), refusal=found.refusal)
    assert (choice.scheme, planned, choice.rejected) == ("52-in-10", ["52-in-10"], ())
    (trial,) = found.trials
    assert (trial.basis, trial.refused, trial.total_gy, trial.days) == ("own plan", "", 52.0, 12)


def test_schemes_with_as_much_dose_are_refused_by_the_plan_that_broke_a_rule():
    found, planned = search(1.02)
    choice = choose_scheme(PEI, regions(), refusal=found.refusal)
    assert choice.scheme == "48-in-12" and planned == ["52-in-10", "48-in-12"]
    basis = {trial.scheme: trial.basis for trial in found.trials}
    assert basis == {"52-in-10": "own plan", "60-in-20": "other plan", "52-in-13": "other plan", "48-in-12": "own plan"}
    reasons = dict(choice.rejected)
    assert "Stomach" in reasons["52-in-10"] and "1 Gy" in reasons["52-in-10"]
    assert "52 Gy (52-in-10)" in reasons["60-in-20"]


def test_a_scheme_is_refused_on_scaled_dose_only_where_it_is_far_from_the_limit():
    found, planned = search(1.25)  # 60, 56.25 and 45 Gy in the stomach at 48, 45 and 36 Gy
    choice = choose_scheme(PEI, regions(), refusal=found.refusal)
    basis = {trial.scheme: trial.basis for trial in found.trials}
    assert basis["48-in-12"] == "scaled dose" and basis["45-in-15"] == "own plan" and basis["36-in-12"] == "own plan"
    assert choice.scheme == "36-in-12" and planned == ["52-in-10", "45-in-15", "36-in-12"]
    assert "Stomach Dmax 60 Gy, <= 52 asked" in dict(choice.rejected)["48-in-12"]


def test_the_lowest_scheme_is_planned_with_a_warning_where_none_meets_the_limits():
    found, planned = search(3.0)
    choice = choose_scheme(PEI, regions(), refusal=found.refusal)
    assert choice.scheme == "30-in-10" and choice.notes[0].level == "warning"
    assert len(choice.rejected) == len(PEI.choice.order) and planned == ["52-in-10"]
    assert found.planning_of("30-in-10").plans[0].target.prescription_gy == 30.0


def test_a_scheme_that_lasts_too_long_is_not_planned():
    found, planned = search(0.5, maximum_days=10)
    choice = choose_scheme(PEI, regions(), refusal=found.refusal)
    assert planned == [] and choice.notes
    assert "takes 12 days, at most 10 are allowed" in dict(choice.rejected)["52-in-10"]


@pytest.mark.parametrize("text", ["Dmax", "Dmean", "D95%", "D2cc", "V15Gy[%]", "V15Gy[cc]", "CV15Gy[cc]"])
def test_a_scaled_metric_is_that_of_the_scaled_dose(text):
    rng = np.random.default_rng(1)
    values = rng.uniform(0, 40, GRID.shape).astype(np.float32)
    mask = regions()["Liver"]
    factor = 0.75
    curve = dvh(Volume(GRID, values), mask, GRID, name="Liver")
    scaled = dvh(Volume(GRID, values * np.float32(factor)), mask, GRID, name="Liver")
    metric = Metric.parse(text)
    assert scaled_metric(metric, curve, factor) == pytest.approx(metric_value(metric, scaled), rel=2e-3)


def test_the_choice_stands_in_results_and_report_and_a_run_resumes(tmp_path):
    weights = planning_weights(PEI, {"planning": 60.0, "report": 12.0})
    assert sum(weights.values()) == pytest.approx(72.0)
    made = []

    def plan_of(run):
        def one(protocol, stage):
            def work(step):
                made.append(stage)
                return plan(protocol, 1.02)

            return run.stage(stage, stage, work)

        return one

    for _ in range(2):
        with RunFolder(tmp_path, {"name": "plan"}, weights) as run:
            prescribed = plan_with_scheme(run, PEI, regions(), MONDAY, plan_of(run))
    assert made == ["planning 52-in-10", "planning 48-in-12"]
    assert prescribed.protocol.prescription("PTV").total_gy == 48.0 and prescribed.protocol.choice is None
    told = json.loads(json.dumps(scheme_of(prescribed.scheme)))
    assert told["scheme"] == "48-in-12" and [bool(t["refused"]) for t in told["trials"]] == [True, True, True, False]
    section = scheme_section(scheme_view(prescribed.scheme))
    assert any(getattr(block, "caption", "") == "Schemes from the highest down" for block in section.blocks)
    assert "scheme" in CaseReport.__slots__ and not scheme_section(None).blocks


def test_the_rule_by_distance_shows_every_luminal_organ(tmp_path):
    protocol = load_protocol("liu2022-sbrt")
    with RunFolder(tmp_path, {"name": "plan"}, {"planning": 1.0}) as run:
        prescribed = plan_with_scheme(run, protocol, regions(), MONDAY, lambda one, stage: plan(one, 0.1))
    told = scheme_of(prescribed.scheme)
    assert told["rule"] == "distance" and told["threshold_mm"] > 0
    assert told["distances_mm"]["Stomach"] == pytest.approx(20.0, abs=4.1)
    table = next(b for b in scheme_section(scheme_view(prescribed.scheme)).blocks if hasattr(b, "rows"))
    assert table.rows[0][0] == "Stomach"


@pytest.mark.slow
def test_the_planner_finds_the_highest_dose_beside_a_stomach():
    path = Path(__file__).parents[1] / "plan" / "test_planner.py"
    specification = importlib.util.spec_from_file_location("planner_phantom", path)
    phantom = importlib.util.module_from_spec(specification)
    sys.modules["planner_phantom"] = phantom
    specification.loader.exec_module(phantom)
    density, made = phantom.phantom()
    masks = {name: mask for name, mask in made.fractions.items() if not name.startswith("PTV")}
    masks["GTV_1"] = phantom.ellipsoid((20, -20, 0), (16, 16, 16))
    masks["PTV"] = phantom.ellipsoid((20, -20, 0), (24, 24, 26))
    masks["Stomach"] = phantom.ellipsoid((58, -36, 0), (26, 24, 30))
    found = Regions(made.grid, masks)
    settings = replace(phantom.QUICK, feedback_rounds=1, fluence_iterations=60, aperture_iterations=40)
    machine = load_machine("generic-6mv-mlci")

    def plan_of(protocol, scheme):
        asked = PlanningRequest.of_protocol(density, found, protocol, machine, "HFS", settings=settings)
        return plan_targets(asked)

    search = SchemeSearch(PEI, found, MONDAY, plan_of)
    choice = choose_scheme(PEI, found, refusal=search.refusal)
    taken = search.planning_of(choice.scheme)
    assert taken.all_met and taken.plans[0].target.prescription_gy <= 48.0
    refused = {trial.scheme: trial for trial in search.trials if trial.refused}
    assert {"52-in-10", "60-in-20", "52-in-13"} <= set(refused)
    assert refused["52-in-10"].basis == "own plan" and refused["60-in-20"].basis == "other plan"
