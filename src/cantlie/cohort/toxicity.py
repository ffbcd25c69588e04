"""Toxicity: laboratory grades by CTCAE 4.03, 5.0, 6.0 and RTOG from rules kept as data; worst grades in a window."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

from cantlie.cohort.tables import Cohort
from cantlie.cohort.units import TESTS
from cantlie.core.errors import CohortError
from cantlie.core.notes import Note

LAB_SCALES = ("CTCAE-4.03", "CTCAE-5.0", "CTCAE-6.0", "RTOG")
_TERMS = {
    "ALT": "alanine aminotransferase increased",
    "AST": "aspartate aminotransferase increased",
    "ALP": "alkaline phosphatase increased",
    "GGT": "GGT increased",
    "BILIRUBIN": "blood bilirubin increased",
    "ALBUMIN": "hypoalbuminemia",
    "WBC": "white blood cell decreased",
    "ANC": "neutrophil count decreased",
    "PLATELETS": "platelet count decreased",
    "HAEMOGLOBIN": "anemia",
    "CREATININE": "creatinine increased",
    "INR": "INR increased",
}
_VERSION_ALIASES = {
    "4": "CTCAE-4.03", "4.0": "CTCAE-4.03", "4.3": "CTCAE-4.03", "4.03": "CTCAE-4.03",
    "5": "CTCAE-5.0", "5.0": "CTCAE-5.0", "6": "CTCAE-6.0", "6.0": "CTCAE-6.0",
}  # fmt: skip


def ctcae_version(printed: str) -> tuple[str, Note | None]:
    """Return the scale for a printed version number, with a note where that version does not exist.

    Raises
    ------
    CohortError
        If the version is not known.
    """
    number = printed.lower().removeprefix("ctcae").strip(" -v")
    if number not in _VERSION_ALIASES:
        raise CohortError(f"CTCAE version {printed!r} is not known", where="toxicity", remedy="give 4.03, 5.0 or 6.0")
    scale = _VERSION_ALIASES[number]
    if number == "4.3":
        return scale, Note("there is no CTCAE 4.3; taken as 4.03", "toxicity criteria")
    return scale, None


@cache
def _rules() -> tuple[dict[str, Any], ...]:
    text = resources.files("cantlie.cohort").joinpath("data/ctcae_labs.toml").read_text("utf-8")
    return tuple(tomllib.loads(text)["rule"])


def grade_lab(
    test: str,
    value: float,
    *,
    scale: str,
    uln: float = math.nan,
    lln: float = math.nan,
    baseline: float = math.nan,
) -> int | None:
    """Return the grade (0 to 4) of a laboratory value, or None where a limit that the rule needs is not known.

    Parameters
    ----------
    test
        Code of ``cantlie.cohort.units.TESTS``.
    value, uln, lln, baseline
        In the unit of the test there; ``baseline`` is the patient's value before treatment.
    scale
        ``CTCAE-4.03``, ``CTCAE-5.0``, ``CTCAE-6.0`` or ``RTOG``.

    Raises
    ------
    CohortError
        If the scale has no rule for the test.
    """
    rules = [rule for rule in _rules() if test in rule["tests"] and scale in rule["versions"]]
    if not rules:
        raise CohortError(f"{scale} has no laboratory rule for {test}", where="toxicity", remedy="grade it by hand")
    if math.isnan(value):
        return None
    abnormal = (not math.isnan(uln) and baseline > uln) if rules[0]["direction"] == "high" else baseline < lln
    special = [rule for rule in rules if rule.get("when") == "baseline_abnormal"]
    if special and abnormal:
        return _grade(special[0], value, uln, lln, baseline)
    main = next(rule for rule in rules if "when" not in rule)
    grade = _grade(main, value, uln, lln, baseline)
    for rule in rules:
        if rule.get("when") == "also" and not math.isnan(baseline):
            other = _grade(rule, value, uln, lln, baseline)
            grade = other if grade is None else max(grade, other or 0)
    return grade


def _grade(rule: dict[str, Any], value: float, uln: float, lln: float, baseline: float) -> int | None:
    basis = {"uln": uln, "lln": lln, "baseline": baseline, "absolute": 1.0}
    grade: int | None = 0
    for number, (factor, name) in enumerate(rule["limits"], start=1):
        limit = factor * basis[name]
        if math.isnan(limit):
            grade = None if grade == 0 else grade
            continue
        inclusive = number == 1 and rule.get("inclusive_first", False)
        if rule["direction"] == "high":
            beyond = value > limit * (1 + 1e-12) or (inclusive and value >= limit * (1 - 1e-12))
        else:
            beyond = value < limit * (1 - 1e-12) or (inclusive and value <= limit * (1 + 1e-12))
        if beyond:
            grade = number
    return grade


def grade_labs(cohort: Cohort, *, scale: str) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """Grade all laboratory values of a cohort that the scale has rules for.

    The baseline is the last value up to the start of treatment. Where a row has no limit of normal, a usual one is
    taken and a note says so.

    Returns
    -------
    frame, notes
        Columns patient_id, date, test, term, scale, grade, baseline (True for values up to the start of treatment).
    """
    if scale not in LAB_SCALES:
        raise CohortError(f"no scale is called {scale!r}", where="toxicity", remedy=f"scales: {', '.join(LAB_SCALES)}")
    known = {test for rule in _rules() if scale in rule["versions"] for test in rule["tests"]}
    labs = cohort.table("labs")
    labs = labs[labs["test"].isin(known)].sort_values(["patient_id", "test", "date"], kind="stable")
    start = pd.to_datetime(labs["patient_id"].map(cohort.patients.set_index("patient_id")["treatment_start"]))
    before = (labs["date"] <= start).to_numpy()
    baselines = (
        labs[before].drop_duplicates(["patient_id", "test"], keep="last").set_index(["patient_id", "test"])["value"]
    )
    grades: list[float] = []
    assumed: dict[str, int] = {}
    for patient, test, value, lln, uln in zip(
        labs["patient_id"], labs["test"], labs["value"], labs["lln"], labs["uln"], strict=True
    ):
        limits = TESTS[test]
        needed = _needs(test, scale)
        if "uln" in needed and np.isnan(uln) and limits.default_uln is not None:
            uln = limits.default_uln
            assumed[test] = assumed.get(test, 0) + 1
        if "lln" in needed and np.isnan(lln) and limits.default_lln is not None:
            lln = limits.default_lln
            assumed[test] = assumed.get(test, 0) + 1
        baseline = float(baselines.get((patient, test), math.nan))
        grade = grade_lab(test, float(value), scale=scale, uln=float(uln), lln=float(lln), baseline=baseline)
        grades.append(math.nan if grade is None else grade)
    frame = pd.DataFrame(
        {
            "patient_id": labs["patient_id"].to_numpy(),
            "date": labs["date"].to_numpy(),
            "test": labs["test"].to_numpy(),
            "term": [_TERMS[test] for test in labs["test"]],
            "scale": scale,
            "grade": np.asarray(grades, dtype=float),
            "baseline": before,
        }
    )
    notes = tuple(
        Note(f"{count} values have no limit of normal; a usual one was taken", f"labs, {test}")
        for test, count in sorted(assumed.items())
    )
    return frame, notes


@cache
def _needs(test: str, scale: str) -> frozenset[str]:
    return frozenset(
        basis for rule in _rules() if test in rule["tests"] and scale in rule["versions"] for _, basis in rule["limits"]
    )


@dataclass(frozen=True, slots=True)
class Window:
    """Days after the start of treatment that count, both ends included; infinity for no end."""

    name: str
    from_days: float
    to_days: float


ACUTE_90_DAYS = Window("acute (to 90 days)", 0, 90)
LATE_90_DAYS = Window("late (after 90 days)", 91, math.inf)


def months_window(name: str, from_months: float, to_months: float) -> Window:
    """Return a window given in months of 365.25/12 days, as the papers state theirs."""
    return Window(name, from_months * 365.25 / 12, to_months * 365.25 / 12)


def worst_grades(grades: pd.DataFrame, starts: pd.Series, window: Window | None) -> pd.Series:
    """Return the worst grade of each patient and term in a window; ``None`` takes values up to the start (baseline).

    Parameters
    ----------
    grades
        Columns patient_id, date, term, grade.
    starts
        Start of treatment by patient.

    Returns
    -------
    series
        Indexed by (patient_id, term); patients without a row in the window are not in it.
    """
    days = (grades["date"] - pd.to_datetime(grades["patient_id"].map(starts))).dt.days
    if window is None:
        chosen = grades[days <= 0].sort_values("date", kind="stable")
        return chosen.drop_duplicates(["patient_id", "term"], keep="last").set_index(["patient_id", "term"])["grade"]
    chosen = grades[(days > 0) & (days >= window.from_days) & (days <= window.to_days)]
    return chosen.groupby(["patient_id", "term"], sort=True)["grade"].max()


def grade_table(worst: pd.Series, terms: Sequence[str], *, size: int) -> pd.DataFrame:
    """Return how many patients have grade 1, 2, 3, 4 and 5 as their worst, and none, for each term.

    Parameters
    ----------
    worst
        From ``worst_grades``.
    size
        Number of patients of the cohort; those without a graded value count as ``not assessed``.
    """
    rows = []
    for term in terms:
        own = worst[worst.index.get_level_values("term") == term]
        row: dict[str, object] = {"term": term, **{f"g{g}": int((own == g).sum()) for g in range(6)}}
        row["not_assessed"] = size - int(own.notna().sum())
        rows.append(row)
    return pd.DataFrame(rows)
