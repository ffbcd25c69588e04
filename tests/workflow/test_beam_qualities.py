"""Plans of other beams than 6 MV: the energy of a plan or protocol picks the beam, and a cobalt source decays."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from cantlie.core.errors import DicomError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dicom.plan_file import read_plan_file
from cantlie.dicom.rtdose import read_rtdose
from cantlie.dicom.rtplan import write_rtplan
from cantlie.dicom.rtstruct import write_rtstruct
from cantlie.machine.aperture import Aperture
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import Machine, load_machine
from cantlie.patient.case import Case, Ct, PatientIdentity
from cantlie.patient.structures import Structure, StructureSet
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan
from cantlie.protocol.loading import load_protocol
from cantlie.workflow.machine_choice import machine_for
from cantlie.workflow.recalculate import RecalculatePlan, recalculate

GRID = Grid((36, 36, 36), (5.0, 5.0, 5.0), (-87.5, -87.5, -87.5))


@pytest.fixture
def water(tmp_path, make_images):
    """Return a function that writes a plan of one or two 10 x 10 fields for a box of water 170 mm wide."""
    hu = np.full(GRID.shape, -1000.0)
    hu[1:-1, 1:-1, 1:-1] = 0.0
    folder = tmp_path / "case"
    slices = make_images(folder, GRID, hu, "HFS")
    corners = np.array([(-85, -85), (85, -85), (85, 85), (-85, 85)], dtype=float)
    body = Structure(
        "BODY", tuple(np.column_stack([corners, np.full(4, z)]) for z in GRID.z_mm[1:-1]), dicom_type="EXTERNAL"
    )
    ct = Ct(Volume(GRID, hu), "HFS", "2.25.1", "2.25.2", "2.25.3", slices)
    case = Case(ct, StructureSet((body,)), PatientIdentity("P1"))
    uid = write_rtstruct(case, [body], folder / "RS.dcm")

    def write(machine: Machine, meterset: float, name: str, gantries=(0.0,)) -> tuple[Path, Path]:
        aperture = Aperture((-50.0, 50.0), (-50.0, 50.0))
        beams = []
        for number, gantry in enumerate(gantries, 1):
            geometry = BeamGeometry((0.0, 0.0, 0.0), gantry, sad_mm=machine.sad_mm)
            points = (ControlPoint(geometry, aperture, 0.0), ControlPoint(geometry, aperture, meterset))
            beams.append(TreatmentBeam(number, f"G{gantry:g}", points))
        plan = TreatmentPlan("water", machine.name, tuple(beams), 1, 1.0)
        write_rtplan(case, plan, machine, uid, tmp_path / name)
        return folder, tmp_path / name

    return write


def dose_of(case: Path, plan: Path, out: Path, **choices) -> tuple[Volume, dict]:
    results = recalculate(RecalculatePlan(case, plan, out, grid_mm=5.0, **choices))
    return read_rtdose(out / "RTDOSE.dcm"), results


def test_a_timer_gives_the_dose_of_the_source_on_the_day(water, tmp_path):
    machine = load_machine("generic-co60")
    assert machine.cobalt is not None
    first = machine.cobalt.reference_date
    case, path = water(machine.on(first), 1.5, "first.dcm")
    written = dcmread(path)
    assert written.BeamSequence[0].PrimaryDosimeterUnit == "MINUTE"
    assert written.RTPlanDate == first.strftime("%Y%m%d")
    assert written.BeamSequence[0].SourceAxisDistance == 800
    assert read_plan_file(path).dosimeter_unit == "MINUTE"
    new, results = dose_of(case, path, tmp_path / "new")
    assert (results["machine"], results["meterset_unit"], results["energy_mv"]) == (
        "generic-co60",
        "MINUTE",
        {"1": 1.25},
    )
    assert any(str(first) in line for line in results["warnings"])
    # 1.5 min at 1.2 Gy/min 50 mm deep; here 85 mm of water lie above. Published depth doses (BJR 25: 78.4 % at 5 cm and
    # 56.4 % at 10 cm, SSD 80 cm) make that 0.43 % for each mm at the same distance from the source.
    assert new.sample([[0, 0, 0]])[0] == pytest.approx(1.8 * np.exp(-0.0043 * 35), rel=0.02)
    later = date.fromordinal(first.toordinal() + 1925)
    old, _ = dose_of(case, path, tmp_path / "old", treatment_date=later)
    np.testing.assert_allclose(old.values, 0.5 * new.values, rtol=2e-3, atol=1e-3)


def test_minutes_and_monitor_units_are_not_mixed_up(water, tmp_path):
    case, path = water(load_machine("generic-co60").on(date(2026, 2, 1)), 1.0, "cobalt.dcm")
    with pytest.raises(DicomError, match="counts minutes of a timer, but generic-6mv-mlci monitor units"):
        dose_of(case, path, tmp_path / "out", machine="generic-6mv-mlci")
    case, path = water(load_machine("generic-6mv-mlci"), 100.0, "linac.dcm")
    with pytest.raises(DicomError, match="counts monitor units, but generic-co60 minutes"):
        dose_of(case, path, tmp_path / "out", machine="generic-co60")


def test_each_beam_is_calculated_at_its_own_energy(water, tmp_path):
    single = {}
    for energy in (6, 15):
        case, path = water(load_machine(f"generic-{energy}mv-mlci"), 100.0, f"{energy}.dcm")
        single[energy], results = dose_of(case, path, tmp_path / f"{energy}")
        assert results["energy_mv"] == {"1": float(energy)}
        assert results["machine"] == f"generic-{energy}mv-mlci"
        assert not any("planned for" in line for line in results["warnings"])
    deep, shallow = [0.0, 60.0, 0.0], [0.0, -50.0, 0.0]
    six, fifteen = (single[e].sample([deep, shallow]) for e in (6, 15))
    assert fifteen[0] / fifteen[1] > 1.08 * six[0] / six[1]
    _, path = water(load_machine("generic-6mv-mlci"), 100.0, "mixed.dcm", gantries=(0.0, 0.0))
    data = dcmread(path)
    data.BeamSequence[1].ControlPointSequence[0].NominalBeamEnergy = 15
    data.save_as(path)
    both, results = dose_of(case, path, tmp_path / "mixed")
    assert results["energy_mv"] == {"1": 6.0, "2": 15.0}
    np.testing.assert_allclose(both.values, single[6].values + single[15].values, rtol=1e-3, atol=1e-3)
    data.BeamSequence[1].ControlPointSequence[0].NominalBeamEnergy = 18
    data.save_as(path)
    _, results = dose_of(case, path, tmp_path / "eighteen")
    assert any("planned for 18 MV, but generic-6mv-mlci has 6 MV" in line for line in results["warnings"])


def test_blocked_fields(water, tmp_path):
    machine = load_machine("generic-co60").on(date(2026, 1, 1))
    case, path = water(machine, 1.0, "open.dcm")
    opened, _ = dose_of(case, path, tmp_path / "open")
    data = dcmread(path)
    beam = data.BeamSequence[0]
    block = Dataset()
    block.BlockNumber, block.BlockType, block.BlockTransmission = 1, "SHIELDING", 0.05
    outline = [-80, -80, 0, -80, 0, 80, -80, 80]
    block.BlockNumberOfPoints, block.BlockData = 4, outline
    beam.NumberOfBlocks, beam.BlockSequence = 1, [block]
    data.save_as(path)
    half, _ = dose_of(case, path, tmp_path / "half")
    points = [[25.0, -40.0, 0.0], [0.0, -40.0, 0.0], [-25.0, -40.0, 0.0]]
    share = half.sample(points) / opened.sample(points)
    assert share[0] == pytest.approx(0.95, abs=0.04)  # less scatter from the other half
    assert share[1] == pytest.approx(0.5, abs=0.04)
    assert 0.06 < share[2] < 0.16  # 5 % through the block, the rest scatter
    # The same field as a hole in a block.
    block.BlockType, block.BlockData = "APERTURE", [0, -80, 80, -80, 80, 80, 0, 80]
    beam.BlockSequence = [block]
    data.save_as(path)
    hole, _ = dose_of(case, path, tmp_path / "hole")
    np.testing.assert_allclose(hole.sample(points), half.sample(points), rtol=0.01)
    for change, words in (("BlockTransmission", 1.5), "lets 1.5"), (("BlockNumberOfPoints", 2), "no outline"):
        kept = getattr(block, change[0])
        setattr(block, *change)
        data.save_as(path)
        with pytest.raises(DicomError, match=words):
            read_plan_file(path)
        setattr(block, change[0], kept)
    beam.TotalBlockTrayFactor = 0.96
    data.save_as(path)
    with pytest.raises(DicomError, match=r"tray of the blocks lets 0\.96"):
        read_plan_file(path)


def test_the_energy_of_a_protocol_picks_the_beam():
    yin = load_protocol("yin2014-boost")
    assert machine_for(None, yin, None).id == "generic-8mv-mlci"
    assert machine_for("generic-6mv-120", yin, None).id == "generic-6mv-120"
    at_15 = replace_energy(yin, 15.0)
    assert machine_for(None, at_15, None).id == "generic-15mv-mlci"
    assert machine_for(None, replace_energy(yin, 18.0), None).id == "generic-8mv-mlci"
    cobalt = machine_for("generic-co60", yin, date(2026, 3, 2))
    assert cobalt.cobalt is not None and cobalt.cobalt.treatment_date == date(2026, 3, 2)
    assert machine_for("generic-co60", yin, None).cobalt != replace(cobalt.cobalt, treatment_date=None)


def replace_energy(protocol, energy_mv):
    technique = protocol.technique.model_copy(update={"energy_mv": energy_mv, "energies_mv": ()})
    return protocol.model_copy(update={"technique": technique})
