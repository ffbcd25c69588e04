"""Recalculating a plan: patient position, refusals and where the beam comes from."""

import copy
import json
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pydicom
import pytest

from cantlie.cli.main import run
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.dicom.plan_file import PatientSetup, read_plan_groups
from cantlie.dicom.reading import read_case
from cantlie.dicom.rtdose import read_dose_file, read_rtdose, write_rtdose
from cantlie.dicom.rtplan import write_rtplan
from cantlie.dicom.rtstruct import write_rtstruct
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.beam_model_file import beam_model_toml
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.patient.case import Case, Ct, PatientIdentity
from cantlie.patient.structures import Structure, StructureSet
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan
from cantlie.workflow.planned_dose import planned_dose
from cantlie.workflow.recalculate import RecalculatePlan, recalculate

GRID = Grid((30, 40, 40), (5.0, 5.0, 5.0), (-97.5, -97.5, -72.5))


def box(name: str, kind: str = "") -> Structure:
    corners = np.array([(-80, -80), (80, -80), (80, 80), (-80, 80)], dtype=float)
    contours = tuple(np.column_stack([corners, np.full(4, z)]) for z in GRID.z_mm[2:-2])
    return Structure(name, contours, dicom_type=kind)


@pytest.fixture
def make_case(tmp_path, make_images):
    """Return a function that writes a water box as CT and RTSTRUCT with a plan of one lateral field."""

    def make(
        position: str, plan_position: str | None = None, angles=(90.0, 0.0, 0.0), jaws=((-30.0, 30.0), (-30.0, 30.0))
    ) -> tuple[Path, Path]:
        hu = np.full(GRID.shape, -1000.0)
        hu[2:-2, 4:-4, 4:-4] = 0.0
        hu[16:22, 22:30, 24:32] = -740.0  # lung-like, towards left, posterior and superior: no two sides are alike
        folder = tmp_path / "case"
        slices = make_images(folder, GRID, hu, position)
        ct = Ct(Volume(GRID, hu), position, "2.25.1", "2.25.2", "2.25.3", slices)
        case = Case(ct, StructureSet((box("BODY", "EXTERNAL"),)), PatientIdentity("P1"))
        uid = write_rtstruct(case, [box("BODY", "EXTERNAL")], folder / "RS.dcm")
        geometry = BeamGeometry((0.0, 0.0, 0.0), *angles, patient_position=plan_position or position)
        aperture = Aperture(*jaws)
        points = (ControlPoint(geometry, aperture, 0.0), ControlPoint(geometry, aperture, 100.0))
        plan = TreatmentPlan("one field", "point", (TreatmentBeam(1, "G90", points),), 2, 4.0)
        path = tmp_path / "RP.dcm"
        setup = PatientSetup(plan_position or position)
        write_rtplan(case, plan, load_machine("reference-6mv-point"), uid, path, setup=setup)
        return folder, path

    return make


@pytest.mark.parametrize(("position", "side"), [("HFS", 1), ("FFS", -1), ("HFP", -1), ("FFP", 1)])
def test_the_beam_enters_where_the_patient_position_puts_it(make_case, tmp_path, position, side):
    case, plan = make_case(position)
    recalculate(RecalculatePlan(case, plan, tmp_path / "out", machine="reference-6mv-point", grid_mm=5.0))
    dose = read_rtdose(tmp_path / "out" / "RTDOSE.dcm")
    near, far = dose.sample([[60.0 * side, 0, 0], [-60.0 * side, 0, 0]])
    assert near > 1.3 * far
    assert 1.5 < dose.sample([[0, 0, 0]])[0] < 2.5  # 2 fractions of 100 MU at about 8 cm depth


def dose_of(case: Path, plan: Path, out: Path) -> tuple[Volume, list[str]]:
    results = recalculate(RecalculatePlan(case, plan, out, machine="reference-6mv-point", grid_mm=5.0))
    return read_rtdose(out / "RTDOSE.dcm"), results["warnings"]


# The same physical beam in the patient, entering left anterior with an open field off the axis towards superior.
# Lying feet first instead of head first turns the patient by half a turn about the vertical: the mirrored gantry angle
# enters the same side, and both axes of the collimator point the other way; so does turning the couch by 180 degrees.
JAWS, TURNED = ((-10.0, 30.0), (-20.0, 40.0)), ((-30.0, 10.0), (-40.0, 20.0))


@pytest.mark.parametrize(
    ("position", "angles", "jaws"),
    [
        ("FFS", (320.0, 0.0, 0.0), TURNED),
        ("FFS", (320.0, 180.0, 0.0), JAWS),
        ("FFS", (40.0, 0.0, 180.0), JAWS),
        ("HFP", (220.0, 0.0, 0.0), JAWS),
        ("FFP", (140.0, 0.0, 0.0), TURNED),
    ],
)
def test_the_same_beam_gives_the_same_dose_however_the_patient_lies(make_case, tmp_path, position, angles, jaws):
    expected, _ = dose_of(*make_case("HFS", angles=(40.0, 0.0, 0.0), jaws=JAWS), tmp_path / "head_first")
    shutil.rmtree(tmp_path / "case")
    found, notes = dose_of(*make_case(position, angles=angles, jaws=jaws), tmp_path / "other")
    off = np.abs(found.values - expected.values) / expected.values.max()
    assert off.mean() < 5e-4 and off.max() < 0.02, (off.mean(), off.max())  # cones fall on other voxels
    assert not any("lies" in note for note in notes)
    # Left, anterior and superior of the isocentre is hot, all else is not.
    hot, *others = expected.sample([[45, -45, 30], [45, -45, -30], [-45, -45, 30], [45, 45, 30]])
    assert hot > 5 * max(others)


def test_a_plan_for_another_position_than_the_ct_is_told_and_treats_as_the_plan_says(make_case, tmp_path):
    dose, notes = dose_of(*make_case("FFS", plan_position="HFS"), tmp_path / "out")
    assert any("lies HFS" in note and "FFS" in note for note in notes), notes
    left, right = dose.sample([[60, 0, 0], [-60, 0, 0]])
    assert left > 1.3 * right  # gantry 90 of a head-first plan: from the left


@pytest.mark.parametrize("missing", ["sequence", "position"])
def test_a_plan_that_does_not_say_how_the_patient_lies_is_placed_as_the_ct(make_case, tmp_path, missing):
    case, plan = make_case("FFS")
    data = pydicom.dcmread(plan)
    if missing == "sequence":
        del data.PatientSetupSequence
    else:
        data.PatientSetupSequence[0].PatientPosition = ""
    data.save_as(plan)
    dose, notes = dose_of(case, plan, tmp_path / "out")
    assert any("position of the CT is assumed" in note for note in notes)
    left, right = dose.sample([[60, 0, 0], [-60, 0, 0]])
    assert right > 1.3 * left


def test_beams_for_different_positions_are_refused(make_case, tmp_path, capsys):
    case, plan = make_case("FFS")
    data = pydicom.dcmread(plan)
    data.PatientSetupSequence.append(copy.deepcopy(data.PatientSetupSequence[0]))
    data.PatientSetupSequence[1].PatientSetupNumber = 2
    data.PatientSetupSequence[1].PatientPosition = "HFS"
    data.BeamSequence.append(copy.deepcopy(data.BeamSequence[0]))
    data.BeamSequence[1].BeamNumber, data.BeamSequence[1].ReferencedPatientSetupNumber = 2, 2
    references = data.FractionGroupSequence[0].ReferencedBeamSequence
    references.append(copy.deepcopy(references[0]))
    references[1].ReferencedBeamNumber = 2
    data.save_as(plan)
    assert run(["dose", str(case), "--plan", str(plan), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "different patient positions" in error and "FFS, HFS" in error


def test_results_give_volumes_and_doses_for_the_whole_plan(make_case, tmp_path):
    case, plan = make_case("HFS")
    arguments = ["dose", str(case), "--plan", str(plan), "--machine", "reference-6mv-point", "--grid", "5"]
    assert run([*arguments, "--out", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["fractions"] == 2
    assert results["structures"]["BODY"]["volume_cc"] == pytest.approx(16 * 16 * 13, rel=0.01)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "done"


def test_a_gpu_that_is_not_used_is_refused(make_case, tmp_path, capsys):
    case, plan = make_case("HFS")
    assert run(["dose", str(case), "--plan", str(plan), "--device", "cuda", "--out", str(tmp_path / "out")]) == 2
    assert "GPU" in capsys.readouterr().err


def test_a_machine_file_with_a_beam_model_of_its_own_is_used(make_case, tmp_path):
    case, plan = make_case("HFS")
    doses = []
    for scale in (1.0, 2.0):
        model = BeamModel.named("reference-6mv-point")
        calibration = model.calibration.model_copy(update={"gy_per_mu": scale * model.calibration.gy_per_mu})
        folder = tmp_path / f"machine{scale:g}"
        folder.mkdir()
        (folder / "beam.toml").write_text(beam_model_toml(model.model_copy(update={"calibration": calibration})))
        text = (files("cantlie.machine") / "data" / "reference-6mv-point.toml").read_text()
        (folder / "machine.toml").write_text(
            text.replace('beam_model = "reference-6mv-point"', 'beam_model = "beam.toml"')
        )
        machine = str(folder / "machine.toml")
        results = recalculate(RecalculatePlan(case, plan, tmp_path / f"out{scale:g}", machine=machine, grid_mm=5.0))
        doses.append(results["maximum_gy"])
    assert doses[1] == pytest.approx(2 * doses[0], rel=1e-3)
    assert (
        load_machine(tmp_path / "machine1" / "machine.toml").sha256
        != load_machine(tmp_path / "machine2" / "machine.toml").sha256
    )


def changed(plan: Path, **values) -> None:
    """Change attributes of the plan, its beam, its control point or its place in the fraction group by name."""
    data = pydicom.dcmread(plan)
    beam = data.BeamSequence[0]
    holders = (data, beam, beam.ControlPointSequence[0], data.FractionGroupSequence[0].ReferencedBeamSequence[0])
    for keyword, value in values.items():
        setattr(holders[[keyword in one for one in holders].index(True)], keyword, value)
    data.save_as(plan)


def test_a_plan_of_another_machine_says_so(make_case, tmp_path):
    case, plan = make_case("HFS")
    changed(plan, TreatmentMachineName="LINAC7", NominalBeamEnergy=10, SourceAxisDistance=800)
    _, notes = dose_of(case, plan, tmp_path / "out")
    for words in ("the plan is for the machine LINAC7", "planned for 10 MV", "800 mm from the axis"):
        assert any(words in note for note in notes), (words, notes)
    changed(plan, NominalBeamEnergy=None, SourceAxisDistance=1000)
    _, notes = dose_of(case, plan, tmp_path / "out")
    assert any("does not say the energy; 6 MV was taken" in note for note in notes), notes


def test_an_isocentre_far_from_the_patient_is_refused(make_case, tmp_path, capsys):
    case, plan = make_case("HFS")
    changed(plan, IsocenterPosition=[0.0, 0.0, 900.0])
    assert run(["dose", str(case), "--plan", str(plan), "--grid", "5", "--out", str(tmp_path / "out")]) == 2
    assert "no beam of the plan meets the patient; its isocentre is x 0, y 0, z 900 mm" in capsys.readouterr().err


def test_the_plan_is_held_against_its_own_skin_distance_and_reference_dose(make_case, tmp_path):
    case, plan = make_case("HFS")
    data = pydicom.dcmread(plan)
    point = data.BeamSequence[0].ControlPointSequence[0]
    reference = data.FractionGroupSequence[0].ReferencedBeamSequence[0]
    point.SourceToSurfaceDistance = 921.0  # the box begins 80 mm from the isocentre
    reference.BeamDoseSpecificationPoint, reference.BeamDose = [0.0, 0.0, 0.0], 1.0
    data.save_as(plan)
    dose, notes = dose_of(case, plan, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "results.json").read_text())["reference_point"]
    assert found["recalculated_gy"] == pytest.approx(dose.sample([[0, 0, 0]])[0] / 2, rel=1e-4)
    assert not any("from the source" in note for note in notes), notes
    changed(plan, SourceToSurfaceDistance=860.0, BeamDose=round(1.2 * found["recalculated_gy"], 4))
    _, notes = dose_of(case, plan, tmp_path / "out")
    assert any("the plan has the skin 860 mm from the source, this CT has it at 92" in note for note in notes), notes
    assert any("at its reference point" in note and "-16.7 %" in note for note in notes), notes


def with_boost(plan: Path, fractions: int = 5, mu: float = 40.0) -> None:
    """Give the plan a second fraction group: a field of its own from the other side, and less of the first one."""
    data = pydicom.dcmread(plan)
    second = copy.deepcopy(data.BeamSequence[0])
    second.BeamNumber, second.BeamName = 2, "boost"
    second.ControlPointSequence[0].GantryAngle = 270
    data.BeamSequence.append(second)
    group = copy.deepcopy(data.FractionGroupSequence[0])
    group.FractionGroupNumber, group.NumberOfFractionsPlanned, group.NumberOfBeams = 2, fractions, 2
    also = copy.deepcopy(group.ReferencedBeamSequence[0])
    group.ReferencedBeamSequence[0].BeamMeterset = mu / 2
    also.ReferencedBeamNumber, also.BeamMeterset = 2, mu
    group.ReferencedBeamSequence.append(also)
    data.FractionGroupSequence.append(group)
    data.save_as(plan)


def run_dose(case: Path, plan: Path, out: Path, *more: str) -> dict:
    command = ["dose", str(case), "--plan", str(plan), "--machine", "reference-6mv-point", "--grid", "5", *more]
    assert run([*command, "--out", str(out)]) == 0
    return json.loads((out / "results.json").read_text())


def test_fraction_groups_are_summed_each_with_its_own_fractions_and_monitor_units(make_case, tmp_path):
    case, plan = make_case("HFS")
    alone = run_dose(case, plan, tmp_path / "alone")
    first = read_rtdose(tmp_path / "alone" / "RTDOSE.dcm").values  # 2 fractions of 100 MU
    with_boost(plan)
    results = run_dose(case, plan, tmp_path / "both")
    assert alone["fractions"] == 2 and results["fractions"] == 7 and results["mu_per_fraction"] is None
    groups = {row["fraction_group"]: row for row in results["fraction_groups"]}
    assert groups[1]["beams"] == {"1": 100.0} and groups[2]["beams"] == {"1": 20.0, "2": 40.0}
    files = {n: read_dose_file(tmp_path / "both" / row["dose_file"]) for n, row in groups.items()}
    assert {n: (f.summation_type, f.fraction_groups) for n, f in files.items()} == {
        1: ("FRACTION", (1,)),
        2: ("FRACTION", (2,)),
    }
    total = read_rtdose(tmp_path / "both" / "RTDOSE.dcm").values
    np.testing.assert_allclose(files[1].dose.values, first, atol=2e-4)
    np.testing.assert_allclose(total, files[1].dose.values + files[2].dose.values, atol=3e-4)
    # 5 fractions of 20 MU of beam 1 are half of its 2 fractions of 100 MU; beam 2 is its mirror image in the box.
    near, far = read_rtdose(tmp_path / "alone" / "RTDOSE.dcm").sample([[0, 20, -10], [0, 20, -10]])
    assert files[2].dose.sample([[0, 20, -10]])[0] == pytest.approx(0.5 * near + 1.0 * far, rel=0.02)
    page = (tmp_path / "both" / "report.html").read_text(encoding="utf-8")
    assert "group 2" in page and "sum of the plan" in page
    assert "4 Gy by several groups together" in page and "Isodoses in % of 4 Gy" in page  # not of 4 + 4 Gy
    data = pydicom.dcmread(plan)  # a boost of its own: another dose reference
    data.DoseReferenceSequence.append(copy.deepcopy(data.DoseReferenceSequence[0]))
    data.DoseReferenceSequence[1].DoseReferenceNumber, data.DoseReferenceSequence[1].TargetPrescriptionDose = 2, 3
    data.FractionGroupSequence[1].ReferencedDoseReferenceSequence[0].ReferencedDoseReferenceNumber = 2
    data.save_as(plan)
    assert [one["prescription_gy"] for one in run_dose(case, plan, tmp_path / "both")["fraction_groups"]] == [4.0, 3.0]
    page = (tmp_path / "both" / "report.html").read_text(encoding="utf-8")
    assert "3 Gy in 5 × 0.6 Gy" in page and "Isodoses in % of 7 Gy" in page


def test_one_fraction_group_can_be_asked_for_and_a_missing_one_is_named(make_case, tmp_path, capsys):
    case, plan = make_case("HFS")
    with_boost(plan)
    run_dose(case, plan, tmp_path / "both")
    results = run_dose(case, plan, tmp_path / "second", "--fraction-group", "2")
    assert results["fractions"] == 5 and any("fraction group 2 alone" in note for note in results["warnings"])
    own = read_rtdose(tmp_path / "second" / "RTDOSE.dcm").values
    np.testing.assert_allclose(own, read_rtdose(tmp_path / "both" / "RTDOSE_group2.dcm").values, atol=1e-4)
    assert run(["dose", str(case), "--plan", str(plan), "--fraction-group", "3", "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert "no fraction group 3" in error and "1 and 2" in error


def test_the_report_holds_the_dose_against_that_of_the_plan(make_case, tmp_path):
    case, plan = make_case("HFS")
    results = run_dose(case, plan, tmp_path / "first")
    assert results["planned_dose"] is None
    data = pydicom.dcmread(tmp_path / "first" / "RTDOSE.dcm")
    data.DoseGridScaling = 1.02 * float(data.DoseGridScaling)  # what another system calculated: 2 % more
    data.save_as(case / "RD.dcm")
    results = run_dose(case, plan, tmp_path / "again")
    planned = results["planned_dose"]
    assert planned["difference"]["mean_percent"] < 0
    assert planned["difference"]["lowest_gy"] == pytest.approx(
        -0.02 / 1.02 * planned["reference"]["maximum_gy"], rel=0.01
    )
    rates = {(one["dose_percent"], one["distance_mm"]): one["pass_percent"] for one in planned["gamma"]}
    assert rates == {(2.0, 2.0): 100.0, (3.0, 3.0): 100.0}
    assert planned["structures"]["BODY"]["mean_difference_gy"] < 0
    page = (tmp_path / "again" / "report.html").read_text(encoding="utf-8")
    for words in ("Against the planned dose", "2 % (global) / 2 mm", "3 % (global) / 3 mm", "Research use only"):
        assert words in page, words
    assert (tmp_path / "again" / "report.pdf").read_bytes().startswith(b"%PDF")
    assert {"gamma.png", "gamma-strict.png", "isodose.png"} <= {p.name for p in (tmp_path / "again/figures").iterdir()}


def test_a_dose_that_is_much_off_is_told_and_one_that_cannot_be_compared_is_named(make_case, tmp_path):
    case, plan = make_case("HFS")
    run_dose(case, plan, tmp_path / "first")
    data = pydicom.dcmread(tmp_path / "first" / "RTDOSE.dcm")
    data.DoseGridScaling = 1.2 * float(data.DoseGridScaling)
    data.save_as(tmp_path / "RD.dcm")
    results = run_dose(case, plan, tmp_path / "again", "--against", str(tmp_path / "RD.dcm"))
    assert any("agrees with the planned dose in only" in note for note in results["warnings"])
    for keyword, value, said in (
        ("DoseSummationType", "BEAM", "is of a part of the plan"),
        ("DoseType", "EFFECTIVE", "is biologically weighted"),
    ):
        one = copy.deepcopy(data)
        setattr(one, keyword, value)
        one.save_as(tmp_path / "odd.dcm")
        results = run_dose(case, plan, tmp_path / "odd", "--against", str(tmp_path / "odd.dcm"))
        assert any(said in note for note in results["warnings"]), keyword
    data.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID = "2.25.77"
    data.save_as(case / "RD.dcm")
    results = run_dose(case, plan, tmp_path / "other")
    assert results["planned_dose"] is None and any("is of this plan" in note for note in results["warnings"])


@pytest.mark.parametrize(("gy", "said"), [(420.0, "cGy written as Gy"), (0.042, "another unit than Gy"), (4.2, "")])
def test_a_planned_dose_that_is_off_by_a_unit_is_told(make_case, tmp_path, gy, said):
    folder, plan = make_case("HFS")
    case = read_case(folder)
    files = read_plan_groups(plan)
    dose = Volume(GRID, np.full(GRID.shape, gy, np.float32))
    for path, against in ((tmp_path / "RD.dcm", tmp_path / "RD.dcm"), (folder / "RD.dcm", None)):
        write_rtdose(case, dose, path, plan_uids=[files[0].plan.sop_instance_uid])
        notes: list[Note] = []
        found = planned_dose(folder, case, files, against, notes)
        assert found is not None and float(found.dose.values.max()) == pytest.approx(gy, rel=1e-4)
        told = [note.message for note in notes if "the 4 Gy that the plan prescribes" in note.message]
        assert len(told) == bool(said) and all(said in one for one in told)
