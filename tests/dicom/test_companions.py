"""Plans and doses beside the CT, and damaged ones."""

import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from cantlie.core.errors import CantlieError, DicomError
from cantlie.core.volume import Volume
from cantlie.dicom.companions import doses_of_case, plans_of_case
from cantlie.dicom.plan_file import read_plan_file
from cantlie.dicom.reading import read_case
from cantlie.dicom.rtdose import read_rtdose, write_rtdose
from cantlie.dicom.rtplan import write_rtplan
from cantlie.machine.aperture import Aperture
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan


@pytest.fixture
def folder(maker):
    """A case with a plan and two doses."""
    folder = maker.write()
    case = read_case(folder)
    machine = load_machine("generic-6mv-mlci")
    pairs = len(machine.mlc.leaf_boundaries_mm) - 1
    aperture = Aperture((-50.0, 50.0), (-50.0, 50.0), np.full(pairs, -20.0), np.full(pairs, 20.0))
    points = tuple(ControlPoint(BeamGeometry((0.0, 0.0, 114.0), 90.0), aperture, mu) for mu in (0.0, 100.0))
    plan = TreatmentPlan("one", machine.name, (TreatmentBeam(1, "b", points),), 15, 30.0)
    uid = write_rtplan(case, plan, machine, "2.25.55", folder / "RP.dcm")
    dose = Volume(
        case.ct.volume.grid, np.linspace(0, 30, case.ct.volume.grid.size, dtype=np.float32).reshape(maker.shape)
    )
    write_rtdose(case, dose, folder / "RD1.dcm", plan_uids=[uid])
    write_rtdose(case, dose, folder / "RD2.dcm", summation_type="MULTI_PLAN", plan_uids=[uid, "2.25.7"])
    return folder


def test_plans_and_doses_of_the_case(folder, tmp_path):
    case = read_case(folder)
    (plan,) = plans_of_case(folder, case)
    doses = doses_of_case(folder, case)
    assert plan.plan.mu == 100 and {dose.summation_type for dose in doses} == {"PLAN", "MULTI_PLAN"}
    assert all(plan.plan.sop_instance_uid in dose.plan_uids for dose in doses)
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        for file in folder.rglob("*.dcm"):
            archive.write(file, file.relative_to(folder).as_posix())
    assert len(doses_of_case(tmp_path / "c.zip", case)) == 2


def test_those_of_another_ct_are_refused(folder, maker):
    for name in ("RD1.dcm", "RD2.dcm"):
        data = dcmread(folder / name)
        data.FrameOfReferenceUID = "2.25.9"
        maker.save(data, folder / name)
    case = read_case(folder)
    with pytest.raises(DicomError, match="no dose of the case belongs to its CT"):
        doses_of_case(folder, case)


def test_without_any_there_are_none(maker):
    folder = maker.write()
    case = read_case(folder)
    assert plans_of_case(folder, case) == () and doses_of_case(folder, case) == ()


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["RP.dcm", "RD1.dcm"]),
    st.one_of(st.just(1.0), st.floats(0, 1)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
)
def test_fuzzed_plans_and_doses_are_read_or_refused(folder, tmp_path, name, cut, flips):
    content = bytearray((folder / name).read_bytes())
    for place, value in flips:
        content[int(place * (len(content) - 1))] = value
    path = tmp_path / name
    path.write_bytes(bytes(content[: int(cut * len(content))]))
    try:
        if name == "RP.dcm":
            plan = read_plan_file(path).plan
            assert np.isfinite(plan.mu)
        else:
            assert np.isfinite(read_rtdose(path).values).all()
    except CantlieError as error:
        assert error.sentence()


@pytest.mark.parametrize("read", [read_plan_file, read_rtdose])
def test_absent_and_foreign_files(read, tmp_path):
    with pytest.raises(DicomError, match="cannot be opened"):
        read(tmp_path / "none.dcm")
    (tmp_path / "text.dcm").write_text("hello")
    with pytest.raises(DicomError):
        read(tmp_path / "text.dcm")
