"""Random plans on every machine, with couch and collimator turned: legal, the same after a round trip, and finite."""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from scipy import ndimage

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dicom.plan_file import read_plan_file
from cantlie.dicom.rtplan import write_rtplan
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import Machine, load_machine
from cantlie.patient.case import Case, Ct, PatientIdentity
from cantlie.patient.structures import StructureSet
from cantlie.plan.beam_view import fitted
from cantlie.plan.complexity import complexity
from cantlie.plan.delivery import treatment_plan
from cantlie.plan.fields import FieldSet
from cantlie.plan.normalise import rounded_mu
from cantlie.plan.raster import raster_of
from cantlie.plan.request import PlanTarget
from cantlie.plan.segments import Segments
from cantlie.plan.sequencing import sequence
from cantlie.plan.treatment import TreatmentPlan

MACHINES = ("generic-6mv-mlci", "generic-6mv-120", "generic-6mv-160")
GRID = Grid((4, 4, 4), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))


def case_of() -> Case:
    ct = Ct(Volume(GRID, np.zeros(GRID.shape, np.float32)), "HFS", "2.25.1", "2.25.2", "2.25.3", ())
    return Case(ct, StructureSet(), PatientIdentity("P1"))


def random_plan(machine: Machine, seed: int, kind: str) -> TreatmentPlan:
    """Make a plan of one to four fields by the planner's own steps, from random targets and fluences."""
    rng = np.random.default_rng(seed)
    cloud = rng.normal(size=(400, 3)) * rng.uniform(5, 35, size=3) + rng.uniform(-40, 40, size=3)
    rasters, shapes = [], []
    for _ in range(rng.integers(1, 5)):
        angles = rng.integers(0, 72) * 5.0, rng.integers(0, 36) * 10.0, float(rng.choice([0, 0, 15, 345, 90]))
        geometry = BeamGeometry((0.0, 0.0, 0.0), *angles, machine.sad_mm, "HFS")
        raster, _ = raster_of(geometry, machine, cloud, 5.0, 16.0)
        if kind == "conformal":
            one = fitted(raster, machine, cloud, (float(rng.uniform(3, 13)), float(rng.uniform(3, 13))))
            one = one.with_mu(rng.uniform(2, 300, size=1))
        else:
            noise = ndimage.gaussian_filter(rng.random((raster.leaves, raster.shape[1])), rng.choice([0.0, 1.0, 2.5]))
            fluence = np.maximum(noise - np.quantile(noise, rng.uniform(0, 0.6)), 0)
            fluence *= rng.uniform(5, 120) / max(float(fluence.max()), 1e-9)
            one = sequence(fluence * raster.leaf_used(), raster, machine, max_segments=6)
        rasters.append(raster)
        shapes.append(settable(one, machine))
    fields = FieldSet(tuple(rasters), (), None, 3)  # type: ignore[arg-type]
    return treatment_plan(PlanTarget("PTV", 42.0, 3), fields, shapes, machine, "random")


def settable(one: Segments, machine: Machine) -> Segments:
    return one.with_mu(rounded_mu(one.mu, machine.mu_resolution, machine.min_segment_mu))


@settings(deadline=None, max_examples=24, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(MACHINES),
    seed=st.integers(0, 100_000),
    kind=st.sampled_from(["conformal", "modulated"]),
)
def test_random_plans_are_legal_and_survive_the_round_trip(tmp_path: Path, name: str, seed: int, kind: str) -> None:
    machine = load_machine(name)
    plan = random_plan(machine, seed, kind)
    if not plan.beams:
        return
    for beam in plan:
        mu = np.array([point.cumulative_mu for point in beam.control_points])
        assert mu[0] == 0 and (np.diff(mu) >= 0).all()
        assert np.diff(mu)[::2].min() >= machine.min_segment_mu - 1e-6
        np.testing.assert_allclose(mu / machine.mu_resolution, np.round(mu / machine.mu_resolution), atol=1e-4)
        for point in beam.control_points:
            assert machine.broken_rules(point.aperture) == []
    found = complexity(plan, machine)
    assert np.isfinite(astuple(found)).all()
    assert found.mu == pytest.approx(plan.mu) and found.delivery_s >= 60 * plan.mu / machine.max_dose_rate_mu_min - 1e-9
    assert 0 <= found.small_aperture_score <= 1 and 0 <= found.modulation < 1
    assert found.modulation < 1e-9 or kind == "modulated"
    path = tmp_path / "RP.dcm"
    write_rtplan(case_of(), plan, machine, "2.25.55", path)
    again = read_plan_file(path).plan
    assert again.mu == pytest.approx(plan.mu, abs=1e-9)
    for beam, other, stored in zip(plan, again, dcmread(path).BeamSequence, strict=True):
        weights = [float(point.CumulativeMetersetWeight) for point in stored.ControlPointSequence]
        assert weights[0] == 0 and weights == sorted(weights)
        assert weights[-1] == pytest.approx(float(stored.FinalCumulativeMetersetWeight), abs=1e-12)
        for one, two in zip(beam.control_points, other.control_points, strict=True):
            assert one.geometry == two.geometry
            assert two.cumulative_mu == pytest.approx(one.cumulative_mu, abs=1e-9)
            np.testing.assert_allclose(two.aperture.leaf_lower_mm, one.aperture.leaf_lower_mm, atol=1e-9)
            np.testing.assert_allclose(two.aperture.leaf_upper_mm, one.aperture.leaf_upper_mm, atol=1e-9)


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("kind", ["conformal", "modulated"])
def test_exported_plans_obey_the_standard(tmp_path: Path, check_dicom, name: str, kind: str) -> None:
    machine = load_machine(name)
    plan = replace(random_plan(machine, 11, kind), label="T")
    write_rtplan(case_of(), plan, machine, "2.25.55", tmp_path / "RP.dcm")
    check_dicom(tmp_path / "RP.dcm")
