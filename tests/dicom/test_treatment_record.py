"""RT Beams Treatment Records: read with their monitor units, and valid as the tests write them."""

import importlib.util
from datetime import datetime
from pathlib import Path

import pytest

from cantlie.core.errors import DicomError
from cantlie.dicom.reading import read_case
from cantlie.dicom.treatment_record import records_of_case, treatment_record_of

_SPEC = importlib.util.spec_from_file_location("treatment_records", Path(__file__).parent / "treatment_records.py")
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
treatment_record = _MODULE.treatment_record

MORNING = datetime(2026, 1, 5, 8, 30)


@pytest.fixture
def record(maker):
    """Return a function that makes the record of one session."""

    def make(fraction, mu, start=MORNING, plan="2.25.7"):
        return treatment_record(maker.base("", "RTRECORD", "", "2.25.900"), plan, fraction, start, mu)

    return make


def test_a_record_gives_session_and_monitor_units(record):
    found = treatment_record_of(record(3, [(50, 50), (60, 41.5)]), "x")
    assert (found.plan_uid, found.fraction, found.start) == ("2.25.7", 3, MORNING)
    assert [beam.delivered_mu for beam in found.beams] == [50, 41.5]
    assert found.beams[0].end == "normal"


def test_the_last_control_point_counts_where_the_beam_says_nothing(record):
    dataset = record(3, [(60, 41.5)])
    del dataset.TreatmentSessionBeamSequence[0].DeliveredPrimaryMeterset
    assert treatment_record_of(dataset, "x").beams[0].delivered_mu == 41.5


def test_port_films_are_no_treatment(record):
    dataset = record(1, [(60, 60), (3, 3)])
    dataset.TreatmentSessionBeamSequence[1].TreatmentDeliveryType = "OPEN_PORTFILM"
    assert len(treatment_record_of(dataset, "x").beams) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: delattr(d, "ReferencedRTPlanSequence"), "no plan"),
        (lambda d: setattr(d, "TreatmentDate", "20260230"), "TreatmentDate"),
        (lambda d: delattr(d.TreatmentSessionBeamSequence[0], "CurrentFractionNumber"), "CurrentFractionNumber"),
        (lambda d: setattr(d.TreatmentSessionBeamSequence[0], "DeliveredPrimaryMeterset", "-3"), "negative"),
        (lambda d: setattr(d, "SOPClassUID", "1.2"), "no RT Beams"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(change, words, record):
    dataset = record(1, [(60, 60)])
    change(dataset)
    with pytest.raises(DicomError, match=words):
        treatment_record_of(dataset, "x")


def test_records_of_the_patient_are_found_in_the_case(maker, record):
    folder = maker.write()
    case = read_case(folder)
    maker.save(record(2, [(60, 60)], datetime(2026, 1, 6, 9)), folder / "RT2.dcm")
    maker.save(record(1, [(60, 60)]), folder / "RT1.dcm")
    stranger = record(3, [(60, 60)])
    stranger.PatientID = "someone else"
    maker.save(stranger, folder / "other.dcm")
    assert [found.fraction for found in records_of_case(folder, case)] == [1, 2]


def test_the_test_records_obey_the_standard(maker, record, tmp_path, check_dicom):
    check_dicom(maker.save(record(1, [(60, 60)]), tmp_path / "RT.dcm"))
