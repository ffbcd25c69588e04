"""Running a study on a cohort: eligibility, every table and figure of the paper, and what the paper lacked."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from cantlie.cohort.eligibility import arm_flow, assess_eligibility
from cantlie.cohort.importing import read_cohort
from cantlie.cohort.response import CohortResponse, assess_cohort
from cantlie.cohort.rtog import check_rtog
from cantlie.cohort.tables import Cohort
from cantlie.core.errors import CohortError
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.provenance import environment
from cantlie.study.analysis_competing import cif_figure, incidence_table
from cantlie.study.analysis_groups import Analysed
from cantlie.study.analysis_matching import matching_tables, subgroup_table
from cantlie.study.analysis_patients import cause_table, eligibility_table, missing_table, response_table
from cantlie.study.analysis_survival import comparison_table, cox_table, follow_up_table, km_figure, survival_table
from cantlie.study.analysis_tables import balance_table, difference_of, make_table
from cantlie.study.checklists import checklist_table, dose_checklist_tables
from cantlie.study.definition import FigureSpec, Study
from cantlie.study.loading import load_study, study_sha256
from cantlie.study.results import StudyFigure, StudyResult

_FAR = 3.0  # where a love plot draws an infinite standardised difference


def analyse_folder(id_or_path: str | Path, data: Path, *, progress: Progress = silent) -> StudyResult:
    """Read a cohort (folder of CSV files or Excel workbook) and run a study on it.

    Raises
    ------
    CantlieError
        If the study or the data are wrong.
    """
    study = load_study(id_or_path)
    extra: dict[str, frozenset[str]] = {}
    for variable in study.variables:
        extra[variable.table] = extra.get(variable.table, frozenset()) | {variable.column_name}
    cohort = read_cohort(data, extra_columns=extra)
    result = analyse(study, cohort, progress=progress)
    return replace(
        result,
        provenance={**result.provenance, "study_sha256": study_sha256(id_or_path), "inputs": dict(cohort.sources)},
    )


def analyse(study: Study, cohort: Cohort, *, progress: Progress = silent) -> StudyResult:
    """Run a study on a cohort.

    All patients of the cohort are analysed, as a paper does with those whom it reports; who breaks an eligibility rule
    is counted in the flow and named in a note.

    Raises
    ------
    CantlieError
        If the data lack what the study needs.
    """
    progress(0.0, "eligibility")
    data = Analysed(study, cohort)
    eligibility = assess_eligibility(cohort, study.rules())
    notes: list[Note] = [*cohort.notes, *(Note(remark, study.id) for remark in study.remarks), *eligibility.notes]
    verdicts = eligibility_table(eligibility)
    measured, measured_notes = _measured(cohort)
    notes += measured_notes
    out = len(cohort) - len(eligibility.eligible)
    if out:
        notes.append(Note(f"{out} of {len(cohort)} patients break an eligibility rule and are analysed all the same"))
    tables = []
    for number, table in enumerate(study.tables):
        progress(0.1 + 0.4 * number / max(len(study.tables), 1), table.title)
        tables.append(make_table(data, table))
    progress(0.5, "survival")
    cox_made, points, cox_notes = cox_table(data)
    notes += cox_notes
    made_tables = (survival_table(data), comparison_table(data), cox_made, follow_up_table(data), balance_table(data))
    new_tables = (incidence_table(data), response_table(data, measured), cause_table(data), subgroup_table(data))
    tables += [made for made in (*made_tables, *new_tables) if made is not None]
    matched_tables, love, matching_notes = matching_tables(data)
    tables += matched_tables + ([] if verdicts is None else [verdicts])
    notes += matching_notes
    progress(0.8, "figures")
    figures = [figure for spec in study.figures if (figure := _figure(data, spec, points, love)) is not None]
    figures += patient_figures(study, cohort, measured)
    lacking = missing_table(data)
    tables += [] if lacking is None else [lacking]
    notes += _size_notes(data)
    notes += data.notes + list(data.order_notes())
    progress(1.0, "done")
    analysed = [str(i) for i in data.ids[data.members(next(iter(study.sets), "all"))]] if study.sets else list(data.ids)
    starts = cohort.patients.set_index("patient_id")["treatment_start"]
    notes += check_rtog(cohort.table("toxicities"), starts)[1]
    refused = consent_counts(cohort).get("no", 0)
    if refused:
        notes.append(
            Note(f"{refused} patients are recorded as without consent and are analysed all the same", "consent")
        )
    result = StudyResult(
        study,
        cohort.label,
        cohort.synthetic,
        len(cohort),
        tuple(tables),
        tuple(figures),
        eligibility.flow,
        arm_flow(cohort, analysed),
        tuple(dict.fromkeys(notes)),
        {**environment(("numpy", "scipy", "pandas")), "cohort_sha256": cohort.sha256()},
        _recorded(cohort),
        consent_counts(cohort),
    )
    return replace(result, tables=(*result.tables, checklist_table(result), *dose_checklist_tables(result)))


def _size_notes(data: Analysed) -> list[Note]:
    """Return a note for each group whose number of patients is not that of the study file."""
    notes = []
    for group in data.study.groups:
        found = int(data.members("all", group.id).sum())
        if found != group.n:
            notes.append(Note(f"{found} patients in the data, {group.n} in the study file", f"group {group.name}"))
    return notes


def _measured(cohort: Cohort) -> tuple[CohortResponse | None, list[Note]]:
    """Return the responses from measured lesions, or a note why they cannot be worked out."""
    if not len(cohort.table("measurements")):
        return None, []
    try:
        found = assess_cohort(cohort)
    except CohortError as error:
        return None, [Note(f"no response from measurements: {error.sentence()}", "measurements")]
    return found, list(found.notes)


def patient_figures(study: Study, cohort: Cohort, measured: CohortResponse | None) -> list[StudyFigure]:
    """Return the waterfall and the swimmer plot where lesions were measured; the study file may give their titles."""
    if measured is None:
        return []
    asked = {spec.kind: spec for spec in study.figures}
    made = []
    if np.isfinite(measured.timepoints["change_percent"].to_numpy(dtype=float)).any():
        title = "Best change of target lesions in each patient (not in the paper)"
        spec = asked.get("waterfall") or FigureSpec(id="waterfall", title=title, kind="waterfall")
        made.append(StudyFigure(spec, in_paper="waterfall" in asked, source=measured))
    starts = cohort.patients.set_index("patient_id")["treatment_start"]
    if cohort.table("events")["patient_id"].map(starts).notna().any():
        title = "Course of each patient (not in the paper)"
        spec = asked.get("swimmer") or FigureSpec(id="swimmer", title=title, kind="swimmer")
        made.append(StudyFigure(spec, in_paper="swimmer" in asked, source=cohort))
    return made


def _recorded(cohort: Cohort) -> frozenset[str]:
    names = {f"{name}.{c}" for name, frame in cohort.tables.items() for c in frame if frame[c].notna().any()}
    dosimetry = cohort.table("dosimetry")
    metrics = {f"dosimetry:{m}" for m in dosimetry["metric"].dropna().unique()}
    techniques = {f"technique:{t}" for t in cohort.table("courses")["technique"].dropna().unique()}
    return frozenset(names | metrics | techniques)


def consent_counts(cohort: Cohort) -> dict[str, int]:
    """Return how many patients consented (yes), did not (no), had it waived, or have no entry (not recorded)."""
    if "consent" not in cohort.patients or cohort.patients["consent"].isna().all():
        return {}
    found = cohort.patients["consent"].fillna("not recorded").value_counts()
    return {str(k): int(found[k]) for k in ("yes", "waived", "no", "not recorded") if k in found}


def _figure(
    data: Analysed, spec: FigureSpec, points: tuple[object, ...], love: tuple[dict[str, object], ...]
) -> StudyFigure | None:
    new = "not in the paper" in spec.title
    if spec.kind == "km":
        return km_figure(data, spec)
    if spec.kind == "cif":
        return cif_figure(data, spec)
    if spec.kind == "flow":
        return StudyFigure(spec)
    if spec.kind == "response":
        members = data.members(spec.set)
        rows = []
        for group in data.study.groups:
            own = members if group.id == "all" else members & data.members("all", group.id)
            counts = Counter(str(value) for value in data.variable(spec.by)[own].dropna())
            rows.append({"label": group.name, **{lv: counts.get(lv, 0) for lv in data.study.variable(spec.by).levels}})
        return StudyFigure(spec, points=tuple(rows), in_paper=not new)
    if spec.kind == "forest":
        shown = tuple(p for p in points if isinstance(p, dict))
        return StudyFigure(spec, points=shown, in_paper=not new) if shown else None
    if spec.kind == "love" and "matched" not in data.study.sets:
        return StudyFigure(spec, points=love, in_paper=not new) if love else None
    if spec.kind == "love":
        table = balance_table(data)
        if table is None:
            return None
        rows = []
        label = ""
        for row in table.rows:
            label = row[0].text or label
            values = {name: difference_of(cell) for name, cell in zip(table.columns[2:], row[2:], strict=True)}
            infinite = [name for name, value in values.items() if np.isinf(value)]
            mark = f" (∞ drawn at {_FAR:g})" if infinite else ""
            drawn = {name: float(np.clip(value, -_FAR, _FAR)) for name, value in values.items()}
            if not np.isnan(list(values.values())).any():
                rows.append({"label": f"{label}: {row[1].text}{mark}", **drawn})
        return StudyFigure(spec, points=tuple(rows), in_paper=not new) if rows else None
    return None
