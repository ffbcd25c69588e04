"""What a paper rarely shows: the verdict on each patient, best response with intervals, causes of death."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cantlie.cohort.eligibility import Eligibility
from cantlie.cohort.response import CohortResponse, response_counts
from cantlie.cohort.schema import DEATH_CAUSES
from cantlie.statistics.competing import cumulative_incidence
from cantlie.statistics.proportion import clopper_pearson, wilson
from cantlie.study.analysis_groups import Analysed
from cantlie.study.results import StudyCell, StudyTable

_CATEGORIES = ("CR", "PR", "SD", "PD", "NE")
_MONTHS = (6.0, 12.0, 24.0)
_SHOWN = 60
NOT_CODED = "not coded"


def eligibility_table(found: Eligibility) -> StudyTable | None:
    """Return the verdict on each patient, rule by rule; those who break a rule first, then those not fully known.

    ``yes`` means that the patient passes the rule (an exclusion that does not apply is passed), ``no`` that not, ``?``
    that the data do not tell. A rule that no table can tell counts for nobody's verdict. Patients stand under their
    pseudonyms and without any value.
    """
    if not found.rules or not len(found.met):
        return None
    passed = {True: "yes", False: "no"}
    assessed = np.array([rule.variable is not None for rule in found.rules])
    rows = []
    for patient, answers in zip(found.met.index, found.met.to_numpy(dtype=object), strict=True):
        texts = ["?" if a is None or pd.isna(a) else passed[bool(a)] for a in answers]
        failed = found.first_failed[patient]
        out = failed is not None and not pd.isna(failed)
        rank = 0 if out else 1 if "?" in np.array(texts)[assessed] else 2
        verdict = ("not eligible", "eligible, not all known", "eligible")[rank]
        rows.append((rank, (str(patient), verdict, *texts)))
    rows.sort(key=lambda row: row[0])
    rules = [
        f"{n}: {r.kind}, {r.text}" + ("" if r.variable is not None else " (not assessed)")
        for n, r in enumerate(found.rules, start=1)
    ]
    return StudyTable(
        "eligibility",
        "Eligibility of each patient (not in the paper)",
        ("Patient", "Verdict", *(f"Rule {n}" for n in range(1, len(rules) + 1))),
        tuple(tuple(StudyCell(text) for text in row) for _, row in rows),
        ("yes: passes the rule; ?: the data do not tell", *rules),
        in_paper=False,
        shown=_SHOWN,
    )


def missing_table(data: Analysed) -> StudyTable | None:
    """Return how many patients of each group lack a value of each variable, and of each endpoint, that was used.

    None where nobody lacks any.
    """
    groups = [g.id for g in data.study.groups if g.id != "all"]
    names = {g.id: g.name for g in data.study.groups}
    members = {group: data.members("all", group) for group in ("all", *groups)}
    rows = []
    for name, lacking in data.lacking().items():
        if not lacking.any():
            continue
        counts = ((int((lacking & inside).sum()), int(inside.sum())) for inside in members.values())
        texts = (f"{count} ({100 * count / n:.1f}%)" if n else "0" for count, n in counts)
        rows.append((StudyCell(name), *(StudyCell(text) for text in texts)))
    if not rows:
        return None
    return StudyTable(
        "missing",
        "Patients without a value (not in the paper)",
        ("Variable or endpoint", "All patients", *(names[group] for group in groups)),
        tuple(rows),
        ("missing, or nothing to tell (a pattern of failure without a failure); left out where the value is needed",),
        in_paper=False,
    )


def _best_responses(data: Analysed, measured: CohortResponse | None) -> tuple[pd.Series | None, str]:
    """Return the best response of each patient, as the study codes it or else from the measurements."""
    for spec in data.study.variables:
        if spec.source == "assessments.value" and spec.where.get("kind") == "response":
            values = data.variable(spec.name)
            if values.notna().any():
                merged = "".join(f"; {old} counts as {new}" for old, new in spec.mapping.items() if old != new)
                return values, f"best response as assessed{merged}"
    if measured is not None and len(measured.best):
        return measured.best.reindex(data.ids), f"best response by {measured.criteria} from the measured lesions"
    return None, ""


def response_table(data: Analysed, measured: CohortResponse | None = None) -> StudyTable | None:
    """Return counts of best response, ORR and DCR with two intervals, of each group; None without any response.

    Every patient counts below the line, as RECIST 1.1 asks (section 4.7); where some have no assessment, a second line
    counts the assessed only.
    """
    best, how = _best_responses(data, measured)
    if best is None:
        return None
    names = {g.id: g.name for g in data.study.groups}
    rows = []
    for group in ["all", *(g.id for g in data.study.groups if g.id != "all")]:
        own = best[data.members("all", group)]
        if own.empty:
            continue
        counts = response_counts(own)
        assessed = counts["assessed"]
        bases = [(names.get(group, "All patients"), len(own))]
        bases += [("of those assessed", assessed)] if 0 < assessed < len(own) else []
        for label, n in bases:
            cells = [StudyCell(str(counts[name])) for name in _CATEGORIES]
            cells.append(StudyCell(str(len(own) - assessed)))
            for rate in ("ORR", "DCR"):
                exact, score = clopper_pearson(counts[rate], n), wilson(counts[rate], n)
                cells.append(StudyCell(f"{counts[rate]}/{n} ({100 * counts[rate] / n:.1f}%)"))
                cells += [StudyCell(f"{100 * p.lower:.1f}-{100 * p.upper:.1f}") for p in (exact, score)]
            rows.append((StudyCell(label), *cells))
    columns = ["Group", *_CATEGORIES, "not assessed"]
    for rate in ("ORR", "DCR"):
        columns += [rate, f"{rate} exact CI", f"{rate} Wilson CI"]
    notes = (
        how,
        "ORR = CR + PR; DCR = CR + PR + SD (non-CR/non-PD with SD); 95% CI in percent, exact: Clopper-Pearson",
    )
    return StudyTable(
        "best_response",
        "Best response, ORR and DCR with intervals (not in the paper)",
        tuple(columns),
        tuple(rows),
        notes,
        in_paper=False,
    )


def death_causes(data: Analysed) -> pd.Series:
    """Return the coded cause of each death, ``not coded`` for those without; indexed by the patients who died."""
    patients = data.cohort.patients.set_index("patient_id")
    frame = data.endpoint("OS").frame
    dead = pd.Index(frame.loc[frame["status"] == 1, "patient_id"])
    if "death_cause_code" not in patients:
        return pd.Series(NOT_CODED, index=dead, dtype=object)
    codes = patients["death_cause_code"].reindex(dead).astype(object)
    return codes.where(codes.notna(), NOT_CODED)


def cause_table(data: Analysed) -> StudyTable | None:
    """Return causes of death, and the cumulative incidence of each with the others as competing events.

    None where the cohort codes no cause or the study has no overall survival.
    """
    if "OS" not in {e.name for e in data.study.endpoints}:
        return None
    if "death_cause_code" not in data.cohort.patients or data.cohort.patients["death_cause_code"].isna().all():
        return None
    causes = death_causes(data)
    names = {g.id: g.name for g in data.study.groups}
    order = [cause for cause in (*DEATH_CAUSES, NOT_CODED) if (causes == cause).any()]
    rows = []
    for group in ["all", *(g.id for g in data.study.groups if g.id != "all")]:
        time, status, ids = data.times("OS", data.members("all", group))
        if not (status == 1).any():
            continue
        own = causes.reindex(pd.Index(ids)).to_numpy(dtype=object)
        state = np.array([order.index(c) + 1 if s == 1 else 0 for c, s in zip(own, status, strict=True)])
        deaths = int((state > 0).sum())
        for number, cause in enumerate(order, start=1):
            count = int((state == number).sum())
            label = names.get(group, "All patients") if number == 1 else ""
            cells = [StudyCell(f"{count} ({100 * count / deaths:.1f}%)"), *_incidences(time, state, number)]
            rows.append((StudyCell(label), StudyCell(_words(cause)), *cells))
    if not rows:
        return None
    return StudyTable(
        "causes_of_death",
        "Causes of death (not in the paper)",
        ("Group", "Cause", "Deaths", *(f"Incidence at {m:g} months (95% CI)" for m in _MONTHS)),
        tuple(rows),
        (
            "percentages of all deaths of the group",
            "cumulative incidence of death of that cause, deaths of other causes competing (Aalen and Johansen)",
        ),
        in_paper=False,
    )


def _incidences(time: NDArray[np.float64], state: NDArray[np.int64], cause: int) -> list[StudyCell]:
    # Where the last follow-up ends in death nobody is left, and the incidence stays what it is.
    ended = bool((state[time == time.max()] > 0).all())
    if not (state == cause).any():
        return [StudyCell("0.0%") if ended or time.max() >= m else StudyCell("beyond follow-up") for m in _MONTHS]
    months = [min(m, float(time.max())) if ended else m for m in _MONTHS]
    rates = cumulative_incidence(time, state).curve(cause).rates(months)
    cells = []
    for found, low, high in zip(
        *(rates[n].to_numpy(dtype=float) for n in ("incidence", "lower", "upper")), strict=True
    ):
        text = f"{100 * found:.1f}% ({100 * low:.1f}-{100 * high:.1f})" if np.isfinite(found) else "beyond follow-up"
        cells.append(StudyCell(text if found != 0 else "0.0%"))
    return cells


def _words(code: str) -> str:
    return code.replace("_", " ")
