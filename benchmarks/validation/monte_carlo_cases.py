"""The Monte Carlo cases as DICOM, through the full road: CT, structures and RTPLAN in, RTDOSE out, then scored."""

from __future__ import annotations

import json
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from cantlie.dicom.rtdose import read_rtdose
from cantlie.report.style import MUTED, SERIES, figure_style, new_figure, svg_of_figure
from cantlie.workflow.recalculate import RecalculatePlan, recalculate

from .rows import Chapter
from .scoring import Reference, Score, score

GRID_MM = 2.5
TOUCHED = ("axis mean", "axis worst bin", "field mean", "off axis", "gamma local", "gamma global")
CELLS_NOTE = "the reference falls short in its narrow cells deep in water: see the chapter on scoring cells"


def chapter(oracles: Path) -> Chapter:
    """Recalculate and score every case that is there."""
    result = Chapter(
        "cases",
        "Monte Carlo, DICOM cases through the full road",
        "Each case is a CT, a BODY contour and an RTPLAN of 100 MU. `cantlie dose` recalculates it with the machine "
        "`reference-6mv-point` and the case's density curve on a grid of 2.5 mm; the RTDOSE that it writes is read "
        "back, averaged over every Monte Carlo cell (EGSnrc DOSXYZnrc) and compared. Doses are absolute, nothing is "
        "fitted or normalised. Limits are those of each case (`case.json`), widened by two standard deviations (in "
        "brackets) of the Monte Carlo noise. Axis: bins of 5 mm beyond 15 mm depth, ±10 mm around interfaces left out "
        "of the worst bin. Penumbra limits have half a dose voxel added, as reading a grid widens an edge.",
    )
    archives = sorted((oracles / "dose" / "dicom").glob("*.tar.xz"))
    scores: dict[str, Score] = {}
    with tempfile.TemporaryDirectory() as folder:
        for archive in archives:
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="tar")
        for case in sorted(Path(folder).glob("*/case.json")):
            scores[case.parent.name] = _judge(result, case.parent, Path(folder) / "out")
    if scores:
        result.figures["monte-carlo-cases"] = (
            _figure(scores),
            "Dose on the axis, engine over Monte Carlo minus 1, against the depth along the ray. Band: two standard "
            "deviations of the reference. Dashed: the limit of a bin in water (2 %) or in slabs and patients (4 %). "
            "Grey points lie within 10 mm of an interface. The scale of each panel is its own.",
        )
    return result


def _judge(result: Chapter, folder: Path, out: Path) -> Score:
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    name = case["name"]
    road = RecalculatePlan(
        case=(folder / "CT").resolve().parent,
        plan=folder / "RP.dcm",
        out=out / name,
        machine="reference-6mv-point",
        density_curve=folder / "density_curve.csv",
        grid_mm=GRID_MM,
    )
    recalculate(road)
    with np.load(folder / "expected.npz") as arrays:
        found = score(Reference.of_case(case, arrays), read_rtdose(out / name / "RTDOSE.dcm"))
    limit = case["tolerance"]
    flawed = CELLS_NOTE if name in ("water_10x10", "water_20x20") else ""

    def add(what: str, value: float, unit: str, most: float | None, side: str, how: str, sigma: float = 0.0) -> None:
        if most is None:
            return
        result.add(f"{name}: {what}", value, unit, most, side, how, sigma=sigma)
        if flawed and what in TOUCHED and result.rows[-1].passed is False:
            result.rows[-1] = replace(result.rows[-1], note=flawed)

    add("axis mean", found.axis_mean[0], "%", limit["cax_mean_pct"], "within", "noise-weighted mean of bins",
        found.axis_mean[1])  # fmt: skip
    add("axis worst bin", found.axis_worst[0], "%", limit["cax_max_pct"], "within", "bin furthest beyond its noise",
        found.axis_worst[1])  # fmt: skip
    add("field mean", found.field_mean[0], "%", limit["infield_mean_pct"], "within", "cells inside the field edge",
        found.field_mean[1])  # fmt: skip
    add("off axis", found.off_axis_excess, "%", limit["offaxis_max_pct"], "at most",
        "99th percentile of what bins of 10×10×20 mm deviate beyond 2 σ")  # fmt: skip
    if np.isfinite(found.tail[0]):  # some references hold no cells outside the field
        add("tail", found.tail[0], "% of axis", limit["tail_mean_pct_of_dref"], "within", "10–60 mm outside the edge",
            found.tail[1])  # fmt: skip
    if case["profile_depths_mm"] and limit["penumbra_mm"] is not None:
        add("penumbra 80–20 %", found.penumbra_mm, "mm", limit["penumbra_mm"] + 0.5 * GRID_MM, "within",
            "width minus Monte Carlo's, worst depth")  # fmt: skip
        add("field edge", found.edge_mm, "mm", limit["edge_mm"], "within", "50 % position, worst depth and side")
    add("build-up", found.build_up_mm[0], "mm", limit["buildup_mm"], "within", "shift along the beam, 4–14 mm deep",
        found.build_up_mm[1])  # fmt: skip
    how = f"2 %/2 mm, above 10 %, {found.gamma_points} points, criterion widened by 2 σ"
    add("gamma local", found.gamma_local, "%", limit["gamma_local_2_2"], "at least", how)
    add("gamma global", found.gamma_global, "%", limit["gamma_global_2_2"], "at least", how)
    result.add(
        f"{name}: gamma local, raw", found.gamma_local_raw, "%", 0, "reported", "2 %/2 mm, noise not allowed for"
    )
    return found


def _figure(scores: dict[str, Score]) -> bytes:
    with figure_style():
        rows = -(-len(scores) // 2)
        figure = new_figure(height_in=1.75 * rows + 0.3)
        panels = figure.subplots(rows, 2, squeeze=False)
        for axes, (name, found) in zip(panels.flat, scores.items(), strict=False):
            limit = 2.0 if name.startswith("water") else 4.0
            axes.fill_between(
                found.axis_depth_mm, -2 * found.axis_sigma, 2 * found.axis_sigma, color=SERIES[0], alpha=0.15, lw=0,
                label="± 2 σ of Monte Carlo",
            )  # fmt: skip
            axes.axhline(0, color=MUTED, lw=0.6)
            for sign in (-1, 1):
                axes.axhline(sign * limit, color=SERIES[1], ls="--", lw=0.8, label="limit" if sign > 0 else None)
            far = found.axis_far
            axes.plot(found.axis_depth_mm[far], found.axis_percent[far], "o", ms=2.2, color=SERIES[0], label="engine")
            axes.plot(found.axis_depth_mm[~far], found.axis_percent[~far], "o", ms=2.2, color=SERIES[9])
            axes.set_title(name)
            top = max(1.25 * limit, 1.1 * float(np.abs(found.axis_percent).max()))
            axes.set_ylim(-min(top, 1.6 * limit), top)
            axes.set_ylabel("deviation (%)")
        for axes in panels.flat[len(scores) :]:
            axes.set_axis_off()
        for axes in panels[-1]:
            axes.set_xlabel("depth (mm)")
        figure.tight_layout(rect=(0, 0, 1, 0.97))
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="upper center", ncols=3)
        return svg_of_figure(figure)
