"""Pooling the cohorts of several centres into one, with each patient's centre kept."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from cantlie.cohort.schema import TABLES
from cantlie.cohort.tables import Cohort, typed_table
from cantlie.core.errors import CohortError
from cantlie.core.notes import Note


def pool_cohorts(cohorts: Mapping[str, Cohort], *, label: str = "pooled") -> Cohort:
    """Return one cohort of the patients of all centres.

    Identifiers get the centre before them (``Xian/P1``), so that equal ones of two centres stay apart; the column
    ``centre`` of patients is set. A column that one centre lacks is noted, since its values are then missing not at
    random.

    Raises
    ------
    CohortError
        If there is no cohort, or real and synthetic patients would be mixed.
    """
    if not cohorts:
        raise CohortError("there is nothing to pool", where="pooling", remedy="give the cohorts by centre")
    if len({cohort.synthetic for cohort in cohorts.values()}) > 1:
        raise CohortError("real and synthetic patients are not mixed", where="pooling", remedy="pool one kind only")
    tables: dict[str, pd.DataFrame] = {}
    notes: list[Note] = []
    for name in TABLES:
        frames = []
        filled: dict[str, set[str]] = {}
        for centre, cohort in cohorts.items():
            frame = cohort.table(name)
            if frame.empty:
                continue
            frame = frame.assign(patient_id=[f"{centre}/{patient}" for patient in frame["patient_id"]])
            if name == "patients":
                frame["centre"] = pd.Series([centre] * len(frame), dtype=object, index=frame.index)
            filled[centre] = {str(column) for column in frame if frame[column].notna().any()}
            frames.append(frame)
        if not frames:
            continue
        tables[name] = pd.concat([f.dropna(axis=1, how="all") for f in frames], ignore_index=True).reindex(
            columns=list(dict.fromkeys(column for frame in frames for column in frame))
        )
        for column in sorted(set().union(*filled.values())):
            lacking = [centre for centre, columns in filled.items() if column not in columns]
            if lacking:
                notes.append(Note(f"{', '.join(lacking)} gave no {column}", f"table {name}"))
    sources = {f"{centre}/{file}": sha for centre, cohort in cohorts.items() for file, sha in cohort.sources.items()}
    synthetic = next(iter(cohorts.values())).synthetic
    typed = {name: _typed(name, frame) for name, frame in tables.items()}
    return Cohort(typed, label, synthetic, sources, (*notes, *(n for c in cohorts.values() for n in c.notes)))


def _typed(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    return typed_table(TABLES[name], frame)
