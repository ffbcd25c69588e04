"""Reading cases: orientations, pixels, choices, and what is left out."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000, DeflatedExplicitVRLittleEndian, HTJ2KLossless

from cantlie.core.errors import DicomError, StructureError
from cantlie.dicom.bundled import bundled_case_names, bundled_case_path, pack_case
from cantlie.dicom.inventory import scan
from cantlie.dicom.reading import read_case, read_case_with_report
from cantlie.dicom.rtstruct import write_rtstruct
from cantlie.dicom.values import quiet
from cantlie.patient.masks import structure_fractions


def assert_truth(case, maker):
    grid = case.ct.volume.grid
    assert grid.shape == maker.shape
    np.testing.assert_allclose(grid.spacing_mm, maker.spacing, atol=1e-9)
    np.testing.assert_allclose(grid.origin_mm, maker.origin, atol=1e-9)
    np.testing.assert_array_equal(case.ct.volume.values, maker.truth())


@pytest.mark.parametrize("position", ["HFS", "HFP", "FFS", "FFP", "HFDR", "HFDL"])
def test_every_patient_position_gives_the_same_volume(maker, position):
    case = read_case(maker.write(maker.images(position)))
    assert_truth(case, maker)
    assert case.ct.patient_position == position
    assert case.ct.volume.values.flags["C_CONTIGUOUS"]


def test_identity_references_and_names(maker):
    case = read_case(maker.write())
    assert case.identity.patient_id == "P1" and "Test" not in repr(case.identity)
    assert [image.z_mm for image in case.ct.slices] == [100.0 + 4 * k for k in range(8)]
    assert case.ct.slices[3].sop_instance_uid == "2.25.200.4"
    assert [s.key for s in case.structures] == ["BODY", "Liver", "SpinalCord"]
    liver = case.structures["Liver"]
    assert (liver.number, liver.dicom_type, liver.colour_rgb, liver.slice_spacing_mm) == (2, "ORGAN", (255, 20, 0), 4.0)
    grid = case.ct.volume.grid
    volume_cc = structure_fractions(liver, grid).sum(dtype=float) * grid.voxel_cc
    assert volume_cc == pytest.approx(18 * 22 * 32 / 1000)
    assert len(case.input_sha256) == 64 and case.notes == ()


def test_files_in_any_order_folder_or_zip_give_the_same_case(maker, tmp_path):
    folder = maker.write()
    one = read_case(folder)
    (folder / "CT" / "CT03.dcm").rename(folder / "zz.bin")
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden").write_text("x")
    two, report = read_case_with_report(folder)
    pack_case(folder, tmp_path / "c.zip")
    three = read_case(tmp_path / "c.zip")
    assert one.input_sha256 == two.input_sha256 == three.input_sha256
    assert_truth(three, maker)
    lines = report.lines()
    assert "used: CT, 8 files, 'planning CT'" in lines and "used: RTSTRUCT, 1 file, 'RS1'" in lines
    assert any("other file" in line and "not DICOM" in line for line in lines)
    assert not any("notes.txt" in line for line in lines)  # names of files may name a patient


def test_rescale_of_each_image_padding_and_signed_pixels(maker):
    images = maker.images()
    truth = maker.truth()
    for k, image in enumerate(images):
        slope, intercept = 0.5 + 0.5 * (k % 2), -100.0 * k
        stored = np.round((truth[k] - intercept) / slope)
        stored[0, :3] = -30000
        image.PixelRepresentation, image.BitsStored, image.HighBit = 1, 16, 15
        image.RescaleSlope, image.RescaleIntercept = slope, intercept
        image.PixelPaddingValue = -30000
        image.PixelData = stored.astype("<i2").tobytes()
    values = read_case(maker.write(images)).ct.volume.values
    assert (values[:, 0, :3] == -1024).all()
    np.testing.assert_allclose(values[:, 1:], truth[:, 1:], atol=0.26)


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEG2000Lossless", "JPEGLSLossless", "JPEGLosslessProcess14_1"])
def test_compressed_images(maker, syntax):
    import gdcm

    kinds = {
        "RLELossless": gdcm.TransferSyntax.RLELossless,
        "JPEG2000Lossless": gdcm.TransferSyntax.JPEG2000Lossless,
        "JPEGLSLossless": gdcm.TransferSyntax.JPEGLSLossless,
        "JPEGLosslessProcess14_1": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    }
    folder = maker.write()
    for path in sorted((folder / "CT").iterdir()):
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(kinds[syntax]))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    assert_truth(read_case(folder), maker)


def test_images_compressed_with_loss_are_read_with_a_warning(maker):
    folder = maker.write()
    for path in sorted((folder / "CT").iterdir()):
        data = dcmread(path)
        assert data.PixelRepresentation == 0
        stream = io.BytesIO()
        picture = Image.fromarray(data.pixel_array.astype(np.uint16))
        picture.save(stream, "JPEG2000", irreversible=True, quality_mode="rates", quality_layers=[4], no_jp2=True)
        data.PixelData = encapsulate([stream.getvalue()])
        data.file_meta.TransferSyntaxUID = JPEG2000
        data.LossyImageCompression = "01"
        data.save_as(path)
    case = read_case(folder)
    off = np.abs(case.ct.volume.values - maker.truth())
    assert off.max() > 0
    assert off.mean() < 30
    assert any("compressed with loss" in note.message for note in case.notes)


def test_a_deflated_file_is_read(maker):
    folder = maker.write()
    for path in sorted((folder / "CT").iterdir()):
        data = dcmread(path)
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        data.save_as(path)
    assert_truth(read_case(folder), maker)


def test_a_compression_without_a_decoder_is_named_with_the_way_out(maker):
    folder = maker.write()
    for path in sorted((folder / "CT").iterdir()):
        data = dcmread(path)
        data.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
        data.file_meta.TransferSyntaxUID = HTJ2KLossless
        data.save_as(path)
    with pytest.raises(DicomError, match="High-Throughput JPEG 2000") as caught:
        read_case(folder)
    assert "uncompressed" in caught.value.remedy and "gdcmconv" in caught.value.remedy


def test_localizer_and_other_series_are_left_out_with_a_reason(maker):
    folder = maker.write()
    scout = maker.images(series="2.25.201")[0]
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    maker.save(scout, folder / "scout.dcm")
    for k, image in enumerate(maker.images(series="2.25.202")):
        image.FrameOfReferenceUID = "2.25.301"
        image.SeriesDescription = "diagnostic"
        maker.save(image, folder / "other" / f"{k}.dcm")
    capture = maker.base("1.2.840.10008.5.1.4.1.1.7", "OT", "2.25.900", "2.25.901")
    maker.save(capture, folder / "sc.dcm")
    case, report = read_case_with_report(folder)
    assert case.ct.series_instance_uid == "2.25.200"
    assert [note.sentence() for note in case.notes] == ["CT 'planning CT': 1 other CT series in the case was not used"]
    reasons = {(row.role, row.reason) for row in report.rows}
    assert ("ignored", "a localizer") in reasons and ("ignored", "another CT series") in reasons
    assert any("Secondary Capture" in reason for _, reason in reasons)
    assert len(scan(folder).records) == 8 + 1 + 1 + 8 + 1


def test_images_twice_in_the_case_count_once(maker):
    folder = maker.write()
    content = (folder / "CT" / "CT02.dcm").read_bytes()
    (folder / "copy.dcm").write_bytes(content)
    case = read_case(folder)
    assert_truth(case, maker)
    assert any("twice" in note.message for note in case.notes)


def test_uneven_spacing_is_interpolated_with_a_note(maker):
    images = maker.images()
    z = [100, 104, 108, 112, 116, 118, 120, 122]
    for image, z_mm in zip(images, z, strict=True):
        image.ImagePositionPatient[2] = float(z_mm)
    structures = maker.structures(planes=range(5))
    case = read_case(maker.write(images, structures))
    assert case.ct.volume.grid.shape[0] == 6 and case.ct.volume.grid.spacing_mm[2] == 4
    np.testing.assert_array_equal(case.ct.volume.values[5], maker.truth()[6])
    assert any("unevenly" in note.message for note in case.notes)
    assert len(case.ct.slices) == 8


def test_without_an_outline_the_body_is_found_in_the_ct(maker):
    structures = maker.structures(names=("Target", "Liver"))
    structures.RTROIObservationsSequence[0].RTROIInterpretedType = "ORGAN"
    case = read_case(maker.write(structures=structures))
    body = structure_fractions(case.structures["BODY"], case.ct.volume.grid)
    inside = maker.truth() > -500
    # contours run between pixel centres, so the corners of this box are cut
    assert 2 * np.minimum(body, inside).sum() / (body.sum() + inside.sum()) > 0.98
    assert any(note.where == "BODY" for note in case.notes)


def test_without_structures_the_case_has_the_body_only_and_liver_is_refused(maker):
    case, report = read_case_with_report(maker.write(structures=False))
    assert [s.key for s in case.structures] == ["BODY"]
    assert report.missing == ("an RTSTRUCT",)
    with pytest.raises(StructureError, match="no structure is called 'Liver'"):
        case.structures["Liver"]


def test_alias_file_of_the_user(maker, tmp_path):
    table = tmp_path / "mine.toml"
    table.write_text('[names]\nStomach = ["cord"]\n')
    assert read_case(maker.write(), aliases=table).structures["Stomach"].name == "cord"


def test_what_a_structure_cannot_use_is_told(maker):
    structures = maker.structures(names=("BODY", "Liver", "cord", "marker", "tilted", "strange", "empty", "double"))
    drawn = structures.ROIContourSequence
    drawn[3].ContourSequence = Sequence([drawn[3].ContourSequence[0]])
    drawn[3].ContourSequence[0].ContourGeometricType = "POINT"
    drawn[3].ContourSequence[0].ContourData = [0, 0, 100]
    drawn[4].ContourSequence[2].ContourData = [0, 0, 100, 5, 0, 100, 5, 5, 104]
    drawn[5].ContourSequence[0].ContourGeometricType = "SPLINE"
    drawn[6].ContourSequence[0].ContourData = []
    del drawn[6].ContourSequence[1:]
    drawn[7].ContourSequence.append(drawn[7].ContourSequence[0])
    structures.StructureSetROISequence[2].ReferencedFrameOfReferenceUID = "2.25.999"
    case = read_case(maker.write(structures=structures))
    said = {note.where: note.message for note in case.notes}
    assert "another frame of reference" in said["cord"]
    assert "axial plane" in said["tilted"] and not case.structures["tilted"].contours_mm
    assert "SPLINE" in said["strange"] and len(case.structures["strange"].contours_mm) == 7
    messages = [note.sentence() for note in case.notes]
    assert "marker: 1 points were left out" in messages and "marker: it has no contour" in messages
    assert "empty: 1 empty contours were left out" in messages and "empty: it has no contour" in messages
    assert "double: 1 contours drawn twice were used once" in messages


def test_gap_and_reach_beyond_the_ct_are_noted(maker):
    structures = maker.structures()
    del structures.ROIContourSequence[1].ContourSequence[3:5]
    structures.ROIContourSequence[2].ContourSequence[0].ContourData = maker.square((-50, 0), (10, 10), 100.0)
    messages = [note.sentence() for note in read_case(maker.write(structures=structures)).notes]
    assert "Liver: no contours between z = 108 and 120 mm; taken as a gap" in messages
    assert any(m.startswith("cord: it reaches beyond the CT") for m in messages)


def test_choice_by_patient_series_and_structure_set(maker):
    folder = maker.write()
    second = maker.structures()
    second.SOPInstanceUID, second.StructureSetLabel = "2.25.401", "RS2"
    maker.save(second, folder / "RS2.dcm")
    assert read_case(folder, structure_set="RS2").structures.sop_instance_uid == "2.25.401"
    assert read_case(folder, structure_set="RS.dcm").structures.label == "RS1"
    for n, image in enumerate(maker.images(series="2.25.210")):
        image.PatientID, image.StudyInstanceUID, image.FrameOfReferenceUID = "P2", "2.25.101", "2.25.310"
        maker.save(image, folder / "P2" / f"{n}.dcm")
    assert read_case(folder, patient_id="P2").ct.series_instance_uid == "2.25.210"
    (folder / "RS.dcm").unlink()
    assert read_case(folder).ct.series_instance_uid == "2.25.200"
    (folder / "RS2.dcm").unlink()
    assert read_case(folder, series_uid="2.25.210").identity.patient_id == "P2"


def test_missing_patient_position_is_assumed_and_told(maker):
    images = maker.images()
    for image in images:
        del image.PatientPosition
    case = read_case(maker.write(images))
    assert case.ct.patient_position == "HFS" and any("HFS" in note.message for note in case.notes)


def test_structure_set_that_names_no_image_takes_the_only_ct(maker):
    structures = maker.structures()
    del structures.ReferencedFrameOfReferenceSequence, structures.FrameOfReferenceUID
    for roi in structures.StructureSetROISequence:
        del roi.ReferencedFrameOfReferenceUID
    case = read_case(maker.write(structures=structures))
    assert any("names no image" in note.message for note in case.notes)


def test_bundled_case(tmp_path):
    assert "crlm_ct_1006" in bundled_case_names()
    path = bundled_case_path("crlm_ct_1006")
    case = read_case(path)
    grid = case.ct.volume.grid
    assert grid.shape == (51, 512, 512) and grid.spacing_mm == (0.804688, 0.804688, 5.0)
    liver = structure_fractions(case.structures["Liver"], grid)
    assert liver.sum(dtype=float) * grid.voxel_cc == pytest.approx(1571.45, rel=1e-4)
    assert case.ct.volume.values.min() >= -1024 and 100 < case.ct.volume.values[liver == 1].mean() < 130
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert {"crlm_ct_1006/PROVENANCE.md", "crlm_ct_1006/LICENSE_TCIA.txt"} <= set(names)
        archive.extractall(tmp_path)
    pack_case(tmp_path / "crlm_ct_1006", tmp_path / "again.zip")
    with zipfile.ZipFile(tmp_path / "again.zip") as again, zipfile.ZipFile(path) as first:
        assert [(i.filename, i.CRC, i.date_time) for i in again.infolist()] == [
            (i.filename, i.CRC, i.date_time) for i in first.infolist()
        ]


def test_item_without_attributes_does_not_break_reading(maker):
    structures = maker.structures()
    structures.ROIContourSequence.append(Dataset())
    structures.RTROIObservationsSequence.append(Dataset())
    assert len(read_case(maker.write(structures=structures)).structures) == 3


def test_files_without_the_dicom_preamble(maker):
    folder = maker.write()
    for path in (folder / "CT").iterdir():
        content = path.read_bytes()
        length = int.from_bytes(content[140:144], "little")
        path.write_bytes(content[144 + length :])
    assert_truth(read_case(folder), maker)


def test_chinese_names_in_their_own_encoding(maker):
    structures = maker.structures(names=("体表", "肝脏", "左肾"))
    structures.SpecificCharacterSet = "GB18030"
    case = read_case(maker.write(structures=structures))
    assert [s.key for s in case.structures] == ["BODY", "Liver", "Kidney_L"]


def test_ct_without_frame_of_reference_can_be_exported(maker, tmp_path, check_dicom):
    images = maker.images()
    structures = maker.structures()
    for data in (*images, structures):
        del data.FrameOfReferenceUID
        with quiet():
            data.StudyDate, data.PatientSex, data.PatientBirthDate = "2021.03.04", "male", "1950"
    del structures.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID
    for roi in structures.StructureSetROISequence:
        del roi.ReferencedFrameOfReferenceUID
    with quiet():
        folder = maker.write(images, structures)
    case = read_case(folder)
    write_rtstruct(case, [], tmp_path / "RS.dcm")
    check_dicom(tmp_path / "RS.dcm")


def test_a_linked_folder_is_followed_once(make_in, tmp_path):
    maker = make_in(tmp_path / "elsewhere")
    maker.write()
    case = tmp_path / "case"
    case.mkdir()
    (case / "CT").symlink_to(maker.folder, target_is_directory=True)
    (case / "CT" / "back").symlink_to(case, target_is_directory=True)
    assert len(read_case(case).ct.slices) == len(read_case(maker.folder).ct.slices)
