"""What was given on an earlier CT, as results.json and the report tell it."""

from __future__ import annotations

from typing import Any

import numpy as np

from cantlie.core.volume import Volume
from cantlie.workflow.image_link import link_results
from cantlie.workflow.limit_bands import LimitBand, bands_results, limit_bands
from cantlie.workflow.planned_case import PlannedCase


def earlier_results(planned: PlannedCase) -> dict[str, Any] | None:
    """Return what was given on the earlier CT as plain values for results.json."""
    earlier = planned.earlier
    if earlier is None:
        return None
    regions = planned.targets.regions
    rows = {}
    for name in ("Liver", "Liver-GTV", *sorted({row.evaluated_structure for row in planned.dosimetry.constraints})):
        if name not in regions or not regions[name].any():
            continue
        weight = Volume(regions.grid, regions[name]).resample(earlier.total.dose.grid).values
        if weight.sum() <= 0:
            continue
        dose, error = earlier.total.dose.values, earlier.total.uncertainty.values
        inside = weight >= 0.5
        rows[name] = {
            "mean_gy": float((weight * dose).sum(dtype=np.float64) / weight.sum(dtype=np.float64)),
            "max_gy": float(dose[inside].max()) if inside.any() else 0.0,
            "mean_uncertainty_gy": float((weight * error).sum(dtype=np.float64) / weight.sum(dtype=np.float64)),
        }
    return {
        "judged_on": "the new CT; the dose given on the earlier CT was deformed to it",
        "mapping": earlier.total.mapping,
        "sessions_given": earlier.sessions,
        "plans": [
            {"target": p.target, "fractions_given": p.given, "fractions_planned": p.plan.fractions,
             "prescribed_dose_given_gy": round(p.given_gy, 6)}
            for p in earlier.plans
        ],
        "dose_on_this_ct": rows,
        "limits": bands_results(earlier_bands(planned)),
        "registration": link_results(earlier.link),
    }  # fmt: skip


def earlier_bands(planned: PlannedCase) -> tuple[LimitBand, ...]:
    """Return the limits of the course with what the uncertainty of the earlier dose does to them."""
    earlier = planned.earlier
    assert earlier is not None
    return limit_bands(
        planned.dosimetry, planned.protocol, planned.targets.regions, planned.course_dose,
        earlier.total.dose, earlier.total.uncertainty,
    )  # fmt: skip


def rows_of_finished_targets(planned: PlannedCase) -> list[dict[str, Any]]:
    """Return the judged rows of plans that are wholly given, as the earlier run judged them on its CT."""
    if planned.earlier is None or planned.earlier_results is None:
        return []
    still = {one.target.name for one in planned.planning.plans}
    done = {plan.target for plan in planned.earlier.plans} - still
    return [
        {**row, "judged_on": "the earlier CT"}
        for row in planned.earlier_results.get("constraints", [])
        if row.get("scope") in done or (row.get("scope") == "plan" and row.get("structure") in done)
    ]
