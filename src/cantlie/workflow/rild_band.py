"""The risk of radiation-induced liver disease with its band over alpha/beta, repair between sessions and tolerance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.evaluation.dvh import dvh
from cantlie.patient.regions import Fractions
from cantlie.protocol.sections import Biology
from cantlie.radiobiology.model import Estimate
from cantlie.workflow.comparison_biology import Assumptions, Corner, rild_over_corners


def repairs_of(biology: Biology) -> tuple[float | None, ...]:
    """Return full repair and the ends of the band of repair half-times: the risk changes steadily between them."""
    times = Assumptions.of(biology).half_times_h
    return (None, *dict.fromkeys((times[0], times[-1])))


def with_band(
    estimate: Estimate,
    bed_of: Callable[[Corner], Volume],
    mask: Fractions,
    grid: Grid,
    biology: Biology,
    repairs: Sequence[float | None],
    largest_dose_per_fraction_gy: float,
) -> Estimate:
    """Return the risk of RILD with the band over all corners of what is uncertain.

    Parameters
    ----------
    estimate
        The nominal risk, from EQD2 with the protocol's alpha/beta and full repair; its value stays.
    bed_of
        BED per voxel of the course at a corner.
    mask, grid
        Liver without lesions and the grid that it lies on.
    repairs
        Repair half-times in h; None is full repair.
    """
    assumptions = Assumptions.of(biology)
    corners = [Corner(alpha_beta, half_time) for alpha_beta in assumptions.liver_gy for half_time in repairs]
    curves = {corner: dvh(bed_of(corner), mask, grid) for corner in corners}
    found = rild_over_corners(curves, assumptions, largest_dose_per_fraction_gy)
    low = estimate.low if found.low is None else min(found.low, estimate.low)
    high = estimate.high if found.high is None else max(found.high, estimate.high)
    times = [half_time for half_time in repairs if half_time is not None]
    over = f"α/β {assumptions.liver_gy[0]:g} to {assumptions.liver_gy[-1]:g} Gy, TD50 ± 10 %, full repair"
    over += f" and repair half-times of {min(times):g} to {max(times):g} h" if times else ""
    note = Note(f"the band is over {over}", estimate.model.name, "info")
    return replace(estimate, low=low, high=high, notes=(*estimate.notes, note))
