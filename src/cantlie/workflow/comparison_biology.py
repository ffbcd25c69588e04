"""The biology of one arm of a comparison, at every corner of what is uncertain: BED, EQD2, complications, control.

All arms are judged by the same values of alpha/beta, repair and tolerance, so that two arms can be compared corner by
corner: what is uncertain about the patient is the same in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.course.accumulation import CourseDose
from cantlie.evaluation.dvh import Dvh, dvh
from cantlie.protocol.sections import Biology
from cantlie.radiobiology.model import Estimate, ModelCard
from cantlie.radiobiology.ntcp import (
    RILD_METASTASES,
    RILD_METASTASES_1_5_GY,
    RILD_PRIMARY,
    RILD_PRIMARY_1_5_GY,
    hytec_enzyme_risk,
    spared_volume_cc,
)
from cantlie.radiobiology.repair import Repair
from cantlie.radiobiology.sensitivity import ALPHA_BETA_LIVER_GY, ALPHA_BETA_TUMOUR_GY, REPAIR_HALF_TIME_H
from cantlie.radiobiology.tcp import POISSON, hytec_local_control, poisson_tcp
from cantlie.radiobiology.volume_effect import geud_gy

Fractions = NDArray[np.float32]

TD50_SHARES = (0.9, 1.0, 1.1)
"""TD50 of the RILD model over its nominal value; ± 10 % is near the spread between published fits."""
ALPHA_PER_GY = (0.2, 0.3, 0.4)
"""Radiosensitivity of the generic Poisson model, an assumed range around its generic value."""
FEW_FRACTIONS = 6
FIT_DOSE_PER_FRACTION_GY = 4.5


@dataclass(frozen=True, slots=True)
class Corner:
    """One set of values of what is uncertain; ``half_time_h`` None stands for full repair between sessions."""

    alpha_beta_gy: float
    half_time_h: float | None

    @property
    def repair(self) -> str:
        """The repair in words."""
        return "full repair" if self.half_time_h is None else f"repair half-time {self.half_time_h:g} h"


@dataclass(frozen=True, slots=True)
class Assumptions:
    """The biological values that all arms are judged by."""

    liver_gy: tuple[float, ...]
    tumour_gy: tuple[float, ...]
    organs_gy: float
    nominal_liver_gy: float
    nominal_tumour_gy: float
    half_times_h: tuple[float, ...]
    nominal_half_time_h: float
    liver_disease: str

    @classmethod
    def of(cls, biology: Biology) -> Assumptions:
        """Return the values of a protocol with their usual ranges."""

        def with_range(nominal: float, ends: tuple[float, float]) -> tuple[float, ...]:
            return tuple(sorted({nominal, *ends}))

        times = {*biology.repair_half_times_h, biology.repair_half_time_h, *REPAIR_HALF_TIME_H}
        return cls(
            with_range(biology.alpha_beta_liver_gy, ALPHA_BETA_LIVER_GY),
            with_range(biology.alpha_beta_tumour_gy, ALPHA_BETA_TUMOUR_GY),
            biology.alpha_beta_organs_gy,
            biology.alpha_beta_liver_gy,
            biology.alpha_beta_tumour_gy,
            tuple(sorted(times)),
            biology.repair_half_time_h,
            biology.liver_disease,
        )

    @property
    def repairs(self) -> tuple[float | None, ...]:
        """Full repair, then all half-times."""
        return (None, *self.half_times_h)

    @property
    def liver(self) -> Corner:
        """The corner of normal liver that the models were fitted in: nominal alpha/beta, full repair."""
        return Corner(self.nominal_liver_gy, None)

    @property
    def tumour(self) -> Corner:
        """The corner of lesions: nominal alpha/beta, full repair."""
        return Corner(self.nominal_tumour_gy, None)

    @property
    def organs(self) -> Corner:
        """The corner of other organs: one alpha/beta, full repair."""
        return Corner(self.organs_gy, None)


@dataclass(frozen=True, slots=True, eq=False)
class Probability:
    """A probability with its value at every corner; ``value`` is None where the model is not applied, with a reason.

    ``trusted`` is False where the arm lies outside the range of the model, or where its parameters are ``generic``.
    """

    model: ModelCard
    value: float | None
    low: float | None
    high: float | None
    trusted: bool
    reason: str = ""
    band: str = ""
    generic: bool = False
    corners: Mapping[tuple[float, ...], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class BiologyOfArm:
    """Biological doses of one arm.

    Attributes
    ----------
    bed
        Structure to corner to DVH of the BED.
    bed_of_liver_gy
        Repair half-time (None for full repair) to BED per voxel for the liver's nominal alpha/beta.
    spared_cc
        Normal liver below 15 Gy, for courses of few fractions.
    """

    bed: Mapping[str, Mapping[Corner, Dvh]]
    bed_of_liver_gy: Mapping[float | None, Volume]
    complications: tuple[Probability, ...]
    control: tuple[Probability, ...]
    spared_cc: float | None
    notes: tuple[Note, ...]

    def eqd2(self, structure: str, corner: Corner) -> Dvh | None:
        """Return the DVH of the EQD2 of a structure, or None where it was not calculated."""
        found = self.bed.get(structure, {}).get(corner)
        return None if found is None else scaled(found, 1.0 / (1.0 + 2.0 / corner.alpha_beta_gy))


def scaled(curve: Dvh, factor: float) -> Dvh:
    """Return a DVH with all doses multiplied by a factor: from BED to EQD2 of one alpha/beta."""
    return replace(
        curve,
        dose_gy=curve.dose_gy * factor,
        min_gy=curve.min_gy * factor,
        mean_gy=curve.mean_gy * factor,
        max_gy=curve.max_gy * factor,
    )


def biology_of_arm(
    course: CourseDose,
    masks: Mapping[str, Fractions],
    grid: Grid,
    assumptions: Assumptions,
    *,
    normal_liver: str,
    lesions: str,
    liver_parts: Sequence[str] = (),
    organs: Sequence[str] = (),
    fractions: int,
    largest_dose_per_fraction_gy: float,
    physical: Mapping[str, Dvh],
) -> BiologyOfArm:
    """Calculate the biology of one arm.

    Parameters
    ----------
    masks, grid
        Partial-volume masks by structure and the grid that they lie on.
    normal_liver, lesions
        Names of the structures that complications and control are calculated for.
    liver_parts
        Structures that are judged with the liver's nominal alpha/beta at all repair half-times.
    organs
        Structures that are judged with the organs' alpha/beta and full repair.
    fractions, largest_dose_per_fraction_gy
        Of the plan with the most fractions, and of all prescriptions.
    physical
        DVHs of the physical dose of the course.
    """
    bed: dict[str, dict[Corner, Dvh]] = {}
    of_liver: dict[float | None, Volume] = {}

    def add(corner: Corner, names: Sequence[str]) -> Volume | None:
        wanted = [name for name in names if name in masks]
        if not wanted:
            return None
        volume = bed_volume(course, corner)
        for name in wanted:
            bed.setdefault(name, {})[corner] = dvh(volume, masks[name], grid, name=name)
        return volume

    for half_time in assumptions.repairs:
        for alpha_beta in assumptions.liver_gy:
            nominal = alpha_beta == assumptions.nominal_liver_gy
            names = [normal_liver, *(liver_parts if nominal else ())]
            volume = add(Corner(alpha_beta, half_time), names)
            if nominal:
                of_liver[half_time] = volume or bed_volume(course, Corner(alpha_beta, half_time))
        for alpha_beta in assumptions.tumour_gy:
            add(Corner(alpha_beta, half_time), [lesions])
    add(assumptions.organs, organs)
    complications: list[Probability] = []
    spared: float | None = None
    if normal_liver in bed:
        complications.append(rild_over_corners(bed[normal_liver], assumptions, largest_dose_per_fraction_gy))
        if fractions <= FEW_FRACTIONS and normal_liver in physical:
            whole = physical[normal_liver]
            complications.append(_of_estimate(hytec_enzyme_risk(whole.mean_gy, fractions), "its slope"))
            spared = spared_volume_cc(0.5 * (whole.dose_gy[:-1] + whole.dose_gy[1:]), whole.differential_cc)
    control = _control(bed[lesions], assumptions, fractions) if lesions in bed else []
    notes = tuple(dict.fromkeys(course.notes()))
    return BiologyOfArm(bed, of_liver, tuple(complications), tuple(control), spared, notes)


def bed_volume(course: CourseDose, corner: Corner) -> Volume:
    """Return the BED per voxel of a course at a corner, summed session by session."""
    if corner.half_time_h is None:
        bed = course.eqd2_gy(corner.alpha_beta_gy) * (1.0 + 2.0 / corner.alpha_beta_gy)
    else:
        bed = course.bed_gy(corner.alpha_beta_gy, Repair.mono(corner.half_time_h))
    return Volume(course.grid, np.asarray(bed, dtype=np.float32))


def rild_over_corners(curves: Mapping[Corner, Dvh], assumptions: Assumptions, per_fraction_gy: float) -> Probability:
    """Return the risk of RILD over alpha/beta, repair and TD50.

    TD50 was fitted at 1.5 Gy per fraction and is converted to EQD2 with the alpha/beta of each corner.
    """
    primary = assumptions.liver_disease == "primary"
    model = RILD_PRIMARY if primary else RILD_METASTASES
    fitted_gy = (RILD_PRIMARY_1_5_GY if primary else RILD_METASTASES_1_5_GY).td50_gy
    corners: dict[tuple[float, ...], float] = {}
    for corner, curve in curves.items():
        alpha_beta = corner.alpha_beta_gy
        middles = 0.5 * (curve.dose_gy[:-1] + curve.dose_gy[1:]) / (1.0 + 2.0 / alpha_beta)
        equivalent = geud_gy(middles, 1.0 / model.n, curve.differential_cc)
        td50 = fitted_gy * (1.5 + alpha_beta) / (2.0 + alpha_beta)
        for share in TD50_SHARES:
            key = (alpha_beta, corner.half_time_h or 0.0, share)
            corners[key] = float(model.probability(equivalent, td50 * share))
    trusted = per_fraction_gy <= FIT_DOSE_PER_FRACTION_GY
    return Probability(
        model.card,
        corners[assumptions.nominal_liver_gy, 0.0, 1.0],
        min(corners.values()),
        max(corners.values()),
        trusted,
        "" if trusted else f"{per_fraction_gy:g} Gy per fraction lies outside the fit (1.5 Gy twice daily)",
        f"α/β {assumptions.liver_gy[0]:g} to {assumptions.liver_gy[-1]:g} Gy, full repair and half-times "
        f"{assumptions.half_times_h[0]:g} to {assumptions.half_times_h[-1]:g} h, TD50 ± 10 %",
        corners=corners,
    )


def _control(curves: Mapping[Corner, Dvh], assumptions: Assumptions, fractions: int) -> list[Probability]:
    corners: dict[tuple[float, ...], float] = {}
    for corner, curve in curves.items():
        middles = 0.5 * (curve.dose_gy[:-1] + curve.dose_gy[1:])
        for alpha in ALPHA_PER_GY:
            key = (corner.alpha_beta_gy, corner.half_time_h or 0.0, alpha)
            corners[key] = poisson_tcp(middles, curve.differential_cc, alpha_per_gy=alpha)
    poisson = Probability(
        POISSON,
        corners[assumptions.nominal_tumour_gy, 0.0, ALPHA_PER_GY[1]],
        min(corners.values()),
        max(corners.values()),
        False,
        "generic parameters: only the order of two arms means anything",
        f"α/β {assumptions.tumour_gy[0]:g} to {assumptions.tumour_gy[-1]:g} Gy, α {ALPHA_PER_GY[0]:g} to "
        f"{ALPHA_PER_GY[-1]:g} per Gy (assumed), full repair and half-times {assumptions.half_times_h[0]:g} to "
        f"{assumptions.half_times_h[-1]:g} h",
        generic=True,
        corners=corners,
    )
    bed10 = curves.get(Corner(10.0, None))
    if bed10 is None:
        return [poisson]
    covered = float(bed10.dose_at_percent_gy(95.0))
    estimate = hytec_local_control(covered, fractions)
    if fractions > FEW_FRACTIONS:
        reason = f"not applied: {fractions} fractions are not SBRT, which its data are from"
        return [poisson, Probability(estimate.model, None, None, None, False, reason)]
    control = _of_estimate(estimate, "its slope")
    return [poisson, replace(control, band=f"{control.band}; BED10 of 95 % of the lesions {covered:.1f} Gy")]


def _of_estimate(estimate: Estimate, over: str) -> Probability:
    warnings = [note.message for note in estimate.notes if note.level == "warning"]
    return Probability(
        estimate.model,
        estimate.value,
        estimate.low,
        estimate.high,
        not warnings,
        "; ".join(warnings),
        f"over {over}",
    )
