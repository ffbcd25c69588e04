"""What if: every rule in every scenario, displaced sessions beside the plan, motion, files and chapters."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from cantlie.core.errors import InputError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.course.calendar import plan_calendar
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model_file import load_beam_model
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.patient.regions import Regions
from cantlie.plan.delivery import plan_dose
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.uncertainty import Motion
from cantlie.report.case_report import StructureView
from cantlie.workflow.dosimetry import COURSE
from cantlie.workflow.what_if import Subject, WhatIf, answers_to, course_of_doses, with_robust_planning

GRID = Grid((32, 32, 32), (4.0, 4.0, 4.0), (-62.0, -62.0, -62.0))
MACHINE = load_machine("generic-6mv-mlci")
MODEL = load_beam_model(MACHINE.beam_model)
BASE = load_protocol("pei2019-imrt")


def _ball(centre, radius):
    far = np.linalg.norm(GRID.points_mm() - np.array(centre, dtype=float), axis=-1)
    return np.clip((radius - far) / 4 + 0.5, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def subject():
    """A ball in a cube of water under two opposed open fields, 15 mm wider than the ball."""
    density = np.zeros(GRID.shape, dtype=np.float32)
    density[1:-1, 1:-1, 1:-1] = 1.0
    protocol = BASE.with_scheme(BASE.schemes[0]) if BASE.schemes else BASE
    name = protocol.target_ids[0]
    clinical = protocol.target(name).ctv_id
    regions = Regions(
        GRID,
        {
            "BODY": (density > 0).astype(np.float32),
            "Liver": _ball((0, 0, 0), 45),
            "GTV_1": _ball((0, 0, 0), 14),
            clinical: _ball((0, 0, 0), 20),
            name: _ball((0, 0, 0), 24),
            "Stomach": _ball((45, 0, 0), 12),
        },
    )
    pairs = len(MACHINE.mlc.leaf_boundaries_mm) - 1
    beams = []
    for number, gantry in enumerate((0.0, 180.0), 1):
        points, mu = [], 0.0
        for low, high in ((-30.0, 5.0), (-5.0, 30.0)):
            aperture = Aperture((-30.0, 30.0), (-30.0, 30.0), np.full(pairs, low), np.full(pairs, high))
            geometry = BeamGeometry((0.0, 0.0, 0.0), gantry, 90.0)
            points += [ControlPoint(geometry, aperture, mu), ControlPoint(geometry, aperture, mu + 100.0)]
            mu += 100.0
        beams.append(TreatmentBeam(number, f"G{gantry:03.0f}", tuple(points)))
    prescription = protocol.prescription(name)
    plan = TreatmentPlan("test", MACHINE.id, tuple(beams), prescription.fractions, prescription.total_gy, name)
    dose = plan_dose(plan, Volume(GRID, density), MACHINE, MODEL, GRID)
    doses = {COURSE: dose, name: dose}
    fractions = {name: prescription.fractions}
    course = course_of_doses(protocol, doses, fractions, plan_calendar(protocol, date(2026, 1, 5)))
    return Subject(
        protocol, regions, doses, {name: prescription.total_gy}, fractions, course, {name: plan},
        Volume(GRID, density), MACHINE, MODEL,
    )  # fmt: skip


def test_rules_are_judged_in_every_scenario(subject, tmp_path):
    answers = answers_to(WhatIf(robustness="full", shift_mm=(12.0, 5.0, 5.0)), subject)
    found = answers.results()["robustness"]
    kinds = [scenario["kind"] for scenario in found["scenarios"]]
    assert (kinds.count("set-up"), kinds.count("density"), kinds.count("course")) == (6, 2, 20)
    rows = {(row["structure"], row["metric"]): row for row in found["metrics"]}
    clinical = subject.protocol.target(subject.protocol.target_ids[0]).ctv_id
    d95 = rows[clinical, "D95%[Gy]"]
    assert d95["worst"] < d95["nominal"] <= d95["best"]
    assert d95["worst_scenario"].startswith("12 mm to ")
    stomach = next(row for row in found["metrics"] if row["structure"].startswith("Stomach"))
    assert stomach["worst_scenario"] == "12 mm to right"  # into the field: the stomach lies to the left
    for row in found["metrics"]:
        low, high = sorted((row["worst"], row["best"]))
        assert low - 1e-9 <= row["nominal"] <= high + 1e-9
    answers.write(tmp_path)
    assert (tmp_path / "dvh_bands.csv").read_text().startswith("structure,scope,dose_gy,nominal_percent")
    views = [StructureView(name, Volume(GRID, mask)) for name, mask in subject.regions.fractions.items()]
    assert [section.title for section in answers.chapters(views)] == ["Robustness"]


def test_a_foreign_dose_is_displaced_and_says_that_density_was_not_judged(subject):
    foreign = replace(subject, plans={}, density=None, machine=None, model=None)
    answers = answers_to(WhatIf(), foreign)
    assert {scenario.kind for scenario in answers.robustness.scenarios} == {"set-up"}
    assert any("density errors were not judged" in note.message for note in answers.notes)
    assert answers_to(WhatIf(robustness="off"), foreign).results() == {}


def test_sessions_of_a_log_are_displaced(subject, tmp_path):
    log = tmp_path / "log.csv"
    sessions = range(1, len(subject.course.calendar.given) + 1)
    log.write_text("session,x_mm,y_mm,z_mm\n" + "".join(f"{n},-14,0,0\n" for n in sessions))
    found = answers_to(WhatIf(robustness="off", shifts=log), subject).results()["displaced_course"]
    clinical = subject.protocol.target(subject.protocol.target_ids[0]).ctv_id
    d98 = next(row for row in found["metrics"] if (row["structure"], row["metric"]) == (clinical, "D98%[Gy]"))
    assert d98["displaced"] < d98["planned"] - 1
    with pytest.raises(InputError, match="both given"):
        answers_to(WhatIf(robustness="off", shifts=log, simulated_mm=(1.0, 1.0)), subject)


def test_motion_blurs_the_edge_and_is_reported(subject):
    answers = answers_to(WhatIf(robustness="off", motion_mm=(0.0, 0.0, 24.0)), subject)
    found = answers.results()["motion"]
    rows = {row["structure"]: row for row in found["targets"]}
    clinical = subject.protocol.target(subject.protocol.target_ids[0]).ctv_id
    assert rows[clinical]["blurred_D98%_gy"] < rows[clinical]["static_D98%_gy"]
    low, middle, high = rows[clinical]["interplay_fraction_D95%_percent_of_static"]
    assert low < middle < high
    assert [section.title for section in answers.chapters([])] == ["Breathing"]


def test_progress_never_goes_back(subject):
    seen: list[float] = []
    what_if = WhatIf(motion_mm=(0.0, 0.0, 12.0), simulated_mm=(2.0, 2.0))
    answers_to(what_if, subject, lambda fraction, message="": seen.append(fraction))
    assert len(seen) > 10 and seen == sorted(seen) and seen[-1] <= 1


def test_the_margin_follows_from_how_motion_is_managed(subject):
    margins = {}
    for management, share in (("free_breathing", 1.0), ("compression", 0.4)):
        motion = Motion(management=management, amplitude_mm=(0.0, 5.0, 20.0), managed_share=share)
        protocol = subject.protocol.model_copy(update={"motion": motion})
        answers = answers_to(WhatIf(robustness="off"), replace(subject, protocol=protocol))
        margins[management] = answers.results()["motion"]["margins_with_breathing_mm"]
    assert margins["compression"][2] < margins["free_breathing"][2] - 3
    assert margins["compression"][0] == margins["free_breathing"][0]


def test_robust_planning_is_noted(subject):
    protocol, notes = with_robust_planning(subject.protocol, WhatIf(planning="minimax", shift_mm=(3.0, 3.0, 3.0)))
    assert protocol.robustness.planning == "minimax"
    assert "planned robustly" in notes[0].message
    assert with_robust_planning(subject.protocol, WhatIf())[1] == ()


def test_a_dose_that_was_given_before_stays_while_the_rest_is_displaced(subject):
    def stomach(answers):
        rows = answers.results()["robustness"]["metrics"]
        return next(r for r in rows if r["structure"] == "Stomach" and r["metric"] == "Dmax" and r["scope"] == "course")

    name = next(iter(subject.plans))
    plain = stomach(answers_to(WhatIf(shift_mm=(12.0, 5.0, 5.0)), subject))
    given = Volume(GRID, np.full(GRID.shape, 3.0, dtype=np.float32))
    given.values[:, :, : GRID.shape[2] // 2] = 40.0  # steep beside the stomach: displaced, it would reach into it
    total = Volume(GRID, subject.doses[COURSE].values + given.values)
    found = stomach(
        answers_to(
            WhatIf(shift_mm=(12.0, 5.0, 5.0)),
            replace(subject, doses={COURSE: total, name: subject.doses[name]}, given_dose=given),
        )
    )
    for key in ("nominal", "worst", "best"):
        assert found[key] == pytest.approx(plain[key] + 3.0, abs=0.05), key
