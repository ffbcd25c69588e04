"""DICOM for sharing: nobody is told, everything still fits together."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from cantlie.cli.main import run
from cantlie.core.errors import InputError
from cantlie.dicom.deidentify import deidentify_dicom
from cantlie.dicom.reading import read_case_with_report

SECRETS = (
    b"Musterfrau",
    b"MUSTERFRAU",
    b"Erika",
    b"HOSP4711",
    b"Klinikum",
    b"19601224",
    b"Schmidt",
    b"2.25.200.",
)


def named(data: Dataset) -> Dataset:
    data.PatientName, data.PatientID, data.PatientBirthDate = "Musterfrau^Erika", "HOSP4711", "19601224"
    data.OtherPatientIDs, data.InstitutionName, data.ReferringPhysicianName = "HOSP4711-B", "Klinikum", "Schmidt^Dr"
    data.PatientAge, data.PatientSex, data.PatientComments = "093Y", "F", "Frau Musterfrau, Tel. 0123"
    data.OperatorsName, data.StationName, data.StudyDescription = "Schmidt", "KLINIKUM1", "Leber Musterfrau"
    block = data.private_block(0x0019, "VENDOR", create=True)
    block.add_new(0x01, "LO", "Musterfrau private")
    return data


@pytest.fixture
def case(maker):
    images = [named(image) for image in maker.images()]
    for image in images:
        image.Laterality = ""  # what the standard asks for where the part of the body is not said
    structures = named(maker.structures())
    structures.StructureSetROISequence[2].ROIName = "PTV MUSTERFRAU"
    structures.RTROIObservationsSequence[1].ROIInterpreter = "Schmidt^Dr"
    structures.StructureSetLabel = "Plan1"
    folder = maker.write(images, structures)
    screen = named(maker.images()[0])
    screen.SOPClassUID, screen.SOPInstanceUID, screen.Modality = "1.2.840.10008.5.1.4.1.1.7", "2.25.77", "OT"
    maker.save(screen, folder / "screen.dcm")
    return folder


def test_nobody_is_told_and_the_case_still_fits_together(case, tmp_path):
    before, _ = read_case_with_report(case)
    done = deidentify_dicom(case, tmp_path / "shared", key_file=tmp_path / "key")
    (name,) = done.files
    assert done.files[name] == 9 and any("1 files left out: OT" in note.message for note in done.notes)
    assert any("ROIName" in note.message for note in done.notes)
    files = sorted((tmp_path / "shared").rglob("*.dcm"))
    for file in files:
        content = file.read_bytes()
        assert not [secret for secret in SECRETS if secret in content], file
        data = dcmread(file)
        assert data.PatientIdentityRemoved == "YES" and data.PatientID == name and data.PatientAge == "090Y"
        assert data.PatientBirthDate == "" and not any(element.is_private for element in data.iterall())
    after, _ = read_case_with_report(tmp_path / "shared" / name)
    np.testing.assert_array_equal(after.ct.volume.values, before.ct.volume.values)
    assert [s.name for s in after.structures] == ["BODY", "Liver", "REMOVED"]
    for one, other in zip(after.structures, before.structures, strict=True):
        np.testing.assert_array_equal(np.concatenate(one.contours_mm), np.concatenate(other.contours_mm))
    assert not [note for note in after.notes if "placed by z" in note.message]  # the images are still referred to
    assert len({dcmread(file).StudyDate for file in files}) == 1 and dcmread(files[0]).StudyDate < "20210304"


def test_the_same_key_gives_the_same_files_and_another_key_others(case, tmp_path):
    def content(out: str, key: str) -> list[bytes]:
        deidentify_dicom(case, tmp_path / out, key_file=tmp_path / key)
        return [file.read_bytes() for file in sorted((tmp_path / out).rglob("*.dcm"))]

    first = content("a", "key")
    assert content("b", "key") == first
    assert content("c", "other") != first
    with pytest.raises(InputError, match="not empty"):
        deidentify_dicom(case, tmp_path / "a")
    with pytest.raises(InputError, match="within the data"):
        deidentify_dicom(case, case / "shared")


def test_files_obey_the_standard(case, tmp_path, check_dicom):
    assert run(["study", "deidentify", str(case), "--out", str(tmp_path / "shared")]) == 0
    files = sorted((tmp_path / "shared").rglob("*.dcm"))
    for file in (files[0], next(file for file in files if file.name.startswith("RTSTRUCT"))):
        check_dicom(file)


def test_a_folder_without_anything_to_share_is_refused(maker, tmp_path, capsys):
    screen = named(maker.images()[0])
    screen.BurnedInAnnotation = "YES"
    maker.save(screen, tmp_path / "in" / "screen.dcm")
    assert run(["study", "deidentify", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    assert "no file of the folder can be shared" in capsys.readouterr().err
