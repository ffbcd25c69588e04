"""The independent check of every plan: another algorithm, at points where the dose is high and even."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.dose.independent import independent_check
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.machine import Machine
from cantlie.plan.delivery import beam_fields
from cantlie.plan.request import PlannedTarget
from cantlie.report.case_report import CheckRow

LIMIT_PERCENT = 3.0
"""Agreement asked of the median: an alert, not a proof (AAPM TG-219, doi:10.1002/mp.15069, asks 3 to 5 %)."""

_ARC_STEP_DEG = 8.0


def check_plans(
    plans: Sequence[PlannedTarget], density: Volume, machine: Machine, model: BeamModel, progress: Progress = silent
) -> tuple[tuple[CheckRow, ...], tuple[Note, ...]]:
    """Compare the collapsed-cone dose of each plan with pencil kernels with path correction.

    Returns
    -------
    rows
        For each plan the median difference and the share of points within 5 %.
    notes
        A warning for each plan whose median lies beyond the limit.
    """
    rows: list[CheckRow] = []
    notes: list[Note] = []
    for number, planned in enumerate(plans):
        name = planned.target.name
        progress(number / len(plans), f"independent dose of {name}")
        fields = [field for beam in planned.plan.beams for field in beam_fields(beam, machine, model, _ARC_STEP_DEG)]
        fraction = Volume(planned.dose.grid, planned.dose.values / np.float32(planned.plan.fractions))
        check = independent_check(density, fields, model, fraction)
        median = check.median_percent
        within = 100.0 * check.share_within(5.0)
        limit = f"within ± {LIMIT_PERCENT:g} %"
        verdict = "pass" if abs(median) <= LIMIT_PERCENT else "fail"
        method = f"pencil kernels with path correction at {len(check.points_mm)} points of low gradient"
        rows.append(CheckRow(f"{name}: median difference", method, median, "%", limit, verdict))
        rows.append(CheckRow(f"{name}: points within 5 %", method, within, "%"))
        if verdict == "fail":
            notes.append(Note(f"the independent dose differs by {median:+.1f} % in the median", name))
    return tuple(rows), tuple(notes)
