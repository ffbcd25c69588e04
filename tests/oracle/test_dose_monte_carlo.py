"""The dose engine against Monte Carlo (EGSnrc DOSXYZnrc): absolute dose on the axis, profiles, and whole grids.

The reference has a flaw that limits the comparison: the dose in its narrowest cells (columns of 1 mm x 1 mm around the
axis) falls below that of the wide cells beside them, by 1 % at 10 cm and 20 % and more behind 30 cm of a 20 x 20 field,
where the true dose is flat. Depth doses are therefore judged where that is within their noise, and the whole depth on
cells of at least 0.05 cm² (docs/explanation/dose.md).
"""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.dose.field import Field
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import aperture_fluence, pixel_centres
from cantlie.machine.geometry import BeamGeometry

DATA = Path(__file__).resolve().parents[1] / "data" / "dose"
POINT = BeamModel.named("reference-6mv-point")
GY_CM2_PER_CGY = 5.848e-12
SETS = {"A_water_2x2": 20.0, "A_water_10x10": 100.0, "A_water_20x20": 200.0, "B_slab_lung_10x10": 100.0}


@lru_cache
def engine(name):
    """Return the engine's dose in the unit of the reference, surface at y = -100 mm."""
    spacing = 2.5
    grid = Grid((160, 140 if name.startswith("B") else 160, 160), (spacing,) * 3, (-198.75, -98.75, -198.75))
    density = np.ones(grid.shape, dtype=np.float32)
    if name.startswith("B"):
        depth = grid.y_mm + 100
        density[:, (depth > 50) & (depth < 150)] = 0.26
    half = 0.5 * SETS[name]
    pixels = pixel_centres(-half - 10, half + 10, 1.0)
    fluence = aperture_fluence(Aperture((-half, half), (-half, half)), 1.0, None, POINT, pixels, pixels)
    dose = collapsed_cone_dose(Volume(grid, density), [Field(BeamGeometry((0.0, 0.0, 0.0), 0.0), fluence)], POINT)
    return Volume(grid, dose.values / 0.01 * GY_CM2_PER_CGY)


def rows(name):
    with (DATA / f"{name}.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    ("name", "deepest_cm", "mean_percent", "most_percent"),
    [("A_water_2x2", 35.0, 1.0, 2.0), ("A_water_10x10", 20.0, 1.0, 2.0), ("A_water_20x20", 8.0, 2.0, 3.0),
     ("B_slab_lung_10x10", 33.0, 1.0, 4.0)],
)  # fmt: skip
def test_depth_dose__against_monte_carlo(name, deepest_cm, mean_percent, most_percent):
    table = [row for row in rows(f"{name}_depthdose") if 1.5 < float(row["depth_c_cm"]) < deepest_cm]
    depth = np.array([float(row["depth_c_cm"]) for row in table])
    reference = np.array([float(row["dose_Gy_cm2"]) for row in table])
    sigma = np.array([float(row["sigma_pct"]) for row in table])
    across = np.linspace(-4.0, 4.0, 5) * (0.5 if SETS[name] < 30 else 1.0)
    points = np.array([[[x, 10 * d - 100, z] for x in across for z in across] for d in depth])
    deviation = 100 * (engine(name).sample(points).mean(axis=1) / reference - 1)
    assert abs(np.average(deviation, weights=sigma**-2)) < mean_percent
    assert (np.abs(deviation) < most_percent + 2 * sigma).all()


@pytest.mark.parametrize("name", list(SETS))
def test_field_edges_and_penumbra__against_monte_carlo(name):
    dose = engine(name)
    table = rows(f"{name}_profiles")
    strip = np.linspace(-8.0, 8.0, 5) * (0.5 if SETS[name] < 30 else 1.0)
    for depth_cm in sorted({row["depth_c_cm"] for row in table}, key=float):
        chosen = [row for row in table if row["depth_c_cm"] == depth_cm and float(row["x_c_cm"]) >= 0]
        x = np.array([10 * float(row["x_c_cm"]) for row in chosen])
        reference = np.array([float(row["dose_Gy_cm2"]) for row in chosen])
        y = 10 * float(depth_cm) - 100
        ours = dose.sample(np.array([[[a, y, z] for z in strip] for a in x])).mean(axis=1)
        edges = []
        for profile in (reference, ours):
            falling = np.minimum.accumulate(profile / profile[x < 5].mean())
            edges.append([np.interp(-level, -falling, x) for level in (0.8, 0.5, 0.2)])
        monte_carlo, cantlie = edges
        assert cantlie[1] == pytest.approx(monte_carlo[1], abs=0.5)
        assert cantlie[2] - cantlie[0] == pytest.approx(monte_carlo[2] - monte_carlo[0], abs=1.5 + 0.5 * 2.5)


@pytest.mark.parametrize(("name", "most_percent"), [("A_water_10x10", 2.0), ("A_water_20x20", 2.0)])
def test_whole_depth_on_wide_cells__against_monte_carlo(oracles, name, most_percent):
    with np.load(oracles / "dose" / f"{name}_3d.npz") as reference:
        dose, sigma = reference["dose_Gy_cm2"], reference["sigma_Gy_cm2"]
        x, z = 10 * reference["x_edges_cm"], 10 * reference["z_edges_cm"]
    centre, depth = 0.5 * (x[1:] + x[:-1]), 0.5 * (z[1:] + z[:-1])
    area = np.multiply.outer(np.diff(x), np.diff(x))
    inside = 0.35 * SETS[name]
    wide = (area >= 4.5) & (centre[:, None] < inside) & (centre < inside)
    b, a = np.nonzero(wide)
    for low in (20.0, 60.0, 120.0, 180.0, 240.0, 300.0, 350.0):
        layers = np.flatnonzero((depth > low) & (depth < low + 35.0))
        points = np.array([[[centre[i], depth[n] - 100, centre[j]] for i, j in zip(a, b, strict=True)] for n in layers])
        ours = (engine(name).sample(points) * area[b, a]).sum()
        theirs = (dose[layers][:, b, a] * area[b, a]).sum()
        noise = np.sqrt(8 * ((sigma[layers][:, b, a] * area[b, a]) ** 2).sum()) / theirs
        assert abs(ours / theirs - 1) < most_percent / 100 + 2 * noise
