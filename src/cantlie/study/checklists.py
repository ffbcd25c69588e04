"""Reporting checklists (STROBE, CONSORT, SBRT, ICRU 83 and 91) filled as far as a study and its results tell."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from cantlie.study.results import StudyCell, StudyResult, StudyTable

Answer = str | None
"""Where the report answers an item, or None when it does not."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item: its number in the checklist, what it asks in our words, and how the answer is found."""

    number: str
    asks: str
    answer: Callable[[StudyResult], Answer]


def _table(name: str) -> Callable[[StudyResult], Answer]:
    return lambda r: next((t.title for t in r.tables if t.id == name), None)


def _figure(kind: str) -> Callable[[StudyResult], Answer]:
    return lambda r: next((f.spec.title for f in r.figures if f.spec.kind == kind), None)


def _first(kind: str) -> Callable[[StudyResult], Answer]:
    return lambda r: next((t.title for t in r.study.tables if t.kind == kind), None)


def _missing_data(r: StudyResult) -> Answer:
    return _table("missing")(r) or "no variable or endpoint of the study has a missing value"


def _eligibility(r: StudyResult) -> Answer:
    return f"{len(r.study.eligibility)} rules, in the flow" if r.study.eligibility else None


def _confounding(r: StudyResult) -> Answer:
    return _table("matching")(r) or _table("cox")(r)


STROBE = (
    Item("1a", "design named in the title or abstract", lambda r: r.study.design),
    Item("6a", "eligibility", _eligibility),
    Item("7", "outcomes and endpoints defined", lambda r: "; ".join(e.name for e in r.study.endpoints)),
    Item("10", "how the study size came about", lambda r: None),
    Item("12a", "all statistical methods, with confounding", _confounding),
    Item("12c", "missing data", _missing_data),
    Item("12e", "sensitivity analyses", _table("matching")),
    Item("13a", "numbers at each stage", lambda r: "flow" if r.flow else None),
    Item("13c", "flow diagram", _figure("flow")),
    Item("14a", "characteristics of the patients", _first("characteristics")),
    Item("14c", "follow-up time", _table("follow_up")),
    Item("15", "numbers of events over time", _table("survival")),
    Item("16a", "estimates with confidence intervals", _table("survival")),
    Item(
        "17",
        "subgroups and interactions",
        lambda r: "subgroup curves" if any(f.where for f in r.study.figures) else None,
    ),
    Item("19", "limitations", lambda r: "section Notes" if r.study.remarks else None),
    Item("22", "funding", lambda r: None),
)
CONSORT = (
    Item("1a", "randomised in the title", lambda r: None if "andomis" not in r.study.title else r.study.title),
    Item("4a", "eligibility", _eligibility),
    Item("6a", "primary and secondary outcomes", lambda r: "; ".join(e.name for e in r.study.endpoints)),
    Item("7a", "how the sample size was determined", lambda r: None),
    Item("8a", "how the sequence was generated", lambda r: r.study.design),
    Item("9", "how the allocation was concealed", lambda r: None),
    Item("12a", "statistical methods", lambda r: "section The study: conventions, and the tests named in the tables"),
    Item("13a", "allocated, treated and analysed in each arm", lambda r: "flow" if r.arms else None),
    Item("13b", "losses and exclusions with reasons", lambda r: "flow" if any(a.reasons for a in r.arms) else None),
    Item("15", "baseline table of each arm", _first("characteristics")),
    Item(
        "16",
        "analysis by original groups (intention to treat)",
        lambda r: None if r.study.sets else "all allocated patients are analysed",
    ),
    Item("17a", "effect with its precision for each outcome", _table("survival")),
    Item("19", "harms in each arm", lambda r: next((t.title for t in r.study.tables if "oxic" in t.title), None)),
    Item("23", "registration", lambda r: r.study.ethics.registration or None),
)


def checklist(result: StudyResult) -> tuple[str, tuple[tuple[Item, Answer], ...]]:
    """Return the name of the fitting checklist and each item with where the report answers it.

    STROBE (von Elm 2007, doi:10.1371/journal.pmed.0040296) for observational studies, CONSORT (Schulz 2010,
    doi:10.1136/bmj.c332) for randomised ones; numbers are theirs, the wording is ours. What lies outside a cohort
    (funding, sample size) is marked as not answered.
    """
    randomised = "randomis" in result.study.design.lower() and "retrospective" not in result.study.design.lower()
    name, items = ("CONSORT 2010", CONSORT) if randomised else ("STROBE", STROBE)
    return name, tuple((item, item.answer(result)) for item in items)


def checklist_table(result: StudyResult) -> StudyTable:
    """Return the checklist as a table of the report."""
    name, answers = checklist(result)
    rows = tuple(
        (StudyCell(item.number), StudyCell(item.asks), StudyCell(answer or "not answered here"))
        for item, answer in answers
    )
    return StudyTable("checklist", f"Checklist {name}", ("Item", "Asks for", "Where"), rows, in_paper=False)


@dataclass(frozen=True, slots=True)
class DoseItem:
    """One item on radiotherapy: answered by recorded columns or metrics, or by tables of the report."""

    number: str
    asks: str
    recorded: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()

    def answer(self, result: StudyResult) -> Answer:
        """Return where the cohort or the report answers the item."""
        found = [name for name in self.recorded if name in result.recorded]
        made = [table.title for table in result.tables if table.id in self.tables]
        return "; ".join([*(f"recorded: {name}" for name in found), *made]) or None


@dataclass(frozen=True, slots=True)
class DoseChecklist:
    """A checklist for treatments by one of some techniques."""

    name: str
    title: str
    source: str
    techniques: tuple[str, ...]
    items: tuple[DoseItem, ...]

    def fits(self, technique: str) -> bool:
        """Return whether a technique as written in the table courses belongs to it."""
        words = re.split(r"[^a-z0-9]+", technique.lower())
        return any(t.lower() in words for t in self.techniques)


@cache
def dose_checklists() -> tuple[DoseChecklist, ...]:
    """Return the checklists on radiotherapy: SBRT, ICRU 83, ICRU 91."""
    data = tomllib.loads(resources.files("cantlie.study").joinpath("data/checklists.toml").read_text("utf-8"))
    return tuple(
        DoseChecklist(
            name,
            c["title"],
            c["source"],
            tuple(c["techniques"]),
            tuple(
                DoseItem(i["number"], i["asks"], tuple(i.get("recorded", ())), tuple(i.get("tables", ())))
                for i in c["items"]
            ),
        )
        for name, c in data.items()
    )


def dose_checklist_tables(result: StudyResult) -> tuple[StudyTable, ...]:
    """Return the checklists that fit the techniques of the cohort's courses, as tables of the report."""
    techniques = [name.removeprefix("technique:") for name in result.recorded if name.startswith("technique:")]
    made = []
    for entry in dose_checklists():
        if not any(entry.fits(technique) for technique in techniques):
            continue
        rows = tuple(
            (StudyCell(item.number), StudyCell(item.asks), StudyCell(item.answer(result) or "not answered here"))
            for item in entry.items
        )
        name = entry.name.lower().replace(" ", "")
        made.append(
            StudyTable(
                f"checklist_{name}",
                f"Checklist: {entry.title}",
                ("Item", "Asks for", "Where"),
                rows,
                (entry.source,),
                in_paper=False,
            )
        )
    return tuple(made)
