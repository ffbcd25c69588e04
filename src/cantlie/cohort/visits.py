"""Visit schedules as data, and the list of what is done, due and overdue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from cantlie.cohort.tables import Cohort
from cantlie.cohort.variables import DAYS_PER_MONTH
from cantlie.core.errors import CohortError


@dataclass(frozen=True, slots=True)
class Interval:
    """Visits every ``every_months`` from ``from_months`` to ``to_months`` after the end of treatment."""

    from_months: float
    to_months: float
    every_months: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """A follow-up schedule.

    Parameters
    ----------
    fixed_months
        Visits at given months after the end of treatment.
    repeated
        Regular visits after them.
    tolerance_days
        How far from its day a visit still counts.
    items
        What is done at each visit.
    """

    fixed_months: tuple[float, ...] = ()
    repeated: tuple[Interval, ...] = ()
    tolerance_days: int = 30
    items: tuple[str, ...] = ()

    def planned_months(self, until_months: float) -> list[float]:
        """Return the months of all visits up to a time, in order."""
        months = {float(month) for month in self.fixed_months if month <= until_months}
        for interval in self.repeated:
            if interval.every_months <= 0:
                raise CohortError("visits every 0 months", where="schedule", remedy="give a positive interval")
            month = interval.from_months
            while month <= min(interval.to_months, until_months) + 1e-9:
                months.add(round(month, 6))
                month += interval.every_months
        return sorted(months)


def visit_list(cohort: Cohort, schedule: Schedule, *, today: pd.Timestamp) -> pd.DataFrame:
    """Return every planned visit of every patient alive: ``done``, ``missed``, ``due``, ``overdue`` or ``planned``.

    A visit is done when the patient was assessed, measured or had a laboratory value within the tolerance; overdue when
    the tolerance has passed without one since; missed when it has passed but the patient was seen later. Visits after
    death or loss to follow-up are not planned. The next visit after today is listed as planned.
    """
    ends = cohort.table("courses").groupby("patient_id")["end"].max()
    seen: dict[str, list[pd.Timestamp]] = {}
    for name in ("assessments", "measurements", "labs"):
        rows = cohort.table(name)
        for patient, day in zip(rows["patient_id"], rows["date"], strict=True):
            seen.setdefault(patient, []).append(day)
    events = cohort.table("events")
    stop = events[events["kind"].isin(["death", "lost_to_follow_up", "withdrawal"])].groupby("patient_id")["date"].min()
    tolerance = pd.Timedelta(days=schedule.tolerance_days)
    rows_out = []
    for patient, start in zip(cohort.patients["patient_id"], cohort.patients["treatment_start"], strict=True):
        origin = ends.get(patient, pd.NaT)
        origin = start if pd.isna(origin) else origin
        if pd.isna(origin):
            continue
        until = (today - origin).days / DAYS_PER_MONTH
        beyond = max([*schedule.fixed_months, *(i.every_months for i in schedule.repeated), 0.0]) + 1
        days = sorted(set(seen.get(patient, [])))
        planned_listed = False
        for month in schedule.planned_months(until + beyond):
            day = origin + pd.Timedelta(days=round(month * DAYS_PER_MONTH))
            if patient in stop.index and day > stop[patient]:
                break
            done = [d for d in days if abs(d - day) <= tolerance]
            if done:
                status = "done"
            elif day > today:
                status = "planned"
            elif day + tolerance >= today:
                status = "due"
            else:
                status = "missed" if any(d > day + tolerance for d in days) else "overdue"
            if status == "planned" and planned_listed:
                break
            planned_listed = planned_listed or status == "planned"
            rows_out.append(
                {
                    "patient_id": patient,
                    "month": month,
                    "date": day,
                    "status": status,
                    "seen": min(done, key=lambda d: abs(d - day)) if done else pd.NaT,
                    "items": ", ".join(schedule.items),
                }
            )
    return pd.DataFrame(rows_out, columns=pd.Index(["patient_id", "month", "date", "status", "seen", "items"]))


def patients_overdue(visits: pd.DataFrame) -> Sequence[str]:
    """Return the patients with an overdue visit."""
    return sorted(set(visits.loc[visits["status"] == "overdue", "patient_id"]))
