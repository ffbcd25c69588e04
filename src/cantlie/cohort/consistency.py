"""Rules across rows and tables of a cohort: references, the order of dates, and what cannot both be true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from cantlie.cohort.schema import PROGRESSION_KINDS
from cantlie.cohort.validation import CheckedTable, Problem


def check_consistency(tables: Mapping[str, CheckedTable]) -> list[Problem]:
    """Return every broken rule across the rows and tables of a cohort."""
    problems: list[Problem] = []
    for rule in (
        _references,
        _patient_dates,
        _child_pugh,
        _periods,
        _events,
        _after_death,
        _outcomes,
        _courses,
        _responses,
    ):
        problems += list(rule(tables))
    return problems


def _patients(tables: Mapping[str, CheckedTable]) -> pd.DataFrame:
    return tables["patients"].frame.drop_duplicates("patient_id").set_index("patient_id")


def _day(value: pd.Timestamp) -> str:
    return value.strftime("%Y-%m-%d")


def _references(tables: Mapping[str, CheckedTable]) -> Iterator[Problem]:
    patients = set(tables["patients"].frame["patient_id"])
    lesions = set()
    if "lesions" in tables:
        frame = tables["lesions"].frame
        lesions = set(zip(frame["patient_id"], frame["lesion_id"], strict=True))
    for name, table in tables.items():
        if name == "patients":
            continue
        known = table.frame["patient_id"].isin(patients).to_numpy()
        for position in np.flatnonzero(~known):
            yield table.problem(
                int(position),
                "patient_id",
                "unknown-patient",
                f"patient {table.frame['patient_id'].iloc[position]!r} is not in the table patients",
                "add the patient or correct the identifier",
            )
        if "lesion_id" not in table.frame or name == "lesions" or not lesions:
            continue
        new = table.frame["new"].eq("yes") if "new" in table.frame else pd.Series(False, index=table.frame.index)
        for position in np.flatnonzero((table.frame["lesion_id"].notna() & ~new).to_numpy()):
            row = table.frame.iloc[int(position)]
            if row["patient_id"] in patients and (row["patient_id"], row["lesion_id"]) not in lesions:
                yield table.problem(
                    int(position),
                    "lesion_id",
                    "unknown-lesion",
                    f"lesion {row['lesion_id']!r} of the patient is not in the table lesions",
                    "add the lesion, or mark it as new",
                )


def _patient_dates(tables: Mapping[str, CheckedTable]) -> Iterator[Problem]:
    table = tables["patients"]
    order = ("primary_diagnosed", "metastasis_diagnosed", "treatment_start")
    for early, late in pairwise(order):
        wrong = (table.frame[late] < table.frame[early]).to_numpy()
        for position in np.flatnonzero(wrong):
            row = table.frame.iloc[int(position)]
            yield table.problem(
                int(position),
                late,
                "order-of-dates",
                f"{late} {_day(row[late])} lies before {early} {_day(row[early])}",
                "correct one of the dates",
            )


def _child_pugh(tables: Mapping[str, CheckedTable]) -> Iterator[Problem]:
    table = tables["patients"]
    for position, (score, grade) in enumerate(
        zip(table.frame["child_pugh_score"], table.frame["child_pugh_class"], strict=True)
    ):
        if grade is None or not np.isfinite(score):
            continue
        expected = "A" if score <= 6 else "B" if score <= 9 else "C"
        if grade != expected:
            yield table.problem(
                position,
                "child_pugh_class",
                "child-pugh",
                f"{score:g} points are class {expected}, not {grade}",
                "correct the points or the class",
            )


def _periods(tables: Mapping[str, CheckedTable]) -> Iterator[Problem]:
    for name in ("courses", "drugs"):
        if name not in tables:
            continue
        table = tables[name]
        for position in np.flatnonzero((table.frame["end"] < table.frame["start"]).to_numpy()):
            row = table.frame.iloc[int(position)]
            yield table.problem(
                int(position),
                "end",
                "end-before-start",
                f"the end {_day(row['end'])} lies before the start {_day(row['start'])}",
                "correct one of the dates",
            )


def _events(tables: Mapping[str, CheckedTable]) -> Iterator[Problem]:
    if "events" not in tables:
        return
    table = tables["events"]
    patients = _patients(tables)
    start = table.frame["patient_id"].map(patients["treatment_start"])
    kinds = (*PROGRESSION_KINDS, "death", "last_follow_up", "last_imaging")
    early = ((table.frame["date"] < start) & table.frame["kind"].isin(kinds)).to_numpy()
    for position in np.flatnonzero(early):
        row = table.frame.iloc[int(position)]
        yield table.problem(
            int(position),
            "date",
            "follow-up-before-start",
            f"{row['kind']} on {_day(row['date'])} lies before the start of treatment "
            f"{_day(start.iloc[int(position)])}",
            "correct one of the dates",
        )
    deaths = table.frame["kind"].eq("death").to_numpy()
    seen: dict[str, int] = {}
    for position in np.flatnonzero(deaths):
        patient = table.frame["patient_id"].iloc[int(position)]
        if patient in seen:
            yield table.problem(
                int(position),
                "kind",
                "two-deaths",
                f"the patient has died already in row {seen[patient]}",
                "keep one of the two rows",
            )
        else:
            seen[patient] = int(table.rows[int(position)])


def _after_death(tables: Mapping[str, CheckedTable]) -> Iterator[Problem]:
    if "events" not in tables:
        return
    events = tables["events"].frame
    death = events[events["kind"].eq("death")].drop_duplicates("patient_id").set_index("patient_id")["date"]
    if death.empty:
        return
    for name in ("events", "assessments", "measurements", "labs", "toxicities"):
        if name not in tables:
            continue
        table = tables[name]
        died = pd.to_datetime(table.frame["patient_id"].map(death))
        for position in np.flatnonzero((table.frame["date"] > died).to_numpy()):
            row = table.frame.iloc[int(position)]
            yield table.problem(
                int(position),
                "date",
                "after-death",
                f"{_day(row['date'])} lies after the death of the patient on {_day(died.iloc[int(position)])}",
                "correct one of the dates",
            )
    if "courses" in tables:
        table = tables["courses"]
        died = pd.to_datetime(table.frame["patient_id"].map(death))
        for position in np.flatnonzero((table.frame["start"] > died).to_numpy()):
            yield table.problem(
                int(position), "start", "after-death", "the course begins after the death of the patient",
                "correct one of the dates",
            )  # fmt: skip


def _outcomes(tables: Mapping[str, CheckedTable]) -> Iterator[Problem]:
    if "outcomes" not in tables:
        return
    table = tables["outcomes"]
    both = table.frame["competing"].eq("yes") & table.frame["event"].eq(1)
    for wrong in np.flatnonzero(both.to_numpy()):
        yield table.problem(
            int(wrong), "competing", "event-and-competing",
            "the event was seen and a death came before it, which cannot both be true",
            "write event 0 where a death came first",
        )  # fmt: skip
    patient_level = table.frame[table.frame["lesion_id"].isna()]
    overall = patient_level[patient_level["endpoint"].eq("OS")].drop_duplicates("patient_id").set_index("patient_id")
    for endpoint in ("PFS", "RFS", "DFS", "EFS"):
        rows = patient_level[patient_level["endpoint"].eq(endpoint)]
        for position, row in rows.iterrows():
            if row["patient_id"] not in overall.index:
                continue
            os_months = float(overall.loc[row["patient_id"], "time_months"])
            if row["time_months"] > os_months + 1e-9:
                yield table.problem(
                    int(str(position)),
                    "time_months",
                    "pfs-after-os",
                    f"{endpoint} of {row['time_months']:g} months is longer than OS of {os_months:g} months",
                    "correct one of the times",
                )


def _courses(tables: Mapping[str, CheckedTable]) -> Iterator[Problem]:
    if "courses" not in tables:
        return
    table = tables["courses"]
    columns = (table.frame[name].to_numpy(float) for name in ("fractions", "dose_per_fraction_gy", "dose_gy"))
    for position, (fractions, each_gy, total_gy) in enumerate(zip(*columns, strict=True)):
        if abs(fractions * each_gy - total_gy) > 0.02 * total_gy + 0.05:
            yield table.problem(
                position,
                "dose_gy",
                "dose-and-fractions",
                f"{fractions:g} fractions of {each_gy:g} Gy are {fractions * each_gy:g} Gy, not {total_gy:g} Gy",
                "correct one of the three",
            )


_VALUES = {
    "response": ("CR", "PR", "SD", "PD", "NE"),
    "ascites": ("none", "mild", "moderate"),
    "ecog": tuple(str(i) for i in range(6)),
    "kps": tuple(str(i) for i in range(0, 101, 10)),
    "child_pugh_score": tuple(str(i) for i in range(5, 16)),
}


def _responses(tables: Mapping[str, CheckedTable]) -> Iterator[Problem]:
    if "assessments" not in tables:
        return
    table = tables["assessments"]
    for position, (kind, value) in enumerate(zip(table.frame["kind"], table.frame["value"], strict=True)):
        allowed = _VALUES.get(str(kind))
        if allowed and value is not None and str(value) not in allowed:
            yield table.problem(
                position,
                "value",
                "unknown-finding",
                f"{value!r} is not a finding of {kind}",
                f"findings: {', '.join(allowed)}",
            )
