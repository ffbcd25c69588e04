"""Bad input ends in one sentence with what, where and what to do, and in exit code 2."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from cantlie.cli.main import run
from cantlie.dicom.bundled import bundled_case_path


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    """Return the bundled case, unpacked, with fewer and smaller images so that the tests are quick."""
    folder = tmp_path_factory.mktemp("case")
    with zipfile.ZipFile(bundled_case_path("crlm_ct_1006")) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def copy(case, tmp_path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(case, folder)
    return folder


def ct_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*.dcm") if pydicom.dcmread(p, stop_before_pixels=True).Modality == "CT")


def structure_file(folder: Path) -> Path:
    return next(p for p in folder.rglob("*.dcm") if pydicom.dcmread(p, stop_before_pixels=True).Modality == "RTSTRUCT")


def refused(capsys, *arguments: str) -> str:
    """Run a command that must be refused and return its one sentence."""
    assert run([*arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cantlie: ")]
    assert len(lines) == 1
    assert "Traceback" not in lines[0]
    return lines[0]


def plan(capsys, folder: Path, tmp_path: Path, *options: str) -> str:
    return refused(capsys, "plan", str(folder), "--out", str(tmp_path / "out"), *options)


def test_a_folder_without_a_ct(capsys, copy, tmp_path):
    for path in ct_files(copy):
        path.unlink()
    assert "CT" in plan(capsys, copy, tmp_path)


def test_a_folder_that_is_not_there(capsys, tmp_path):
    assert "no such folder" in plan(capsys, tmp_path / "nothing", tmp_path)


def test_images_of_two_frames_of_reference(capsys, copy, tmp_path):
    frame = generate_uid()
    for path in ct_files(copy)[:20]:
        image = pydicom.dcmread(path)
        image.FrameOfReferenceUID = frame
        image.save_as(path)
    assert "frame" in plan(capsys, copy, tmp_path).lower()


def test_a_missing_image(capsys, copy, tmp_path):
    ct_files(copy)[20].unlink()
    assert "missing" in plan(capsys, copy, tmp_path)


def test_no_liver(capsys, copy, tmp_path):
    path = structure_file(copy)
    structures = pydicom.dcmread(path)
    for roi in structures.StructureSetROISequence:
        if roi.ROIName == "Liver":
            roi.ROIName = "Something"
    structures.save_as(path)
    assert "iver" in plan(capsys, copy, tmp_path)


def test_an_empty_liver(capsys, copy, tmp_path):
    path = structure_file(copy)
    structures = pydicom.dcmread(path)
    number = next(roi.ROINumber for roi in structures.StructureSetROISequence if roi.ROIName == "Liver")
    for contours in structures.ROIContourSequence:
        if contours.ReferencedROINumber == number:
            del contours.ContourSequence
    structures.save_as(path)
    assert "iver" in plan(capsys, copy, tmp_path)


def test_a_truncated_image(capsys, copy, tmp_path):
    path = ct_files(copy)[10]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    message = plan(capsys, copy, tmp_path)
    assert path.name in message or "missing" in message


def test_structures_of_another_patient(capsys, copy, tmp_path):
    path = structure_file(copy)
    structures = pydicom.dcmread(path)
    structures.PatientID = "somebody else"
    structures.save_as(path)
    assert "patient" in plan(capsys, copy, tmp_path)


def test_a_protocol_with_a_wrong_value_is_refused_with_its_line(capsys, case, tmp_path):
    from cantlie.protocol.loading import protocol_text

    lines = protocol_text("zhang2021-alternating").splitlines()
    number = next(n for n, line in enumerate(lines) if line.startswith("fractions ="))
    lines[number] = "fractions = -3"
    (tmp_path / "mine.toml").write_text("\n".join(lines))
    message = plan(capsys, case, tmp_path, "--protocol", str(tmp_path / "mine.toml"))
    assert f"line {number + 1}" in message
    assert "fractions" in message


def test_an_output_that_cannot_be_written(capsys, case, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file" in refused(capsys, "plan", str(case), "--out", str(tmp_path / "file" / "out"))


def test_a_zip_that_reaches_outside(capsys, tmp_path):
    path = tmp_path / "case.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../outside.dcm", b"x")
    assert "case.zip" in plan(capsys, path, tmp_path)
    assert not (tmp_path / "outside.dcm").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--protocol", "nobody2099"), "nobody2099"),
        (("--machine", "cobalt"), "cobalt"),
        (("--density-curve", "missing.csv"), "missing.csv"),
        (("--aliases", "missing.toml"), "missing.toml"),
        (("--plane", "1,2,3"), "plane"),
        (("--plane", "1,2,3,0,0,0"), "plane"),
        (("--scheme", "other"), "scheme"),
    ],
)
def test_options_that_name_nothing(capsys, case, tmp_path, options, word):
    assert word in plan(capsys, case, tmp_path, *options)


def test_a_density_curve_that_falls(capsys, case, tmp_path):
    (tmp_path / "curve.csv").write_text("HU,g_cm3\n0,1.0\n-1000,0.001\n")
    assert "curve.csv" in plan(capsys, case, tmp_path, "--density-curve", str(tmp_path / "curve.csv"))


def test_names_never_reach_the_messages(capsys, copy, tmp_path):
    for path in [*ct_files(copy), structure_file(copy)]:
        dataset = pydicom.dcmread(path)
        dataset.PatientName = "Doe^Jane"
        dataset.save_as(path)
    path = structure_file(copy)
    structures = pydicom.dcmread(path)
    structures.ROIContourSequence = []
    structures.save_as(path)
    assert "Doe" not in plan(capsys, copy, tmp_path)
    for path in (tmp_path / "out").rglob("*.json"):
        assert "Doe" not in path.read_text()


def test_random_bytes_named_dcm_are_not_a_case(capsys, tmp_path):
    folder = tmp_path / "noise"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(5):
        (folder / f"{n}.dcm").write_bytes(rng.bytes(2000))
    assert "CT" in plan(capsys, folder, tmp_path)


def test_all_problems_of_a_cohort_are_told_at_once(capsys, tmp_path):
    rows = "\n".join(f"P{n},{'x' if n % 2 else 60},X{n if n > 9 else ''}" for n in range(40))
    (tmp_path / "patients.csv").write_text(f"patient_id,age_years,sex\n{rows}\n")
    assert run(["study", "fhir", str(tmp_path), "--out", str(tmp_path / "f.json")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "more problems" in lines[0]
    also = [line for line in lines if line.startswith("  also: ")]
    assert len(also) == 20 and any("rows 3, 4, 5, 6, 7 and 4 more, column sex" in line for line in also)
    assert lines[-1] == "  and 12 more"  # 31 codes and one kind of age


def test_sex_may_be_one_letter(tmp_path):
    (tmp_path / "patients.csv").write_text("patient_id,sex\nA,F\nB,m\n")
    (tmp_path / "courses.csv").write_text("patient_id,course_id\nA,1\n")
    assert run(["study", "fhir", str(tmp_path), "--out", str(tmp_path / "f.json")]) == 0
    assert '"female"' in (tmp_path / "f.json").read_text()


def test_an_audit_of_a_table_without_numbers_to_check_is_refused(capsys, tmp_path):
    (tmp_path / "t.csv").write_text("id,age\n1,60\n")
    assert "nothing in it" in refused(capsys, "study", "audit", str(tmp_path / "t.csv"), "--out", str(tmp_path / "o"))
