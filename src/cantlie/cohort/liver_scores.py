"""Liver function scores of a cohort's patients, derived from its laboratory values: the table ``liver_scores``.

It stands beside the tables that are read: a study's variable names it as its source (``liver_scores.albi_grade``), with
dates and windows like any other table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cantlie.cohort.liver_function import (
    albi,
    albi_grade,
    child_pugh,
    meld,
    meld_3,
    meld_na,
    modified_albi_grade,
)
from cantlie.cohort.schema import LIVER_SCORES
from cantlie.cohort.tables import Cohort, typed_table

SAME_TIME_DAYS = 7
SAME_FINDING_DAYS = 30
_UMOL_PER_MG_DL = {"BILIRUBIN": 17.1, "CREATININE": 88.4}


def liver_scores(cohort: Cohort) -> pd.DataFrame:
    """Return ALBI, Child-Pugh and MELD of every patient on every day with a bilirubin.

    Other laboratory values are those nearest in time, within 7 days; ascites is that of the nearest assessment within
    30 days, else that of the table ``patients``, which like its encephalopathy holds until a week after the start of
    treatment. A score whose parts are not all there is missing. MELD counts no dialysis, which the tables do not hold.
    """
    labs = cohort.table("labs")
    values = {str(test): _by_patient(rows, "value") for test, rows in labs[labs["value"] > 0].groupby("test")}
    findings = cohort.table("assessments")
    ascites = _by_patient(findings[findings["kind"] == "ascites"], "value")
    patients = {str(row["patient_id"]): row for row in cohort.patients.to_dict("records")}
    rows = []
    for patient_id, dated in values.get("BILIRUBIN", {}).items():
        baseline: Mapping[Any, Any] = patients[patient_id]
        for date, bilirubin in dated:
            near = {
                test: _nearest(by_patient.get(patient_id, ()), date, SAME_TIME_DAYS)
                for test, by_patient in values.items()
            }
            before = _at_baseline(baseline, date)
            fluid = _nearest(ascites.get(patient_id, ()), date, SAME_FINDING_DAYS)
            fluid = fluid if fluid is not None else baseline["ascites"] if before else None
            mind = baseline["encephalopathy_grade"] if before else None
            rows.append(
                {"patient_id": patient_id, "date": date} | _scores(float(bilirubin), near, fluid, mind, baseline["sex"])
            )
    return typed_table(LIVER_SCORES, pd.DataFrame(rows, columns=[column.name for column in LIVER_SCORES.columns]))


Dated = list[tuple[pd.Timestamp, Any]]


def _by_patient(rows: pd.DataFrame, column: str) -> dict[str, Dated]:
    kept = rows[rows["date"].notna() & rows[column].notna()].sort_values("date", kind="stable")
    return {
        str(patient): list(zip(own["date"], own[column], strict=True))
        for patient, own in kept.groupby("patient_id", sort=False)
    }


def _nearest(dated: Dated | tuple[()], date: pd.Timestamp, days: int) -> Any:
    """Return the value nearest in time, the earlier of two; None where none is near."""
    within = [(abs((day - date).days), n) for n, (day, _) in enumerate(dated) if abs((day - date).days) <= days]
    return dated[min(within)[1]][1] if within else None


def _at_baseline(patient: Mapping[Any, Any], date: pd.Timestamp) -> bool:
    start = patient["treatment_start"]
    return bool(pd.isna(start)) or (date - start).days <= SAME_TIME_DAYS


def _scores(
    bilirubin_umol_l: float, near: Mapping[str, Any], ascites: Any, encephalopathy: Any, sex: Any
) -> dict[str, Any]:
    albumin, inr, creatinine, sodium = (near.get(test) for test in ("ALBUMIN", "INR", "CREATININE", "SODIUM"))
    result: dict[str, Any] = {}
    if albumin is not None:
        score = albi(bilirubin_umol_l, albumin)
        result |= {"albi": score, "albi_grade": albi_grade(score), "malbi_grade": modified_albi_grade(score)}
    known = isinstance(ascites, str) and not pd.isna(encephalopathy)
    if albumin is not None and inr is not None and known:
        points = child_pugh(bilirubin_umol_l, albumin, inr, ascites, int(encephalopathy))
        result |= {"child_pugh_score": points.score, "child_pugh_class": points.grade}
    if inr is not None and creatinine is not None:
        bilirubin = bilirubin_umol_l / _UMOL_PER_MG_DL["BILIRUBIN"]
        creatinine /= _UMOL_PER_MG_DL["CREATININE"]
        result["meld"] = meld(bilirubin, inr, creatinine)
        if sodium is not None:
            result["meld_na"] = meld_na(bilirubin, inr, creatinine, sodium)
        if sodium is not None and albumin is not None and sex in ("female", "male"):
            result["meld_3"] = meld_3(bilirubin, inr, creatinine, sodium, albumin / 10, female=sex == "female")
    return result
