"""De-identification of a cohort for sharing: keyed pseudonyms, and dates shifted as one for each patient."""

from __future__ import annotations

import hashlib
import hmac

import pandas as pd

from cantlie.cohort.schema import TABLES
from cantlie.cohort.tables import Cohort
from cantlie.core.errors import CohortError
from cantlie.core.notes import Note

_FREE_TEXT = {"patients": ("not_completed_reason", "death_cause", "ethics_id", "centre"), "events": ("detail",)}


def deidentify(cohort: Cohort, secret: bytes, *, largest_shift_days: int = 180) -> Cohort:
    """Return the cohort with new pseudonyms, dates shifted by a secret number of days, and without free text.

    All dates of a patient move by the same number of days, so that every interval stays. Ages above 89 become 90.

    Parameters
    ----------
    secret
        Key of at least 16 bytes; who has it can find the pseudonyms again, so keep it apart from the data.
    largest_shift_days
        Dates move by up to so many days back.

    Raises
    ------
    CohortError
        If the secret is too short.
    """
    if len(secret) < 16:
        raise CohortError("the secret is too short", where="de-identification", remedy="give at least 16 bytes")

    def digest(patient: str) -> bytes:
        return hmac.new(secret, str(patient).encode(), hashlib.sha256).digest()

    ids = sorted(cohort.patients["patient_id"])
    order = sorted(ids, key=digest)
    pseudonym = {patient: f"P{number:04d}" for number, patient in enumerate(order, start=1)}
    shift = {
        patient: pd.Timedelta(days=-1 - int.from_bytes(digest(patient)[:4], "big") % largest_shift_days)
        for patient in ids
    }
    tables = {}
    for name, frame in cohort.tables.items():
        new = frame.copy()
        days = pd.to_timedelta(frame["patient_id"].map(shift))
        for column in TABLES[name].columns:
            if column.kind == "date":
                new[column.name] = (frame[column.name] + days).astype("datetime64[ns]")
        for column_name in _FREE_TEXT.get(name, ()):
            new[column_name] = pd.Series([None] * len(new), dtype=object, index=new.index)
        new["patient_id"] = frame["patient_id"].map(pseudonym)
        if name == "patients":
            new["age_years"] = new["age_years"].where(~(new["age_years"] > 89), 90.0)
        tables[name] = new.sort_values("patient_id", kind="stable").reset_index(drop=True)
    note = Note("pseudonyms replaced, dates shifted, free text removed; intervals are unchanged", "cohort", "info")
    return Cohort(tables, cohort.label, cohort.synthetic, {}, (*cohort.notes, note))
