"""The collapsed cone: calibration, symmetry, superposition, convergence, energy, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cantlie.core.errors import DoseError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dose import superposition
from cantlie.dose.attenuation import packaged, stopping_power_ratio, water_equivalent_ratio
from cantlie.dose.calibration import fluence_per_mu
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.dose.field import Field
from cantlie.dose.kernel import PRIMARY_RINGS, Cones, cones, polyenergetic
from cantlie.dose.phantom import phantom
from cantlie.dose.sweep import sweep
from cantlie.machine.aperture import Aperture, FluenceMap
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import aperture_fluence, pixel_centres
from cantlie.machine.geometry import BeamGeometry

POINT = BeamModel.named("reference-6mv-point")
TYPICAL = BeamModel.named("generic-6mv")


def water(spacing_mm=4.0, half_mm=100.0, depth_mm=240.0):
    """Water with its surface 100 mm above the origin."""
    n = round(2 * half_mm / spacing_mm)
    depth = round(depth_mm / spacing_mm)
    low = -half_mm + 0.5 * spacing_mm
    grid = Grid((n, depth, n), (spacing_mm,) * 3, (low, -100.0 + 0.5 * spacing_mm, low))
    return Volume(grid, np.ones(grid.shape, dtype=np.float32))


def field(x_mm, y_mm, model=POINT, gantry_deg=0.0, mu=100.0, isocentre_mm=(0.0, 0.0, 0.0)):
    pixels = pixel_centres(min(*x_mm, *y_mm) - 30, max(*x_mm, *y_mm) + 30, 1.0)
    fluence = aperture_fluence(Aperture(x_mm, y_mm), mu, None, model, pixels, pixels)
    return Field(BeamGeometry(isocentre_mm, gantry_deg), fluence)


@pytest.mark.parametrize("model", [POINT, TYPICAL], ids=lambda model: model.name)
def test_one_hundred_mu_are_one_gray_at_the_calibration_point(model):
    dose = collapsed_cone_dose(water(3.0, 150.0, 240.0), [field((-50, 50), (-50, 50), model)], model)
    assert dose.sample([[0.0, 0.0, 0.0]])[0] == pytest.approx(1.0, abs=0.006)


def test_fluence_of_a_monitor_unit__against_monte_carlo():
    # EGSnrc: 5.848e-12 Gy cm² at the calibration point for one photon per cm² (oracle README: 0.2 % standard error).
    assert 0.01 / fluence_per_mu(POINT) == pytest.approx(5.848e-12, rel=0.005)


def test_mirrored_field_gives_the_mirrored_dose():
    phantom = water()
    left = collapsed_cone_dose(phantom, [field((-40, 10), (-25, 25))], POINT).values
    right = collapsed_cone_dose(phantom, [field((-10, 40), (-25, 25))], POINT).values[:, :, ::-1]
    assert np.abs(left - right).max() < 0.05 * left.max()
    assert np.abs(left - right).mean() < 0.002 * left.max()


def test_gantry_angle_does_not_matter_in_a_cylinder():
    grid = Grid((40, 60, 60), (4.0, 4.0, 4.0), (-118.0, -118.0, -78.0))
    _, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    phantom = Volume(grid, np.where(np.hypot(x, y) < 100, 1.0, 0.0012).astype(np.float32))
    centre = [
        collapsed_cone_dose(phantom, [field((-30, 30), (-30, 30), gantry_deg=a)], POINT).sample([[0.0, 0.0, 0.0]])[0]
        for a in (0.0, 33.0, 90.0, 135.0, 270.0)
    ]
    assert np.ptp(centre) < 0.01 * np.mean(centre)


def test_two_halves_make_the_whole_and_dose_is_proportional_to_mu():
    phantom = water()
    whole = collapsed_cone_dose(phantom, [field((-40, 40), (-40, 40))], POINT).values
    halves = collapsed_cone_dose(
        phantom, [field((-40, 0), (-40, 40), mu=50.0), field((0, 40), (-40, 40), mu=50.0)], POINT
    ).values
    assert np.abs(whole - 2 * halves).max() < 0.02 * whole.max()
    assert np.abs(whole - 2 * halves).mean() < 0.001 * whole.max()


def test_the_number_of_threads_changes_nothing(monkeypatch):
    phantom = water(8.0)
    fields = [field((-30, 30), (-30, 30), gantry_deg=25.0)]
    doses = []
    for count in (1, 3):
        monkeypatch.setattr("cantlie.core.threads.threads", lambda count=count: count)
        doses.append(collapsed_cone_dose(phantom, fields, POINT).values)
    np.testing.assert_array_equal(*doses)


def test_coarser_grids_converge():
    fields = [field((-50, 50), (-50, 50))]
    points = np.array([[0.0, y, 0.0] for y in (-60.0, -20.0, 20.0, 80.0)] + [[30.0, 0.0, 20.0]])
    fine, middle, coarse = (
        collapsed_cone_dose(water(2.0), fields, POINT, grid=water(s).grid).sample(points) for s in (2.0, 3.0, 4.0)
    )
    np.testing.assert_allclose(middle, fine, rtol=0.008)
    np.testing.assert_allclose(coarse, fine, rtol=0.012)


def test_sweeps_keep_energy():
    density = np.ones((41, 41, 41), dtype=np.float32)
    released = np.zeros_like(density)
    released[20, 20, 20] = 1.0
    primary, _ = cones(POINT)
    kept = sweep(primary, np.eye(3), np.array([0.0, 0.0, 1e6]), density, released, 0 * released, (2.0, 2.0, 2.0))
    assert kept.sum() == pytest.approx(primary.fraction[:, 0].sum(), rel=1e-3)


def left_over(fractions: np.ndarray, flown: np.ndarray) -> np.ndarray:
    """What a chain of stages still carries of the energy released, after so many lengths of a stage."""
    powers = np.stack([flown**j / math.factorial(j) for j in range(len(fractions))])
    return np.exp(-flown) * (np.cumsum(fractions[::-1])[::-1] @ powers)


def test_a_chain_of_stages_is_followed_exactly_through_any_density():
    fractions = np.array([0.5, 0.3, -0.1, 0.3])
    one = np.zeros(1)
    along = Cones(one, one, np.array([[0.45]]), np.array([[fractions, fractions]]), one)
    density = np.ones((40, 1, 1), dtype=np.float32)
    density[5:15], density[15:22] = 0.26, 1.85
    released = np.zeros_like(density)
    released[2] = 1.0  # per mass, in 2 mm of water
    found = sweep(along, np.eye(3), np.array([0.0, 0.0, 1e6]), density, released, 0 * released, (2.0, 2.0, 2.0))
    behind = np.concatenate([[0.0], np.cumsum(2.0 * density[3:, 0, 0])])
    within = 2.0 * (np.arange(400) + 0.5) / 400
    carried = np.array([left_over(fractions, 0.45 * (way + within)).mean() for way in behind])
    np.testing.assert_allclose(2.0 * found[3:, 0, 0], 2.0 * -np.diff(carried), atol=2e-6)


def test_electrons_leave_the_energy_of_the_kernels_within_every_radius():
    primary, _ = cones(POINT)
    kernel = polyenergetic(POINT, 0.0)[0]
    radii, edges = packaged("r_edges_mm")[1:], packaged("theta_edges_deg")
    first = 0
    for low, high, count in zip(PRIMARY_RINGS[0][:-1], PRIMARY_RINGS[0][1:], PRIMARY_RINGS[1], strict=True):
        ring = kernel[(edges[:-1] > low - 1e-6) & (edges[1:] < high + 1e-6)].sum(axis=0)
        fractions = count * primary.fraction[first, 0]
        assert fractions.sum() == pytest.approx(ring.sum())
        kept = fractions.sum() - left_over(fractions, primary.rate_per_mm[first, 0] * radii)
        np.testing.assert_allclose(kept, ring.cumsum(), atol=0.012 * ring.sum())
        first += count


def test_build_up_maximum_and_fall_are_those_of_six_megavolts():
    dose = collapsed_cone_dose(water(2.5, 100.0, 250.0), [field((-50, 50), (-50, 50))], POINT)
    depth = np.arange(2.0, 240.0, 1.0)
    curve = dose.sample(np.stack([0 * depth, depth - 100.0, 0 * depth], axis=-1))
    assert 12.0 <= depth[curve.argmax()] <= 18.0
    assert curve[depth == 2.0] < 0.65 * curve.max()
    assert np.interp(100.0, depth, curve) / curve.max() == pytest.approx(0.654, abs=0.01)


def test_lung_lets_more_through_and_widens_the_penumbra():
    homogeneous = water(4.0)
    values = homogeneous.values.copy()
    depth = homogeneous.grid.y_mm + 100.0
    values[:, (depth > 40) & (depth < 140)] = 0.26
    lung = Volume(homogeneous.grid, values)
    fields = [field((-30, 30), (-30, 30))]
    in_water, in_lung = (collapsed_cone_dose(v, fields, POINT) for v in (homogeneous, lung))
    assert in_lung.sample([[0.0, 80.0, 0.0]])[0] > 1.15 * in_water.sample([[0.0, 80.0, 0.0]])[0]
    outside = [36.0, -10.0, 0.0]
    ratio_water = in_water.sample([outside])[0] / in_water.sample([[0.0, -10.0, 0.0]])[0]
    ratio_lung = in_lung.sample([outside])[0] / in_lung.sample([[0.0, -10.0, 0.0]])[0]
    assert ratio_lung > 1.3 * ratio_water


def test_dose_to_water_in_bone_is_higher_than_to_the_bone():
    phantom = water(4.0)
    values = phantom.values.copy()
    values[:, 20:30] = 1.85
    bone = Volume(phantom.grid, values)
    fields = [field((-40, 40), (-40, 40))]
    medium = collapsed_cone_dose(bone, fields, POINT).sample([[0.0, 0.0, 0.0]])[0]
    to_water = collapsed_cone_dose(bone, fields, POINT, medium="water").sample([[0.0, 0.0, 0.0]])[0]
    assert to_water / medium == pytest.approx(1 / 0.893, abs=0.005)


@pytest.mark.parametrize("mev", [0.1, 0.3, 1.0, 2.0])
def test_stopping_power_of_bone__against_bethe(mev):
    """Bethe's formula with the density effect; parameters of Sternheimer, Berger and Seltzer 1984."""

    def bethe(electrons_per_mass, mean_mev, c, x0, x1, a, power):
        tau = mev / 0.510999
        beta2 = tau * (tau + 2) / (tau + 1) ** 2
        x = np.log10(np.sqrt(tau * (tau + 2)))
        density = 0.0 if x < x0 else 4.6052 * x - c + a * max(x1 - x, 0.0) ** power
        f = 1 - beta2 + (tau**2 / 8 - (2 * tau + 1) * np.log(2)) / (tau + 1) ** 2
        bracket = np.log(tau**2 * (tau + 2) / (2 * (mean_mev / 0.510999) ** 2)) + f - density
        return electrons_per_mass / beta2 * bracket

    in_water = bethe(0.55508, 75.0e-6, 3.5017, 0.2400, 2.8004, 0.09116, 3.4773)
    in_bone = bethe(0.52130, 106.4e-6, 3.6488, 0.1161, 3.0919, 0.06198, 3.5919)
    ratios = water_equivalent_ratio(np.array([1.0, 1.06, 0.26, 1.85]), POINT)
    found = stopping_power_ratio(ratios, POINT)
    assert found[:3] == pytest.approx(ratios[:3], abs=1e-6)
    assert found[3] == pytest.approx(in_bone / in_water, rel=0.012)


def test_electron_contamination_adds_dose_at_the_surface_only():
    phantom = water(4.0)
    clean = TYPICAL.model_copy(update={"electron_contamination": 0.0})
    difference = [
        collapsed_cone_dose(phantom, [field((-50, 50), (-50, 50), m)], m).sample([[0.0, -98.0, 0.0], [0.0, 0.0, 0.0]])
        for m in (TYPICAL, clean)
    ]
    surface, deep = difference[0] - difference[1]
    assert surface > 0.08
    assert abs(deep) < 0.003


def test_part_of_the_grid_gets_the_same_dose():
    phantom = water(4.0)
    part, _ = phantom.grid.crop([-30, -40, -30], [30, 60, 30])
    fields = [field((-30, 30), (-30, 30))]
    whole = collapsed_cone_dose(phantom, fields, POINT)
    cut = collapsed_cone_dose(phantom, fields, POINT, grid=part)
    np.testing.assert_allclose(cut.values, whole.resample(part).values, rtol=1e-5)


def test_what_cannot_be_calculated_is_refused():
    phantom = water(8.0)
    axis = pixel_centres(-20, 20, 5.0)
    bad = Field(BeamGeometry((0, 0, 0), 0), FluenceMap(axis, axis, np.full((8, 8), np.nan)))
    with pytest.raises(DoseError, match="not finite"):
        collapsed_cone_dose(phantom, [bad], POINT)
    wrong = Field(BeamGeometry((0, 0, 0), 0), FluenceMap(axis, axis, np.ones((3, 8))))
    with pytest.raises(DoseError, match="shape"):
        collapsed_cone_dose(phantom, [wrong], POINT)
    with pytest.raises(DoseError, match="nothing to deposit"):
        collapsed_cone_dose(Volume(phantom.grid, np.zeros(phantom.grid.shape)), [], POINT)
    with pytest.raises(DoseError, match="negative"):
        collapsed_cone_dose(Volume(phantom.grid, 1.0 - 2.0 * (phantom.grid.points_mm()[..., 0] > 0)), [], POINT)


def test_scatter_of_a_small_beam_is_that_of_a_fine_grid_near_it(monkeypatch):
    """First scatter is corrected near a small beam; the same comes from a fine grid throughout, and not from none."""
    patient = phantom(water(2.5, 60.0, 150.0), POINT, water(2.5, 60.0, 150.0).grid)
    beam = field((-10, 10), (-10, 10))
    monkeypatch.setattr(superposition, "_add_electrons", lambda *_: None)

    def on_axis():
        dose = superposition.unit_dose(patient, beam, POINT)[0]
        middle = dose.shape[0] // 2
        return dose[middle - 2 : middle + 2, 20:40, middle - 2 : middle + 2].mean()

    corrected = on_axis()
    monkeypatch.setattr(superposition, "near_scatter_wanted", lambda *_: False)
    coarse = on_axis()
    monkeypatch.setattr(superposition, "SCATTER_SPACING_MM", 2.5)
    fine = on_axis()
    assert corrected == pytest.approx(fine, rel=0.01)
    assert coarse < 0.97 * fine
