"""A second, independent Monte Carlo: small fields in lung, bone slabs, a liver dome and a wall of lung, water.

The tables (``tests/data/dose/ompmc_*.csv``) hold what simulations by ompMC 0.4.0 found: the physics and cross sections
of EGSnrc in another code, run for this project with the source, spectrum and media of the first reference, but with
wide scoring cells. Each row is the mean dose of a box: depths, |x| (both sides), z (both sides where ``mirrored``).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cantlie.core.volume import Volume
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.report.style import FULL_WIDTH_IN, MUTED, SERIES, figure_style, new_figure, svg_of_figure

from .beams import LUNG_G_CM3, POINT, jaw_field, water
from .rows import Chapter

Array = NDArray[np.float64]
DATA = Path(__file__).resolve().parents[2] / "tests" / "data" / "dose"
SURFACE_MM = -100.0
GRID_MM = 2.5
_BONE_G_CM3 = 1.85
_LIVER_G_CM3 = 1.06


@dataclass(frozen=True, slots=True)
class Set:
    """A simulated case: side of the field (mm), phantom, depths of interfaces, limits of mean and worst bin (%).

    ``length_mm`` is the other side of the field (the same where 0). Where ``turned``, the table's x is the phantom's z
    and the reverse, so that its mirrored coordinate is the one in which the case is symmetric.
    """

    field_mm: float
    phantom: str
    interfaces_mm: tuple[float, ...]
    limits: tuple[float, float]
    length_mm: float = 0.0
    gantry_deg: float = 0.0
    turned: bool = False


SETS = {
    "water_10x10": Set(100.0, "water", (), (1.0, 2.0)),
    "water_20x20": Set(200.0, "water", (), (1.0, 2.0)),
    "bone_10x10": Set(100.0, "bone", (50.0, 80.0), (2.0, 4.0)),
    "lung_2x2": Set(20.0, "lung", (50.0, 150.0), (2.0, 4.0)),
    "lung_3x3": Set(30.0, "lung", (50.0, 150.0), (2.0, 4.0)),
    "dome_5x5": Set(50.0, "dome", (), (2.0, 4.0)),
    "water_4x12": Set(40.0, "water", (), (1.0, 2.0), length_mm=120.0),
    "bone_3x3": Set(30.0, "bone", (50.0, 80.0), (2.0, 4.0)),
    "interface_5x5": Set(50.0, "interface", (40.0, 220.0), (2.0, 4.0), turned=True),
    "oblique_5x5": Set(50.0, "lung", (50.0, 150.0), (2.0, 4.0), gantry_deg=40.0, turned=True),
}


def density(kind: str) -> Volume:
    """Return a phantom; depth runs along y from ``SURFACE_MM``, the axis is x = z = 0."""
    block = water(GRID_MM, 200.0, 400.0 if kind == "water" else 350.0, SURFACE_MM)
    values = block.values.copy()
    depth = block.grid.y_mm - SURFACE_MM
    if kind == "bone":
        values[:, (depth > 50) & (depth < 80)] = _BONE_G_CM3
    if kind == "lung":
        values[:, (depth > 50) & (depth < 150)] = LUNG_G_CM3
    if kind == "dome":
        values[:] = _LIVER_G_CM3
        z, y, x = block.grid.z_mm[:, None, None], depth[:, None], block.grid.x_mm
        chest = (y > 20) & (y < 220) & (z > -60) & (np.abs(x) < 120)
        values[chest & (x**2 + (y - 110) ** 2 + (z + 55) ** 2 >= 70**2)] = LUNG_G_CM3
    if kind == "interface":
        values[:] = _LIVER_G_CM3
        z, y, x = block.grid.z_mm[:, None, None], depth[:, None], block.grid.x_mm
        values[(y > 40) & (y < 220) & (x > -120) & (x < 0) & (np.abs(z) < 120)] = LUNG_G_CM3
    return Volume(block.grid, values)


@lru_cache
def engine(name: str) -> Volume:
    """Return the engine's dose (Gy for 1 MU) of a set."""
    one = SETS[name]
    half = 0.5 * one.field_mm
    long = 0.5 * one.length_mm or half
    field = jaw_field(
        (-half, half), (-long, long), POINT, mu=1.0, gantry_deg=one.gantry_deg, pixel_mm=1.0 if half > 30 else 0.5
    )
    return collapsed_cone_dose(density(one.phantom), [field], POINT)


def table(name: str) -> Array:
    """Return the rows of a set: depths, |x|, z, mirrored, dose (Gy/MU), standard deviation (%), shape (n, 9)."""
    with (DATA / f"ompmc_{name}.csv").open(encoding="utf-8") as stream:
        return np.array([[float(value) for value in row] for row in list(csv.reader(stream))[1:]])


def box_mean(dose: Volume, row: Array, turned: bool = False) -> float:
    """Return the mean of a dose over the box (and its mirror images) of a row; see :class:`Set`."""
    depth, x, z = (_nodes(low, high) for low, high in (row[0:2], row[2:4], row[4:6]))
    x = np.concatenate([-x, x])
    if row[6]:
        z = np.concatenate([-z, z])
    points = np.stack(np.meshgrid(x, depth + SURFACE_MM, z, indexing="ij"), axis=-1)
    return float(dose.sample(points.reshape(-1, 3)[:, :: -1 if turned else 1]).mean())


def deviations(name: str) -> tuple[Array, Array]:
    """Return the rows of a set and the engine's deviation (%) of each."""
    rows = table(name)
    ours = np.array([box_mean(engine(name), row, SETS[name].turned) for row in rows])
    return rows, 100 * (ours / rows[:, 7] - 1)


def regions(one: Set, rows: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows lie inside the field, and which beyond its penumbra."""
    half = 0.5 * one.field_mm
    slope = np.tan(np.radians(one.gantry_deg))
    centre = (-SURFACE_MM - 0.5 * (rows[:, 0] + rows[:, 1])) * slope
    along = half * np.sqrt(1.0 + slope**2) if one.turned else (0.5 * one.length_mm or half)
    inside = (rows[:, 3] < 0.85 * half) & (np.abs(rows[:, 4:6] - centre[:, None]).max(axis=1) < 0.85 * along)
    beyond = np.maximum(rows[:, 4] - centre, centre - rows[:, 5])
    return inside, (rows[:, 2] > 1.15 * half) | (beyond > 1.15 * along)


def chapter() -> Chapter:
    """Judge the sets."""
    result = Chapter(
        "second",
        "A second Monte Carlo: bone, small fields in lung, lung beside liver, oblique entry, deep water",
        "Own simulations by ompMC 0.4.0 (EGSnrc's physics in another code; spin effects on, photon cut-off 10 keV, "
        "electron cut-off 189 keV), with the source, spectrum and media of the first reference and the same Gy per "
        "fluence for the calibration (its own 10×10 dose at 10 cm is 0.6 ± 0.2 % lower). Phantoms: water cube of "
        "400 mm; bone of 1.85 g/cm³ from 50 to 80 mm in water; lung of 0.26 g/cm³ from 50 to 150 mm in water; liver "
        "(1.06 g/cm³) whose dome of radius 70 mm rises into lung, the field's axis 15 mm below its top; liver with a "
        "wall of lung beside the axis from 40 to 220 mm, so that half of the beam runs in lung along the interface; a "
        "beam at gantry 40° through the lung slab. Boxes of a few "
        "centimetres are compared from 15 mm depth on; absolute dose, nothing fitted. Standard deviations are those of "
        "20 batches, 1.5 times wider for the splitting of photons. Worst bins leave out 10 mm around interfaces.",
    )
    for name, one in SETS.items():
        rows, deviation = deviations(name)
        sigma = rows[:, 8]
        middle = 0.5 * (rows[:, 0] + rows[:, 1])
        inside, outside = regions(one, rows)
        mean_limit, worst_limit = one.limits
        weight = sigma**-2 * inside
        result.add(
            f"{name}: in field, mean", float(np.average(deviation, weights=weight)), "%", mean_limit, "within",
            f"{int(inside.sum())} boxes to {rows[:, 1].max():.0f} mm deep", sigma=float(weight.sum() ** -0.5),
        )  # fmt: skip
        far = inside & np.all([np.abs(middle - at) >= 10 for at in one.interfaces_mm], axis=0)
        n = int(np.argmax(np.where(far, np.abs(deviation) - 2 * sigma, -np.inf)))
        result.add(
            f"{name}: in field, worst", deviation[n], "%", worst_limit, "within", f"box at {middle[n]:.0f} mm",
            sigma=float(sigma[n]),
        )  # fmt: skip
        if one.phantom in ("bone", "lung"):
            slab = inside & (middle > one.interfaces_mm[0]) & (middle < one.interfaces_mm[1])
            weight = sigma**-2 * slab
            result.add(
                f"{name}: inside the {one.phantom}", float(np.average(deviation, weights=weight)), "%", mean_limit,
                "within", "mean of its boxes, interfaces included", sigma=float(weight.sum() ** -0.5),
            )  # fmt: skip
        if outside.any():
            depths = np.unique(middle)
            mean = [rows[inside & (middle == d), 7].mean() for d in depths]
            axis = np.interp(middle[outside], depths, mean)
            off = 0.01 * deviation[outside] * rows[outside, 7] / axis
            result.add(
                f"{name}: outside the field", 100 * float(off.mean()), "% of axis", 1.0, "within",
                "mean of boxes beyond the penumbra",
            )  # fmt: skip
    result.figures["second-monte-carlo"] = (
        _figure(),
        "Deviation of the engine in boxes inside the field by depth (dome: all boxes); bars: one standard deviation. "
        "Dotted: interfaces. Within 5 to 10 mm behind an interface the narrow fields show what a collapsed cone cannot "
        "know: electrons that the other medium would have scattered away.",
    )
    return result


def _nodes(low: float, high: float) -> Array:
    count = max(2, int(np.ceil((high - low) / 2.5)))
    return low + (np.arange(count) + 0.5) * (high - low) / count


def _figure() -> bytes:
    with figure_style():
        figure = new_figure(FULL_WIDTH_IN, 6.0)
        panels = figure.subplots(4, 3, sharex=True, sharey=True)
        for axes, (name, one) in zip(panels.flat, SETS.items(), strict=False):
            rows, deviation = deviations(name)
            inside, _ = regions(one, rows)
            axes.errorbar(
                0.5 * (rows[inside, 0] + rows[inside, 1]), deviation[inside], rows[inside, 8], fmt="o", ms=2, lw=0.6,
                color=SERIES[0],
            )  # fmt: skip
            axes.axhline(0, color=MUTED, lw=0.6)
            for at in one.interfaces_mm:
                axes.axvline(at, color=MUTED, lw=0.8, ls=":")
            axes.set_title(name.replace("_", " "))
            axes.set_ylim(-6, 6)
        for axes in panels.flat[len(SETS) :]:
            axes.set_visible(False)
        for axes in panels.flat[len(SETS) - 3 : len(SETS)]:
            axes.set_xlabel("depth (mm)")
            axes.tick_params(labelbottom=True)
        for axes in panels[:, 0]:
            axes.set_ylabel("deviation (%)")
        figure.tight_layout()
        return svg_of_figure(figure)
