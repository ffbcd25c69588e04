"""Patterns of failure: coded from events, and geometric from a recurrence contour and the planned dose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cantlie.cohort.schema import PROGRESSION_KINDS
from cantlie.cohort.tables import Cohort
from cantlie.core.errors import CohortError

PATTERNS = (
    "in-field",
    "out-field",
    "in-field and out-field",
    "distant only",
    "locoregional and distant",
)
"""As in Liu 2022, Table 3: the first three are locoregional only."""

Place = Literal["in-field", "marginal", "out-of-field"]


def failure_pattern(in_field: bool, out_field: bool, distant: bool) -> str | None:
    """Return the pattern of a patient's failures, None without any."""
    if distant:
        return "locoregional and distant" if in_field or out_field else "distant only"
    if in_field:
        return "in-field and out-field" if out_field else "in-field"
    return "out-field" if out_field else None


def coded_patterns(cohort: Cohort, *, within_days: int | None = None) -> pd.Series:
    """Return each patient's pattern of failure from the events, None without failure.

    Parameters
    ----------
    within_days
        Failures up to so many days after the first one make the pattern; None takes all (cumulative pattern).
    """
    events = cohort.table("events")
    events = events[events["kind"].isin([kind for kind in PROGRESSION_KINDS if kind != "progression"])]
    if within_days is not None:
        first = events.groupby("patient_id")["date"].transform("min")
        events = events[(events["date"] - first).dt.days <= within_days]
    has = {
        kind: set(events.loc[events["kind"] == kind, "patient_id"])
        for kind in ("local_progression", "new_liver_lesion", "extrahepatic_progression")
    }
    ids = cohort.patients["patient_id"]
    patterns = [
        failure_pattern(
            i in has["local_progression"], i in has["new_liver_lesion"], i in has["extrahepatic_progression"]
        )
        for i in ids
    ]
    return pd.Series(patterns, index=pd.Index(ids, name="patient_id"), dtype=object, name="failure_pattern")


@dataclass(frozen=True, slots=True)
class GeometricFailure:
    """Where a recurrence lies in the dose.

    ``fraction_high`` and ``fraction_low`` are the shares of its volume inside the high and the low isodose, and
    ``centroid_gy`` is the dose at its centre of mass.
    """

    place: Place
    fraction_high: float
    fraction_low: float
    mean_gy: float
    minimum_gy: float
    centroid_gy: float


def geometric_failure(
    recurrence: NDArray[np.floating],
    dose_gy: NDArray[np.floating],
    *,
    prescription_gy: float,
    high_percent: float = 80.0,
    low_percent: float = 50.0,
) -> GeometricFailure:
    """Return where a recurrence lies against the isodoses of the plan.

    Parameters
    ----------
    recurrence
        Partial-volume mask of the recurrence, shape [k, j, i], 0 to 1.
    dose_gy
        Dose on the same grid.
    high_percent, low_percent
        Isodoses in percent of the prescription. In-field: at least half of the volume inside the high isodose;
        marginal: not so, but at least half inside the low one or any part inside the high; else out-of-field.

    Raises
    ------
    CohortError
        If the arrays do not fit together or the recurrence is empty.
    """
    if recurrence.shape != dose_gy.shape:
        raise CohortError(
            f"the recurrence has shape {recurrence.shape}, the dose {dose_gy.shape}",
            where="failure pattern",
            remedy="resample the dose onto the grid of the contour (after registration of the follow-up image)",
        )
    weight = np.asarray(recurrence, dtype=np.float64)
    total = float(weight.sum())
    if total <= 0:
        raise CohortError("the recurrence is empty", where="failure pattern", remedy="give a contour with volume")
    if prescription_gy <= 0 or not 0 < low_percent < high_percent:
        raise CohortError(
            "the isodoses are not in order", where="failure pattern", remedy="give 0 < low < high and a positive dose"
        )
    dose = np.asarray(dose_gy, dtype=np.float64)
    high = float(weight[dose >= prescription_gy * high_percent / 100].sum()) / total
    low = float(weight[dose >= prescription_gy * low_percent / 100].sum()) / total
    inside = np.nonzero(weight > 0)
    shares = weight[inside] / total
    centre = tuple(round(float((axis * shares).sum())) for axis in inside)
    place: Place = "in-field" if high >= 0.5 else "marginal" if low >= 0.5 or high > 0 else "out-of-field"
    return GeometricFailure(
        place, high, low, float((weight * dose).sum()) / total, float(dose[inside].min()), float(dose[centre])
    )
