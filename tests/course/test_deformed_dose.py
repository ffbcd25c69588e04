"""Deformed dose: what is kept, and how far it is from the truth of a known deformation."""

import numpy as np
import pytest
from scipy import ndimage

from cantlie.core.errors import DoseError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.course.deformed_dose import (
    accumulate,
    deformed_dose,
    dose_by_energy_and_mass,
    dose_by_interpolation,
    energy_and_mass,
    gradient_gy_per_mm,
    uncertainty_map,
)
from cantlie.course.registration import RegistrationSettings, register
from cantlie.course.registration_field import DisplacementField

GRID = Grid((30, 36, 44), (4.0, 4.0, 4.0), (-88.0, -72.0, 40.0))
CENTRE = GRID.points_mm().mean(axis=(0, 1, 2))


def bump(size_mm: float) -> DisplacementField:
    away = GRID.points_mm() - CENTRE
    shape = np.exp(-0.5 * (away**2).sum(-1) / 45.0**2)[..., None]
    return DisplacementField(GRID, (size_mm * shape * np.array([0.25, -0.4, 0.9])).astype(np.float32))


def target_dose() -> Volume:
    x, y, z = np.moveaxis(GRID.points_mm() - CENTRE, -1, 0)
    target = (x / 34) ** 2 + (y / 30) ** 2 + (z / 28) ** 2 < 1
    return Volume(GRID, (50 * ndimage.gaussian_filter(target.astype(np.float32), 1.2)).astype(np.float32))


def test_energy_and_mass_are_kept_and_a_uniform_dose_stays_uniform():
    field = bump(11.0)
    density = Volume(GRID, np.random.default_rng(2).uniform(0.3, 1.2, GRID.shape))
    dose = target_dose()
    energy, mass = energy_and_mass(dose, density, field, GRID)
    inner = dose.values * density.values
    # The parts of a voxel are sampled by interpolation, so the sum over voxels is met to a small part.
    assert energy.sum() == pytest.approx(inner.sum(dtype=float) * GRID.voxel_cc, rel=0.01)
    assert mass.sum() == pytest.approx(density.values.sum() * GRID.voxel_cc, rel=0.02)
    flat = Volume(GRID, np.full(GRID.shape, 2.0, np.float32))
    assert dose_by_energy_and_mass(flat, density, field, GRID).values == pytest.approx(2.0)


def test_without_deformation_the_dose_stays():
    field = DisplacementField(GRID, np.zeros((*GRID.shape, 3), np.float32))
    dose = target_dose()
    assert dose_by_interpolation(dose, field, GRID).values == pytest.approx(dose.values)
    both = deformed_dose(dose, field, GRID, density=Volume(GRID, np.ones(GRID.shape)))
    assert both.mapping == "energy and mass"
    assert np.abs(both.dose.values - dose.values).max() < 0.05 * 50


def test_both_mappings_agree_in_uniform_tissue():
    field, dose = bump(11.0), target_dose()
    water = Volume(GRID, np.ones(GRID.shape))
    a = dose_by_interpolation(dose, field, GRID).values
    b = dose_by_energy_and_mass(dose, water, field, GRID).values
    assert np.abs(a - b).mean() < 0.01 * 50
    assert np.percentile(np.abs(a - b), 99) < 0.06 * 50


def test_the_uncertainty_is_gradient_times_error():
    ramp = Volume(GRID, np.broadcast_to(0.5 * GRID.x_mm, GRID.shape).astype(np.float32))
    assert gradient_gy_per_mm(ramp) == pytest.approx(0.5, rel=1e-4)
    assert uncertainty_map(ramp, 2.0).values == pytest.approx(1.0, rel=1e-4)
    with pytest.raises(DoseError, match="uncertainty"):
        uncertainty_map(ramp, -1.0)


def test_sessions_on_two_anatomies_add_up():
    field, dose = bump(11.0), target_dose()
    still = DisplacementField(GRID, np.zeros((*GRID.shape, 3), np.float32))
    first, second = deformed_dose(dose, still, GRID), deformed_dose(dose, field, GRID)
    total = accumulate([first, second], [18 / 30, 12 / 30])
    assert total.dose.values == pytest.approx(0.6 * first.dose.values + 0.4 * second.dose.values, abs=1e-4)
    assert total.uncertainty.values == pytest.approx(
        0.6 * first.uncertainty.values + 0.4 * second.uncertainty.values, abs=1e-4
    )
    with pytest.raises(DoseError, match="different ways"):
        accumulate([first, deformed_dose(dose, field, GRID, density=Volume(GRID, np.ones(GRID.shape)))])
    with pytest.raises(DoseError, match="at least one"):
        accumulate([])


def test_a_field_that_folds_is_told_of():
    points = GRID.points_mm() - CENTRE
    folded = DisplacementField(GRID, points * [-1.5, 0, 0])
    assert "folds" in deformed_dose(target_dose(), folded, GRID).notes[0].message


def judged(image: Volume, dose: Volume, back: DisplacementField, prescription_gy: float, spacing_mm: float):
    """Accumulate a dose given half on each anatomy; return who is within 3 % or 3 mm, and who is flagged."""
    grid = image.grid
    points = grid.points_mm()
    truth = DisplacementField(grid, (back.reference_points_mm(points)[0] - points).astype(np.float32))
    follow_up = back.pull(image, outside=-1000)
    found = register(image, follow_up, RegistrationSettings("demons", spacing_mm))
    still = DisplacementField(grid, np.zeros((*grid.shape, 3), np.float32))
    planned = deformed_dose(dose, still, grid)
    total = accumulate([planned, deformed_dose(dose, found.field, grid)], [0.5, 0.5])
    right = accumulate([planned, deformed_dose(dose, truth, grid)], [0.5, 0.5]).dose.values
    high = right > 0.5 * prescription_gy
    percent = np.abs(total.dose.values - right)[high] / prescription_gy * 100
    away_mm = np.linalg.norm(found.field.at(points) - truth.displacement_mm, axis=-1)[high]
    flagged = total.uncertainty.values[high] > 0.03 * prescription_gy
    return percent, away_mm, flagged


def test_accumulated_dose_against_the_truth_of_a_phantom():
    texture = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=GRID.shape), 3.0)
    x, y, _ = np.moveaxis(GRID.points_mm() - CENTRE, -1, 0)
    hu = np.where((x / 78) ** 2 + (y / 62) ** 2 < 1, 20 + 60 * texture / texture.std(), -1000)
    image = Volume(GRID, ndimage.gaussian_filter(hu, 0.6).astype(np.float32))
    percent, away_mm, flagged = judged(image, target_dose(), bump(11.0), 50.0, 4.0)
    assert ((percent <= 3) | (away_mm <= 3)).mean() >= 0.95
    wrong = percent > 3
    assert (flagged | ~wrong).mean() >= 0.99
    assert flagged.mean() < 0.9


@pytest.mark.slow
def test_accumulated_dose_against_the_truth_of_a_real_ct():
    """The bar of issue 5: within 3 % or 3 mm for 95 % above half of the prescription; the map flags the rest."""
    from cantlie.dicom.bundled import bundled_case_path
    from cantlie.dicom.reading import read_case
    from cantlie.patient.masks import structure_fractions

    case = read_case(bundled_case_path())
    ct = case.ct.volume
    grid = ct.grid.resampled((3.0, 3.0, 3.0))
    blurred = ndimage.gaussian_filter(ct.values.astype(np.float32), [0.4 * 3.0 / s for s in ct.grid.spacing_mm[::-1]])
    image = Volume(ct.grid, blurred).resample(grid, outside=-1000)
    liver = structure_fractions(case.structures["Liver"], grid)
    points = grid.points_mm()
    centre = points[liver > 0.5].mean(axis=0)
    shape = np.exp(-0.5 * ((points - centre) ** 2).sum(-1) / 70.0**2)[..., None]
    back = DisplacementField(grid, (13.0 * shape * np.array([0.25, -0.4, 0.9])).astype(np.float32))
    dose = Volume(grid, (48 * ndimage.gaussian_filter(liver * (points[..., 0] < centre[0]), 2.0)).astype(np.float32))
    percent, away_mm, flagged = judged(image, dose, back, 48.0, 3.0)
    within = (percent <= 3) | (away_mm <= 3)
    assert within.mean() >= 0.95
    assert flagged[~within].all()
    assert (flagged | (percent <= 3)).mean() >= 0.99
