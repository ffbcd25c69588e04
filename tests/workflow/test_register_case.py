"""MRI registered to the CT: other grey values, contours carried over, landmarks, and the registration objects."""

import json

import numpy as np
import pytest
from pydicom import dcmread
from tests.workflow.dicom_cases import GRID, deformed, ellipsoid, image_of, organs, write_case

from cantlie.cli.main import run
from cantlie.core.errors import DicomError
from cantlie.core.volume import Volume
from cantlie.course.registration_field import DisplacementField, RigidTransform
from cantlie.dicom.image_series import MR_IMAGE, read_image_series
from cantlie.dicom.reading import read_case
from cantlie.dicom.registration_file import read_registration_file
from cantlie.patient.masks import structure_fractions
from cantlie.workflow.register_case import RegisterCase, register_case

SHIFT = (6.0, -5.0, 9.0)


@pytest.fixture
def pair(tmp_path):
    """Write a planning CT, and an MRI with other grey values, shifted, with a lesion that is not on the CT."""
    masks = organs()
    hu = image_of(masks)
    drawn = {name: masks[name] for name in ("BODY", "Liver")}
    write_case(tmp_path / "ct", hu, drawn, 1)
    back = DisplacementField.of_rigid(RigidTransform(np.eye(3), tuple(-s for s in SHIFT), (0.0, 0.0, 0.0)), GRID)
    moved, moved_masks = deformed(hu, {**masks, "Met": ellipsoid((-30, 0, 12), 9)}, back)
    mri = np.where(moved > -500, 900 - 2.0 * moved, 5.0)
    tags = {"SOPClassUID": MR_IMAGE, "Modality": "MR", "SeriesDescription": "T1 post contrast"}
    write_case(tmp_path / "mr", mri, {n: moved_masks[n] for n in ("Liver", "Met")}, 2, tags=tags, frame="2.25.55")
    return tmp_path


def test_an_mri_is_registered_and_its_lesion_carried_over(pair):
    points = GRID.mm_from_index([[15, 18, 20], [20, 15, 18], [12, 22, 25]])
    lines = ["x_mm,y_mm,z_mm,moving_x_mm,moving_y_mm,moving_z_mm"]
    lines += [",".join(str(v) for v in (*p, *(p + SHIFT))) for p in points]
    (pair / "marks.csv").write_text("\n".join(lines))
    code = run(["register", str(pair / "ct"), "--moving", str(pair / "mr"), "--grid", "4", "--landmarks",
                str(pair / "marks.csv"), "--out", str(pair / "out")])  # fmt: skip
    assert code == 0
    results = json.loads((pair / "out" / "results.json").read_text())
    found = results["registration"]
    assert results["moving"]["kind"] == "MRI"
    assert found["target_registration_error_mm"]["mean"] < 2.0  # half a voxel
    assert found["dice"]["Liver"] > 0.93
    files = {path.name for path in (pair / "out" / "dicom").iterdir()}
    assert files == {"REG_rigid.dcm", "RS_with_carried_contours.dcm"}
    rigid = read_registration_file(pair / "out" / "dicom" / "REG_rigid.dcm")
    assert rigid.registered_frame_uid == "2.25.31" and "2.25.55" in {one.frame_uid for one in rigid.images}
    (pair / "ct" / "RS1.dcm").unlink()
    (pair / "out" / "dicom" / "RS_with_carried_contours.dcm").rename(pair / "ct" / "RS.dcm")
    carried = structure_fractions(read_case(pair / "ct").structures["Met_MRI"], GRID)
    truth = ellipsoid((-30, 0, 12), 9)
    assert 2 * np.minimum(carried, truth).sum() / (carried.sum() + truth.sum()) > 0.85
    page = (pair / "out" / "report.html").read_text(encoding="utf-8")
    assert "Checkerboard" in page and "Target registration error" in page and (pair / "out" / "report.pdf").exists()


def test_progress_never_goes_back_and_every_stage_has_its_share(pair):
    seen: list[tuple[float, str]] = []
    request = RegisterCase(pair / "ct", pair / "mr", pair / "out", spacing_mm=6.0)
    register_case(request, lambda fraction, message="": seen.append((fraction, message)))
    shares = [fraction for fraction, _ in seen]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1.0)
    stages = json.loads((pair / "out" / "run.json").read_text())["stages"]
    starts = [min(fraction for fraction, message in seen if message == stage["name"]) for stage in stages]
    assert len(set(starts)) == len(stages) == 4


def test_sagittal_and_oblique_series_come_to_lie_in_the_patient(pair, tmp_path):
    """The same volume stored as sagittal images is read voxel for voxel; turned by 30 degrees, by interpolation."""
    axial = read_image_series(pair / "mr")
    values = np.asarray(axial.case.ct.volume.values)
    example = dcmread(next((pair / "mr" / "CT2").glob("*.dcm")))

    def write(folder, stack, corner_of, cosines, spacing):
        folder.mkdir()
        for n, plane in enumerate(stack):
            example.SOPInstanceUID = example.file_meta.MediaStorageSOPInstanceUID = f"2.25.8{n:03d}"
            example.ImagePositionPatient, example.ImageOrientationPatient = [float(v) for v in corner_of(n)], cosines
            example.Rows, example.Columns = plane.shape
            example.PixelSpacing, example.SeriesInstanceUID = spacing, "2.25.66"
            example.PixelData = np.round(plane).astype("<i2").tobytes()
            example.save_as(folder / f"{n:03d}.dcm", enforce_file_format=True)

    top = (GRID.x_mm[0], GRID.y_mm[0], GRID.z_mm[-1])
    sagittal = [values[::-1, :, i] for i in range(GRID.shape[2])]
    write(tmp_path / "sag", sagittal, lambda i: (GRID.x_mm[i], top[1], top[2]), [0, 1, 0, 0, 0, -1], [4.0, 4.0])
    read = read_image_series(tmp_path / "sag").case.ct.volume
    assert read.grid.is_close(GRID) and np.abs(read.values - np.round(values)).max() < 0.6
    turn = np.array([[np.cos(0.5), 0, np.sin(0.5)], [0, 1, 0], [-np.sin(0.5), 0, np.cos(0.5)]])
    centre = GRID.points_mm().mean(axis=(0, 1, 2))
    turned = axial.case.ct.volume.sample((GRID.points_mm() - centre) @ turn.T + centre)

    def corner(k):
        return turn @ (np.array([GRID.x_mm[0], GRID.y_mm[0], GRID.z_mm[k]]) - centre) + centre

    write(tmp_path / "obl", turned, corner, [*turn[:, 0], *turn[:, 1]], [4.0, 4.0])
    found = read_image_series(tmp_path / "obl")
    assert "oblique" in found.case.notes[0].message
    inner = GRID.points_mm()[10:-10, 10:-10, 12:-12]
    wrong = np.abs(found.case.ct.volume.sample(inner) - axial.case.ct.volume.sample(inner))
    assert np.median(wrong) < 12 and Volume(GRID, values).grid == GRID


def test_what_cannot_be_registered_is_refused(pair, capsys):
    base = ["register", str(pair / "ct"), "--out", str(pair / "o"), "--moving"]
    for extra, message in (
        ([str(pair / "ct")], "same series"),
        ([str(pair / "mr"), "--method", "demons"], "grey values of CT"),
        ([str(pair / "mr"), "--series", "2.25.1"], "no image series 2.25.1"),
    ):
        assert run([*base, *extra]) == 2
        assert message in capsys.readouterr().err
    (pair / "marks.csv").write_text("x_mm\n1\n")
    assert run([*base, str(pair / "mr"), "--landmarks", str(pair / "marks.csv")]) == 2
    assert "moving_z_mm" in capsys.readouterr().err
    for path in sorted((pair / "mr" / "CT2").glob("*.dcm"))[5:7]:
        path.unlink()
    with pytest.raises(DicomError, match="unevenly spaced"):
        read_image_series(pair / "mr")
