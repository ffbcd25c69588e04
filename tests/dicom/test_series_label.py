"""Phases of breathing and of contrast are told from the header and the description, and only where they are there."""

import pytest

from cantlie.dicom.case_images import images_of_case, phases_of
from cantlie.dicom.inventory import scan
from cantlie.dicom.reading import read_case_with_report
from cantlie.dicom.series_label import label_of


@pytest.mark.parametrize(
    ("description", "kind", "percent"),
    [
        ("4D 0%", "phase", 0.0), ("Thorax 4D  B30f  50 %", "phase", 50.0), ("T50", "phase", 50.0),
        ("Gated, 30.0%", "phase", 30.0), ("4DCT_T10_Abdomen", "phase", 10.0), ("CT 50Ex", "phase", 50.0),
        ("20In", "phase", 20.0), ("TP 70", "phase", 70.0), ("100%", "phase", 0.0), ("exhale", "phase", 50.0),
        ("end inspiration", "phase", 0.0), ("AveIP", "average", None), ("4D AVG", "average", None),
        ("MIP abdomen", "maximum", None), ("MinIP", "minimum", None),
        ("planning CT", "plain", None), ("Abdomen 2.0 B30f", "plain", None), ("T1 native", "plain", None),
        ("Abd ASIR 40%", "plain", None), ("4D 30% iDose 50%", "phase", 30.0),
        ("CT ABD 3MM 120KV", "plain", None), ("expiry check", "plain", None), ("Leber portal 3.0", "plain", None),
    ],
)  # fmt: skip
def test_phases_of_breathing(maker, description, kind, percent):
    images = maker.images()
    for image in images:
        image.SeriesDescription = description
    record = scan(maker.write(images)).of_class(images[0].SOPClassUID)[0]
    label = label_of(record)
    assert (label.kind, label.phase_percent) == (kind, percent)


@pytest.mark.parametrize(
    ("description", "agent", "contrast"),
    [
        ("Abdomen arterial", "", "arterial"), ("ART 1.5", "Iohexol", "arterial"), ("portal", "", "portal venous"),
        ("PV phase", "", "portal venous"), ("Venous 3.0", "", "portal venous"), ("delayed 5 min", "", "delayed"),
        ("native", "", "native"), ("Non-contrast", "", "native"), ("Abdomen", "Iomeprol", "contrast"),
        ("Abdomen", "", ""), ("Planning, started late afternoonish", "", "delayed"), ("Cartilage", "", ""),
    ],
)  # fmt: skip
def test_phases_of_contrast(maker, description, agent, contrast):
    images = maker.images()
    for image in images:
        image.SeriesDescription = description
        if agent:
            image.ContrastBolusAgent = agent
    assert label_of(scan(maker.write(images)).of_class(images[0].SOPClassUID)[0]).contrast == contrast


def test_the_header_goes_before_the_description(maker):
    images = maker.images()
    for image in images:
        image.SeriesDescription, image.NominalPercentageOfRespiratoryPhase = "4D", 40.0
    label = label_of(scan(maker.write(images)).of_class(images[0].SOPClassUID)[0])
    assert (label.kind, label.phase_percent) == ("phase", 40.0)


def test_numbered_phases_and_their_order(make_in, tmp_path):
    maker = make_in(tmp_path / "case")
    for n, (series, description) in enumerate([("2.25.201", "4D"), ("2.25.202", "4D"), ("2.25.203", "4D average")]):
        for k, image in enumerate(maker.images(series=series)):
            image.SeriesDescription = description
            image.AcquisitionDate, image.AcquisitionTime = "20210304", f"10{n:02d}00.5"
            if n < 2:
                image.TemporalPositionIdentifier, image.NumberOfTemporalPositions = 2 - n, 2
            maker.save(image, tmp_path / "case" / f"{n}{k}.dcm")
    maker.save(maker.structures(series="2.25.202"), tmp_path / "case" / "RS.dcm")
    images = images_of_case(tmp_path / "case")
    assert [image.taken for image in images] == ["20210304100000", "20210304100100", "20210304100200"]
    assert [image.series_uid for image in phases_of(images)] == ["2.25.202", "2.25.201"]
    assert images[1].structure_sets == ("2.25.400",)
    case, report = read_case_with_report(tmp_path / "case")
    assert case.ct.series_instance_uid == "2.25.202"
    text = "\n".join(report.lines())
    assert "breathing phase number 1" in text and "average of the phases" in text
