"""Palliation of symptoms (pain, ascites, jaundice), and the course of tumour markers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cantlie.cohort.tables import Cohort
from cantlie.core.errors import CohortError

_ASCITES = {"none": 0, "mild": 1, "moderate": 2}


@dataclass(frozen=True, slots=True)
class Relief:
    """How many patients had a symptom before treatment, were assessed after it, and were relieved."""

    symptom: str
    with_symptom: int
    assessed: int
    relieved: int
    patients_relieved: tuple[str, ...]


def _before_after(cohort: Cohort, kind: str, within_days: int) -> list[tuple[str, str, list[str]]]:
    starts = cohort.patients.set_index("patient_id")["treatment_start"]
    rows = cohort.table("assessments")
    rows = rows[rows["kind"] == kind].sort_values("date", kind="stable")
    result = []
    for patient, own in rows.groupby("patient_id", sort=True):
        days = (own["date"] - starts[patient]).dt.days
        before = own.loc[days <= 0, "value"]
        after = own.loc[(days > 0) & (days <= within_days), "value"]
        if len(before):
            result.append((str(patient), str(before.iloc[-1]), [str(value) for value in after]))
    return result


def pain_relief(cohort: Cohort, *, within_days: int = 92) -> Relief:
    """Return relief of pain: a lower pain score (0 to 10), or less analgesic (WHO step 0 to 3).

    Raises
    ------
    CohortError
        If a score is not a number.
    """
    had, assessed, relieved = set(), set(), set()
    for kind in ("pain", "analgesic"):
        for patient, before, after in _before_after(cohort, kind, within_days):
            try:
                first, later = float(before), [float(value) for value in after]
            except ValueError as error:
                raise CohortError(
                    f"a value of {kind} is not a number", where="assessments, column value", remedy="give a score"
                ) from error
            if first > 0:
                had.add(patient)
                if later:
                    assessed.add(patient)
                if later and min(later) < first:
                    relieved.add(patient)
    return Relief("pain", len(had), len(assessed), len(relieved), tuple(sorted(relieved)))


def ascites_relief(cohort: Cohort, *, within_days: int = 92) -> Relief:
    """Return relief of ascites: a lower class (none, mild, moderate) by ultrasound than before treatment."""
    had, assessed, relieved = [], [], []
    for patient, before, after in _before_after(cohort, "ascites", within_days):
        if _ASCITES.get(before, 0) == 0:
            continue
        had.append(patient)
        if after:
            assessed.append(patient)
            if min(_ASCITES[value] for value in after) < _ASCITES[before]:
                relieved.append(patient)
    return Relief("ascites", len(had), len(assessed), len(relieved), tuple(relieved))


def jaundice_relief(cohort: Cohort, *, threshold_umol_l: float = 34.2, within_days: int = 92) -> Relief:
    """Return relief of jaundice: bilirubin above the threshold (2 mg/dL) before treatment and lower after it."""
    trend = marker_trend(cohort, "BILIRUBIN", within_days=within_days)
    jaundiced = trend[trend["baseline"] > threshold_umol_l]
    assessed = jaundiced[jaundiced["nadir"].notna()]
    relieved = assessed[assessed["nadir"] < assessed["baseline"]]
    return Relief("jaundice", len(jaundiced), len(assessed), len(relieved), tuple(relieved.index))


def marker_trend(cohort: Cohort, test: str, *, within_days: int = 183) -> pd.DataFrame:
    """Return the course of a marker (CEA, AFP, ...) for each patient who has it before treatment.

    Columns: baseline (last value up to the start), nadir and last within the days after it, change_percent (nadir
    against baseline), doubling_days (exponential growth of the last two values; NaN when not growing).
    """
    starts = cohort.patients.set_index("patient_id")["treatment_start"]
    labs = cohort.table("labs")
    labs = labs[labs["test"] == test].sort_values("date", kind="stable")
    rows = {}
    for patient, own in labs.groupby("patient_id", sort=True):
        days = (own["date"] - starts[patient]).dt.days.to_numpy()
        values = own["value"].to_numpy(dtype=float)
        before = values[days <= 0]
        if not len(before):
            continue
        later = (days > 0) & (days <= within_days)
        after = values[later]
        doubling = np.nan
        if len(after) >= 2 and after[-1] > after[-2] > 0:
            doubling = float(np.diff(days[later])[-1] * np.log(2) / np.log(after[-1] / after[-2]))
        rows[str(patient)] = {
            "baseline": float(before[-1]),
            "nadir": float(after.min()) if len(after) else np.nan,
            "last": float(after[-1]) if len(after) else np.nan,
            "change_percent": 100 * (float(after.min()) / float(before[-1]) - 1)
            if len(after) and before[-1]
            else np.nan,
            "doubling_days": doubling,
        }
    columns = ["baseline", "nadir", "last", "change_percent", "doubling_days"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float).rename_axis("patient_id")
