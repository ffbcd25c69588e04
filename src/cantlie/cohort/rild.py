"""Radiation-induced liver disease by four named definitions, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cantlie.cohort.schema import PROGRESSION_KINDS
from cantlie.cohort.tables import Cohort
from cantlie.cohort.units import TESTS

DEFINITIONS = {
    "classic": "anicteric ascites with alkaline phosphatase above 2 x ULN (or 2 x baseline), 2 weeks to 3 months after "
    "radiotherapy, without progression in the liver (QUANTEC, Pan 2010, doi:10.1016/j.ijrobp.2009.06.092)",
    "non_classic": "transaminases above 5 x ULN (or 5 x an abnormal baseline), or Child-Pugh score up by 2 or more, "
    "within 3 months after radiotherapy, without progression in the liver (QUANTEC)",
    "zhang2021": "alkaline phosphatase at least 2 x ULN and/or transaminases at least 4 x ULN (Zhang 2021)",
    "yin2014": "raised liver function tests and non-malignant ascites (Yin 2014)",
}


@dataclass(frozen=True, slots=True)
class RildFindings:
    """What the four definitions look at, for one patient; NaN where it was not measured.

    Values are the highest in the window; ratios are to the upper limit of normal or to the baseline. The two ratios of
    a transaminase are those of one enzyme: that which goes further by the rule of `judged_ratio`; the highest ratio of
    any to the upper limit of normal is ``any_transaminase_times_uln`` where it is another's.
    """

    alp_times_uln: float = np.nan
    alp_times_baseline: float = np.nan
    transaminase_times_uln: float = np.nan
    transaminase_times_baseline: float = np.nan
    any_transaminase_times_uln: float = np.nan
    bilirubin_times_uln: float = np.nan
    child_pugh_rise: float = np.nan
    new_ascites: bool = False
    liver_progression: bool = False


def judged_ratio(times_uln: float, times_baseline: float) -> float:
    """Return the ratio that counts: to the baseline where that was abnormal (above the ULN), else to the ULN."""
    return times_baseline if times_baseline < times_uln else times_uln


def rild_verdicts(findings: RildFindings) -> dict[str, bool | None]:
    """Return for each definition whether it is met; None where what it needs was not measured."""
    f = findings
    alp = judged_ratio(f.alp_times_uln, f.alp_times_baseline)
    transaminase = judged_ratio(f.transaminase_times_uln, f.transaminase_times_baseline)
    enzyme_uln = float(np.fmax(f.transaminase_times_uln, f.any_transaminase_times_uln))
    icteric = f.bilirubin_times_uln > 1.5
    highest_uln = np.array([f.alp_times_uln, enzyme_uln, f.bilirubin_times_uln])
    measured = ~np.isnan(highest_uln)
    classic = _all_known(f.new_ascites and not icteric and not f.liver_progression, alp, alp > 2)
    if classic and np.isnan(f.bilirubin_times_uln):
        classic = None  # whether it was anicteric is not known
    if np.isnan(transaminase) and np.isnan(f.child_pugh_rise):
        non_classic = None
    else:
        non_classic = bool(transaminase > 5 or f.child_pugh_rise >= 2) and not f.liver_progression
    if np.isnan(f.alp_times_uln) and np.isnan(enzyme_uln):
        zhang = None
    else:
        zhang = bool(f.alp_times_uln >= 2 or enzyme_uln >= 4)
    raised = bool((highest_uln[measured] > 1).any()) if measured.any() else None
    yin = None if raised is None else raised and f.new_ascites
    return {"classic": classic, "non_classic": non_classic, "zhang2021": zhang, "yin2014": yin}


def _all_known(clinical: bool, value: float, met: bool) -> bool | None:
    if not clinical:
        return False
    return None if np.isnan(value) else bool(met)


def assess_rild(cohort: Cohort, *, from_days: int = 14, to_days: int = 92) -> pd.DataFrame:
    """Return the verdict of the four definitions for every patient.

    Parameters
    ----------
    from_days, to_days
        Days after the end of radiotherapy (the last course; else the start of treatment) for the classic form; the
        other three take all days from the start of treatment to ``to_days`` after its end.

    Returns
    -------
    frame
        Indexed by patient_id, one column for each definition, True, False or None (not assessable).
    """
    ends = cohort.table("courses").groupby("patient_id")["end"].max()
    rows = {}
    for patient, start in zip(cohort.patients["patient_id"], cohort.patients["treatment_start"], strict=True):
        end = ends.get(patient, pd.NaT)
        end = start if pd.isna(end) else end
        last = end + pd.Timedelta(days=to_days)
        wide = _findings(cohort, patient, start, start + pd.Timedelta(days=1), last)
        narrow = _findings(cohort, patient, start, end + pd.Timedelta(days=from_days), last)
        verdicts = rild_verdicts(wide)
        verdicts["classic"] = rild_verdicts(narrow)["classic"]
        rows[patient] = verdicts
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(DEFINITIONS), dtype=object)
    return frame.rename_axis("patient_id")


def _findings(
    cohort: Cohort, patient: str, start: pd.Timestamp, first: pd.Timestamp, last: pd.Timestamp
) -> RildFindings:
    labs = cohort.table("labs")
    labs = labs[labs["patient_id"] == patient]

    def ratios(test: str) -> tuple[float, float]:
        own = labs[labs["test"] == test].sort_values("date", kind="stable")
        during = own[(own["date"] >= first) & (own["date"] <= last)]
        if during.empty:
            return np.nan, np.nan
        limits = during["uln"].fillna(TESTS[test].default_uln or np.nan)
        before = own.loc[(own["date"] <= start) & (own["value"] > 0), "value"]
        times_baseline = np.nan if before.empty else float(during["value"].max() / before.iloc[-1])
        return float((during["value"] / limits).max()), times_baseline

    found = cohort.table("assessments")
    found = found[found["patient_id"] == patient]
    within = found[(found["date"] >= first) & (found["date"] <= last)]
    before = found[found["date"] <= start]
    own_patient = cohort.patients.set_index("patient_id").loc[patient]
    ascites_before = own_patient["ascites"] in ("mild", "moderate") or bool(
        ((before["kind"] == "ascites") & before["value"].isin(["mild", "moderate"])).any()
    )
    ascites_after = bool(((within["kind"] == "ascites") & within["value"].isin(["mild", "moderate"])).any())
    scores = within.loc[within["kind"] == "child_pugh_score", "value"].astype(float)
    base_score = float(str(own_patient["child_pugh_score"]))
    events = cohort.table("events")
    liver = tuple(kind for kind in PROGRESSION_KINDS if kind != "extrahepatic_progression")
    progressed = events[(events["patient_id"] == patient) & events["kind"].isin(liver) & (events["date"] <= last)]
    alp, alp_base = ratios("ALP")
    enzymes = [ratios("ALT"), ratios("AST")]
    enzyme, enzyme_base = max(enzymes, key=lambda pair: np.nan_to_num(judged_ratio(*pair), nan=-1.0))
    return RildFindings(
        alp,
        alp_base,
        enzyme,
        enzyme_base,
        float(np.fmax(enzymes[0][0], enzymes[1][0])),
        ratios("BILIRUBIN")[0],
        float(scores.max()) - base_score if len(scores) else np.nan,
        ascites_after and not ascites_before,
        not progressed.empty,
    )
