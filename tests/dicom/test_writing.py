"""Exported DICOM: what we write we read back, it obeys the standard, and other tools read it."""

import shutil
import subprocess
import zipfile

import numpy as np
import pytest
from pydicom import dcmread

from cantlie.core.errors import DicomError, OutputError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dicom.bundled import bundled_case_path
from cantlie.dicom.plan_file import PatientSetup, read_plan_file, read_rtplan
from cantlie.dicom.reading import read_case
from cantlie.dicom.rtdose import read_dose_file, read_rtdose, write_rtdose
from cantlie.dicom.rtplan import write_rtplan
from cantlie.dicom.rtstruct import write_rtstruct
from cantlie.dicom.writing import decimal_string, uid_of
from cantlie.machine.aperture import Aperture
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.patient.contours import contours_of_fractions
from cantlie.patient.masks import structure_fractions
from cantlie.patient.structures import Structure
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan


@pytest.fixture
def case(maker):
    return read_case(maker.write())


@pytest.fixture
def target(case):
    fractions = structure_fractions(case.structures["Liver"], case.ct.volume.grid)
    return Structure("PTV_R", contours_of_fractions(fractions, case.ct.volume.grid), dicom_type="PTV")


@pytest.fixture
def machine():
    return load_machine("generic-6mv-mlci")


@pytest.fixture
def dose(case):
    grid = case.ct.volume.grid.resampled((2.5, 2.5, 3.0))
    return Volume(grid, (40 * np.exp(-((grid.points_mm() - 3) ** 2).sum(axis=-1) / 5000)).astype(np.float32))


def make_plan(machine, beams=3, segments=4, arc=False):
    rng = np.random.default_rng(7)
    pairs = len(machine.mlc.leaf_boundaries_mm) - 1
    made = []
    for n in range(beams):
        geometry = BeamGeometry((-1.5, 4.25, 115.0), 40.0 * n, 5.0, 350.0)
        points, mu = [], 0.0
        for _ in range(segments):
            lower = rng.uniform(-80, 0, pairs)
            aperture = Aperture((-90.0, 80.0), (-70.5, 60.25), lower, lower + rng.uniform(5, 50, pairs))
            points.append(ControlPoint(geometry, aperture, mu))
            mu += float(rng.uniform(3, 20))
            points.append(ControlPoint(geometry, aperture, mu))
        made.append(TreatmentBeam(n + 1, f"gantry {40 * n}", tuple(points)))
    if arc:
        points = []
        for k in range(60):
            lower = rng.uniform(-80, 0, pairs)
            aperture = Aperture((-90.0, 80.0), (-70.0, 60.0), lower, lower + 30)
            points.append(ControlPoint(BeamGeometry((-1.5, 4.25, 115.0), 181.0 + 5 * k, 5.0), aperture, 1.5 * k))
        made.append(TreatmentBeam(9, "arc", tuple(points), dynamic=True))
    return TreatmentPlan("right half", machine.name, tuple(made), 15, 30.0, "PTV_R")


def test_structure_set_round_trip_bit_for_bit(case, target, tmp_path, check_dicom, maker):
    uid = write_rtstruct(case, [target], tmp_path / "RS.dcm")
    check_dicom(tmp_path / "RS.dcm")
    (maker.folder / "RS.dcm").write_bytes((tmp_path / "RS.dcm").read_bytes())
    again = read_case(maker.folder)
    assert again.notes == () and again.structures.sop_instance_uid == uid
    assert [s.name for s in again.structures] == ["BODY", "Liver", "cord", "PTV_R"]
    for one in (*case.structures, target):
        two = again.structures[one.name]
        assert (two.dicom_type, two.colour_rgb) == (one.dicom_type, one.colour_rgb)
        for first, second in zip(one.contours_mm, two.contours_mm, strict=True):
            np.testing.assert_array_equal(first, second)


def test_reruns_agree_and_content_decides_the_uid(case, target, tmp_path):
    write_rtstruct(case, [target], tmp_path / "a.dcm")
    write_rtstruct(case, [target], tmp_path / "b.dcm")
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    moved = Structure("PTV_R", tuple(c + 0.001 for c in target.contours_mm), dicom_type="PTV")
    uids = {dcmread(tmp_path / "a.dcm").SOPInstanceUID, write_rtstruct(case, [moved], tmp_path / "c.dcm")}
    assert len(uids) == 2 and all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)
    assert uid_of("a", "bc") != uid_of("ab", "c")


def test_everything_says_research_and_hangs_together(case, target, machine, dose, tmp_path):
    structure_uid = write_rtstruct(case, [target], tmp_path / "RS.dcm")
    plan_uids = [
        write_rtplan(case, make_plan(machine, beams=n), machine, structure_uid, tmp_path / f"RP{n}.dcm") for n in (2, 3)
    ]
    write_rtdose(case, dose, tmp_path / "RD.dcm", plan_uids=plan_uids[:1])
    write_rtdose(case, dose, tmp_path / "sum.dcm", summation_type="MULTI_PLAN", plan_uids=plan_uids)
    for path in tmp_path.glob("*.dcm"):
        data = dcmread(path)
        assert data.Manufacturer == "Cantlie" and "esearch use only" in data.SeriesDescription
        assert data.StudyInstanceUID == "2.25.100" and data.FrameOfReferenceUID == "2.25.300"
        assert data.PatientID == "P1" and data.PatientName == "Test^One"
        assert data.get("ApprovalStatus", "UNAPPROVED") == "UNAPPROVED"
    plan = dcmread(tmp_path / "RP2.dcm")
    assert plan.PlanIntent == "RESEARCH" and plan.ApprovalStatus == "UNAPPROVED"
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structure_uid
    assert read_dose_file(tmp_path / "RD.dcm").plan_uids == (plan_uids[0],)
    assert read_dose_file(tmp_path / "sum.dcm").plan_uids == tuple(plan_uids)
    assert dcmread(tmp_path / "sum.dcm").DoseSummationType == "MULTI_PLAN"


@pytest.mark.parametrize("arc", [False, True])
def test_plan_round_trip(case, machine, tmp_path, check_dicom, arc):
    plan = make_plan(machine, arc=arc)
    setup = PatientSetup("HFS", "arms above head, abdominal belt", (("VACUUM_MOLD", "Vacuum bag"), ("MASK", "")))
    uid = write_rtplan(case, plan, machine, "2.25.55", tmp_path / "RP.dcm", setup=setup, target_number=4)
    check_dicom(tmp_path / "RP.dcm")
    file = read_plan_file(tmp_path / "RP.dcm")
    again = file.plan
    assert file.setup.description == setup.description and file.setup.fixation[0] == ("VACUUM_MOLD", "Vacuum bag")
    assert (again.label, again.machine_id, again.fractions, again.prescription_gy) == (
        plan.label,
        machine.name,
        15,
        30.0,
    )
    assert again.target_name == "PTV_R" and again.sop_instance_uid == uid and file.structure_set_uid == "2.25.55"
    assert file.intent == "RESEARCH" and file.notes == () and set(file.energy_mv.values()) == {machine.energy_mv}
    for beam, other in zip(plan, again, strict=True):
        assert (beam.number, beam.name, beam.dynamic) == (other.number, other.name, other.dynamic)
        np.testing.assert_array_equal(file.leaf_boundaries_mm[beam.number], machine.mlc.leaf_boundaries_mm)
        assert file.mlc_axis[beam.number] == machine.mlc.axis
        for one, two in zip(beam.control_points, other.control_points, strict=True):
            assert one.geometry == two.geometry
            assert one.aperture.jaw_x_mm == two.aperture.jaw_x_mm and one.aperture.jaw_y_mm == two.aperture.jaw_y_mm
            # a decimal string holds 16 characters
            assert two.cumulative_mu == pytest.approx(one.cumulative_mu, abs=1e-11)
            np.testing.assert_allclose(two.aperture.leaf_lower_mm, one.aperture.leaf_lower_mm, rtol=0, atol=1e-11)
            np.testing.assert_allclose(two.aperture.leaf_upper_mm, one.aperture.leaf_upper_mm, rtol=0, atol=1e-11)
    write_rtplan(case, again, machine, "2.25.55", tmp_path / "RP2.dcm", setup=setup, target_number=4)
    assert (tmp_path / "RP2.dcm").read_bytes() == (tmp_path / "RP.dcm").read_bytes()


@pytest.mark.parametrize("bits", [16, 32])
def test_dose_round_trip(case, dose, tmp_path, bits):
    write_rtdose(case, dose, tmp_path / "RD.dcm", plan_uids=("2.25.5",), bits=bits)
    again = read_rtdose(tmp_path / "RD.dcm")
    assert again.grid == dose.grid
    np.testing.assert_allclose(again.values, dose.values, rtol=1e-7, atol=dose.values.max() * (8e-6, 3e-10)[bits == 32])
    write_rtdose(case, again, tmp_path / "RD2.dcm", plan_uids=("2.25.5",), bits=bits)
    assert (tmp_path / "RD2.dcm").read_bytes() == (tmp_path / "RD.dcm").read_bytes()
    np.testing.assert_array_equal(read_rtdose(tmp_path / "RD2.dcm").values, again.values)


def test_doses_obey_the_standard(case, dose, tmp_path, check_dicom):
    write_rtdose(case, dose, tmp_path / "one.dcm", plan_uids=("2.25.5",), comment="right half")
    odd = Volume(Grid((1, 3, 3), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0)), np.zeros((1, 3, 3), dtype=np.float32))
    write_rtdose(case, odd, tmp_path / "odd.dcm", plan_uids=("2.25.5",))
    write_rtdose(
        case,
        dose,
        tmp_path / "sum.dcm",
        summation_type="MULTI_PLAN",
        plan_uids=("2.25.5", "2.25.6"),
        dose_type="EFFECTIVE",
        comment="EQD2, alpha/beta 2.5 Gy",
    )
    for name in ("one", "odd", "sum"):
        check_dicom(tmp_path / f"{name}.dcm")
    assert (read_rtdose(tmp_path / "odd.dcm").values == 0).all()


def stored_dose(maker, values, position, offsets, corner_z, bits=16):
    """An RTDOSE as another system might write it: any orientation, relative or absolute offsets."""
    data = maker.base("1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE", "2.25.600", "2.25.601")
    cosines = np.array(maker.orientations[position], dtype=float).reshape(2, 3)
    row_axis = int(np.argmax(np.abs(cosines[0])))
    images, corner = values, [*maker.origin[:2], corner_z]
    counts = {0: values.shape[2], 1: values.shape[1]}
    if row_axis == 1:
        images = np.swapaxes(images, 1, 2)
    for axis, cosine, along in ((row_axis, cosines[0], 2), (1 - row_axis, cosines[1], 1)):
        if cosine[axis] < 0:
            images = np.flip(images, along)
            corner[axis] += (counts[axis] - 1) * maker.spacing[axis]
    data.ImagePositionPatient, data.ImageOrientationPatient = corner, list(maker.orientations[position])
    data.PixelSpacing = [maker.spacing[1 - row_axis], maker.spacing[row_axis]]
    data.NumberOfFrames, data.Rows, data.Columns = images.shape
    data.GridFrameOffsetVector = list(offsets)
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.DoseUnits, data.DoseType, data.DoseSummationType, data.DoseGridScaling = "GY", "PHYSICAL", "PLAN", "0.001"
    data.PixelData = np.ascontiguousarray(images).astype(f"<u{bits // 8}").tobytes()
    return data


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("position", ["HFS", "HFP", "FFS", "FFP", "HFDR"])
@pytest.mark.parametrize("form", ["relative", "absolute", "descending", "absolute descending"])
def test_doses_of_other_systems(maker, tmp_path, position, form, bits):
    rng = np.random.default_rng(3)
    values = rng.integers(0, 60000, maker.shape)
    z = maker.origin[2] + maker.spacing[2] * np.arange(maker.shape[0])
    order = slice(None, None, -1) if "descending" in form else slice(None)
    x_turn, y_turn = (float(sum(maker.orientations[position][3 * n : 3 * n + 3])) for n in (0, 1))
    swapped = maker.orientations[position][0] == 0
    normal = x_turn * y_turn * (-1 if swapped else 1)
    offsets = z[order] if "absolute" in form else (z[order] - z[order][0]) * normal
    data = stored_dose(maker, values[order], position, offsets, float(z[order][0]), bits)
    dose = read_rtdose(maker.save(data, tmp_path / "RD.dcm"))
    assert dose.grid == Grid(maker.shape, maker.spacing, maker.origin)
    np.testing.assert_allclose(dose.values, values * 0.001, rtol=1e-6)


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("DoseUnits", "RELATIVE", "in RELATIVE, not Gy"),
        ("DoseGridScaling", 0, "DoseGridScaling"),
        ("DoseType", "ERROR", "errors"),
        ("GridFrameOffsetVector", [0, 1, 2], "GridFrameOffsetVector"),
        ("GridFrameOffsetVector", [0, 4, 8, 6, 16, 20, 24, 28], "out of order"),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0, 1], "not axial"),
        ("PixelData", b"\0" * 10, "cannot be read"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2", "not an RTDOSE"),
    ],
)
def test_wrong_doses_are_refused(maker, tmp_path, keyword, value, words):
    offsets = maker.spacing[2] * np.arange(maker.shape[0])
    data = stored_dose(maker, np.zeros(maker.shape, dtype=int), "HFS", offsets, 100.0)
    setattr(data, keyword, value)
    with pytest.raises(DicomError, match=words) as caught:
        read_rtdose(maker.save(data, tmp_path / "RD.dcm"))
    assert caught.value.where and caught.value.remedy


def change_beam(keyword, value):
    def change(data):
        setattr(data.BeamSequence[0], keyword, value)

    return change


def change_first_point(keyword, value):
    def change(data):
        setattr(data.BeamSequence[0].ControlPointSequence[0], keyword, value)

    return change


def change_device(kind):
    def change(data):
        data.BeamSequence[0].BeamLimitingDeviceSequence[2].RTBeamLimitingDeviceType = kind

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_beam("NumberOfWedges", 1), "a wedge"),
        (change_beam("NumberOfBlocks", 2), "a block"),
        (change_beam("NumberOfBoli", 1), "a bolus"),
        (change_beam("NumberOfCompensators", 1), "a compensator"),
        (change_beam("ApplicatorSequence", [dcmread]), "an applicator"),
        (change_beam("RadiationType", "ELECTRON"), "electrons"),
        (change_beam("PrimaryDosimeterUnit", "MINUTE"), "MINUTE"),
        (change_beam("FinalCumulativeMetersetWeight", 0), "final weight of 0"),
        (change_first_point("TableTopEccentricAngle", 10), "TableTopEccentricAngle"),
        (change_first_point("GantryAngle", None), "gantry angle"),
        (change_first_point("IsocenterPosition", None), "isocentre"),
        (change_first_point("CumulativeMetersetWeight", 3), "do not grow from 0"),
        (change_device("MLCX1"), "MLCX1"),
        (lambda data: setattr(data, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.481.8"), "ion plan"),
        (lambda data: setattr(data, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), "not an RTPLAN"),
        (lambda data: setattr(data, "FractionGroupSequence", []), "no fraction group"),
    ],
)
def test_what_cantlie_cannot_calculate_is_refused_by_name(case, machine, tmp_path, maker, change, words):
    write_rtplan(case, make_plan(machine), machine, "2.25.55", tmp_path / "RP.dcm")
    data = dcmread(tmp_path / "RP.dcm")
    if words == "an applicator":
        data.BeamSequence[0].ApplicatorSequence = [data.PatientSetupSequence[0]]
    else:
        change(data)
    with pytest.raises(DicomError, match=words) as caught:
        read_rtplan(maker.save(data, tmp_path / "changed.dcm"))
    assert "changed.dcm" in caught.value.where and caught.value.remedy


def test_plans_of_other_systems(case, machine, tmp_path, maker):
    """Relative meterset weights, symmetric jaw names, no Y jaws, a setup beam, an arc through 0 degrees."""
    write_rtplan(case, make_plan(machine, beams=2, arc=True), machine, "2.25.55", tmp_path / "RP.dcm")
    data = dcmread(tmp_path / "RP.dcm")
    first, second, arc = data.BeamSequence
    total = float(first.FinalCumulativeMetersetWeight)
    first.FinalCumulativeMetersetWeight = 1
    for point in first.ControlPointSequence:
        point.CumulativeMetersetWeight = float(f"{float(point.CumulativeMetersetWeight) / total:.12g}")
    first.BeamLimitingDeviceSequence[0].RTBeamLimitingDeviceType = "X"
    del first.BeamLimitingDeviceSequence[1]
    device = first.ControlPointSequence[0].BeamLimitingDevicePositionSequence
    device[0].RTBeamLimitingDeviceType = "X"
    del device[1]
    second.TreatmentDeliveryType = "SETUP"
    for k, point in enumerate(arc.ControlPointSequence):
        point.GantryAngle = (300 - 4 * k) % 360
        point.GantryRotationDirection = "CC" if k < 59 else "NONE"
    file = read_plan_file(maker.save(data, tmp_path / "other.dcm"))
    assert [beam.number for beam in file.plan] == [1, 9]
    beam, arc_beam = file.plan.beams
    assert beam.mu == pytest.approx(total, rel=1e-9) and beam.control_points[0].aperture.jaw_y_mm == (-200.0, 200.0)
    assert [p.geometry.gantry_deg for p in arc_beam.control_points] == [300.0 - 4 * k for k in range(60)]
    assert any("no Y jaws" in note.message for note in file.notes)
    assert any("left out" in note.message for note in file.notes)


def test_unwritable_output(case, target, dose, machine, tmp_path):
    (tmp_path / "file").write_text("x")
    path = tmp_path / "file" / "RS.dcm"
    for write in (
        lambda: write_rtstruct(case, [target], path),
        lambda: write_rtdose(case, dose, path, plan_uids=("2.25.5",)),
        lambda: write_rtplan(case, make_plan(machine), machine, "2.25.5", path),
    ):
        with pytest.raises(OutputError, match="cannot write") as caught:
            write()
        assert caught.value.remedy


def test_impossible_exports_are_refused(case, dose, machine, tmp_path):
    with pytest.raises(DicomError, match="below 0"):
        write_rtdose(case, Volume(dose.grid, dose.values - 50), tmp_path / "x.dcm", plan_uids=("2.25.5",))
    with pytest.raises(DicomError, match="MULTI_PLAN dose cannot belong to 1 plan"):
        write_rtdose(case, dose, tmp_path / "x.dcm", summation_type="MULTI_PLAN", plan_uids=("2.25.5",))
    with pytest.raises(DicomError, match="leaf pairs"):
        write_rtplan(case, make_plan(machine), load_machine("reference-6mv-point"), "2.25.5", tmp_path / "x.dcm")
    assert not list(tmp_path.glob("x.dcm"))


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 1.0, 0.1, -123.4567, 1 / 3, -1e-9 / 3, 123456789.123456789, 1e22, -1.7976931348623157e-7]
)
def test_decimal_strings_fit_and_are_as_near_as_can_be(value):
    text = decimal_string(value)
    assert len(text) <= 16
    assert float(text) == pytest.approx(value, rel=1e-9, abs=0)


def test_plastimatch_reads_the_same_volumes_and_doses__against_plastimatch(tmp_path):
    program = shutil.which("plastimatch")
    if program is None:
        pytest.skip("plastimatch is not installed")
    with zipfile.ZipFile(bundled_case_path("crlm_ct_1006")) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "crlm_ct_1006"
    case = read_case(folder)
    grid = case.ct.volume.grid
    liver = structure_fractions(case.structures["Liver"], grid)
    half = np.where(grid.x_mm[None, None, :] < -40, liver, 0).astype(np.float32)
    target = Structure("Half", contours_of_fractions(half, grid), dicom_type="PTV")
    write_rtstruct(case, [target], folder / "RS.dcm")
    coarse = grid.resampled((3.0, 3.0, 5.0))
    x, y, z = np.moveaxis(coarse.points_mm(), -1, 0)
    dose = Volume(coarse, (30 + 0.06 * x + 0.02 * y - 0.03 * (z + 240)).astype(np.float32))
    dose = Volume(coarse, np.maximum(dose.values, 0))
    write_rtdose(case, dose, folder / "RD.dcm", plan_uids=("2.25.5",))

    def run(*arguments):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run("convert", "--input", str(folder), "--output-ss-img", str(tmp_path / "ss.nrrd"), "--output-ss-list",
        str(tmp_path / "ss.txt"), "--output-dose-img", str(tmp_path / "dose.nrrd"))  # fmt: skip
    run("dvh", "--input-ss-img", str(tmp_path / "ss.nrrd"), "--input-ss-list", str(tmp_path / "ss.txt"),
        "--input-dose", str(tmp_path / "dose.nrrd"), "--output-csv", str(tmp_path / "dvh.csv"), "--cumulative",
        "--dose-units", "gy", "--num-bins", "6000", "--bin-width", "0.01")  # fmt: skip
    lines = (tmp_path / "dvh.csv").read_text().splitlines()
    names = lines[0].split(",")
    table = np.array([[float(v) for v in line.split(",")] for line in lines[1:]])
    for name in ("Liver", "Half", "Spleen", "Kidney_R"):
        mask = structure_fractions(case.structures[name] if name != "Half" else target, coarse)
        ours_gy = float((mask * dose.values).sum(dtype=float) / mask.sum(dtype=float))
        share = table[:, names.index(name)]
        theirs_gy = float(np.trapezoid(share, table[:, 0]))
        assert ours_gy == pytest.approx(theirs_gy, rel=0.01), name
        order = np.argsort(dose.values[mask > 0.5])
        median = dose.values[mask > 0.5][order][order.size // 2]
        assert np.interp(0.5, share[::-1], table[::-1, 0]) == pytest.approx(median, rel=0.01), name
