"""Bad input: one sentence that says what is wrong, where, and what to do; never a traceback or a wrong case."""

import os
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cantlie.core.errors import CantlieError, DicomError
from cantlie.dicom.inventory import scan
from cantlie.dicom.reading import read_case, read_case_with_report


def refused(path, words, **options):
    with pytest.raises(CantlieError, match=words) as caught:
        read_case(path, **options)
    error = caught.value
    assert error.where and error.remedy and error.exit_code == 2
    assert "\n" not in error.sentence() and error.sentence().endswith(".")
    assert "Test" not in error.sentence()
    return error


def test_nothing_there(tmp_path):
    refused(tmp_path / "absent", "no such folder or zip")


def test_empty_folder(tmp_path):
    refused(tmp_path, "no file in the case")


def test_neither_folder_nor_zip_nor_dicom(tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    refused(tmp_path / "x.txt", "neither a folder nor a zip")
    refused(tmp_path, "none of the 1 files is readable DICOM")


def test_no_ct(maker):
    refused(maker.write(images=[]), "no planning CT in the case, only RTSTRUCT")


def test_enhanced_ct_is_refused_by_name(maker):
    image = maker.images()[0]
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    refused(maker.write([image]), "multi-frame")


FOREIGN = {
    "letter.pdf": b"%PDF-1.4\n" + b"x" * 500,
    "photo.jpg": b"\xff\xd8\xff\xe0" + b"\0" * 200,
    "Thumbs.db": b"\xd0\xcf\x11\xe0" + b"\0" * 600,
    "list.csv": b"a,b\n1,2\n",
    "README": b"",
}


def test_foreign_files_beside_the_case_change_nothing(maker):
    folder = maker.write()
    alone = read_case(folder)
    for name, content in FOREIGN.items():
        (folder / name).write_bytes(content)
    (folder / "broken").symlink_to("nowhere")
    (folder / "loop").symlink_to(folder)
    beside, report = read_case_with_report(folder)
    assert (beside.input_sha256, beside.notes) == (alone.input_sha256, alone.notes)
    assert "ignored: other file, 4 files (not DICOM)" in report.lines()


@pytest.mark.parametrize(("content", "reason"), [(b"", "an empty file"), (b"<html>log in</html>" * 40, "not DICOM")])
def test_an_image_that_did_not_arrive_is_named(maker, content, reason):
    folder = maker.write()
    (folder / "CT" / "CT07.dcm").write_bytes(content)
    error = refused(folder, "missing")
    assert "CT07.dcm" in error.what and reason in error.what
    whole = maker.write()
    (whole / "more.dcm").write_bytes(content)  # nothing is missing without it, but it was meant to be something
    (note,) = read_case(whole).notes
    assert "more.dcm" in note.where and reason in note.message


def test_an_image_that_lost_its_frame_is_named(maker):
    images = maker.images()
    del images[3].FrameOfReferenceUID
    error = refused(maker.write(images), "1 of the images of one CT series names no frame of reference")
    assert "CT03.dcm" in error.what


def test_two_cts_of_different_frames(maker):
    folder = maker.write(structures=False)
    for k, image in enumerate(maker.images(series="2.25.202")):
        image.FrameOfReferenceUID = "2.25.301"
        maker.save(image, folder / "other" / f"{k}.dcm")
    error = refused(folder, "2 CTs with 2 frames of reference")
    assert "--series" in error.remedy and "2.25.202" in error.remedy


def test_two_frames_within_one_series(maker):
    images = maker.images()
    for image in images[4:]:
        image.FrameOfReferenceUID = "2.25.301"
    refused(maker.write(images), "one CT series have 2 frames of reference")


@pytest.mark.parametrize("gone", [1, 3, 6])
def test_missing_slice(maker, gone):
    images = maker.images()
    del images[gone]
    error = refused(maker.write(images, structures=False), f"between z = {96 + 4 * gone} and {104 + 4 * gone} mm")
    assert "missing" in error.what


@pytest.mark.parametrize("gone", [0, 7])
def test_missing_end_slice_with_contours(maker, gone):
    images = maker.images()
    del images[gone]
    refused(maker.write(images), f"1 CT image with contours missing, at z = {100 + 4 * gone} mm")


def test_two_missing_slices_side_by_side_and_apart(maker):
    images = maker.images()
    refused(maker.write([images[k] for k in (0, 1, 2, 5, 6, 7)], structures=False), "2 CT images are missing")


def test_alternate_slices_missing_are_told_by_their_numbers(make_in, tmp_path):
    maker = make_in(tmp_path / "alternate")
    images = maker.images()
    refused(maker.write([images[k] for k in (0, 1, 2, 4, 6, 7)], structures=False), "missing")


def test_no_liver(maker):
    case = read_case(maker.write(structures=maker.structures(names=("BODY", "Spleen"))))
    with pytest.raises(CantlieError, match=r"no structure is called 'Liver'.*present: BODY, Spleen"):
        case.structures["Liver"]


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_truncated_structure_set(maker, share):
    folder = maker.write()
    content = (folder / "RS.dcm").read_bytes()
    (folder / "RS.dcm").write_bytes(content[: int(share * len(content))])
    error = refused(folder, "RTSTRUCT")
    assert "RS.dcm" in error.sentence()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 0.99])
def test_truncated_image(maker, share):
    folder = maker.write()
    content = (folder / "CT" / "CT03.dcm").read_bytes()
    (folder / "CT" / "CT03.dcm").write_bytes(content[: int(share * len(content))])
    assert "CT03.dcm" in refused(folder, "truncated|missing").sentence()


def test_structure_set_of_another_patient(maker):
    structures = maker.structures()
    structures.PatientID = "P9"
    error = refused(maker.write(structures=structures), "another patient")
    assert error.where == "RS.dcm"


def test_structure_set_of_another_ct(maker):
    structures = maker.structures(series="2.25.777")
    structures.FrameOfReferenceUID = "2.25.888"
    structures.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "2.25.888"
    for roi in structures.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = "2.25.888"
    refused(maker.write(structures=structures), "drawn on another CT")


def test_two_structure_sets_and_two_patients(maker):
    folder = maker.write()
    second = maker.structures()
    second.SOPInstanceUID, second.StructureSetLabel = "2.25.401", "RS2"
    maker.save(second, folder / "RS2.dcm")
    assert "'RS1', 'RS2'" in refused(folder, "2 structure sets").what
    refused(folder, "no structure set 'nope'", structure_set="nope")
    refused(folder, "no CT of the patient", patient_id="nobody")
    refused(folder, "no CT series", series_uid="1.2.3")


def test_empty_contour_makes_the_structure_empty_with_a_note(maker):
    structures = maker.structures()
    for contour in structures.ROIContourSequence[1].ContourSequence:
        contour.ContourData = []
    case = read_case(maker.write(structures=structures))
    assert not case.structures["Liver"].contours_mm
    assert any(note.where == "Liver" for note in case.notes)


def test_structure_set_without_structures(maker):
    structures = maker.structures(names=())
    refused(maker.write(structures=structures), "no structure")


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("ImageOrientationPatient", [1, 0, 0, 0, 0.97, 0.24], "not axial"),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0, -1], "not axial"),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0], "not axial"),
        ("ImagePositionPatient", None, r"ImagePositionPatient \(0020,0032\) is missing"),
        ("PixelSpacing", [0, 2], "PixelSpacing"),
        ("RescaleSlope", 0, "RescaleSlope"),
        ("SamplesPerPixel", 3, "colour"),
        ("Rows", 30, "pixels"),
    ],
)
def test_wrong_attributes_of_images(maker, keyword, value, words):
    images = maker.images()
    for image in images:
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    refused(maker.write(images, structures=False), words)


def test_tilted_gantry_that_only_shifts_the_images(maker):
    images = maker.images()
    for k, image in enumerate(images):
        image.ImagePositionPatient[1] = float(image.ImagePositionPatient[1]) + 0.3 * k
    refused(maker.write(images, structures=False), "shifted")


def test_images_that_do_not_fit_each_other(maker):
    images = maker.images()
    images[5].PixelSpacing = [2.6, 2.0]
    refused(maker.write(images, structures=False), "differ in size, spacing or orientation")


def test_two_different_images_at_one_place(maker):
    images = maker.images()
    other = maker.images(series="2.25.200.9", hu=maker.truth() + 1)[2]
    other.SeriesInstanceUID = "2.25.200"
    refused(maker.write([*images, other], structures=False), "two different images .* z = 108 mm")


def test_single_image(maker):
    refused(maker.write(maker.images()[:1], structures=False), "only one image")


@pytest.mark.parametrize("name", ["../evil.dcm", "a/../../evil.dcm", "/etc/evil.dcm", "C:/evil.dcm", "..\\evil.dcm"])
def test_zip_that_points_out_of_its_folder(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, b"x")
    refused(tmp_path / "x.zip", "points out of its folder")


def test_garbage_and_truncated_zip(maker, tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK\3\4" + os.urandom(500))
    refused(tmp_path / "x.zip", "zip is damaged")
    (tmp_path / "y.zip").write_bytes(b"no zip at all")
    refused(tmp_path / "y.zip", "zip is damaged")


def test_damaged_member(maker, tmp_path):
    folder = maker.write()
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*.dcm")):
            archive.write(file, file.name)
        offset = archive.getinfo("CT04.dcm").header_offset
    content = bytearray(path.read_bytes())
    content[offset + 700 : offset + 710] = b"damaged..."
    path.write_bytes(content)
    refused(path, "damaged")


def test_encrypted_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.dcm", b"secret")
    content = bytearray((tmp_path / "x.zip").read_bytes())
    for marker, step in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(marker) + step] |= 1
    (tmp_path / "x.zip").write_bytes(content)
    refused(tmp_path / "x.zip", "encrypted")


def test_zip_bomb(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("big.dcm", bytes(100 * 1024**2))
    refused(tmp_path / "bomb.zip", "unreasonable size")


def test_alias_file_that_cannot_be_read(maker, tmp_path):
    folder = maker.write()
    refused(folder, "alias file cannot be read", aliases=tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[names\n")
    refused(folder, "not valid TOML", aliases=tmp_path / "bad.toml")


def damage(content, cuts, flips, inserted):
    data = bytearray(content)
    for place, value in flips:
        data[int(place * (len(data) - 1))] = value
    if inserted:
        place, extra = inserted
        at = int(place * len(data))
        data[at:at] = extra
    return bytes(data[: int(cuts * len(data))])


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["RS.dcm", "CT/CT03.dcm"]),
    st.one_of(st.just(1.0), st.floats(0, 1)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12),
    st.one_of(st.none(), st.tuples(st.floats(0, 1), st.binary(max_size=40))),
)
def test_fuzzed_files_are_read_or_refused(maker, name, cuts, flips, inserted):
    if not (maker.folder / "RS.dcm.sound").exists():
        maker.write()
        for file in ("RS.dcm", "CT/CT03.dcm"):
            (maker.folder / f"{file}.sound").write_bytes((maker.folder / file).read_bytes())
    for file in ("RS.dcm", "CT/CT03.dcm"):
        sound = (maker.folder / f"{file}.sound").read_bytes()
        (maker.folder / file).write_bytes(damage(sound, cuts, flips, inserted) if file == name else sound)
    hidden = {path: path.read_bytes() for path in maker.folder.rglob("*.sound")}
    for path in hidden:
        path.unlink()
    try:
        case = read_case(maker.folder)
        assert np.isfinite(case.ct.volume.values).all()
    except CantlieError as error:
        assert error.sentence()
    finally:
        for path, content in hidden.items():
            path.write_bytes(content)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300))
def test_any_bytes_are_not_dicom_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("any")
    (folder / "a.dcm").write_bytes(bytes(128) + b"DICM" + content)
    (folder / "b.dcm").write_bytes(b"\x08\x00" + content)
    try:
        scan(folder)
    except DicomError as error:
        assert error.remedy


@pytest.mark.parametrize("sequence", ["StructureSetROISequence", "ROIContourSequence"])
def test_a_number_for_two_structures_uses_neither(maker, sequence):
    structures = maker.structures()
    if sequence == "StructureSetROISequence":
        structures[sequence][1].ROINumber = 3
    else:
        structures[sequence][1].ReferencedROINumber = 3
    case = read_case(maker.write(structures=structures))
    assert not case.structures["cord"].contours_mm
    assert any("have its number, 3" in note.message and note.where == "cord" for note in case.notes)
