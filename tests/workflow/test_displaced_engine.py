"""Displaced plans made elsewhere: what the engine adds to the moved dose is what a full recalculation gives."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from tests.workflow.dicom_cases import box, write_case

from cantlie.cli.main import run
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dicom.plan_file import read_plan_groups
from cantlie.dicom.rtdose import read_rtdose
from cantlie.dicom.rtplan import write_rtplan
from cantlie.evaluation.scenarios import moved
from cantlie.machine.aperture import Aperture
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan
from cantlie.workflow.displaced_engine import EngineChanges, engine_changes
from cantlie.workflow.patient_stage import CaseRequest, prepare_patient
from cantlie.workflow.plan_doses import PlanDose

GRID = Grid((26, 34, 44), (5.0, 5.0, 5.0), (-107.5, -82.5, -62.5))
MACHINE = "reference-6mv-point"
SHIFT = (10.0, 0.0, 0.0)


MASKS = {
    "BODY": box(GRID, (-100, 100), (-75, 75), (-60, 60)),
    "Liver": box(GRID, (-60, 40), (-50, 40), (-45, 45)),
    "GTV_1": box(GRID, (-10, 10), (-10, 10), (-10, 10)),
    "PTV": box(GRID, (-20, 20), (-20, 20), (-20, 20)),
    "SpinalCord": box(GRID, (-5, 5), (50, 60), (-60, 60)),
}


@pytest.fixture
def case(tmp_path) -> Path:
    """Write a water box with one field from the left to a target in its middle; return the folder."""
    hu = np.where(MASKS["BODY"] > 0, 0.0, -1000.0).astype(np.float32)
    folder = tmp_path / "case"
    made = write_case(folder, hu, MASKS, 1, frame="2.25.3", grid=GRID, file="RS.dcm")
    reference = dcmread(folder / "RS.dcm").SOPInstanceUID
    geometry = BeamGeometry((0.0, 0.0, 0.0), 90.0)
    opening = Aperture((-30.0, 30.0), (-30.0, 30.0))
    points = (ControlPoint(geometry, opening, 0.0), ControlPoint(geometry, opening, 250.0))
    plan = TreatmentPlan("left", MACHINE, (TreatmentBeam(1, "G090", points),), 10, 20.0, target_name="PTV")
    write_rtplan(made, plan, load_machine(MACHINE), reference, folder / "RP.dcm")
    return folder


def dose_of(case: Path, plan: Path, out: Path) -> Volume:
    command = ["dose", str(case), "--plan", str(plan), "--machine", MACHINE, "--grid", "4", "--out", str(out)]
    assert run(command) == 0
    return read_rtdose(out / "RTDOSE.dcm")


def changes_of(case: Path, dose: Volume, percent: float = 3.0) -> EngineChanges:
    files = read_plan_groups(case / "RP.dcm")
    given = PlanDose("left", "PTV", dose, 10, "RTPLAN", files[0].plan.sop_instance_uid, 1)
    patient = prepare_patient(CaseRequest(case))
    frame = patient.case.ct.frame_of_reference_uid
    return engine_changes([given], files, patient.density, "HFS", frame, SHIFT, percent, machine=MACHINE)


def test_the_moved_dose_with_what_the_engine_adds_is_that_of_a_full_recalculation(case, tmp_path):
    dose = dose_of(case, case / "RP.dcm", tmp_path / "planned")
    changes = changes_of(case, dose)
    assert set(changes.setup) == {(10.0, 0.0, 0.0), (-10.0, 0.0, 0.0)} and "isocentre moved" in changes.method
    data = dcmread(case / "RP.dcm")
    data.BeamSequence[0].ControlPointSequence[0].IsocenterPosition = [-10.0, 0.0, 0.0]  # the patient lies 10 mm left
    data.save_as(tmp_path / "RP.dcm")
    truth = dose_of(case, tmp_path / "RP.dcm", tmp_path / "displaced")
    points = GRID.points_mm()[MASKS["PTV"] > 0]
    expected = truth.sample(points)
    static = moved(dose, SHIFT).sample(points)
    calculated = static + changes.setup[SHIFT]["PTV"].sample(points)
    assert np.abs(static / expected - 1).mean() > 0.03  # the depth of the target did not change, only its distance
    assert np.abs(calculated / expected - 1).mean() < 0.01
    denser = changes.density["PTV"].sample([[0, 0, 0], [-60, 0, 0]]) / dose.sample([[0, 0, 0], [-60, 0, 0]])
    assert (denser < 0).all() and denser[1] < denser[0]  # deeper, more is lost


def test_a_given_dose_in_other_units_of_its_machine_scales_the_changes_and_another_dose_is_not_touched(case, tmp_path):
    dose = dose_of(case, case / "RP.dcm", tmp_path / "planned")
    usual = changes_of(case, dose, percent=0.0)
    more = changes_of(case, Volume(dose.grid, dose.values * np.float32(1.2)), percent=0.0)
    assert not usual.density
    np.testing.assert_allclose(
        more.setup[SHIFT]["PTV"].values, 1.2 * usual.setup[SHIFT]["PTV"].values, rtol=1e-3, atol=1e-3
    )
    other = changes_of(case, Volume(dose.grid, np.flip(dose.values, 2).copy()))
    assert not other.setup and any("only moved" in note.message for note in other.notes)


def test_evaluate_recalculates_displacements_unless_told_otherwise(case, tmp_path):
    dose_of(case, case / "RP.dcm", tmp_path / "planned")
    (tmp_path / "planned" / "RTDOSE.dcm").rename(case / "RD.dcm")
    found = {}
    for name, more in (("engine", ["--machine", MACHINE]), ("static", ["--static-dose"])):
        out = tmp_path / name
        command = ["evaluate", str(case), "--protocol", "pei2019-imrt", "--shift-mm", "10,0,0", *more]
        assert run([*command, "--out", str(out)]) in (0, 1)
        found[name] = json.loads((out / "results.json").read_text())["robustness"]
        assert found[name]["method"][:30] in (out / "report.html").read_text(encoding="utf-8")
    assert "calculated again" in found["engine"]["method"] and "no recalculation" in found["static"]["method"]
    assert {s["kind"] for s in found["engine"]["scenarios"]} == {"set-up", "density"}
    assert {s["kind"] for s in found["static"]["scenarios"]} == {"set-up"}


def test_a_machine_that_does_not_exist_is_refused(case, tmp_path, capsys):
    assert run(["evaluate", str(case), "--machine", "nosuch", "--out", str(tmp_path / "out")]) == 2
    assert "no machine is called 'nosuch'" in capsys.readouterr().err
