"""The reference against itself: deep in water its dose depends on the width of the cell that it was scored in."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cantlie.core.volume import Volume
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.report.style import FULL_WIDTH_IN, MUTED, SERIES, figure_style, new_figure, svg_of_figure

from .beams import POINT, jaw_field, water
from .monte_carlo_sets import GY_CM2_PER_CGY
from .rows import Chapter
from .scoring import apply, mean_weights

Array = NDArray[np.float64]
SETS = {"A_water_10x10": 100.0, "A_water_20x20": 200.0}
BANDS_CM = ((8, 12), (18, 22), (28, 32), (35, 39))
CLASSES_MM2 = (0.0, 1.5, 3.0, 4.5, 20.5, 1e9)
CLASS_NAMES = ("≤ 1.5 mm²", "1.5–3 mm²", "3–4.5 mm²", "4.5–20 mm²", "> 20 mm²")


def chapter(oracles: Path) -> Chapter:
    """Show the width dependence without the engine, then the engine by width."""
    result = Chapter(
        "cells",
        "A width dependence in the deep-water reference",
        "Two of the DICOM cases (`water_10x10`, `water_20x20`) exceed their limits deep in water. Before the engine is "
        "blamed or bent, the reference (`A_water_*_3d.npz`) is held against itself. Its cells are 1 × 1 mm near the "
        "axis, but the central row and column are 5 mm wide, and cells grow towards the field's edge. Dose is energy "
        "per mass: within the flat middle of a field it cannot depend on the size of the cell in which it is counted, "
        "and neighbouring cells a few millimetres apart must agree within their noise. They do at 10 cm. Deeper the "
        "narrow cells hold less, by many times their noise, and cells of the same place but of greater width do not. A "
        "second Monte Carlo with wide cells (next chapter) does not fall either.",
    )
    tables = {}
    for name, field_mm in SETS.items():
        path = oracles / "dose" / f"{name}_3d.npz"
        if path.exists():
            with np.load(path) as arrays:
                tables[name] = _one(result, name, field_mm, {key: arrays[key].astype(float) for key in (
                    "dose_Gy_cm2", "sigma_Gy_cm2", "x_edges_cm", "y_edges_cm", "z_edges_cm")})  # fmt: skip
    if len(tables) == len(SETS):
        _by_distance(result, oracles, {name: table["mean"] for name, table in tables.items()})
    if tables:
        result.figures["scoring-cells"] = (
            _figure(tables),
            "Left: dose of the reference alone in the flat middle of the field (cells up to 20 mm off the axis), in "
            "1 × 1 mm cells over 5 mm wide strips and the 5 × 5 mm central cell, against depth; band: two standard "
            "deviations; the step at 40 mm is where the cells become 5 instead of 2 mm deep. Right: the engine over "
            "the "
            "reference, by cross-section of the cell, for cells in the inner 70 % of the field. Were the engine "
            "wrong, all "
            "widths would show it alike.",
        )
        result.remarks += [
            "What this shows: within one data set, cells of different width at the same place contradict each "
            "other by up to a quarter of the dose, far beyond their noise, so at most one of them can be right. "
            "Three things side with the wide cells. The set at SSD 100, whose cells are all at least 5 mm wide: "
            "at the same depth and width of the field at depth, doses at two distances differ by inverse squares, "
            "and the last rows show that the central cell of `A_water_10x10` keeps this over the whole depth "
            "while its narrow cells, which make up most of the axis that `score.py` averages, do not (no engine "
            "is involved). The engine meets that set over its whole depth (`water_10x10_ssd100` above). And the "
            "conservation of energy (chapter on principles: the reference, summed over all its cells, imparts "
            "less energy deep in the cube than a photon walk of another make).",
            "The cause cannot be seen from here, but the loss goes with the statistical variance of a cell, not "
            "with its place: it is large where few histories scored. DOSXYZnrc sets cells whose own error exceeds "
            "50 % to zero (said in `case.json` of the patients), and these sets were put together from a central "
            "2 × 2 field and frames around it, each with such cells; weighting runs by their inverse variance, "
            "where fewer counts mean a smaller variance, would do the same. The 2 × 2 field, which has no frames, "
            "shows no such loss, and cells 2 mm deep (above 40 mm depth) lose more than those 5 mm deep just "
            "below.",
            "The failures of `water_10x10`, `water_20x20` and `A_water_20x20` are left standing as failures, and the "
            "engine was not bent to follow the narrow cells.",
        ]
    return result


def _one(result: Chapter, name: str, field_mm: float, arrays: dict[str, Array]) -> dict[str, Array]:
    x, z = 10 * arrays["x_edges_cm"], 10 * arrays["z_edges_cm"]
    dose, sigma = arrays["dose_Gy_cm2"], arrays["sigma_Gy_cm2"]
    centre, depth, width = 0.5 * (x[1:] + x[:-1]), 0.5 * (z[1:] + z[:-1]), np.diff(x)
    # The quadrants are mirrored into one another, so that (i, j) and (j, i) share their noise.
    twice = np.sqrt(2.0)
    near = (centre > 2.5) & (centre < 17.0)
    narrow = np.multiply.outer(near & (width < 1.1), near & (width < 1.1))
    wide = np.zeros_like(narrow)
    wide[0, :] = (centre < 17.0) & (width < 1.1)
    wide[0, 0] = True
    wide |= wide.T
    area = np.multiply.outer(width, width)

    def mean(layers: NDArray[np.bool_], cells: NDArray[np.bool_]) -> tuple[float, float]:
        weight = area[cells]
        values = (dose[layers][:, cells] * weight).sum()
        noise = twice * np.sqrt(((sigma[layers][:, cells] * weight) ** 2).sum())
        return values / (weight.sum() * layers.sum()), noise / values

    for low, high in BANDS_CM:
        layers = (depth > 10 * low) & (depth < 10 * high)
        (a, noise_a), (b, noise_b) = mean(layers, narrow), mean(layers, wide)
        gap, spread = 100 * (a / b - 1), 100 * float(np.hypot(noise_a, noise_b))
        result.add(
            f"{name}, {low}–{high} cm: 1×1 mm cells over 5 mm strips beside them", gap, "%", 0, "reported",
            f"reference alone, within 17 mm of the axis; {abs(gap) / spread:.0f} standard deviations from 0",
            sigma=spread,
            note="says nothing of the engine",
        )  # fmt: skip
    phantom = water(2.5, 200.0, 400.0)
    ours = collapsed_cone_dose(phantom, [jaw_field((-field_mm / 2, field_mm / 2), (-field_mm / 2, field_mm / 2), POINT,
                                                   mu=1.0)], POINT)  # fmt: skip
    cells = _on_cells(ours, z, x) / 0.01 * GY_CM2_PER_CGY
    inner = np.multiply.outer(centre < 0.35 * field_mm, centre < 0.35 * field_mm)
    classes = np.full((len(BANDS_CM), len(CLASSES_MM2) - 1, 2), np.nan)
    for b, (low, high) in enumerate(BANDS_CM):
        layers = (depth > 10 * low) & (depth < 10 * high)
        for c, (small, large) in enumerate(pairwise(CLASSES_MM2)):
            chosen = inner & (area > small) & (area <= large)
            weight = area[chosen]
            theirs = (dose[layers][:, chosen] * weight).sum()
            noise = twice * np.sqrt(((sigma[layers][:, chosen] * weight) ** 2).sum()) / theirs
            classes[b, c] = 100 * ((cells[layers][:, chosen] * weight).sum() / theirs - 1), 100 * noise
        for c in (3, 4):
            result.add(
                f"{name}, {low}–{high} cm: engine over reference in cells of {CLASS_NAMES[c]}", classes[b, c, 0], "%",
                2.0, "within", "inner 70 % of the field", sigma=classes[b, c, 1],
            )  # fmt: skip
    ratio = np.array([mean(depth == d, narrow)[0] / mean(depth == d, wide)[0] for d in depth])
    noise = np.array([np.hypot(mean(depth == d, narrow)[1], mean(depth == d, wide)[1]) for d in depth])
    centre_cell = np.zeros_like(narrow)
    centre_cell[0, 0] = True
    means = np.array([[mean(depth == d, cells) for d in depth] for cells in (centre_cell, narrow)])
    return {"depth": depth, "ratio": 100 * (ratio - 1), "noise": 100 * noise, "classes": classes, "mean": means}


def _by_distance(result: Chapter, oracles: Path, means: dict[str, Array]) -> None:
    """Predict the axis at SSD 90 from the set at SSD 100, by distance and field size at depth: no engine involved."""
    source = oracles / "dose"
    far = np.genfromtxt(source / "S_water_10x10_SSD100_depthdose.csv", delimiter=",", names=True)
    with np.load(source / "A_water_10x10_3d.npz") as arrays:
        edges = 10 * arrays["z_edges_cm"].astype(float)
    depth, far_depth = 0.5 * (edges[1:] + edges[:-1]), 10 * far["depth_c_cm"]

    def logarithm(at: float, depths: Array, dose: Array, sigma: Array) -> tuple[float, float]:
        near = np.abs(depths - at) < 28.0
        slope = np.polyfit(depths[near] - at, np.log(dose[near]), 1)
        return float(slope[1]), float(np.sqrt(((sigma[near] / dose[near]) ** 2).mean() / near.sum()))

    for low, high in BANDS_CM:
        at = 5.0 * (low + high)
        distant, noise = logarithm(at, far_depth, far["dose_Gy_cm2"], 0.01 * far["dose_Gy_cm2"] * far["sigma_pct"])
        for kind, label in ((0, "central 5×5 mm cell"), (1, "1×1 mm cells")):
            (ten, own), (middle, _), (twenty, _) = (
                logarithm(at, depth, found[:, 0], found[:, 0] * found[:, 1])
                for found in (means["A_water_10x10"][kind], means["A_water_10x10"][0], means["A_water_20x20"][0])
            )
            # Fields that are equally wide at depth differ by distance alone (tissue-phantom ratio).
            wider = np.log((1000 + at) / (900 + at)) / np.log(2.0) * (twenty - middle)
            gap = ten + wider + 2 * np.log((900 + at) / (1000 + at)) - distant
            result.add(
                f"A_water_10x10 at {at / 10:.0f} cm: {label} over what the SSD 100 set predicts",
                100 * float(np.expm1(gap)), "%", 0, "reported", "inverse squares at equal field width at depth",
                sigma=100 * float(np.hypot(noise, own)), note="says nothing of the engine",
            )  # fmt: skip


def _on_cells(dose: Volume, depth_edges_mm: Array, edges_mm: Array) -> Array:
    """Return the mean dose in the reference's cells, [depth, y, x]; the surface lies at y = -100 mm."""
    grid = dose.grid
    across = mean_weights(edges_mm, grid.x_mm)
    found = apply(
        (mean_weights(edges_mm, grid.z_mm), mean_weights(depth_edges_mm - 100.0, grid.y_mm), across), dose.values
    )
    return np.moveaxis(found, 1, 0)


def _figure(tables: dict[str, dict[str, Array]]) -> bytes:
    with figure_style():
        figure = new_figure(FULL_WIDTH_IN, 2.2 * len(tables) + 0.4)
        panels = figure.subplots(len(tables), 2, squeeze=False)
        for row, (name, table) in zip(panels, tables.items(), strict=True):
            left, right = row
            left.axhline(0, color=MUTED, lw=0.6)
            band = 2 * table["noise"]
            left.fill_between(
                table["depth"], table["ratio"] - band, table["ratio"] + band, color=SERIES[1], alpha=0.2, lw=0
            )
            left.plot(table["depth"], table["ratio"], color=SERIES[1])
            left.set_title(f"{name}: reference alone")
            left.set_ylabel("narrow over wide cells − 1 (%)")
            right.axhline(0, color=MUTED, lw=0.6)
            for c, label in enumerate(CLASS_NAMES):
                middle = [5.0 * (low + high) for low, high in BANDS_CM]
                values = table["classes"][:, c]
                right.errorbar(
                    np.array(middle) + 4.0 * (c - 2), values[:, 0], yerr=2 * values[:, 1], fmt="o", ms=3, lw=0.9,
                    color=SERIES[c], label=label,
                )  # fmt: skip
            right.set_title(f"{name}: engine by cell")
            right.set_ylabel("engine over reference − 1 (%)")
        for axes in panels[-1]:
            axes.set_xlabel("depth (mm)")
        panels[0, 1].legend(title="cross-section of the cell", title_fontsize=6.5, fontsize=6.5, loc="upper left")
        figure.tight_layout()
        return svg_of_figure(figure)
