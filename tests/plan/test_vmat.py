"""VMAT on a small phantom: from a lesion to an arc that keeps the rules, and the same dose from its control points."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray

from cantlie.core.errors import PlanningError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.machine.beam_model_file import load_beam_model
from cantlie.machine.machine import load_machine
from cantlie.patient.regions import Regions
from cantlie.plan.arc_path import arc_paths
from cantlie.plan.complexity import complexity
from cantlie.plan.delivery import plan_dose
from cantlie.plan.planner import dose_grid, plan_targets
from cantlie.plan.request import PlannerSettings, PlanningRequest, PlanningResult
from cantlie.plan.technique import Site
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.sections import Arc

CT = Grid((24, 40, 48), (5.0, 5.0, 5.0), (-117.5, -97.5, -57.5))
QUICK = PlannerSettings(
    voxel_mm=5.0, max_voxels=5000, dose_grid_mm=(5.0, 5.0, 5.0), fluence_iterations=60, aperture_iterations=60,
    feedback_rounds=2,
)  # fmt: skip
ARCS = (
    Arc(start_deg=190.0, stop_deg=262.0, direction="CW", collimator_deg=10.0),
    Arc(start_deg=20.0, stop_deg=340.0, direction="CC", collimator_deg=350.0),
)


def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> NDArray[np.float32]:
    radius = np.linalg.norm((CT.points_mm() - np.array(centre)) / np.array(radii), axis=-1)
    return np.clip((1 - radius) * min(radii) / 5 + 0.5, 0, 1).astype(np.float32)


def request(arcs: tuple[Arc, ...] = ARCS, machine_id: str = "generic-6mv-mlci") -> PlanningRequest:
    body = ellipsoid((0, 0, 0), (110, 90, 500))
    masks = {
        "BODY": body,
        "Liver": ellipsoid((-30, -10, 0), (60, 55, 50)),
        "GTV_1": ellipsoid((-45, -10, 5), (12, 12, 12)),
        "PTV": ellipsoid((-45, -10, 5), (17, 17, 17)),
        "SpinalCord": ellipsoid((0, 60, 0), (8, 8, 500)),
    }
    density = Volume(CT, np.where(body > 0.5, 1.0, 0.0012).astype(np.float32))
    protocol = load_protocol("liu2022-sbrt").with_scheme("42-in-3")
    technique = protocol.technique.model_copy(update={"delivery": "arc", "arcs": arcs})
    # the liver of the phantom is too small for its limits
    constraints = tuple(c for c in protocol.constraints if not c.structure.startswith("Liver"))
    protocol = protocol.model_copy(update={"technique": technique, "constraints": constraints})
    return PlanningRequest.of_protocol(
        density, Regions(CT, masks), protocol, load_machine(machine_id), "HFS", settings=QUICK
    )


@lru_cache
def result() -> PlanningResult:
    return plan_targets(request())


def test_two_short_arcs_come_close_to_the_rules_and_keep_limits_of_organs() -> None:
    outcomes = {(o.structure, o.metric, o.op): o for o in result().outcomes}
    assert outcomes["PTV", "V95%[%]", ">="].delivered > 90
    assert outcomes["PTV", "D95%", ">="].delivered > 0.92 * 42
    assert outcomes["PTV", "Dmax[%]", "<="].delivered < 112
    assert outcomes["SpinalCord", "Dmax", "<"].met
    for outcome in result().outcomes:  # what is not kept is said
        said = any(outcome.structure == note.where and outcome.metric in note.message for note in result().notes)
        assert outcome.met or said or result().conflicts


def test_arcs_stand_as_asked_and_the_machine_can_deliver_them() -> None:
    machine = load_machine("generic-6mv-mlci")
    plan = result().plans[0].plan
    assert [beam.name for beam in plan] == ["A190-262CW", "A020-340CC"]
    for beam, arc in zip(plan, ARCS, strict=True):
        angles = [point.geometry.gantry_deg for point in beam.control_points]
        assert beam.dynamic and angles[0] == arc.start_deg
        assert angles[-1] == pytest.approx(arc.start_deg + arc.turn_deg)
        assert np.abs(np.diff(angles)).max() <= 4.0 + 1e-6
        assert {point.geometry.collimator_deg for point in beam.control_points} == {arc.collimator_deg}
        for point in beam.control_points:
            machine.check(point.aperture)
    measured = complexity(plan, machine)
    assert measured.beams == 2 and measured.mu == pytest.approx(plan.mu)
    assert measured.delivery_s > 60 * plan.mu / machine.max_dose_rate_mu_min


def test_the_dose_is_that_of_the_control_points() -> None:
    asked = request()
    planned = result().plans[0]
    model = load_beam_model(asked.machine.beam_model)
    again = plan_dose(planned.plan, asked.density, asked.machine, model, dose_grid(asked))
    np.testing.assert_allclose(again.values, planned.dose.values, atol=1e-3 * float(planned.dose.values.max()))


def test_directions_may_be_taken_together_within_four_degrees() -> None:
    asked = request()
    plan = replace(result().plans[0].plan, beams=result().plans[0].plan.beams[1:])  # the shorter arc
    model = load_beam_model(asked.machine.beam_model)
    doses = [
        plan_dose(plan, asked.density, asked.machine, model, dose_grid(asked), arc_step_deg=step).values
        for step in (1.0, 4.0)
    ]
    inside = doses[0] > 0.8 * doses[0].max()
    assert np.abs(doses[1][inside] / doses[0][inside] - 1).mean() < 0.01
    assert doses[1][inside].mean() == pytest.approx(doses[0][inside].mean(), rel=2e-3)


def test_one_arc_two_arcs_and_large_targets_have_sectors_of_their_own() -> None:
    asked = request(arcs=())
    box = np.array([[-20.0, -20.0, -20.0], [20.0, 20.0, 20.0]])
    for arcs, size, fields in ((1, 1.0, 45), (2, 1.0, 30), (1, 4.0, 23)):
        technique = asked.protocol.technique.model_copy(update={"arc_count": arcs})
        changed = replace(asked, protocol=asked.protocol.model_copy(update={"technique": technique}))
        site = Site(changed, asked.targets[0], size * box, {}, [])
        paths = arc_paths(site, (0.0, 0.0, 0.0))
        assert [path.fields for path in paths] == [fields] * arcs
        assert all(abs(path.turn_deg) / path.fields / path.per_field <= 4.0 for path in paths)
        assert [path.turn_deg for path in paths] == [358.0, -358.0][:arcs]
        assert len(site.notes) == 1


def test_a_machine_without_arcs_is_refused() -> None:
    asked = request()
    with pytest.raises(PlanningError, match="gantry"):
        plan_targets(replace(asked, machine=replace(asked.machine, arcs=False)))


@pytest.mark.parametrize(
    ("start", "stop", "direction", "turn"),
    [(181, 179, "CW", 358), (179, 181, "CC", -358), (180, 180, "CW", 360), (350, 20, "CW", 30), (20, 350, "CC", -30)],
)
def test_turns(start: float, stop: float, direction: str, turn: float) -> None:
    arc = Arc.model_validate({"start_deg": float(start), "stop_deg": float(stop), "direction": direction})
    assert arc.turn_deg == turn


@pytest.mark.parametrize(("start", "stop", "direction"), [(170, 190, "CW"), (190, 170, "CC"), (0, 0, "CW")])
def test_no_gantry_passes_180_degrees(start: float, stop: float, direction: str) -> None:
    with pytest.raises(ValueError, match="180"):
        Arc.model_validate({"start_deg": float(start), "stop_deg": float(stop), "direction": direction})
