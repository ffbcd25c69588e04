"""Two doses laid against each other: difference, gamma, and both in every structure of a patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import InputError
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.evaluation.difference import DoseDifference, dose_difference
from cantlie.evaluation.dvh import dvh
from cantlie.evaluation.gamma import GammaResult, gamma_index
from cantlie.patient.names import BODY
from cantlie.patient.regions import Regions
from cantlie.report.case_report import Role, StructureView
from cantlie.report.dose_pair_pages import DosePairView, StructureRow, criteria
from cantlie.report.view import View, view_of
from cantlie.workflow.patient_stage import PreparedPatient

TG218 = "AAPM TG-218, Miften et al. 2018, doi:10.1002/mp.12810: gamma criteria, 10 % threshold, 95 % tolerance"
GAMMA_SOURCE = "Low et al. 1998, doi:10.1118/1.598248: the gamma index"
_AROUND_MM = 30.0


@dataclass(frozen=True, slots=True)
class GammaCriteria:
    """What gamma is judged by; the defaults are those of AAPM TG-218."""

    dose_percent: float = 3.0
    distance_mm: float = 2.0
    local: bool = False
    two_dimensional: bool = False
    limit: float = 2.0
    pass_percent: float = 95.0


@dataclass(frozen=True, slots=True)
class ComparisonSettings:
    """How two doses are compared.

    Parameters
    ----------
    gamma
        The criteria; None for the plain difference alone.
    threshold_percent
        Voxels whose reference dose is below this share of 100 % are not judged.
    tolerance_percent
        Differences up to this share of 100 % count as within.
    normalisation_gy
        The dose that is 100 %; the maximum of the reference when not given.

    Raises
    ------
    InputError
        If a value is not possible.
    """

    gamma: GammaCriteria | None = None
    threshold_percent: float = 10.0
    tolerance_percent: float = 3.0
    normalisation_gy: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold_percent < 100:
            raise InputError(
                f"the threshold is a share of the dose from 0 to below 100 %, not {self.threshold_percent:g} %",
                where="--threshold",
            )
        if self.normalisation_gy is not None and not 0 < self.normalisation_gy < 1000:
            raise InputError(f"{self.normalisation_gy:g} Gy cannot be 100 %", where="--normalisation")
        if not self.tolerance_percent > 0:
            raise InputError("the tolerance must be above 0 %", where="--tolerance")


def compared_doses(
    reference: Volume,
    evaluated: Volume,
    names: tuple[str, str],
    patient: PreparedPatient | None,
    settings: ComparisonSettings,
    *,
    notes: Sequence[Note] = (),
    progress: Progress = silent,
) -> DosePairView:
    """Return two doses laid against each other: difference, gamma where it is asked for, structures of the patient.

    Parameters
    ----------
    names
        What the reference and the evaluated dose are called.
    """
    asked, threshold_percent = settings.gamma, settings.threshold_percent
    notes = list(notes)
    given_gy = settings.normalisation_gy
    normal = float(reference.values.max()) if given_gy is None else given_gy
    progress(0.0, "difference")
    difference = dose_difference(
        reference,
        evaluated,
        threshold_percent=threshold_percent,
        tolerance_percent=settings.tolerance_percent,
        normalisation_gy=normal,
    )
    gamma = None
    if asked is not None:
        flat = asked.two_dimensional
        if min(reference.grid.shape[0], evaluated.grid.shape[0]) == 1 and not flat:
            flat = True
            notes.append(Note("a dose of one plane allows gamma in that plane only", "gamma"))
        progress(0.1, "gamma")
        gamma = gamma_index(
            reference,
            evaluated,
            dose_percent=asked.dose_percent,
            distance_mm=asked.distance_mm,
            local=asked.local,
            threshold_percent=threshold_percent,
            normalisation_gy=normal,
            limit=asked.limit,
            two_dimensional=flat,
        )
    if difference.uncovered:
        share = 100.0 * difference.uncovered / (difference.uncovered + difference.judged)
        notes.append(
            Note(
                f"{difference.uncovered} voxels above the threshold ({share:.1f} %) lie outside the evaluated dose and "
                "were not judged",
                "comparison",
            )
        )
    rows: tuple[StructureRow, ...] = ()
    outlines: list[StructureView] = []
    background = Volume(reference.grid, np.full(reference.grid.shape, -1000.0, dtype=np.float32))
    if patient is not None:
        progress(0.6, "structures")
        threshold_gy = threshold_percent * normal / 100
        rows = structure_rows(patient.regions, reference, evaluated, difference, gamma, threshold_gy)
        outlines = outlines_of(patient.regions)
        background = patient.case.ct.volume
    return DosePairView(
        title="Gamma of two doses" if gamma is not None else "Difference of two doses",
        names=names,
        reference=reference,
        evaluated=evaluated,
        background=background,
        view=_view(background, reference, difference, gamma, outlines, normal, patient is not None),
        difference=difference,
        normalisation_gy=normal,
        threshold_percent=threshold_percent,
        tolerance_percent=settings.tolerance_percent,
        gamma=gamma,
        pass_limit_percent=asked.pass_percent if asked else 95.0,
        structures=rows,
        outlines=outlines,
        notes=tuple(dict.fromkeys(notes)),
    )


def structure_rows(
    regions: Regions,
    reference: Volume,
    evaluated: Volume,
    difference: DoseDifference,
    gamma: GammaResult | None,
    threshold_gy: float,
) -> tuple[StructureRow, ...]:
    """Return every structure in both doses; its voxels of the reference grid above the threshold are compared."""
    above = (reference.values >= threshold_gy) & np.isfinite(difference.difference.values)
    rows = []
    for name, fractions in regions.fractions.items():
        if not fractions.any():
            continue
        own = Volume(regions.grid, fractions)
        inside = (own.resample(reference.grid).values >= 0.5) & above
        first, second = (dvh(dose, fractions, regions.grid, name=name) for dose in (reference, evaluated))
        values = difference.difference.values[inside].astype(np.float64)
        judged: NDArray[np.float32] = np.empty(0, np.float32) if gamma is None else gamma.gamma[inside]
        judged = judged[np.isfinite(judged)]
        rows.append(
            StructureRow(
                name,
                regions.volume_cc(name),
                first,
                second,
                int(values.size),
                float(values.mean()) if values.size else None,
                float(values.std()) if values.size else None,
                100.0 * float(np.mean(judged <= 1.0)) if judged.size else None,
                float(judged.mean(dtype=np.float64)) if judged.size else None,
            )
        )
    return tuple(rows)


def outlines_of(regions: Regions) -> list[StructureView]:
    """Return the structures of a patient as pictures show them, each in the role that its name tells."""
    views = []
    for name, fractions in regions.fractions.items():
        upper = name.upper()
        role: Role = (
            "body"
            if name == BODY
            else "target" if upper.startswith("PTV")
            else "ctv" if upper.startswith(("CTV", "ITV"))
            else "gtv" if upper.startswith("GTV")
            else "organ"
        )  # fmt: skip
        if fractions.any():
            views.append(StructureView(name, Volume(regions.grid, fractions), role))
    return views


def _view(
    background: Volume,
    reference: Volume,
    difference: DoseDifference,
    gamma: GammaResult | None,
    outlines: Sequence[StructureView],
    normal_gy: float,
    with_ct: bool,
) -> View:
    """Return a view of the dose; the slices cross where it fails the most, else in the middle of the high dose."""
    grid = reference.grid
    high = reference.values >= 0.5 * normal_gy
    failed = np.zeros_like(high)
    if gamma is not None:
        failed = np.nan_to_num(gamma.gamma, nan=0.0) > 1.0
    else:
        found = np.abs(np.nan_to_num(difference.difference.values))
        if found.max() > 0.02 * normal_gy:
            failed = found > 0.5 * found.max()
    cloud = failed if failed.any() else high if high.any() else reference.values > 0
    k = int(cloud.sum(axis=(1, 2)).argmax())
    rows, columns = np.nonzero(cloud[k])
    index = [float(k), float(np.median(rows)), float(np.median(columns))]
    x, y, z = (float(v) for v in grid.mm_from_index(index))
    if with_ct:
        return view_of(background, outlines, (x, y, z))
    box = np.argwhere(reference.values >= 0.05 * normal_gy)
    low = np.maximum(grid.mm_from_index(box.min(axis=0)) - _AROUND_MM, grid.lower_mm)
    top = np.minimum(grid.mm_from_index(box.max(axis=0)) + _AROUND_MM, grid.upper_mm)
    return View((x, y, z), (float(low[0]), float(low[1]), float(low[2])), (float(top[0]), float(top[1]), float(top[2])))


def _grid(grid: Grid) -> dict[str, Any]:
    return {"shape_kji": grid.shape, "spacing_mm": grid.spacing_mm, "origin_mm": grid.origin_mm}


def pair_results(pair: DosePairView) -> dict[str, Any]:
    """Return what results.json says of two doses."""
    doses = {
        which: {"file": name, "maximum_gy": float(dose.values.max()), "grid": _grid(dose.grid)}
        for which, name, dose in (
            ("reference", pair.names[0], pair.reference),
            ("evaluated", pair.names[1], pair.evaluated),
        )
    }
    found = pair.difference
    results: dict[str, Any] = {
        "title": pair.title,
        **doses,
        "normalisation_gy": pair.normalisation_gy,
        "threshold_percent": pair.threshold_percent,
        "difference": {
            "convention": "evaluated minus reference",
            "judged_voxels": found.judged,
            "uncovered_voxels": found.uncovered,
            "mean_gy": found.mean_gy,
            "sd_gy": found.sd_gy,
            "rms_gy": found.rms_gy,
            "lowest_gy": found.lowest_gy,
            "highest_gy": found.highest_gy,
            "tolerance_percent": pair.tolerance_percent,
            "within_tolerance_percent": found.within_percent,
        },
    }
    if pair.gamma is not None:
        gamma = pair.gamma
        edges = np.linspace(0.0, gamma.limit, 21)
        counts, _ = np.histogram(np.minimum(gamma.gamma[np.isfinite(gamma.gamma)], gamma.limit), bins=edges)
        results["gamma"] = {
            "dose_percent": gamma.dose_percent,
            "distance_mm": gamma.distance_mm,
            "local": gamma.local,
            "two_dimensional": gamma.two_dimensional,
            "pass_percent": gamma.pass_percent,
            "judged_voxels": gamma.judged,
            "uncovered_voxels": gamma.uncovered,
            "mean": gamma.mean,
            "median": gamma.median,
            "p95": gamma.p95,
            "largest_kept": gamma.limit,
            "histogram": {"edges": edges.tolist(), "voxels": counts.tolist()},
        }
        results["constraints"] = [
            {
                "structure": "all judged voxels",
                "metric": f"gamma pass rate, {criteria(gamma)}",
                "op": ">=",
                "limit": pair.pass_limit_percent,
                "unit": "%",
                "achieved": gamma.pass_percent,
                "verdict": "pass" if gamma.pass_percent >= pair.pass_limit_percent else "fail",
                "place": TG218,
            }
        ]
    results["structures"] = {row.name: _structure(row, pair.gamma is not None) for row in pair.structures}
    return results


def _structure(row: StructureRow, with_gamma: bool) -> dict[str, Any]:
    result: dict[str, Any] = {"volume_cc": row.volume_cc, "judged_voxels": row.judged}
    for which, curve in (("reference", row.reference), ("evaluated", row.evaluated)):
        result[which] = {
            "Dmin_gy": curve.min_gy,
            "Dmean_gy": curve.mean_gy,
            "Dmax_gy": curve.max_gy,
            **{f"D{p}%_gy": float(curve.dose_at_percent_gy(float(p))) for p in (2, 50, 95, 98)},
        }
    result["mean_difference_gy"] = row.mean_difference_gy
    result["sd_difference_gy"] = row.sd_difference_gy
    if with_gamma:
        result["gamma_pass_percent"] = row.gamma_pass_percent
        result["gamma_mean"] = row.gamma_mean
    return result
