"""Beams from cobalt-60 to 15 MV: kernels, attenuation, depth doses against another Monte Carlo and published values."""

from __future__ import annotations

import csv
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dose.attenuation import mass_attenuation_cm2_g, packaged, relative_to_water, terma
from cantlie.dose.beam_map import electron_margins_mm
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.dose.field import Field
from cantlie.dose.independent import independent_dose
from cantlie.dose.kernel import cones
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import aperture_fluence, pixel_centres
from cantlie.machine.geometry import BeamGeometry

DATA = Path(__file__).resolve().parents[1] / "data" / "dose" / "ompmc_beam_qualities.csv"
DEPTH_MM = 350.0


def field_in_water(model: BeamModel, sad_mm: float) -> tuple[Field, Grid]:
    """A 10 x 10 cm field at the surface of water, which lies at the isocentre, and voxels of 4 x 2.5 x 4 mm."""
    pixels = pixel_centres(-110.0, 110.0, 1.0)
    fluence = aperture_fluence(Aperture((-50.0, 50.0), (-50.0, 50.0)), 1.0, None, model, pixels, pixels, sad_mm)
    side = -4.0 * 35
    grid = Grid((71, int(DEPTH_MM / 2.5), 71), (4.0, 2.5, 4.0), (side, 1.25, side))
    return Field(BeamGeometry((0.0, 0.0, 0.0), 0.0, sad_mm=sad_mm), fluence), grid


@cache
def depth_dose(model: BeamModel, sad_mm: float, phantom: str = "water") -> tuple[np.ndarray, np.ndarray]:
    """Depths (mm) and mean dose within 20 mm of the axis; ``lung`` is water with lung from 50 to 150 mm."""
    field, grid = field_in_water(model, sad_mm)
    density = np.ones(grid.shape, dtype=np.float32)
    depth = 1.25 + 2.5 * np.arange(grid.shape[1])
    if phantom == "lung":
        density[:, (depth > 50.0) & (depth < 150.0), :] = 0.26
    dose = np.asarray(collapsed_cone_dose(Volume(grid, density), [field], model).values)
    return depth, dose[31:40, :, 31:40].mean(axis=(0, 2))


def mean_between(curve: tuple[np.ndarray, np.ndarray], low_mm: float, high_mm: float) -> float:
    fine = np.arange(low_mm + 0.25, high_mm, 0.5)
    return float(np.interp(fine, *curve).mean())


def monte_carlo() -> dict[tuple[str, str, float], list[tuple[float, float, float, float]]]:
    boxes: dict[tuple[str, str, float], list[tuple[float, float, float, float]]] = {}
    with DATA.open() as stream:
        for row in csv.DictReader(stream):
            key = (row["phantom"], row["spectrum"], float(row["sad_mm"]))
            numbers = ("depth_low_mm", "depth_high_mm", "dose", "sigma_percent")
            boxes.setdefault(key, []).append(tuple(float(row[n]) for n in numbers))  # type: ignore[arg-type]
    return boxes


@pytest.mark.parametrize(("phantom", "spectrum", "sad_mm"), monte_carlo())
def test_depth_dose__against_monte_carlo(phantom: str, spectrum: str, sad_mm: float) -> None:
    """The engine and ompMC (physics of EGSnrc), point source, same spectrum, each over its mean from 60 to 150 mm."""
    model = BeamModel(name="point", spectrum=spectrum)
    reference = mean_between(depth_dose(model, sad_mm), 60.0, 150.0)
    curve = depth_dose(model, sad_mm, phantom)
    limit = 1.0 if phantom == "water" else 1.5
    differences = []
    for low, high, expected, sigma in monte_carlo()[phantom, spectrum, sad_mm]:
        difference = 100.0 * (mean_between(curve, low, high) / reference / expected - 1.0)
        assert abs(difference) < (limit if low >= 10.0 else 1.5) + 2.0 * sigma, (low, high)
        if low >= 10.0:
            differences.append(difference)
    assert abs(np.mean(differences)) < 0.5 * limit


@pytest.mark.parametrize(
    ("name", "sad_mm", "at_50", "at_100", "at_200", "quality"),
    [
        # BJR Supplement 25, 10 x 10 cm, SSD 100 cm (cobalt-60: 80 cm), from memory, and usual TPR20,10.
        ("generic-8mv", 1000.0, 89.5, 71.0, 43.7, 0.713),
        ("generic-10mv", 1000.0, 91.5, 73.0, 46.0, 0.733),
        ("generic-15mv", 1000.0, 94.6, 77.0, 49.8, 0.758),
        ("generic-co60", 800.0, 78.4, 56.4, 27.6, 0.0),
    ],
)
def test_generic_beams_have_usual_depth_doses(
    name: str, sad_mm: float, at_50: float, at_100: float, at_200: float, quality: float
) -> None:
    depths, dose = depth_dose(BeamModel.named(name), sad_mm)
    at = {d: 100.0 * float(np.interp(d, depths, dose)) / dose.max() for d in (50.0, 100.0, 200.0)}
    assert at[50.0] == pytest.approx(at_50, abs=1.0)
    assert at[100.0] == pytest.approx(at_100, abs=0.8)
    assert at[200.0] == pytest.approx(at_200, abs=0.8)
    if quality:  # IAEA TRS-398, equation for TPR20,10 from the ratio of depth doses
        assert 1.2661 * at[200.0] / at[100.0] - 0.0595 == pytest.approx(quality, abs=0.01)


def test_the_maximum_lies_deeper_the_higher_the_energy() -> None:
    peaks = []
    for name, sad in (("co60", 800.0), ("6mv", 1000.0), ("10mv", 1000.0), ("15mv", 1000.0)):
        depths, dose = depth_dose(BeamModel.named(f"generic-{name}"), sad)
        peaks.append(float(depths[np.argmax(dose)]))
    np.testing.assert_allclose(peaks, [5.0, 15.0, 23.0, 29.0], atol=3.0)


def test_attenuation_of_water_is_that_of_xcom() -> None:
    """Values of NIST XCOM without coherent scatter; pair production makes the fall end."""
    expected = {1.25: 0.06320, 6.0: 0.02770, 8.0: 0.02429, 10.0: 0.02219, 15.0: 0.01941, 20.0: 0.01813}
    for energy, value in expected.items():
        assert mass_attenuation_cm2_g("water", [energy])[0] == pytest.approx(value, rel=3e-3)


def test_kernels_of_all_energies_keep_energy_and_reach_further_with_it() -> None:
    energies = packaged("energies_mev")
    assert energies[-1] == 20.0 and (np.diff(energies) > 0).all()
    total = sum(packaged(name).sum(axis=(1, 2)) for name in ("primary", "first_scatter", "further_scatter"))
    assert (total < 1.001).all() and (total > 0.9).all()
    radii = 0.5 * (packaged("r_edges_mm")[1:] + packaged("r_edges_mm")[:-1])
    primary = packaged("primary").sum(axis=1)
    reach = (primary @ radii) / primary.sum(axis=1)
    assert (np.diff(reach) >= 0).all() and (np.diff(reach)[2:] > 0).all()
    # Where the two Monte Carlo codes meet, at 6 and 8 MeV, the trend of the share of electrons goes on.
    share = np.interp([4.0, 6.0, 8.0, 10.0], energies, primary.sum(axis=1))
    np.testing.assert_allclose(np.diff(share), [0.046, 0.030, 0.024], atol=0.006)


@pytest.mark.parametrize("name", ["generic-co60", "generic-6mv", "generic-15mv"])
def test_electrons_of_every_quality_are_followed_with_their_energy_kept(name: str) -> None:
    model = BeamModel.named(name)
    primary, first = cones(model)
    for one in (primary, first):
        assert (one.fraction.sum(axis=2) > 0).all()
    # What a chain of stages deposits at any distance is not negative: nothing is ever taken back.
    flown = np.linspace(0.0, 60.0, 2000)
    at = np.stack([flown**c / math.factorial(c) for c in range(primary.fraction.shape[2])])
    assert (primary.fraction @ at).min() >= -1e-6
    hardening = terma(model).hardening
    assert (np.diff(hardening) >= -1e-9).all()


def test_electrons_of_high_energies_are_followed_further() -> None:
    assert electron_margins_mm(BeamModel.named("generic-6mv")) == (18.0, 60.0)
    assert electron_margins_mm(BeamModel.named("generic-co60")) == (18.0, 60.0)
    water, lung = electron_margins_mm(BeamModel.named("generic-15mv"))
    assert 28.0 < water < 36.0 and 90.0 < lung < 120.0


def test_pair_production_makes_bone_less_different() -> None:
    six, fifteen = (relative_to_water(BeamModel.named(f"generic-{e}mv"))["bone"] for e in (6, 15))
    assert six < fifteen < 1.05


@pytest.mark.parametrize(("name", "sad_mm"), [("generic-co60", 800.0), ("generic-15mv", 1000.0)])
def test_the_independent_check_knows_the_beam(name: str, sad_mm: float) -> None:
    model = BeamModel.named(name).model_copy(update={"electron_contamination": 0.0})
    field, grid = field_in_water(model, sad_mm)
    water = Volume(grid, np.ones(grid.shape, dtype=np.float32))
    depths, dose = depth_dose(model, sad_mm)
    points = [[0.0, depth, 0.0] for depth in (50.0, 100.0, 200.0)]
    found = independent_dose(water, [field], model, points)
    np.testing.assert_allclose(found, np.interp([50.0, 100.0, 200.0], depths, dose), rtol=0.02)
