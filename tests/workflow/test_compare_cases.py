"""Protocols compared on one patient: the same plans under another calendar, differences, failures, files, refusals."""

import csv
import importlib.util
import json
import re
import sys
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cantlie.core.errors import InputError, PlanningError, ProtocolError
from cantlie.core.volume import Volume
from cantlie.course.calendar import next_monday
from cantlie.machine.aperture import Aperture
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.patient.case import Case, Ct
from cantlie.patient.density import default_density_curve, density_volume
from cantlie.patient.regions import Regions
from cantlie.plan.request import History, PlannedTarget, PlanningResult, PlanTarget
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan
from cantlie.protocol.loading import load_protocol
from cantlie.radiobiology.repair import Repair
from cantlie.target.build import build_targets
from cantlie.workflow import archive, compare_cases, comparison_statements
from cantlie.workflow.choices import with_choices
from cantlie.workflow.compare_cases import CompareCases
from cantlie.workflow.comparison_biology import Assumptions, Corner, bed_volume
from cantlie.workflow.comparison_halves import bed_difference
from cantlie.workflow.comparison_plans import SharedPlans, adopt_plans, are_the_same, kept_plans
from cantlie.workflow.comparison_statements import TOLERANCE
from cantlie.workflow.course_stage import course_of
from cantlie.workflow.dosimetry import judge_doses
from cantlie.workflow.patient_stage import PreparedPatient
from cantlie.workflow.planned_case import PlanCase, PlannedCase, PlannedCourse
from cantlie.workflow.planning_key import planning_inputs
from cantlie.workflow.what_if import Answers

ALTERNATING, SEQUENTIAL, SBRT = "zhang2021-alternating", "zhang2021-sequential", "liu2022-sbrt"
WHOLE_LIVER = "yin2014-boost"


def _fixture():
    path = Path(__file__).parents[1] / "report" / "case_fixture.py"
    specification = importlib.util.spec_from_file_location("case_fixture", path)
    module = importlib.util.module_from_spec(specification)
    sys.modules["case_fixture"] = module
    specification.loader.exec_module(module)
    return module


FIXTURE = _fixture()
WRITE = compare_cases.write_comparison_report
CT, MASKS = FIXTURE.phantom()


def _plan(name: str, total_gy: float, fractions: int, machine) -> TreatmentPlan:
    geometry = BeamGeometry((0.0, 0.0, 0.0), 0.0)
    pairs = len(machine.mlc.leaf_boundaries_mm) - 1
    aperture = Aperture((-50.0, 50.0), (-50.0, 50.0), np.full(pairs, -40.0), np.full(pairs, 40.0))
    points = (ControlPoint(geometry, aperture, 0.0), ControlPoint(geometry, aperture, 100.0))
    return TreatmentPlan(name, machine.id, (TreatmentBeam(1, "G000", points),), fractions, total_gy, target_name=name)


@cache
def invented(request: PlanCase) -> PlannedCase:
    """Return a planned case with invented doses on a phantom; all stages but planning are the real ones."""
    protocol, _ = with_choices(load_protocol(request.protocol), scheme=request.scheme, plane=request.plane)
    machine = load_machine(protocol.technique.machine)
    regions = Regions(CT.grid, MASKS)
    targets = build_targets(regions, protocol)
    plans = []
    for name in protocol.target_ids:
        prescription = protocol.prescription(name)
        total, count = prescription.total_gy, prescription.fractions
        dose = FIXTURE.invented_dose(CT, targets.regions[name], total)
        plans.append(PlannedTarget(PlanTarget(name, total, count), _plan(name, total, count, machine), dose, ()))
    empty = np.zeros(0)
    planning = PlanningResult(tuple(plans), (), History((), empty, empty), {})
    course = course_of(protocol, plans, targets.regions, request.start or next_monday(date(2026, 1, 1)))
    curve = default_density_curve()
    case = Case(Ct(CT, "HFS", "1.2", "1.3", "1.4"), (), input_sha256="ab" * 32)
    density = density_volume(CT, regions["BODY"], curve)
    patient = PreparedPatient(case, SimpleNamespace(lines=lambda: ()), regions, density, curve, ())
    planned = PlannedCourse(
        request=request, protocol=protocol, machine=machine, patient=patient, targets=targets, planning=planning,
        course=course,
    )  # fmt: skip
    dosimetry = judge_doses(targets.regions, protocol, planned.doses, planned.prescriptions_gy)
    return PlannedCase.of(planned, dosimetry, (), targets.notes, Answers())


class Road:
    """Stands for `plan_case`: invented plans, and protocols that fail as they are told."""

    def __init__(self, **failing: Exception) -> None:
        self.failing = {name.replace("_", "-"): error for name, error in failing.items()}
        self.planned: dict[str, PlannedCase] = {}

    def __call__(self, request: PlanCase, progress=None) -> PlannedCase:
        if request.protocol in self.failing:
            raise self.failing[request.protocol]
        self.planned[request.protocol] = replace(invented(replace(request, out=Path())), request=request)
        return self.planned[request.protocol]


def run(out: Path, road: Road, *protocols: str, patch, pages: bool = False, **options):
    patch.setattr(compare_cases, "plan_case", road)
    patch.setattr(compare_cases, "write_comparison_report", WRITE if pages else lambda report, folder: None)
    return compare_cases.compare_cases(CompareCases(Path("case"), protocols, out, **options))


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as context:
        yield context


@pytest.fixture(scope="module")
def road() -> Road:
    return Road()


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("compare") / "out"


@pytest.fixture(scope="module")
def three(out, road, patch):
    return run(out, road, ALTERNATING, SEQUENTIAL, SBRT, patch=patch, pages=True, label="phantom")


@pytest.fixture(scope="module")
def results(three, out) -> dict:
    return json.loads((out / "results.json").read_text())


def of(statements, other, quantity):
    found = [s for s in statements if s["other_id"] == other and s["quantity"].startswith(quantity)]
    assert len(found) == 1, [s["quantity"] for s in statements]
    return found[0]


def test_all_files_are_there(three, out):
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "results.json", "run.json", "comparison.csv", "differences.csv", "dvh.csv", "dvh_eqd2.csv", "dvh_bed.csv",
        "report.html", "report.pdf", "figures",
    }  # fmt: skip
    assert json.loads((out / "run.json").read_text())["status"] == "done"
    figures = {path.stem for path in (out / "figures").iterdir()}
    assert figures == {
        "dose-maps",
        "bed-differences",
        "dose-differences",
        "dvh-physical",
        "dvh-eqd2",
        "dvh-bed",
        "probabilities",
        "timeline",
    }


def test_the_same_plans_under_another_calendar_give_the_same_physical_dose(results):
    protocols = {row["id"]: row for row in results["protocols"]}
    assert protocols[SEQUENTIAL]["plans_of"] == ALTERNATING
    assert protocols[SBRT]["plans_of"] == SBRT
    physical = [
        row
        for row in results["summary"]
        if row["other_id"] == SEQUENTIAL and (row["topic"] == "Organs" or row["quantity"].startswith("mean dose"))
    ]
    assert len(physical) >= 2
    assert all((row["difference"], row["sureness"]) == (0.0, "same") for row in physical)
    days = of(results["summary"], SEQUENTIAL, "length of the course")
    assert (days["first"], days["other"]) == (19, 40)


def test_the_calendar_alone_changes_the_bed_by_the_repair_between_sessions(three, road, results):
    rows = results["bed_difference_normal_liver"][SEQUENTIAL]
    times = [row["half_time_h"] for row in rows]
    assert times == [None, 0.5, 1.5, 2.0, 2.5, 4.0]
    means = [row["mean_gy"] for row in rows]
    assert means[0] == pytest.approx(0.0, abs=1e-5)
    assert means == sorted(means)
    assert means[-1] > 0.01
    one, other = (road.planned[name] for name in (ALTERNATING, SEQUENTIAL))
    liver = Volume(CT.grid, one.targets.regions["Liver-GTV"])
    expected = bed_difference(
        *(bed_volume(planned.course.dose, Corner(2.5, 4.0)) for planned in (one, other)), liver, 4.0
    )
    assert rows[-1]["mean_gy"] == pytest.approx(expected.mean_gy)


def test_voxel_bed_difference_is_the_difference_of_brute_force_sums(road, three):
    one, other = (road.planned[name].course.dose for name in (ALTERNATING, SEQUENTIAL))
    rng = np.random.default_rng(3)
    voxels = rng.integers(0, one.grid.size, 20)
    repair = Repair.mono(2.5)
    for course in (one, other):
        sessions = np.array([course.of_session(s.number).ravel()[voxels] for s in course.calendar.given], float)
        hours = course.calendar.hours()
        theta = repair.unrepaired(hours[:, None] - hours[None, :])
        expected = sessions.sum(axis=0) + np.einsum("iv,ij,jv->v", sessions, theta, sessions) / 2.5
        found = bed_volume(course, Corner(2.5, 2.5)).values.ravel()[voxels]
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_risk_of_rild_stands_for_both_with_bands_and_corner_by_corner(three, results):
    arms = {arm.id: arm for arm in three.arms}
    risks = [arms[name].biology.complications[0] for name in (ALTERNATING, SEQUENTIAL)]
    for risk in risks:
        assert risk.low <= risk.value <= risk.high
        assert risk.trusted
    assert risks[0].value == pytest.approx(risks[1].value, rel=1e-6)
    assert all(risks[0].corners[corner] >= risks[1].corners[corner] - 1e-12 for corner in risks[0].corners)
    row = of(results["summary"], SEQUENTIAL, "classic radiation-induced")
    gaps = [risks[0].corners[corner] - risks[1].corners[corner] for corner in risks[0].corners]
    assert (row["low"], row["high"]) == pytest.approx((min(gaps), max(gaps)))


def test_risk_of_rild_is_not_trusted_for_sbrt(results):
    rild = next(row for row in results["ntcp"][SBRT] if row["model"].startswith("rild"))
    assert not rild["within_the_models_range"]
    row = of(results["summary"], SBRT, "classic radiation-induced")
    assert row["sureness"] == "outside the model"
    assert "Not to be relied on" in row["sentence"]


def test_control_of_sbrt_is_not_applied_to_fifteen_fractions(results):
    assert next(r for r in results["tcp"][ALTERNATING] if r["model"].startswith("hytec"))["value"] is None
    assert 0.5 < next(r for r in results["tcp"][SBRT] if r["model"].startswith("hytec"))["value"] < 1


def test_spill_over_is_the_other_plans_dose_in_the_half(road, results, three):
    planned = road.planned[ALTERNATING]
    halves = {row["ctv"]: row for row in results["halves"][ALTERNATING]["halves"]}
    doses = {p.target.name: p.dose for p in planned.planning.plans}
    for ctv, other in (("CTV1", "PTV2"), ("CTV2", "PTV1")):
        mask = planned.targets.regions[ctv]
        inside = np.argwhere(mask > 0.99)
        sampled = doses[other].sample(CT.grid.mm_from_index(inside)).mean()
        assert halves[ctv]["spilled_mean_gy"] == pytest.approx(sampled, rel=0.1)
        share = 100 * halves[ctv]["spilled_mean_gy"] / 30
        assert halves[ctv]["spilled_mean_percent_of_the_other_prescription"] == pytest.approx(share)
    assert results["halves"][ALTERNATING]["overlap_cc"] > 0
    assert SBRT not in results["halves"]


def test_sentences_say_the_numbers_of_their_row_and_no_other_order(results):
    for row in results["summary"]:
        if row["unit"] not in ("Gy", "%") or row["quantity"].startswith("broken"):
            continue
        scale = 100.0 if row["unit"] == "%" else 1.0
        tail = row["sentence"].split(": ", 1)[1]
        first, other = (float(n) for n in re.findall(rf"(\d+\.\d+) {row['unit']} with", tail)[:2])
        assert first == pytest.approx(scale * row["first"], abs=0.06)
        assert other == pytest.approx(scale * row["other"], abs=0.06)
        direction = re.search(r"(never lower|always higher) with ([\w-]+)", row["sentence"])
        assert (direction is None) or row["sureness"] in ("settled", "outside the model")
        if direction:
            higher = direction[2]
            assert higher == (row["first_id"] if row["high"] > -row["low"] else row["other_id"])
            assert row["low"] >= -1e-9 or row["high"] <= 1e-9
        if direction and direction[1] == "always higher":
            ends = [float(n.replace("\N{MINUS SIGN}", "-")) for n in re.findall(r"[+−]?\d+\.\d+", tail)[3:5]]
            assert all(ends) and (ends[0] > 0) == (ends[1] > 0)  # the printed ends say so too
        if row["sureness"] == "within tolerance":
            assert abs(row["difference"]) <= TOLERANCE * 48
        assert row["low"] - 1e-9 <= row["difference"] <= row["high"] + 1e-9


ARMS = [SimpleNamespace(id=name, prescription_gy=48.0) for name in "ab"]


@pytest.mark.parametrize(
    ("unit", "a", "b", "said"),
    [
        ("min", 25.6, 105.4, "26 min with a, 105 min with b; difference −79 min."),
        ("min", 26.2, 26.4, "26 min with a, 26 min with b; difference below 1 min."),
        ("sessions", 6.0, 5.0, "6 sessions with a, 5 sessions with b; difference +1 session."),
        ("days", 1.0, 1.0, "1 day with a, 1 day with b; the same."),
    ],
)
def test_counts_and_their_difference_have_a_unit_and_fit_as_printed(unit, a, b, said):
    row = comparison_statements._count("some amount", unit, a, b, 0, *ARMS)
    assert row.sentence == f"Some amount: {said}"
    assert (row.difference, row.sureness) == (a - b, "same" if a == b else "counted")


@pytest.mark.parametrize(("a", "b"), [(40.04, 42.06), (40.04, 41.49), (40.0, 41.47), (40.0, 41.42), (20.04, 20.16)])
def test_doses_their_difference_and_its_tolerance_fit_as_printed(a, b):
    row = comparison_statements._physical("Organs", "dose", *ARMS, a, b)
    first, other, apart, limit = (
        float(n.replace("\N{MINUS SIGN}", "-")) for n in re.findall(r"([+−]?\d+\.\d+) Gy", row.sentence)
    )
    assert apart == pytest.approx(first - other, abs=1e-9)
    assert (abs(apart) > limit) == (row.sureness == "beyond tolerance") == (abs(a - b) > 0.03 * 48)


def test_physical_dose_eqd2_and_bed_never_share_a_column(out, three):
    columns = {}
    for name in ("dvh.csv", "dvh_eqd2.csv", "dvh_bed.csv"):
        with (out / name).open() as stream:
            columns[name] = next(csv.reader(stream))
    assert "dose_gy" in columns["dvh.csv"] and "eqd2_gy" in columns["dvh_eqd2.csv"]
    assert "bed_gy" in columns["dvh_bed.csv"] and "dose_gy" not in columns["dvh_bed.csv"]
    for name in ("dvh_eqd2.csv", "dvh_bed.csv"):
        assert {"alpha_beta_gy", "repair_half_time_h"} <= set(columns[name])


def test_every_rule_stands_under_its_own_protocol(results):
    rows = results["constraints"]
    assert {row["protocol"] for row in rows} == {ALTERNATING, SEQUENTIAL, SBRT}
    for name in (ALTERNATING, SBRT):
        own = [row for row in rows if row["protocol"] == name]
        protocol = load_protocol(name)
        assert len(own) == len(protocol.constraints) + len(protocol.coverage)
        assert all("place" in row and "verdict" in row for row in own)


def test_whole_liver_with_a_boost_is_compared_with_both_its_phases(tmp_path, patch):
    road = Road()
    found = run(tmp_path, road, ALTERNATING, WHOLE_LIVER, patch=patch, pages=True)
    arm = next(arm for arm in found.arms if arm.id == WHOLE_LIVER)
    assert [(t.id, t.fractions, t.total_gy) for t in arm.targets] == [
        ("PTV_liver", 18, pytest.approx(30.6)),
        ("PTV_boost", 12, pytest.approx(22.8)),
    ]
    assert (arm.sessions, arm.halves, len(arm.delivery)) == (30, None, 2)
    planned = road.planned[WHOLE_LIVER]
    phases = {p.target.name: p for p in planned.planning.plans}
    voxel = np.unravel_index(int(np.argmax(planned.targets.regions["PTV_boost"])), CT.grid.shape)
    point = CT.grid.mm_from_index(np.array([voxel]))
    expected = sum(
        p.target.fractions * d * (1 + d / 2.5)
        for p in phases.values()
        for d in [float(p.dose.sample(point)[0]) / p.target.fractions]
    )
    bed = bed_volume(planned.course.dose, Corner(2.5, None))
    assert float(bed.sample(point)[0]) == pytest.approx(expected, rel=1e-3)
    results = json.loads((tmp_path / "results.json").read_text())
    assert WHOLE_LIVER not in results["halves"] and ALTERNATING in results["halves"]
    row = of(results["summary"], WHOLE_LIVER, "classic radiation-induced")
    assert row["other"] == pytest.approx(arm.biology.complications[0].value)
    assert {r["structure"] for r in results["constraints"] if r["protocol"] == WHOLE_LIVER} >= {
        "PTV_liver",
        "PTV_boost",
    }
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "PTV_boost" in page and load_protocol(WHOLE_LIVER).title in page


def test_a_protocol_that_cannot_be_planned_leaves_a_row_and_the_others_stay(tmp_path, patch):
    road = Road(liu2022_sbrt=PlanningError("arcs are not planned yet", where="liu2022-sbrt"))
    found = run(tmp_path, road, ALTERNATING, SBRT, SEQUENTIAL, patch=patch)
    rows = {row["id"]: row for row in json.loads((tmp_path / "results.json").read_text())["protocols"]}
    assert rows[SBRT]["status"] == "failed"
    assert "arcs are not planned yet" in rows[SBRT]["reason"]
    assert [arm.id for arm in found.arms] == [ALTERNATING, SEQUENTIAL]
    assert not found.all_met


def test_an_error_of_cantlie_itself_is_kept_in_a_file(tmp_path, patch):
    road = Road(liu2022_sbrt=ZeroDivisionError("boom"))
    run(tmp_path, road, ALTERNATING, SBRT, SEQUENTIAL, patch=patch)
    assert "ZeroDivisionError: boom" in (tmp_path / SBRT / "error.txt").read_text()
    rows = {row["id"]: row for row in json.loads((tmp_path / "results.json").read_text())["protocols"]}
    assert "error.txt" in rows[SBRT]["reason"]


def test_when_all_fail_alike_the_first_reason_is_raised(tmp_path, patch):
    error = InputError("the case is not there", where="case")
    road = Road(zhang2021_alternating=error, zhang2021_sequential=error)
    with pytest.raises(InputError, match="the case is not there"):
        run(tmp_path, road, ALTERNATING, SEQUENTIAL, patch=patch)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "failed"


def test_one_protocol_alone_is_no_comparison(tmp_path, patch):
    road = Road(liu2022_sbrt=PlanningError("no"))
    with pytest.raises(PlanningError, match="fewer than two protocols could be planned"):
        run(tmp_path, road, ALTERNATING, SBRT, patch=patch)


@pytest.mark.parametrize(
    ("protocols", "options", "error", "message"),
    [
        ((ALTERNATING,), {}, InputError, "at least two"),
        ((ALTERNATING, ALTERNATING), {}, InputError, "named twice"),
        ((ALTERNATING, "nonsense"), {}, ProtocolError, "nonsense"),
        ((ALTERNATING, SBRT), {"schemes": (("liu2022-sbrt", "99-in-1"),)}, ProtocolError, "99-in-1"),
        ((ALTERNATING, SBRT), {"schemes": (("pei2019-imrt", "48-in-12"),)}, InputError, "not compared"),
    ],
)
def test_bad_input_is_refused_before_anything_is_planned(tmp_path, patch, protocols, options, error, message):
    road = Road()
    with pytest.raises(error, match=message):
        run(tmp_path, road, *protocols, patch=patch, **options)
    assert not road.planned


def test_only_what_the_planner_sees_makes_planning_inputs():
    machine = load_machine("generic-6mv-mlci")
    one, other = load_protocol(ALTERNATING), load_protocol(SEQUENTIAL)
    assert planning_inputs(one, machine) == planning_inputs(other, machine)
    assert planning_inputs(one, machine) != planning_inputs(load_protocol(SBRT), machine)
    rule = one.constraints[0]
    worded = one.model_copy(update={"constraints": (rule.model_copy(update={"wording": "x"}), *one.constraints[1:])})
    assert planning_inputs(worded, machine) == planning_inputs(one, machine)
    looser = one.model_copy(update={"constraints": (rule.model_copy(update={"limit": 41.0}), *one.constraints[1:])})
    assert planning_inputs(looser, machine) != planning_inputs(one, machine)
    turned = one.schedule.model_copy(update={"targets": ("PTV2", "PTV1")})
    assert planning_inputs(one.model_copy(update={"schedule": turned}), machine) != planning_inputs(one, machine)


def test_shared_plans_are_kept_whole_for_the_other_protocol(tmp_path, road, three):
    planned = road.planned[ALTERNATING]
    shared = SharedPlans.of(planned)
    request = PlanCase(Path("case"), SEQUENTIAL, tmp_path / "b")
    adopt_plans(shared, load_protocol(SEQUENTIAL), request)
    with np.load(kept_plans(request.out)) as arrays:
        key = json.loads(bytes(arrays["tree"]))["key"]
    again = archive.load(kept_plans(request.out), key)
    same = replace(planned, planning=again)
    assert are_the_same(shared, same)
    changed = replace(again.plans[0], dose=Volume(again.plans[0].dose.grid, again.plans[0].dose.values * 1.01))
    other = replace(again, plans=(changed, *again.plans[1:]))
    assert not are_the_same(shared, replace(planned, planning=other))


def test_bands_hold_the_ranges_that_the_issue_asks_for():
    found = Assumptions.of(load_protocol(ALTERNATING).biology)
    assert (found.half_times_h[0], found.half_times_h[-1]) == (0.5, 4.0)
    assert found.liver_gy == (2.0, 2.5, 3.0)
    assert found.repairs[0] is None


@pytest.mark.slow
def test_the_real_patient_is_planned_once_for_two_calendars(tmp_path):
    from cantlie.dicom.bundled import bundled_case_path

    case = bundled_case_path("crlm_ct_1006")
    found = compare_cases.compare_cases(CompareCases(case, (ALTERNATING, SEQUENTIAL), tmp_path))
    record = json.loads((tmp_path / SEQUENTIAL / "run.json").read_text())
    assert next(stage for stage in record["stages"] if stage["name"] == "planning")["resumed"]
    assert found.arms[1].plans_from == ALTERNATING
    rows = found.bed_differences[SEQUENTIAL]
    assert rows[0].mean_gy == pytest.approx(0, abs=1e-4)
    assert 0 < rows[1].mean_gy < rows[-1].mean_gy < 10
    assert all(half.spilled_percent > 0 for half in found.arms[0].halves.halves)
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
