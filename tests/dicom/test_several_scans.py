"""One series that holds several scans: split where the headers tell them apart, refused where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from cantlie.core.errors import DicomError
from cantlie.dicom.case_images import images_of_case, phases_of, read_image
from cantlie.dicom.reading import read_case, read_case_with_report


def four_d(maker, keyword: str, values=(10, 2), description: str = "4D RESP") -> list:
    """Two scans of one series, 50 HU apart, the one with the first value first in the files."""
    images = []
    for n, value in enumerate(values):
        for k, image in enumerate(maker.images(hu=maker.truth() + 50 * n)):
            image.SOPInstanceUID, image.InstanceNumber = f"2.25.7.{n}.{k}", n * 100 + k + 1
            image.SeriesDescription = description
            if keyword:
                setattr(image, keyword, value)
            images.append(image)
    return images


@pytest.mark.parametrize("keyword", ["TemporalPositionIdentifier", "AcquisitionNumber"])
def test_numbered_scans_become_phases(maker, keyword):
    folder = maker.write(four_d(maker, keyword), False)
    phases = phases_of(images_of_case(folder))
    assert [phase.series_uid for phase in phases] == ["2.25.200#1", "2.25.200#2"]
    assert [phase.images for phase in phases] == [8, 8]
    np.testing.assert_allclose(read_image(folder, "2.25.200#2").volume.values, np.maximum(maker.truth(), -1024))


def test_percentages_of_the_images_name_the_phases(maker):
    folder = maker.write(four_d(maker, "NominalPercentageOfRespiratoryPhase", (50.0, 0.0)), False)
    assert [phase.label.phase_percent for phase in phases_of(images_of_case(folder))] == [0.0, 50.0]


def test_the_structure_set_tells_which_scan_it_was_drawn_on(maker):
    structures = maker.structures()
    frame = structures.ReferencedFrameOfReferenceSequence[0]
    images = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].ContourImageSequence
    for k, image in enumerate(images):
        image.ReferencedSOPInstanceUID = f"2.25.7.1.{k}"
    for roi in structures.ROIContourSequence:
        for k, contour in enumerate(roi.ContourSequence):
            contour.ContourImageSequence[0].ReferencedSOPInstanceUID = f"2.25.7.1.{k}"
    case, report = read_case_with_report(maker.write(four_d(maker, "AcquisitionNumber"), structures))
    np.testing.assert_allclose(case.ct.volume.values, np.maximum(maker.truth() + 50, -1024))
    assert case.ct.series_instance_uid == "2.25.200"  # what is exported refers to the series as it is
    assert any("another scan of the series" in line for line in report.lines())


def test_scans_that_cannot_be_told_apart_or_chosen_are_refused(make_in, tmp_path):
    with pytest.raises(DicomError, match="two different images of the CT series lie at z"):
        read_case(make_in(tmp_path / "a").write(four_d(make_in(tmp_path / "a"), ""), False))
    two = make_in(tmp_path / "b").write(four_d(make_in(tmp_path / "b"), "AcquisitionNumber", description="CT"), False)
    with pytest.raises(DicomError, match=r"2\.25\.200#1"):
        read_case(two)
    brightest = [read_case(two, series_uid=f"2.25.200#{n}").ct.volume.values.max() for n in (1, 2)]
    assert brightest[0] - brightest[1] == 50  # AcquisitionNumber 2 is the second of the files
    assert phases_of(images_of_case(two)) == ()
