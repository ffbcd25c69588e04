"""What dividing the liver into two plans does: the slab that both treat, the dose spilled into the other half, BED."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cantlie.core.volume import Volume
from cantlie.evaluation.dvh import Dvh, dvh
from cantlie.target.build import OVERLAP
from cantlie.workflow.planned_case import PlannedCase

NOTICEABLE_BED_GY = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class HalfOfArm:
    """One half of the liver.

    Attributes
    ----------
    target, ctv
        Names of its PTV and CTV.
    own_gy
        Mean dose that its own plan gives to its CTV.
    spilled
        DVH of the dose that the other half's plan gives to this CTV.
    spilled_percent
        Its mean, in % of the other half's prescription.
    """

    target: str
    ctv: str
    own_gy: float
    spilled: Dvh
    spilled_percent: float


@dataclass(frozen=True, slots=True, eq=False)
class HalvesOfArm:
    """The junction of two half-liver plans; ``overlap`` is the DVH of the course in the slab of both PTVs."""

    halves: tuple[HalfOfArm, HalfOfArm]
    overlap_cc: float
    overlap: Dvh | None
    explanation: str


@dataclass(frozen=True, slots=True)
class BedDifference:
    """BED of one arm minus that of another in normal liver, at one repair (half-time None: full repair).

    ``more_cc`` and ``less_cc`` are the volumes where the difference is above 1 Gy and below -1 Gy.
    """

    half_time_h: float | None
    mean_gy: float
    least_gy: float
    most_gy: float
    more_cc: float
    less_cc: float


def halves_of_arm(planned: PlannedCase) -> HalvesOfArm | None:
    """Return the junction of a case whose liver halves have a plan each, or None."""
    targets = planned.targets
    regions = targets.regions
    ids = [target.id for target in planned.protocol.targets if target.recipe.endswith("half_liver")]
    plans = {one.target.name: one for one in planned.planning.plans}
    if targets.halves is None or targets.junction is None or len(ids) != 2 or not set(ids) <= set(plans):
        return None
    ctvs = {name: planned.protocol.target(name).ctv_id for name in ids}
    halves = []
    for name, other in ((ids[0], ids[1]), (ids[1], ids[0])):
        mask = regions[ctvs[name]]
        own = planned.dosimetry.dvhs[name].get(ctvs[name]) or dvh(plans[name].dose, mask, regions.grid)
        spilled = planned.dosimetry.dvhs[other].get(ctvs[name]) or dvh(plans[other].dose, mask, regions.grid)
        percent = 100.0 * spilled.mean_gy / plans[other].target.prescription_gy
        halves.append(HalfOfArm(name, ctvs[name], own.mean_gy, spilled, percent))
    overlap = planned.dosimetry.dvhs["course"].get(OVERLAP)
    junction = targets.junction
    return HalvesOfArm((halves[0], halves[1]), junction.overlap_cc, overlap, junction.explanation)


def bed_difference(first: Volume, other: Volume, liver: Volume, half_time_h: float | None) -> BedDifference:
    """Return the difference of two BED distributions in normal liver, voxel by voxel on the first one's grid.

    Parameters
    ----------
    first, other
        BED in Gy.
    liver
        Partial-volume mask of normal liver on any grid.
    """
    grid = first.grid
    share = liver.resample(grid).values
    inside = share > 0.5
    difference = (first.values - other.resample(grid).values)[inside].astype(np.float64)
    weight = share[inside].astype(np.float64)
    if not weight.size:
        return BedDifference(half_time_h, 0.0, 0.0, 0.0, 0.0, 0.0)
    return BedDifference(
        half_time_h,
        float(weight @ difference / weight.sum()),
        float(difference.min()),
        float(difference.max()),
        float(weight[difference > NOTICEABLE_BED_GY].sum()) * grid.voxel_cc,
        float(weight[difference < -NOTICEABLE_BED_GY].sum()) * grid.voxel_cc,
    )
