"""Directions chosen for a plan, judged by the dose engine's influence rather than by what they were chosen with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.machine.machine import load_machine
from cantlie.patient.regions import Regions
from cantlie.plan.beams import equispaced_deg
from cantlie.plan.directions import BODY
from cantlie.plan.fluence import FluenceSolver
from cantlie.plan.goals import quality_terms
from cantlie.plan.problem import Problem
from cantlie.plan.request import PlannerSettings, PlanningRequest
from cantlie.plan.setup import Setup, prepare
from cantlie.plan.techniques import technique_of
from cantlie.protocol.loading import load_protocol

CT = Grid((24, 40, 52), (5.0, 5.0, 5.0), (-127.5, -97.5, -57.5))


def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> NDArray[np.float32]:
    radius = np.linalg.norm((CT.points_mm() - np.array(centre)) / np.array(radii), axis=-1)
    return np.clip((1 - radius) * min(radii) / 5 + 0.5, 0, 1).astype(np.float32)


def asked(fields: int, couch_most_deg: float = 0.0) -> PlanningRequest:
    """A target at the side of the liver, the cord behind, the stomach beyond."""
    masks = {
        BODY: ellipsoid((0, 0, 0), (120, 90, 600)),
        "PTV": ellipsoid((-60, -5, 0), (20, 20, 20)),
        "GTV_1": ellipsoid((-60, -5, 0), (12, 12, 12)),
        "Liver": ellipsoid((-40, -10, 0), (65, 55, 45)),
        "SpinalCord": ellipsoid((0, 55, 0), (8, 8, 600)),
        "Stomach": ellipsoid((60, -30, 0), (25, 25, 30)),
    }
    density = np.where(masks[BODY] > 0.5, 1.0, 0.0012).astype(np.float32)
    protocol = load_protocol("li2024-palliative")
    technique = protocol.technique.model_copy(
        update={"delivery": "step_and_shoot", "fields": fields, "gantry_deg": (), "couch_most_deg": couch_most_deg}
    )
    return PlanningRequest.of_protocol(
        Volume(CT, density), Regions(CT, masks), protocol.model_copy(update={"technique": technique}),
        load_machine("generic-6mv-mlci"), "HFS", settings=PlannerSettings(voxel_mm=5.0, max_voxels=3500),
    )  # fmt: skip


def objective_and_means(setup: Setup, request: PlanningRequest) -> tuple[float, float, float]:
    """Return the objective of the optimised fluence and the mean dose of liver and body."""
    problem = Problem(("PTV",), quality_terms(request.targets, setup.minimise, setup.voxels, BODY))
    solver = FluenceSolver(setup.plans, problem, [], setup.voxels, [request.targets[0].prescription_gy])
    value = solver.improve(60).value
    dose = solver.doses()[0]
    volumes = setup.voxels.volumes_cc
    means = [float(dose @ volumes[name] / volumes[name].sum()) for name in ("Liver - GTV*", BODY)]
    return value, means[0], means[1]


def test_chosen_angles_beat_equispaced_ones_by_the_dose_engine() -> None:
    request = asked(5)
    setup = prepare(request, technique_of("step_and_shoot"))
    assert len({raster.geometry.gantry_deg for raster in setup.plans[0].rasters}) == 5
    said = [note.message for note in setup.notes if "chosen" in note.message]
    assert len(said) == 1 and "lower than with the best equispaced angles" in said[0]
    value, liver_gy, body_gy = objective_and_means(setup, request)
    for start in (0.0, 36.0):
        even = tuple(replace(t, gantry_deg=equispaced_deg(5, start)) for t in request.targets)
        other_request = replace(request, targets=even)
        other = objective_and_means(prepare(other_request, technique_of("step_and_shoot")), other_request)
        assert value < 0.98 * other[0]
        assert liver_gy < other[1]
        assert body_gy < other[2]


def test_the_couch_turns_no_further_than_allowed() -> None:
    turned = prepare(asked(3, 30.0), technique_of("step_and_shoot"))
    couches = [raster.geometry.couch_deg for raster in turned.plans[0].rasters]
    assert len(couches) == 3
    assert all(min(couch, 360.0 - couch) <= 30.0 for couch in couches)
