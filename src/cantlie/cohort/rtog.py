"""The RTOG acute and RTOG/EORTC late scales: their items and grades as data, and the check of graded toxicities."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import pandas as pd

from cantlie.core.errors import CohortError
from cantlie.core.notes import Note

RtogScale = Literal["RTOG", "RTOG/EORTC"]
SCALES: tuple[RtogScale, ...] = ("RTOG", "RTOG/EORTC")
LAST_ACUTE_DAY = 90
_NONE, _DEATH = "no change", "death by the toxicity"


@dataclass(frozen=True, slots=True)
class RtogItem:
    """One item: its name, other spellings, and what grades 0 to 5 mean in our words (empty where not described).

    ``test`` is the laboratory test by which the item is graded (``cantlie.cohort.toxicity.grade_lab``).
    """

    scale: RtogScale
    name: str
    also: tuple[str, ...]
    grades: tuple[str, ...]
    test: str

    def meaning(self, grade: float) -> str:
        """Return what a grade means; empty where the vocabulary does not describe it.

        Raises
        ------
        CohortError
            If the grade is not one of 0 to 5.
        """
        if grade not in range(6):
            raise CohortError(f"{self.scale} has no grade {grade:g}", where=self.name, remedy="give 0 to 5")
        if grade in (0, 5):
            return _NONE if grade == 0 else _DEATH
        return self.grades[int(grade) - 1] if self.grades else ""


@cache
def rtog_items(scale: RtogScale) -> tuple[RtogItem, ...]:
    """Return the items of a scale (Cox 1995, doi:10.1016/0360-3016(95)00060-C).

    Raises
    ------
    CohortError
        If the scale is not one of the two.
    """
    if scale not in SCALES:
        raise CohortError(f"no scale is called {scale!r}", where="toxicity", remedy=f"scales: {', '.join(SCALES)}")
    data = tomllib.loads(resources.files("cantlie.cohort").joinpath("data/rtog.toml").read_text("utf-8"))
    return tuple(
        RtogItem(scale, name, tuple(i.get("also", ())), tuple(i.get("grades", ())), i.get("test", ""))
        for name, i in data[scale]["items"].items()
    )


def rtog_item(term: str, scale: RtogScale) -> RtogItem:
    """Return the item that a term means, by its name or another spelling.

    Raises
    ------
    CohortError
        If the scale has no such item.
    """
    names = {n.lower(): item for item in rtog_items(scale) for n in (item.name, *item.also)}
    wanted = " ".join(term.lower().split())
    if wanted not in names:
        near = difflib.get_close_matches(wanted, names, n=1)
        advice = f"did you mean {names[near[0]].name}?" if near else "name an item of the scale, or use a CTCAE term"
        raise CohortError(f"{scale} has no item {term!r}", where="toxicities, column term", remedy=advice)
    return names[wanted]


def check_rtog(toxicities: pd.DataFrame, starts: pd.Series) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """Return the toxicities graded by RTOG under the scales' own item names, and notes on what does not fit.

    Parameters
    ----------
    toxicities
        The table ``toxicities`` of a cohort.
    starts
        Start of treatment by patient.

    Returns
    -------
    frame, notes
        Rows of both scales with the column ``item`` (None for a term that the scale does not have). Notes name terms
        outside the scale, and rows graded by the acute scale after day 90 or by the late one up to it.
    """
    own = toxicities[toxicities["scale"].isin(SCALES)].copy()
    items: list[str | None] = []
    unknown: dict[str, str] = {}
    for term, scale in zip(own["term"], own["scale"], strict=True):
        try:
            items.append(rtog_item(str(term), scale).name)
        except CohortError as error:
            items.append(None)
            unknown[f"{scale}, {term}"] = error.sentence()
    own["item"] = pd.Series(items, index=own.index, dtype=object)
    notes = [Note(text, "toxicities") for text in unknown.values()]
    days = (own["date"] - pd.to_datetime(own["patient_id"].map(starts))).dt.days
    late_by_acute = int(((own["scale"] == "RTOG") & (days > LAST_ACUTE_DAY)).sum())
    acute_by_late = int(((own["scale"] == "RTOG/EORTC") & (days <= LAST_ACUTE_DAY)).sum())
    if late_by_acute:
        notes.append(Note(f"{late_by_acute} grades of the acute RTOG scale are later than 90 days", "toxicities"))
    if acute_by_late:
        notes.append(Note(f"{acute_by_late} grades of the late scale are within the first 90 days", "toxicities"))
    return own, tuple(notes)
