"""Beam's eye view apertures: exact margins, leaf fit, collimator angle, on all machines."""

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.plan.beam_view import best_collimator_deg, fitted, reach_mm, shadow_mm
from cantlie.plan.raster import raster_of
from cantlie.plan.segments import aperture_of

MACHINES = ("generic-6mv-mlci", "generic-6mv-120", "generic-6mv-160")


def box_points(half_mm, step: float = 3.0, centre=(0.0, 0.0, 0.0)) -> np.ndarray:
    axes = [np.append(np.arange(-h, h, step), h) for h in half_mm]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3) + np.asarray(centre)


def test_the_margin_is_an_ellipse_across_and_along_the_patient_at_any_collimator() -> None:
    shadow = np.zeros((1, 2))
    for turn in (0.0, 30.0, 90.0):
        lines = np.linspace(-12.0, 12.0, 97)
        found = reach_mm(shadow, lines, (4.0, 10.0), turn, "X")
        hit = np.isfinite(found[:, 0])
        # back to the axes of the gantry: the ends of every line lie on the ellipse
        for row in np.flatnonzero(hit):
            for along in found[row]:
                a = np.radians(turn)
                x, y = np.cos(a) * along - np.sin(a) * lines[row], np.sin(a) * along + np.cos(a) * lines[row]
                assert (x / 4) ** 2 + (y / 10) ** 2 == pytest.approx(1.0, abs=1e-6)
    wide = reach_mm(shadow, np.array([0.0]), (4.0, 10.0), 0.0, "X")
    np.testing.assert_allclose(wide, [[-4.0, 4.0]])
    np.testing.assert_allclose(reach_mm(shadow, np.array([0.0]), (4.0, 10.0), 0.0, "Y"), [[-10.0, 10.0]])


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("gantry", [0.0, 50.0])
def test_leaves_follow_the_shadow_with_the_margin(name: str, gantry: float) -> None:
    machine = load_machine(name)
    points = box_points((30, 20, 40))
    geometry = BeamGeometry((0.0, 0.0, 0.0), gantry)
    raster, _ = raster_of(geometry, machine, points, 5.0, 16.0)
    segment = fitted(raster, machine, points, (6.0, 6.0))
    aperture = aperture_of(segment, 0, raster, machine)
    assert machine.broken_rules(aperture) == []
    shadow = shadow_mm(geometry, points)
    middle = np.flatnonzero(segment.is_open[0])[len(np.flatnonzero(segment.is_open[0])) // 2]
    assert segment.lower_mm[0, middle] == pytest.approx(shadow[:, 0].min() - 6, abs=1.5)
    assert segment.upper_mm[0, middle] == pytest.approx(shadow[:, 0].max() + 6, abs=1.5)
    # what is opened is the shadow with its margin within a strip of half a leaf at each end
    edges = machine.mlc.leaf_boundaries_mm[raster.first_leaf : raster.first_leaf + raster.leaves + 1]
    opened = ((segment.upper_mm - segment.lower_mm)[0] * np.diff(edges))[segment.is_open[0]].sum()
    wide = np.ptp(shadow[:, 0]) + 12
    tall = np.ptp(shadow[:, 1]) + 12
    assert opened == pytest.approx(wide * tall, rel=0.12)


@pytest.mark.parametrize("name", MACHINES)
def test_two_parts_of_a_target_are_closed_between_or_bridged(name: str) -> None:
    machine = load_machine(name)
    points = np.concatenate(
        [box_points((12, 12, 12), centre=(-30, 0, -50)), box_points((12, 12, 12), centre=(20, 0, 50))]
    )
    raster, _ = raster_of(BeamGeometry((0.0, 0.0, 0.0), 0.0), machine, points, 5.0, 16.0)
    segment = fitted(raster, machine, points, (5.0, 5.0))
    aperture = aperture_of(segment, 0, raster, machine)
    assert machine.broken_rules(aperture) == []
    assert segment.is_open.sum() >= 6


def test_the_collimator_turns_with_a_slanted_target() -> None:
    machine = load_machine("generic-6mv-mlci")
    straight = box_points((15, 15, 60), 2.0)
    a = np.radians(30.0)
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    slanted = straight @ turn.T
    angle = best_collimator_deg(BeamGeometry((0.0, 0.0, 0.0), 0.0), machine, slanted)
    # leaves along or across the long side of the box
    assert min(abs(angle - t) for t in (30.0, 60.0, 120.0, 150.0)) <= 1e-9
    assert best_collimator_deg(BeamGeometry((0.0, 0.0, 0.0), 0.0), machine, straight) == 0.0


def test_points_in_one_pixel_are_taken_once() -> None:
    grid = Grid((10, 10, 10), (0.5, 0.5, 0.5), (0.0, 0.0, 0.0))
    shadow = shadow_mm(BeamGeometry((0.0, 0.0, 0.0), 0.0), grid.points_mm().reshape(-1, 3))
    assert len(shadow) <= 49
    assert len(np.unique(shadow, axis=0)) == len(shadow)
