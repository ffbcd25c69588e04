"""Registration objects: what we write we read back, it obeys the standard, and plastimatch's objects are understood."""

import shutil
import subprocess

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from cantlie.core.errors import DicomError, GeometryError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.course.registration_field import DisplacementField, RigidTransform
from cantlie.dicom.registration_file import (
    read_registration_file,
    registrations_of_case,
    write_deformable_registration,
    write_spatial_registration,
)
from cantlie.patient.case import Case, Ct, ImageSlice, PatientIdentity
from cantlie.patient.structures import StructureSet

GRID = Grid((9, 12, 14), (5.0, 4.0, 6.0), (-30.0, -20.0, 100.0))
POINTS = GRID.points_mm()


def case_of(number: int, frame: str, study: str = "2.25.1") -> Case:
    slices = tuple(ImageSlice(f"2.25.9{number}{k}", float(z)) for k, z in enumerate(GRID.z_mm))
    ct = Ct(Volume(GRID, np.zeros(GRID.shape, np.float32)), "HFS", study, f"2.25.2{number}", frame, slices,
            study_date="20210304", study_time="101112")  # fmt: skip
    return Case(ct, StructureSet(), PatientIdentity("P1", "Test^One"))


def turned() -> RigidTransform:
    c, s = np.cos(0.2), np.sin(0.2)
    return RigidTransform(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), (5.0, -3.0, 12.0), (10.0, 20.0, 130.0))


def bump() -> DisplacementField:
    away = POINTS - POINTS.mean(axis=(0, 1, 2))
    size = np.exp(-0.5 * (away**2).sum(-1) / 20.0**2)[..., None]
    return DisplacementField(GRID, (6.0 * size * np.array([0.3, -0.5, 0.8]) + [1.0, 2.0, 3.0]).astype(np.float32))


@pytest.mark.parametrize("frames", [("2.25.31", "2.25.32"), ("2.25.31", "2.25.31")])
@pytest.mark.parametrize("study", ["2.25.1", "2.25.7"])
def test_rigid_round_trip(tmp_path, check_dicom, frames, study):
    later, first = case_of(1, frames[0]), case_of(2, frames[1], study)
    path = tmp_path / "REG.dcm"
    uid = write_spatial_registration(later, first, turned().matrix(), path, comment="by bones")
    check_dicom(path)
    read = read_registration_file(path)
    assert read.sop_instance_uid == uid and not read.deformable
    assert read.connects(later.ct, first.ct)
    field = read.field_between(later.ct, first.ct, GRID)
    assert POINTS + field.displacement_mm == pytest.approx(turned().points_mm(POINTS), abs=1e-3)
    back = read.field_between(first.ct, later.ct, GRID)
    expected = (np.linalg.inv(turned().matrix()) @ [0, 0, 120, 1])[:3]
    assert back.moving_points_mm([0.0, 0.0, 120.0]) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("frames", [("2.25.31", "2.25.32"), ("2.25.31", "2.25.31")])
def test_deformable_round_trip(tmp_path, check_dicom, frames):
    later, first = case_of(1, frames[0]), case_of(2, frames[1])
    path = tmp_path / "case" / "REG.dcm"
    write_deformable_registration(later, first, bump(), path, comment="demons")
    check_dicom(path)
    (read,) = registrations_of_case(tmp_path / "case")
    assert read.deformable and read.connects(later.ct, first.ct)
    assert not read.connects(later.ct, case_of(3, "2.25.99").ct)
    field = read.field_between(later.ct, first.ct, GRID)
    assert field.displacement_mm == pytest.approx(bump().displacement_mm, abs=1e-4)
    # The object used the other way round gives the inverse.
    inverse = read.field_between(first.ct, later.ct, GRID)
    inner = POINTS[2:-2, 3:-3, 3:-3]
    assert inverse.moving_points_mm(bump().moving_points_mm(inner)) == pytest.approx(inner, abs=0.6)


def test_a_long_comment_is_cut_to_what_its_attribute_holds(tmp_path, check_dicom):
    later, first = case_of(1, "2.25.31"), case_of(2, "2.25.32")
    said = "the deformable registration object of the case, not Cantlie's own registration"
    write_spatial_registration(later, first, turned().matrix(), tmp_path / "rigid.dcm", comment=said)
    write_deformable_registration(later, first, bump(), tmp_path / "soft.dcm", comment=said)
    for name in ("rigid.dcm", "soft.dcm"):
        check_dicom(tmp_path / name)
        found = [one.value for one in dcmread(tmp_path / name).iterall() if one.tag == (0x3006, 0x00C8)]
        assert any(said.startswith(comment) and 60 <= len(comment) <= 64 for comment in found)


def test_grids_in_other_directions_and_undefined_vectors(tmp_path):
    later, first = case_of(1, "2.25.31"), case_of(2, "2.25.32")
    path = tmp_path / "REG.dcm"
    write_deformable_registration(later, first, bump(), path)
    dataset = dcmread(path)
    held = dataset.DeformableRegistrationSequence[0].DeformableRegistrationGridSequence[0]
    vectors = np.frombuffer(held.VectorGridData, "<f4").reshape(*GRID.shape, 3)
    flipped = np.ascontiguousarray(vectors[::-1, :, ::-1])
    flipped[0, 0, 0] = np.nan
    held.VectorGridData = flipped.tobytes()
    held.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
    held.ImagePositionPatient = [float(GRID.x_mm[-1]), GRID.origin_mm[1], float(GRID.z_mm[-1])]
    shift = np.eye(4)
    shift[:3, 3] = [0.0, 0.0, 40.0]
    after = Dataset()
    after.FrameOfReferenceTransformationMatrixType = "RIGID"
    after.FrameOfReferenceTransformationMatrix = shift.reshape(-1).tolist()
    dataset.DeformableRegistrationSequence[0].PostDeformationMatrixRegistrationSequence = [after]
    dataset.save_as(path)
    read = read_registration_file(path)
    assert "undefined" in read.notes[0].message
    found = read.field_between(later.ct, first.ct, GRID).displacement_mm - [0, 0, 40]
    assert found[:-1, :, :-1] == pytest.approx(bump().displacement_mm[:-1, :, :-1], abs=1e-4)


def test_spatial_registration__against_plastimatch(tmp_path):
    """plastimatch writes a Spatial Registration of a known ITK transform; we read the same motion from it."""
    program = shutil.which("plastimatch")
    if program is None:
        pytest.skip("plastimatch is not installed")
    matrix = turned().matrix()
    rows = " ".join(str(v) for v in [*matrix[:3, :3].reshape(-1), *matrix[:3, 3]])
    (tmp_path / "xf.txt").write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {rows}\nFixedParameters: 0 0 0\n"
    )
    for name in ("fixed", "moving"):
        subprocess.run(
            [program, "synth", "--pattern", "gauss", "--dim", "12 12 8", "--spacing", "5 5 5", "--origin", "0 0 0",
             "--output-dicom", str(tmp_path / name)], check=True, capture_output=True, timeout=60,
        )  # fmt: skip
    run = subprocess.run(
        [program, "xf-convert", "--input", str(tmp_path / "xf.txt"), "--output-dicom", str(tmp_path / "out"),
         "--fixed-rcs", str(tmp_path / "fixed"), "--moving-rcs", str(tmp_path / "moving")],
        check=False, capture_output=True, timeout=60,
    )  # fmt: skip
    objects = [p for p in (tmp_path / "out").glob("*") if dcmread(p).Modality == "REG"]
    assert objects, run.stdout
    # plastimatch also writes a structure set, which has no frame of reference of its own
    headers = {name: [dcmread(p) for p in (tmp_path / name).glob("*.dcm")] for name in ("fixed", "moving")}
    frames = [next(h.FrameOfReferenceUID for h in found if h.Modality == "CT") for found in headers.values()]
    fixed, moving = (case_of(n, frame) for n, frame in enumerate(frames))
    read = read_registration_file(objects[0])
    assert read.connects(fixed.ct, moving.ct)
    found = POINTS + read.field_between(fixed.ct, moving.ct, GRID).displacement_mm
    assert found == pytest.approx(turned().points_mm(POINTS), abs=1e-2)


def test_what_is_no_registration_is_refused(tmp_path):
    later, first = case_of(1, "2.25.31"), case_of(2, "2.25.32")
    with pytest.raises(DicomError, match="not a rotation"):
        write_spatial_registration(later, first, np.diag([2.0, 1, 1, 1]), tmp_path / "REG.dcm")
    with pytest.raises(DicomError, match="cannot be opened"):
        read_registration_file(tmp_path / "none.dcm")
    path = tmp_path / "REG.dcm"
    write_deformable_registration(later, first, bump(), path)
    read = read_registration_file(path)
    with pytest.raises(DicomError, match="does not connect"):
        read.field_between(later.ct, case_of(3, "2.25.99").ct, GRID)
    folds = DisplacementField(GRID, np.random.default_rng(0).normal(0, 20, POINTS.shape).astype(np.float32))
    write_deformable_registration(later, first, folds, path)
    with pytest.raises(GeometryError, match="turned round"):
        read_registration_file(path).field_between(first.ct, later.ct, GRID)
    dataset = dcmread(path)
    dataset.DeformableRegistrationSequence[0].DeformableRegistrationGridSequence[0].GridDimensions = [3, 3, 3]
    dataset.save_as(path)
    with pytest.raises(DicomError, match="does not fit its vectors"):
        read_registration_file(path)
