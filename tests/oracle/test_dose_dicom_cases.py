"""The DICOM dose cases, from CT, RTSTRUCT and RTPLAN to an RTDOSE that the oracle's own script scores."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile

import pydicom
import pytest

from cantlie.dicom.reading import read_case
from cantlie.dicom.rtdose import write_rtdose
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.dose.field import Field
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import aperture_fluence, pixel_centres
from cantlie.machine.geometry import BeamGeometry
from cantlie.patient.density import DensityCurve, density_volume
from cantlie.patient.masks import structure_fractions
from cantlie.patient.names import BODY

POINT = BeamModel.named("reference-6mv-point")
# Cells of 1 mm of this reference fall short deep in water, see docs/explanation/dose.md.
FLAWED = {"cax_mean_pct", "cax_max_pct", "infield_mean_pct", "offaxis_p99_excess_over_2sigma_pct", "gamma_local_2_2"}
CASES = {
    "water_2x2": set(),
    "water_10x10": FLAWED,
    "water_10x10_ssd100": set(),
    "water_20x20": FLAWED,
    "lung_slab_10x10": set(),
    "crlm1006_ap10x10": set(),
    "crlm1006_dome5x5": set(),
    "crlm1006_gtv3x3": set(),
}


@pytest.fixture(scope="module")
def unpacked(oracles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    for archive in sorted((oracles / "dose" / "dicom").glob("*.tar.xz")):
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="tar")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_recalculated_plan__against_monte_carlo(unpacked, oracles, name, tmp_path):
    folder = unpacked / name
    images = folder / "CT"
    case = read_case(images.resolve().parent)
    curve = DensityCurve.from_csv_text((folder / "density_curve.csv").read_text(encoding="utf-8"))
    body = next(s for s in case.structures.structures if BODY in (s.name, s.name.upper()))
    density = density_volume(case.ct.volume, structure_fractions(body, case.ct.volume.grid), curve)
    plan = pydicom.dcmread(folder / "RP.dcm")
    point = plan.BeamSequence[0].ControlPointSequence[0]
    jaws = {
        item.RTBeamLimitingDeviceType[-1]: tuple(float(v) for v in item.LeafJawPositions)
        for item in point.BeamLimitingDevicePositionSequence
    }
    units = float(plan.FractionGroupSequence[0].ReferencedBeamSequence[0].BeamMeterset)
    geometry = BeamGeometry(
        tuple(float(v) for v in point.IsocenterPosition),
        float(point.GantryAngle),
        patient_position=case.ct.patient_position,
    )
    x, y = (pixel_centres(low - 10, high + 10, 1.0) for low, high in (jaws["X"], jaws["Y"]))
    fluence = aperture_fluence(Aperture(jaws["X"], jaws["Y"]), units, None, POINT, x, y)
    dose = collapsed_cone_dose(density, [Field(geometry, fluence)], POINT, grid=density.grid.resampled((2.5, 2.5, 2.5)))
    write_rtdose(case, dose, tmp_path / "RD.dcm", plan_uids=[plan.SOPInstanceUID], bits=32)
    script = oracles / "dose" / "dicom" / "score.py"
    command = [sys.executable, str(script), str(folder), str(tmp_path / "RD.dcm"), "--max-gamma-points", "4000"]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert set(json.loads(printed)["failed"]) <= CASES[name]
