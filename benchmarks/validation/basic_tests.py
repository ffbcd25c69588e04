"""Basic photon tests in the manner of AAPM MPPG 5.b, for the typical machine and the reference source.

Tests and tolerances: Geurts et al. 2022, doi:10.1002/acm2.13641, tests 5.1 to 7.2. The guideline compares with
measurements. There is no linac here: the comparison is with Monte Carlo where there is one, else with the independent
pencil-kernel algorithm, which shares spectrum and point kernels with the engine but none of its transport.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.core.volume import Volume
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.dose.field import Field
from cantlie.dose.independent import independent_dose
from cantlie.machine.machine import load_machine
from cantlie.report.style import FULL_WIDTH_IN, MUTED, SERIES, figure_style, new_figure, svg_of_figure

from . import monte_carlo_sets as sets
from .beams import POINT, TYPICAL, crossing, jaw_field, leaf_aperture, shaped_field, water
from .rows import Chapter

Array = NDArray[np.float64]
SURFACE_MM = -100.0
PENCIL = "against the independent pencil kernels"


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """A test field: where it is normal to look, and its tolerance for high doses."""

    test: str
    name: str
    phantom: Volume
    field: Field
    high_percent: float
    line_z_mm: float
    centre_x_mm: float
    surface_mm: float = SURFACE_MM
    tail_mm: float = 50.0


def chapter() -> Chapter:
    """Do the basic tests."""
    result = Chapter(
        "basic",
        "Basic photon tests in the manner of MPPG 5.b",
        "Tests and tolerances follow AAPM MPPG 5.b (doi:10.1002/acm2.13641): 0.5 % at calibration, 2 % in "
        "the high-dose "
        "region for one changed parameter and 5 % for several, 2 mm in the penumbra, 3 % of the maximum in the tail up "
        "to 50 mm outside the field, 3 % behind lung. The guideline asks for measurements; no linac stands behind "
        "these models, so this is a check of self-consistency. References are Monte Carlo (point source), or the "
        "independent pencil-kernel algorithm (typical machine `generic-6mv-mlci`, beam model `generic-6mv`), which "
        "shares spectrum and point kernels with the engine but not the transport, and knows neither lateral "
        "heterogeneity nor the outline of the patient.",
    )
    _calibration(result)
    _output_factors(result)
    _depth_indices(result)
    shown = []
    for setup in _setups():
        shown.append((setup, _compare(result, setup)))
    _lung(result)
    result.figures["basic-profiles"] = (
        _figure(shown),
        "Profiles of tests 5.4 to 5.8 at 50, 100 and 200 mm depth, dose of 100 MU: engine (lines) and "
        "independent pencil "
        "kernels (dots), along x in the beam's frame.",
    )
    return result


def _calibration(result: Chapter) -> None:
    for model in (POINT, TYPICAL):
        for spacing in (2.0, 2.5, 3.0, 4.0):
            phantom = water(spacing, 150.0, 240.0)
            dose = collapsed_cone_dose(phantom, [jaw_field((-50, 50), (-50, 50), model)], model)
            found = float(dose.sample([[0.0, 0.0, 0.0]])[0])
            result.add(
                f"5.1 calibration point, {model.name}, {spacing:g} mm grid", 100 * (found - 1.0), "%", 0.5, "within",
                "100 MU, 10×10, SSD 900 mm, 100 mm deep; 1 Gy by definition",
            )  # fmt: skip


def _output_factors(result: Chapter) -> None:
    """Compare total output at 100 mm depth relative to 10 x 10 with Monte Carlo's, and the typical one with pencils."""
    at = np.array([100.0])

    def monte_carlo(name: str) -> tuple[float, float]:
        depth, dose, sigma = sets.depth_dose(name)
        chosen = (depth > 70) & (depth < 130)
        slope, height = np.polyfit(depth[chosen] - 100.0, np.log(dose[chosen]), 1, w=100 / sigma[chosen])
        del slope
        return float(np.exp(height)), float((sigma[chosen] ** -2).sum() ** -0.5)

    base, base_sigma = monte_carlo("A_water_10x10")
    ours = float(sets.our_depth_dose("A_water_10x10", at)[0])
    for name, test in (("A_water_2x2", "7.2"), ("A_water_20x20", "5.3")):
        theirs, sigma = monte_carlo(name)
        found = float(sets.our_depth_dose(name, at)[0]) / ours
        result.add(
            f"{test} output factor {name[8:]}, point source", 100 * (found / (theirs / base) - 1), "%", 2.0, "within",
            f"over 10×10, 100 mm deep, SSD 900; Monte Carlo {theirs / base:.4f}, engine {found:.4f}",
            sigma=float(np.hypot(sigma, base_sigma)),
        )  # fmt: skip
    phantom = water(2.5, 200.0, 300.0)
    dose, pencil = {}, {}
    for half in (15.0, 25.0, 50.0, 75.0, 100.0, 150.0):
        field = jaw_field((-half, half), (-half, half), TYPICAL)
        dose[half] = float(collapsed_cone_dose(phantom, [field], TYPICAL).sample([[0.0, 0.0, 0.0]])[0])
        pencil[half] = float(independent_dose(phantom, [field], TYPICAL, [[0.0, 0.0, 0.0]])[0])
    for half in dose:
        if half == 50.0:
            continue
        found, expected = dose[half] / dose[50.0], pencil[half] / pencil[50.0]
        result.add(
            f"5.3 output factor {half / 5:g}×{half / 5:g}, typical machine", 100 * (found / expected - 1), "%", 2.0,
            "within", f"over 10×10, 100 mm deep, SSD 900; engine {found:.4f}; {PENCIL}",
        )  # fmt: skip


def _depth_indices(result: Chapter) -> None:
    phantom = water(2.5, 150.0, 350.0, surface_mm=0.0)
    depth = np.arange(5.0, 300.0, 1.0)
    axis = np.stack([0 * depth, depth, 0 * depth], axis=-1)
    field = jaw_field((-50, 50), (-50, 50), POINT)
    ssd_1000 = collapsed_cone_dose(phantom, [field], POINT).sample(axis)
    percent = 100 * float(np.interp(100.0, depth, ssd_1000)) / float(ssd_1000.max())
    result.add(
        "5.3 percentage depth dose at 100 mm, SSD 1000", 100 * (percent / 67.05 - 1), "%", 2.0, "within",
        f"engine {percent:.2f} %, Monte Carlo 66.7–67.4 % (middle taken; oracle README)", sigma=0.26,
    )  # fmt: skip
    ratio = []
    for deep in (100.0, 200.0):
        at = (0.0, deep, 0.0)
        dose = collapsed_cone_dose(phantom, [jaw_field((-50, 50), (-50, 50), POINT, isocentre_mm=at)], POINT)
        ratio.append(float(dose.sample([at])[0]))
    found = ratio[1] / ratio[0]
    result.add(
        "5.3 TPR 20,10, point source", 100 * (found / 0.667 - 1), "%", 2.0, "within",
        f"engine {found:.4f}, Monte Carlo 0.667 (oracle README)",
    )  # fmt: skip
    small_depth, theirs, sigma = sets.depth_dose("A_water_2x2")
    chosen = (small_depth > 15) & (small_depth < 300)
    deviation = 100 * (sets.our_depth_dose("A_water_2x2", small_depth[chosen]) / theirs[chosen] - 1)
    worst = int(np.argmax(np.abs(deviation) - 2 * sigma[chosen]))
    result.add(
        "7.1 depth dose of a 2×2 field, point source", deviation[worst], "%", 2.0, "within",
        f"worst of 15–300 mm (at {small_depth[chosen][worst]:.0f} mm), against Monte Carlo",
        sigma=float(sigma[chosen][worst]),
    )  # fmt: skip


def _setups() -> list[Setup]:
    machine = load_machine("generic-6mv-mlci")
    mlc = machine.mlc
    assert mlc is not None
    block = water(3.0, 201.0, 300.0)
    small = leaf_aperture(mlc, [(-15, 15, -20, 20)])
    mantle = leaf_aperture(
        mlc,
        [(-130, 130, 40, 100), (-30, 30, -20, 40), (-45, 45, -60, -20), (-25, 25, -130, -60)],
        margin_mm=0.0,
    )
    off_axis = leaf_aperture(mlc, [(60, 120, -30, 30)])
    # Isocentre at the surface for an SSD of 1000 mm, below it by 200 mm for one of 800 mm.
    near = water(3.0, 201.0, 300.0, surface_mm=-200.0)
    for aperture in (small, mantle, off_axis):
        machine.check(aperture)
    return [
        Setup("5.4", "small MLC field 3×4", block, shaped_field(small, mlc, TYPICAL), 2.0, 0.0, 0.0),
        Setup("5.5", "large MLC field, much blocked", block, shaped_field(mantle, mlc, TYPICAL), 5.0, 0.0, 0.0),
        Setup("5.6", "off-axis MLC field", block, shaped_field(off_axis, mlc, TYPICAL), 5.0, 0.0, 90.0),
        Setup(
            "5.7", "asymmetric field at SSD 800", near, jaw_field((-20, 80), (-50, 50), TYPICAL), 5.0, 0.0, 30.0,
            surface_mm=-200.0,
        ),
        Setup(
            "5.8", "10×10 at 30° incidence", block, jaw_field((-50, 50), (-50, 50), TYPICAL, gantry_deg=30.0), 5.0,
            0.0, 0.0,
        ),
    ]  # fmt: skip


def _compare(result: Chapter, setup: Setup) -> dict[float, tuple[Array, Array, Array]]:
    """Judge one field; return its profiles (x in the beam, engine, pencil) by depth."""
    geometry = setup.field.geometry
    dose = collapsed_cone_dose(setup.phantom, [setup.field], TYPICAL)
    fluence = setup.field.fluence
    reach = float(np.abs(fluence.x_mm).max()) + 60.0
    curves: dict[float, tuple[Array, Array, Array]] = {}
    high, tail, penumbra = [], [], []
    top = float(dose.values[:, dose.grid.y_mm > setup.surface_mm + 15].max())
    half = max(dose.grid.x_mm.max(), 0.0) - 10.0
    for depth in (50.0, 100.0, 200.0):
        # The plane across the beam whose centre lies at this depth below the surface along the axis.
        tilt = np.cos(np.radians(geometry.gantry_deg))
        down = (setup.surface_mm + depth * tilt) / tilt  # along the axis from the isocentre
        shrink = (geometry.sad_mm + down) / geometry.sad_mm
        x = np.arange(-min(reach * shrink, half), min(reach * shrink, half), 2.5)
        axes = geometry.axes
        line = -down * axes[2] + x[:, None] * axes[0] + setup.line_z_mm * axes[1]
        ours, pencil = dose.sample(line), independent_dose(setup.phantom, [setup.field], TYPICAL, line)
        below = line[:, 1] > setup.surface_mm + 15
        curves[depth] = x[below], ours[below], pencil[below]
        x, ours, pencil = curves[depth]
        centre = float(np.interp(setup.centre_x_mm * shrink, x, ours))
        steep = np.abs(np.gradient(ours, x)) / centre
        flat = (ours > 0.8 * centre) & (steep < 0.01)
        high.append(100 * (ours / np.maximum(pencil, 1e-9) - 1)[flat])
        edge = []
        for sign in (1, -1):
            t = sign * (x - setup.centre_x_mm * shrink)
            order = np.argsort(t)
            order = order[t[order] >= 0]
            for level in (0.8, 0.5, 0.2):
                line_of = [crossing(t[order], p[order] / p[np.argmin(np.abs(t))], level) for p in (ours, pencil)]
                # Only where the dose falls as steeply as a penumbra does: not in the shadow of a block.
                if np.interp(line_of[0], t[order], steep[order]) > 0.01:
                    penumbra.append(line_of[0] - line_of[1])
                if level == 0.5:
                    edge.append(line_of[0])
        t = x - setup.centre_x_mm * shrink
        out = ((t > edge[0] + 10) & (t < edge[0] + setup.tail_mm)) | (
            (t < -edge[1] - 10) & (t > -edge[1] - setup.tail_mm)
        )
        tail.append(100 * (ours - pencil)[out] / top)
    for what, values, unit, limit, how in (
        ("high dose", np.concatenate(high), "%", setup.high_percent, "above 80 % of the centre, flat; 50, 100, 200 mm"),
        (
            "penumbra",
            np.array(penumbra),
            "mm",
            2.0,
            "positions of 80, 50 and 20 % of the centre, where it falls by 1 %/mm",
        ),
        ("tail", np.concatenate(tail), "% of max", 3.0, "10–50 mm outside the edge"),
    ):
        known = values[np.isfinite(values)]
        worst = float(known[np.argmax(np.abs(known))]) if known.size else float("nan")
        result.add(
            f"{setup.test} {setup.name}: {what}", worst, unit, limit, "within",
            f"{how}, worst of {known.size}; {PENCIL}",
        )  # fmt: skip
    return curves


def _lung(result: Chapter) -> None:
    depth, theirs, sigma = sets.depth_dose("B_slab_lung_10x10")
    for name, low, high, limit in (("behind lung", 160.0, 330.0, 3.0), ("in lung", 60.0, 140.0, 3.0)):
        chosen = (depth > low) & (depth < high)
        deviation = 100 * (sets.our_depth_dose("B_slab_lung_10x10", depth[chosen]) / theirs[chosen] - 1)
        weight = sigma[chosen] ** -2
        result.add(
            f"6.2 heterogeneity, {name}", float(np.average(deviation, weights=weight)), "%", limit, "within",
            f"10×10, 100 mm of lung, axis at {low:.0f}–{high:.0f} mm, mean, against Monte Carlo (point source)",
            sigma=float(weight.sum() ** -0.5),
        )  # fmt: skip
        worst = int(np.argmax(np.abs(deviation) - 2 * sigma[chosen]))
        result.add(
            f"6.2 heterogeneity, {name}, worst", deviation[worst], "%", limit, "within",
            f"at {depth[chosen][worst]:.0f} mm", sigma=float(sigma[chosen][worst]),
        )  # fmt: skip
    phantom = water(3.0, 150.0, 300.0, lung_mm=(51.0, 150.0))
    field = jaw_field((-50, 50), (-50, 50), TYPICAL)
    dose = collapsed_cone_dose(phantom, [field], TYPICAL)
    points = np.array([[0.0, y, 0.0] for y in (80.0, 100.0, 120.0, 150.0)])
    gap = 100 * (dose.sample(points) / independent_dose(phantom, [field], TYPICAL, points) - 1)
    result.add(
        "6.2 heterogeneity, behind lung, typical machine", float(gap[np.argmax(np.abs(gap))]), "%", 0, "reported",
        f"180–250 mm deep, {PENCIL}",
        note="pencil kernels with path correction are known to be high behind lung; no limit is set by them",
    )  # fmt: skip


def _figure(shown: list[tuple[Setup, dict[float, tuple[Array, Array, Array]]]]) -> bytes:
    with figure_style():
        figure = new_figure(FULL_WIDTH_IN, 5.6)
        panels = figure.subplots(3, 2)
        for axes, (setup, curves) in zip(panels.flat, shown, strict=False):
            for n, (depth, (x, ours, pencil)) in enumerate(curves.items()):
                axes.plot(x, ours, color=SERIES[n], label=f"{depth:.0f} mm")
                axes.plot(x[::2], pencil[::2], "o", ms=1.6, color=SERIES[n])
            axes.set_title(f"{setup.test} {setup.name}")
            axes.set_xlabel("x across the beam (mm)")
            axes.set_ylabel("dose (Gy)")
            axes.axhline(0, color=MUTED, lw=0.6)
        panels[0, 0].legend(title="depth", title_fontsize=6.5)
        panels.flat[-1].set_axis_off()
        figure.tight_layout()
        return svg_of_figure(figure)
