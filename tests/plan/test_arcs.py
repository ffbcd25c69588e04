"""Arcs: whatever the fluence, the limits of the machine hold at all control points and between; gradients are right."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.plan.arc_path import ArcPath
from cantlie.plan.arc_profile import arc_profile
from cantlie.plan.arc_sequencing import sequence_arc
from cantlie.plan.arcs import Arc, leaf_travel_mm_deg, make_deliverable, on_common_leaves
from cantlie.plan.delivery import beam_fields
from cantlie.plan.pieces import by_direction, pieces
from cantlie.plan.raster import Raster, raster_of
from cantlie.plan.segments import opening, opening_gradient
from cantlie.plan.vmat import Vmat, arc_beam

MACHINES = ("generic-6mv-mlci", "generic-6mv-120", "generic-6mv-160")


def sphere_points(radius_mm: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> NDArray[np.float64]:
    axis = np.arange(-radius_mm, radius_mm + 0.1, 4.0)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return points[np.linalg.norm(points, axis=1) <= radius_mm] + np.array(centre)


def setting(
    machine_id: str, radius_mm: float, collimator_deg: float, turn_deg: float = 96.0
) -> tuple[ArcPath, tuple[Raster, ...]]:
    start = BeamGeometry((0.0, 0.0, 0.0), 200.0, collimator_deg)
    path = ArcPath(start, turn_deg, 12, 2)
    points = sphere_points(radius_mm, (5.0, -3.0, 8.0)) * np.array([1.0, 1.4, 0.8])
    machine = load_machine(machine_id)
    return path, on_common_leaves([raster_of(g, machine, points, 5.0, 7.0)[0] for g in path.sectors()])


def random_openings(rasters: tuple[Raster, ...], seed: int, mu: float) -> list[NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    openings = []
    for raster in rasters:
        noise = ndimage.gaussian_filter(rng.random((raster.leaves, raster.shape[1])), rng.uniform(0, 2))
        noise = np.maximum(noise - np.quantile(noise, rng.uniform(0, 0.6)), 0) * raster.leaf_used()
        openings.append(noise / max(noise.max(), 1e-9) * mu * rng.uniform(0, 1))
    return openings


def check_arc(arc: Arc, machine_id: str) -> None:
    machine = load_machine(machine_id)
    settable = Vmat().settable([[arc]], machine)[0][0]
    beam = arc_beam(settable, 1, machine)  # refuses an aperture that the machine cannot form
    mu = np.diff([point.cumulative_mu for point in beam.control_points])
    assert beam.control_points[0].cumulative_mu == 0
    assert (mu >= machine.min_mu_per_deg * arc.turns_deg - 1e-6).all()
    assert (mu <= machine.max_mu_per_deg * arc.turns_deg + 1e-6).all()
    steps = beam.mu / machine.mu_resolution
    assert abs(steps - round(steps)) < 1e-4
    assert beam.mu == pytest.approx(arc.mu.sum(), abs=0.5 + 0.02 * arc.mu.sum())
    reach = leaf_travel_mm_deg(machine) * arc.turns_deg
    for (one, two), furthest in zip(pairwise(beam.control_points), reach, strict=True):
        for a, b in ((one.aperture.leaf_lower_mm, two.aperture.leaf_lower_mm),
                     (one.aperture.leaf_upper_mm, two.aperture.leaf_upper_mm)):  # fmt: skip
            assert a is not None and b is not None
            assert np.abs(a - b).max() <= furthest + 1e-6
    profile = arc_profile(beam, machine)
    assert profile.leaf_mm_s.max() <= machine.mlc.leaf_speed_mm_s + 1e-6  # type: ignore[union-attr]
    assert profile.gantry_deg_s.max() <= machine.gantry_speed_deg_s + 1e-6
    assert profile.dose_rate_mu_min.max() <= machine.max_dose_rate_mu_min + 1e-6
    assert profile.mu.sum() == pytest.approx(beam.mu)
    for piece in pieces(beam):  # and everywhere on the way
        assert machine.broken_rules(piece.aperture) == []


@settings(deadline=None, max_examples=25)
@given(
    machine_id=st.sampled_from(MACHINES),
    seed=st.integers(0, 10_000),
    radius=st.floats(8.0, 60.0),
    collimator=st.sampled_from([0.0, 10.0, 45.0, 90.0, 350.0]),
    mu=st.sampled_from([0.5, 30.0, 400.0]),
    turn=st.sampled_from([96.0, -96.0, 40.0]),
)
def test_no_limit_is_broken_for_any_fluence(
    machine_id: str, seed: int, radius: float, collimator: float, mu: float, turn: float
) -> None:
    path, rasters = setting(machine_id, radius, collimator, turn)
    machine = load_machine(machine_id)
    openings = random_openings(rasters, seed, mu)
    arc = sequence_arc(openings, rasters, path.control_points(), path.per_field, machine)
    check_arc(arc, machine_id)
    # and for tips that an optimiser threw anywhere
    rng = np.random.default_rng(seed)
    arc.lower_mm[...] = rng.uniform(-250, 250, arc.lower_mm.shape)
    arc.upper_mm[...] = arc.lower_mm + rng.uniform(-50, 100, arc.lower_mm.shape)
    make_deliverable(arc, machine)
    check_arc(arc, machine_id)


@pytest.mark.parametrize("machine_id", MACHINES)
def test_tips_that_keep_all_limits_stay_where_they_are(machine_id: str) -> None:
    path, rasters = setting(machine_id, 20.0, 0.0)
    machine = load_machine(machine_id)
    arc = sequence_arc(random_openings(rasters, 3, 40.0), rasters, path.control_points(), 2, machine)
    lower, upper = arc.lower_mm.copy(), arc.upper_mm.copy()
    make_deliverable(arc, machine)
    np.testing.assert_allclose(arc.lower_mm, lower, atol=1e-9)
    np.testing.assert_allclose(arc.upper_mm, upper, atol=1e-9)


def test_the_sequence_delivers_about_the_fluence_of_its_directions() -> None:
    path, rasters = setting("generic-6mv-120", 25.0, 10.0)
    machine = load_machine("generic-6mv-120")
    openings = [20.0 * raster.leaf_used() for raster in rasters]
    arc = sequence_arc(openings, rasters, path.control_points(), 2, machine)
    assert machine.mlc is not None
    delivered = sum(opening(one, raster, machine.mlc) for one, raster in zip(arc.segments(), rasters, strict=True))
    wanted = np.sum(openings, axis=0)
    middle = wanted > 0.9 * wanted.max()
    assert delivered[middle].mean() == pytest.approx(wanted[middle].mean(), rel=0.1)
    assert delivered[wanted == 0].mean() < 0.15 * wanted.max()


@pytest.mark.parametrize("machine_id", MACHINES)
def test_gradients_are_those_of_the_openings(machine_id: str) -> None:
    path, rasters = setting(machine_id, 22.0, 10.0)
    machine = load_machine(machine_id)
    assert machine.mlc is not None
    arc = sequence_arc(random_openings(rasters, 7, 60.0), rasters, path.control_points(), 2, machine)
    rng = np.random.default_rng(1)
    price = [rng.normal(size=(raster.leaves, raster.shape[1])) for raster in rasters]

    def value(one: Arc) -> float:
        return sum(
            float(np.sum(g * opening(segments, raster, machine.mlc)))  # type: ignore[arg-type]
            for segments, raster, g in zip(one.segments(), rasters, price, strict=True)
        )

    of_segments = [
        opening_gradient(segments, raster, machine.mlc, g)
        for segments, raster, g in zip(arc.segments(), rasters, price, strict=True)
    ]
    d_mu, d_lower, d_upper = arc.gradients(of_segments)
    step = 1e-6
    mu = rng.normal(size=d_mu.shape)
    difference = (value(replace(arc, mu=arc.mu + step * mu)) - value(replace(arc, mu=arc.mu - step * mu))) / (2 * step)
    assert difference == pytest.approx(float(np.sum(mu * d_mu)), rel=1e-5, abs=1e-6)
    # a tip that stands on the edge of a column has two derivatives; away from there they agree but for the share of
    # the transmission at the jaw, which the gradient leaves out
    move = rng.normal(size=d_upper.shape) * arc.is_open
    arc = replace(arc, lower_mm=arc.lower_mm - 0.37, upper_mm=arc.upper_mm + 0.41)
    of_segments = [
        opening_gradient(segments, raster, machine.mlc, g)
        for segments, raster, g in zip(arc.segments(), rasters, price, strict=True)
    ]
    _, d_lower, d_upper = arc.gradients(of_segments)
    for bank, gradient in (("lower_mm", d_lower), ("upper_mm", d_upper)):
        tips = getattr(arc, bank)
        up, down = (replace(arc, **{bank: tips + side * 1e-4 * move}) for side in (1, -1))
        difference = (value(up) - value(down)) / 2e-4
        assert difference == pytest.approx(float(np.sum(move * gradient)), abs=0.1 * np.linalg.norm(move * gradient))


def test_directions_of_an_arc_carry_all_its_monitor_units() -> None:
    path, rasters = setting("generic-6mv-mlci", 20.0, 0.0)
    machine = load_machine("generic-6mv-mlci")
    arc = sequence_arc(random_openings(rasters, 5, 40.0), rasters, path.control_points(), 2, machine)
    beam = arc_beam(Vmat().settable([[arc]], machine)[0][0], 1, machine)
    for step, count in ((4.0, 24), (8.0, 12), (16.0, 6), (2.0, 48)):
        groups = by_direction(beam, step)
        assert len(groups) == count
        assert sum(part.mu for _, parts in groups for part in parts) == pytest.approx(beam.mu)
        angles = [geometry.gantry_deg for geometry, _ in groups]
        assert angles == sorted(angles) and 200 < angles[0] < angles[-1] < 296


def test_a_static_beam_is_one_field_and_an_arc_many() -> None:
    from cantlie.machine.beam_model_file import load_beam_model

    path, rasters = setting("generic-6mv-mlci", 20.0, 0.0)
    machine = load_machine("generic-6mv-mlci")
    model = load_beam_model(machine.beam_model)
    arc = sequence_arc(random_openings(rasters, 5, 40.0), rasters, path.control_points(), 2, machine)
    beam = arc_beam(arc, 1, machine)
    fields = beam_fields(beam, machine, model, 8.0)
    assert len(fields) == 12
    static = replace(beam, dynamic=False, control_points=(beam.control_points[0],) * 2)
    static = replace(
        static, control_points=(static.control_points[0], replace(static.control_points[1], cumulative_mu=50.0))
    )
    assert len(beam_fields(static, machine, model)) == 1


def test_the_way_of_the_gantry() -> None:
    start = BeamGeometry((0.0, 0.0, 0.0), 181.0)
    path = ArcPath(start, 358.0, 45, 2)
    points = path.control_points()
    assert len(points) == 91
    assert points[0].gantry_deg == 181 and points[-1].gantry_deg == 539
    turns = np.diff([geometry.gantry_deg for geometry in points])
    np.testing.assert_allclose(turns, 358 / 90, atol=1e-5)
    assert path.sectors()[0].gantry_deg == pytest.approx(0.5 * (points[0].gantry_deg + points[2].gantry_deg), abs=1e-5)
