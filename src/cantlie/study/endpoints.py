"""Endpoints as data: start, events, censoring and how death counts, worked out for each patient or each lesion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from cantlie.cohort.schema import EVENT_KINDS
from cantlie.cohort.tables import Cohort
from cantlie.cohort.variables import DAYS_PER_MONTH
from cantlie.core.errors import CohortError, ProtocolError
from cantlie.core.notes import Note

Death = Literal["event", "censors", "competes"]
CENSORED, EVENT, COMPETING = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One time-to-event endpoint.

    Parameters
    ----------
    name, label
        Identifier (OS, PFS, LC ...) and name in outputs.
    events
        Kinds of the table ``events`` that are the event; the first of them counts.
    death
        Death before the event: ``event`` (part of the endpoint), ``censors`` or ``competes``.
    start
        Column of ``patients`` with the first day, or a kind of event.
    last_seen
        Kinds of event that say until when the patient was without the event, in order of preference.
    level
        ``patient``, or ``lesion``: one row for each irradiated lesion.
    """

    name: str
    events: tuple[str, ...]
    death: Death
    label: str = ""
    start: str = "treatment_start"
    last_seen: tuple[str, ...] = ("last_follow_up", "lost_to_follow_up", "withdrawal")
    level: Literal["patient", "lesion"] = "patient"

    def __post_init__(self) -> None:
        unknown = [kind for kind in (*self.events, *self.last_seen) if kind not in EVENT_KINDS]
        if unknown:
            raise ProtocolError(
                f"no event is called {unknown[0]!r}",
                where=f"endpoint {self.name}",
                remedy=f"events: {', '.join(EVENT_KINDS)}",
            )

    def describe(self) -> str:
        """Return the definition in words, as a method section needs it."""
        events = " or ".join(kind.replace("_", " ") for kind in self.events) or "none"
        if self.death == "event" and "death" not in self.events:
            events += " or death from any cause"
        death = {"event": "", "censors": "; death censors", "competes": "; death is a competing event"}[self.death]
        each = " for each irradiated lesion" if self.level == "lesion" else ""
        return f"{self.label or self.name}{each}: from {self.start.replace('_', ' ')} to {events}{death}"


_LOCAL = ("local_progression",)
_ANY = ("local_progression", "new_liver_lesion", "extrahepatic_progression", "progression")
_DATED = ("events", "assessments", "measurements", "labs", "toxicities")
_IMAGED = ("last_imaging", "last_follow_up", "lost_to_follow_up", "withdrawal")

STANDARD: dict[str, Endpoint] = {
    endpoint.name: endpoint
    for endpoint in (
        Endpoint("OS", ("death",), "event", "Overall survival"),
        Endpoint("PFS", _ANY, "event", "Progression-free survival", last_seen=_IMAGED),
        Endpoint("LC", _LOCAL, "censors", "Local control, death censored", last_seen=_IMAGED),
        Endpoint("LPFS", _LOCAL, "event", "Local control, death as failure", last_seen=_IMAGED),
        Endpoint("LF", _LOCAL, "competes", "Local failure, death competing", last_seen=_IMAGED),
        Endpoint("LC_lesion", _LOCAL, "censors", "Local control per lesion", last_seen=_IMAGED, level="lesion"),
        Endpoint("DMFS", ("extrahepatic_progression",), "event", "Distant-metastasis-free survival", last_seen=_IMAGED),
        Endpoint(
            "DM", ("extrahepatic_progression",), "competes", "Distant metastasis, death competing", last_seen=_IMAGED
        ),
        Endpoint(
            "DMFS_lesion",
            ("new_liver_lesion", "extrahepatic_progression"),
            "event",
            "New-lesion-free survival per lesion",
            last_seen=_IMAGED,
            level="lesion",
        ),
    )
}
"""Endpoints with their usual definitions; local control in its three conventions (LC, LPFS, LF)."""


@dataclass(frozen=True, slots=True, eq=False)
class EndpointData:
    """Times of an endpoint.

    ``frame`` has the columns patient_id, lesion_id (None for patients), time_months and status: 0 censored, 1 event,
    2 competing death. ``notes`` name who could not be used and why.
    """

    endpoint: Endpoint
    frame: pd.DataFrame
    notes: tuple[Note, ...]

    @property
    def time_months(self) -> np.ndarray:
        """Times, shape (n,), months."""
        return self.frame["time_months"].to_numpy(dtype=float)

    @property
    def event(self) -> np.ndarray:
        """True where the event was seen, shape (n,)."""
        return self.frame["status"].to_numpy() == EVENT

    @property
    def status(self) -> np.ndarray:
        """0 censored, 1 event, 2 competing, shape (n,)."""
        return self.frame["status"].to_numpy(dtype=int)


def build_endpoint(cohort: Cohort, endpoint: Endpoint) -> EndpointData:
    """Return the times of an endpoint, from the events, or from the table ``outcomes`` when it holds the endpoint.

    A death that ``outcomes`` marks as competing counts as the endpoint counts a death. Months are days / 30.4375. A
    patient without a start, or without an event or a last day seen, is left out with a note.

    Raises
    ------
    CohortError
        If nobody can be used.
    """
    outcomes = cohort.table("outcomes")
    given = outcomes[outcomes["endpoint"] == endpoint.name]
    if len(given):
        if endpoint.level == "patient" and given["lesion_id"].notna().any():
            raise CohortError(
                "the table outcomes gives the endpoint for single lesions, the study for patients",
                where=f"endpoint {endpoint.name}",
                remedy='write level = "lesion" in the study\'s endpoint, or leave lesion_id empty',
            )
        frame = pd.DataFrame(
            {
                "patient_id": given["patient_id"].to_numpy(),
                "lesion_id": given["lesion_id"].to_numpy(),
                "time_months": given["time_months"].to_numpy(dtype=float),
                "status": _given_status(given, endpoint.death),
            }
        )
        notes = [Note("times were taken from the table outcomes as given", endpoint.name, "info")]
        if endpoint.death == "competes" and not (frame["status"] == COMPETING).any():
            what = (
                "the table outcomes marks no competing death (competing yes): the incidence is that of death censored"
            )
            notes.append(Note(what, endpoint.name))
        return EndpointData(endpoint, frame, tuple(notes))
    starts = _starts(cohort, endpoint)
    events = cohort.table("events")
    death = events[events["kind"] == "death"].groupby("patient_id")["date"].min()
    rows = []
    left_out: dict[str, int] = {}
    treated = Counter(patient for patient, _ in _units(cohort, endpoint))
    for patient, lesion in _units(cohort, endpoint):
        start = starts.get(patient, pd.NaT)
        if pd.isna(start):
            left_out["no start date"] = left_out.get("no start date", 0) + 1
            continue
        own = events[events["patient_id"] == patient]
        happened = own[own["kind"].isin(endpoint.events)]
        if lesion is not None:
            happened = happened[_of_lesion(happened, lesion, treated[patient])]
        first = happened["date"].min() if len(happened) else pd.NaT
        died = death.get(patient, pd.NaT)
        status, day = _status(first, died, _last_seen(own, endpoint, died), endpoint.death)
        if day is None:
            left_out["no event and no last day seen"] = left_out.get("no event and no last day seen", 0) + 1
            continue
        days = (day - start).days
        if days < 0:
            raise CohortError(
                f"patient {patient} reaches the endpoint before it starts",
                where=f"endpoint {endpoint.name}",
                remedy=f"correct the dates of the events or {endpoint.start}",
            )
        rows.append(
            {"patient_id": patient, "lesion_id": lesion, "time_months": days / DAYS_PER_MONTH, "status": status}
        )
    if not rows:
        raise CohortError(
            "no patient has the dates that the endpoint needs",
            where=f"endpoint {endpoint.name}",
            remedy=f"give {endpoint.start} and the events, or the table outcomes",
        )
    frame = pd.DataFrame(rows)
    notes = [Note(f"{count} left out: {why}", endpoint.name) for why, count in left_out.items()]
    if endpoint.level == "lesion":
        notes += _unnamed_notes(events, endpoint, treated)
    elif endpoint.events == ("death",):
        notes += _seen_later_notes(cohort, endpoint, frame, starts)
    return EndpointData(endpoint, frame, tuple(notes))


def _of_lesion(happened: pd.DataFrame, lesion: str, treated: int) -> pd.Series:
    """Return which events are those of one lesion: local ones that name it, or no lesion where it is the only one."""
    own = happened["lesion_id"] == lesion
    if treated == 1:
        own |= happened["lesion_id"].isna()
    return own | ~happened["kind"].isin(_LOCAL)


def _unnamed_notes(events: pd.DataFrame, endpoint: Endpoint, treated: Mapping[str, int]) -> list[Note]:
    """Return a note of local events that belong to one of several lesions, and do not say to which."""
    local = events[events["kind"].isin(_LOCAL) & events["kind"].isin(endpoint.events) & events["lesion_id"].isna()]
    lost = int((local["patient_id"].map(treated).fillna(0) > 1).sum())
    if not lost:
        return []
    message = f"{lost} local progressions of patients with several irradiated lesions name no lesion and do not count"
    return [Note(message, endpoint.name)]


def _seen_later_notes(cohort: Cohort, endpoint: Endpoint, frame: pd.DataFrame, starts: pd.Series) -> list[Note]:
    """Return a note of patients with a finding after the day on which they are censored as last seen alive."""
    seen = (
        pd.concat([cohort.table(name)[["patient_id", "date"]] for name in _DATED]).groupby("patient_id")["date"].max()
    )
    alive = frame[frame["status"] == CENSORED]
    censored = pd.to_datetime(alive["patient_id"].map(starts)) + pd.to_timedelta(
        (alive["time_months"] * DAYS_PER_MONTH).round(), unit="D"
    )
    later = pd.to_datetime(alive["patient_id"].map(seen)) > censored
    if not later.any():
        return []
    first = alive.loc[later, "patient_id"].iloc[0]
    message = f"{int(later.sum())} patients have findings after the last day seen at which they are censored"
    return [Note(f"{message}, the first of them {first}", endpoint.name)]


def _given_status(given: pd.DataFrame, death: Death) -> np.ndarray:
    """Return the status of given outcomes; a death before the event counts as the endpoint says."""
    died = given["competing"].eq("yes").to_numpy()
    counts = {"event": EVENT, "censors": CENSORED, "competes": COMPETING}[death]
    return np.where(died, counts, given["event"].to_numpy(dtype=float).astype(int))


def _starts(cohort: Cohort, endpoint: Endpoint) -> pd.Series:
    if endpoint.start in EVENT_KINDS:
        events = cohort.table("events")
        return events[events["kind"] == endpoint.start].groupby("patient_id")["date"].min()
    if endpoint.start not in cohort.patients:
        raise CohortError(
            f"patients has no column {endpoint.start!r}",
            where=f"endpoint {endpoint.name}",
            remedy="name a date column of patients or a kind of event",
        )
    starts = cohort.patients.set_index("patient_id")[endpoint.start]
    if not pd.api.types.is_datetime64_any_dtype(starts):
        raise CohortError(
            f"patients.{endpoint.start} holds no dates",
            where=f"endpoint {endpoint.name}",
            remedy="name a date column of patients or a kind of event as its start",
        )
    return starts


def _units(cohort: Cohort, endpoint: Endpoint) -> list[tuple[str, str | None]]:
    if endpoint.level == "patient":
        return [(str(patient), None) for patient in cohort.patients["patient_id"]]
    lesions = cohort.table("lesions")
    treated = lesions[lesions["irradiated"] == "yes"]
    return [(str(p), str(lesion)) for p, lesion in zip(treated["patient_id"], treated["lesion_id"], strict=True)]


def _last_seen(own: pd.DataFrame, endpoint: Endpoint, died: pd.Timestamp) -> pd.Timestamp | None:
    for kind in endpoint.last_seen:
        days = own.loc[own["kind"] == kind, "date"]
        if len(days):
            return days.max()
    return None if pd.isna(died) else died


def _status(first: Any, died: Any, seen: pd.Timestamp | None, death: Death) -> tuple[int, pd.Timestamp | None]:
    if not pd.isna(first) and (pd.isna(died) or first <= died):
        return EVENT, first
    if not pd.isna(died):
        if death == "event":
            return EVENT, died
        return (COMPETING if death == "competes" else CENSORED), died
    return CENSORED, seen


def check_order(shorter: EndpointData, longer: EndpointData) -> tuple[Note, ...]:
    """Return a note when an endpoint that contains another's event lasts longer (PFS beyond OS): it cannot.

    Compared are patients who have both; the first part of the sentence counts them.
    """
    if "lesion" in (shorter.endpoint.level, longer.endpoint.level):
        return ()
    a = shorter.frame.set_index("patient_id")["time_months"]
    b = longer.frame.set_index("patient_id")["time_months"]
    both = a.index.intersection(b.index)
    wrong = [str(i) for i in both if a[i] > b[i] + 1e-9]
    if not wrong:
        return ()
    names = f"{shorter.endpoint.name} is longer than {longer.endpoint.name}"
    return (Note(f"{names} in {len(wrong)} patients, the first of them {wrong[0]}", "endpoints"),)
