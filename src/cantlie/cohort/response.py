"""Response of tumours by RECIST 1.1 and mRECIST, from lesion measurements; per patient and per irradiated lesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from cantlie.cohort.tables import Cohort
from cantlie.core.errors import CohortError
from cantlie.core.notes import Note

Criteria = Literal["RECIST 1.1", "mRECIST"]
_ORDER = ("CR", "PR", "SD", "non-CR/non-PD", "PD", "NE")


@dataclass(frozen=True, slots=True)
class TargetLesion:
    """A target lesion: a node is measured by its short axis and is normal below 10 mm."""

    lesion_id: str
    node: bool = False


@dataclass(frozen=True, slots=True)
class Timepoint:
    """The response at one time.

    ``sum_mm`` is NaN where a target was not measured; ``nadir_mm`` is the smallest sum before, the baseline included.
    """

    date: pd.Timestamp
    sum_mm: float
    nadir_mm: float
    change_percent: float
    target: str
    non_target: str
    new_lesion: bool
    overall: str


def target_response(
    sizes_mm: Sequence[float],
    nodes: Sequence[bool],
    *,
    baseline_mm: float,
    nadir_mm: float,
    after_complete: bool = False,
) -> str:
    """Return CR, PR, SD, PD or NE of the target lesions at one time.

    Parameters
    ----------
    sizes_mm
        Longest diameter (short axis of a node) of each target, shape (n,); NaN where not measured.
    nodes
        Which of them are nodes.
    baseline_mm, nadir_mm
        Sum at baseline, and the smallest sum up to now with the baseline.
    after_complete
        All targets had disappeared before: one that comes back is progression.

    Notes
    -----
    RECIST 1.1 (Eisenhauer 2009, doi:10.1016/j.ejca.2008.10.026), section 4.3.1: PD is at least 20 % and at least 5 mm
    above the nadir; PR at least 30 % below the baseline; CR when all have gone and all nodes are below 10 mm. Targets
    not measured leave the sum unknown (NE), unless the rest alone are progression.
    """
    sizes = np.asarray(sizes_mm, dtype=float)
    is_node = np.asarray(nodes, dtype=bool)
    measured = ~np.isnan(sizes)
    total = float(sizes[measured].sum())
    gone = np.where(is_node, sizes < 10, sizes == 0)
    if after_complete and bool((measured & ~is_node & (sizes > 0)).any()):
        return "PD"
    if total >= 1.2 * nadir_mm - 1e-9 and total - nadir_mm >= 5 - 1e-9:
        return "PD"
    if not measured.all():
        return "NE"
    if gone.all():
        return "CR"
    if total <= 0.7 * baseline_mm + 1e-9:
        return "PR"
    return "SD"


def non_target_response(statuses: Sequence[str | None]) -> str:
    """Return ``none`` (there are none), CR, non-CR/non-PD, PD or NE of the non-target lesions."""
    if not statuses:
        return "none"
    if "progressed" in statuses:
        return "PD"
    if all(status == "absent" for status in statuses):
        return "CR"
    if any(status is None or status == "not_evaluable" for status in statuses):
        return "NE"
    return "non-CR/non-PD"


def overall_response(target: str, non_target: str, new_lesion: bool) -> str:
    """Return the overall response at one time (RECIST 1.1, tables 1 and 2); ``target`` is ``none`` without targets."""
    if new_lesion or "PD" in (target, non_target):
        return "PD"
    if target == "none":
        return {"none": "NE", "CR": "CR", "NE": "NE"}.get(non_target, "non-CR/non-PD")
    if target == "CR":
        return "CR" if non_target in ("CR", "none") else "PR"
    return target


def assess_timepoints(
    targets: Sequence[TargetLesion],
    non_targets: Sequence[str],
    measurements: pd.DataFrame,
    *,
    treatment_start: pd.Timestamp,
    criteria: Criteria = "RECIST 1.1",
) -> tuple[list[Timepoint], list[Note]]:
    """Return the response of one patient at each imaging time after the start of treatment.

    Parameters
    ----------
    targets, non_targets
        Target lesions, and identifiers of non-target lesions.
    measurements
        Rows of the table ``measurements`` of this patient.
    treatment_start
        The last measurements up to this day are the baseline.
    criteria
        mRECIST (Lencioni 2010, doi:10.1055/s-0030-1247132) takes the viable, arterially enhancing diameter.

    Raises
    ------
    CohortError
        If a target has no baseline measurement.
    """
    notes: list[Note] = []
    size_column = "viable_mm" if criteria == "mRECIST" else "longest_mm"
    dated = measurements.sort_values("date", kind="stable")
    before = dated[dated["date"] <= treatment_start]
    after = dated[dated["date"] > treatment_start]
    nodes = [target.node for target in targets]

    def sizes_in(rows: pd.DataFrame) -> list[float]:
        by_lesion = rows.drop_duplicates("lesion_id", keep="last").set_index("lesion_id")
        return [
            float(by_lesion["short_axis_mm" if t.node else size_column][t.lesion_id])
            if t.lesion_id in by_lesion.index
            else float("nan")
            for t in targets
        ]

    baseline_sizes = sizes_in(before)
    if targets and np.isnan(baseline_sizes).any():
        missing = next(t.lesion_id for t, size in zip(targets, baseline_sizes, strict=True) if np.isnan(size))
        raise CohortError(
            f"target lesion {missing} has no {size_column} up to the start of treatment",
            where="measurements",
            remedy="add its baseline measurement or do not call it a target",
        )
    for lesion, size in zip(targets, baseline_sizes, strict=True):
        smallest = 15 if lesion.node else 10
        if size < smallest:
            notes.append(
                Note(f"the target measures {size:g} mm at baseline, less than {smallest} mm", lesion.lesion_id)
            )
    if len(targets) > 5:
        notes.append(Note(f"{len(targets)} target lesions; RECIST 1.1 takes at most 5, 2 for each organ"))
    baseline = float(np.sum(baseline_sizes))
    nadir, complete, new_seen = baseline, False, False
    points = []
    for day, rows in after.groupby("date", sort=True):
        sizes = sizes_in(rows)
        status_by = rows.drop_duplicates("lesion_id", keep="last").set_index("lesion_id")["status"]
        new_seen = new_seen or bool(rows["new"].eq("yes").any())
        target = (
            target_response(sizes, nodes, baseline_mm=baseline, nadir_mm=nadir, after_complete=complete)
            if targets
            else "none"
        )
        non_target = non_target_response([status_by.get(name) for name in non_targets])
        total = float(np.sum(sizes)) if targets else float("nan")
        change = 100 * (total - baseline) / baseline if baseline > 0 else float("nan")
        overall = overall_response(target, non_target, new_seen)
        points.append(Timepoint(pd.Timestamp(str(day)), total, nadir, change, target, non_target, new_seen, overall))
        if targets and np.isfinite(total):
            nadir = min(nadir, total)
        complete = complete or target == "CR"
    return points, notes


def best_overall_response(
    points: Sequence[Timepoint],
    *,
    treatment_start: pd.Timestamp,
    confirm: bool = False,
    confirm_after_days: int = 28,
    stable_after_days: int = 42,
) -> str:
    """Return the best overall response until progression.

    Parameters
    ----------
    confirm
        CR and PR count only when seen again at least ``confirm_after_days`` later (RECIST 1.1, table 3; for trials
        without randomisation whose aim is the response).
    stable_after_days
        SD counts only when seen at least so many days after the start of treatment.
    """
    found: list[str] = []
    for number, point in enumerate(points):
        if point.overall == "PD":
            found.append("PD")
            break
        later = [p for p in points[number + 1 :] if (p.date - point.date).days >= confirm_after_days]
        progressed = next((i for i, p in enumerate(later) if p.overall == "PD"), len(later))
        later_found = {p.overall for p in later[:progressed]}
        response = point.overall
        if confirm and response == "CR" and "CR" not in later_found:
            response = "PR" if "PR" in later_found else "SD"
        if confirm and response == "PR" and point.overall == "PR" and not later_found & {"PR", "CR"}:
            response = "SD"
        if response in ("SD", "non-CR/non-PD") and (point.date - treatment_start).days < stable_after_days:
            response = "NE"
        found.append(response)
    return min(found, key=_ORDER.index, default="NE")


@dataclass(frozen=True, slots=True, eq=False)
class CohortResponse:
    """Responses of a cohort: ``timepoints`` has a row for each patient and date, ``best`` one value each."""

    criteria: str
    timepoints: pd.DataFrame
    best: pd.Series
    notes: tuple[Note, ...]


def assess_cohort(
    cohort: Cohort, *, criteria: Criteria = "RECIST 1.1", confirm: bool = False, stable_after_days: int = 42
) -> CohortResponse:
    """Return the responses of all patients who have measurements.

    Raises
    ------
    CohortError
        If the start of treatment or a baseline measurement is missing.
    """
    notes: list[Note] = []
    if criteria == "mRECIST":
        notes.append(Note("mRECIST is validated for arterially enhancing hepatocellular carcinoma, not for metastases"))
    starts = cohort.patients.set_index("patient_id")["treatment_start"]
    rows, best = [], {}
    lesions = cohort.table("lesions")
    for patient, measured in cohort.table("measurements").groupby("patient_id", sort=True):
        start = starts[patient]
        if pd.isna(start):
            raise CohortError(
                f"patient {patient} has measurements but no start of treatment",
                where="patients, column treatment_start",
                remedy="add the date",
            )
        own = lesions[lesions["patient_id"] == patient]
        targets = [
            TargetLesion(str(name), role == "node")
            for name, role in zip(own["lesion_id"], own["role"], strict=True)
            if role in ("target", "node")
        ]
        per_organ = own[own["role"].isin(["target", "node"])]["organ"].fillna("liver").value_counts()
        if (per_organ > 2).any():
            notes.append(Note(f"more than 2 target lesions in {per_organ.idxmax()}", str(patient)))
        non_targets = [str(name) for name in own.loc[own["role"] == "non_target", "lesion_id"]]
        points, found = assess_timepoints(targets, non_targets, measured, treatment_start=start, criteria=criteria)
        notes += [Note(note.message, f"{patient} {note.where}".strip(), note.level) for note in found]
        rows += [
            {
                "patient_id": patient,
                **{name: getattr(point, name) for name in Timepoint.__dataclass_fields__},
            }
            for point in points
        ]
        best[str(patient)] = best_overall_response(
            points, treatment_start=start, confirm=confirm, stable_after_days=stable_after_days
        )
    columns = ["patient_id", *Timepoint.__dataclass_fields__]
    return CohortResponse(
        criteria,
        pd.DataFrame(rows, columns=pd.Index(columns)),
        pd.Series(best, dtype=object, name="best"),
        tuple(notes),
    )


def _smallest(points: Sequence[Timepoint]) -> float:
    sizes = [size for point in points for size in (point.nadir_mm, point.sum_mm) if np.isfinite(size)]
    return min(sizes, default=float("nan"))


def in_field_responses(cohort: Cohort) -> pd.DataFrame:
    """Return for each irradiated lesion its own response over time, apart from the patient's.

    Columns: patient_id, lesion_id, best, local_progression (date, NaT when none), last_measured, nadir_mm. The rule is
    that of RECIST 1.1 for a single lesion. Growth in the first months after SBRT may be a focal reaction:
    ``early`` tells that the progression was seen less than 6 months after the start and is not seen to be confirmed.
    """
    starts = cohort.patients.set_index("patient_id")["treatment_start"]
    lesions = cohort.table("lesions")
    measured = cohort.table("measurements")
    rows = []
    irradiated = lesions[lesions["irradiated"] == "yes"]
    for patient, lesion, role in zip(
        irradiated["patient_id"], irradiated["lesion_id"], irradiated["role"], strict=True
    ):
        own = measured[(measured["patient_id"] == patient) & (measured["lesion_id"] == lesion)]
        if own.empty:
            continue
        points, _ = assess_timepoints(
            [TargetLesion(str(lesion), role == "node")], [], own.assign(new=None), treatment_start=starts[patient]
        )
        progressed = [point.date for point in points if point.target == "PD"]
        before = [point.target for point in points if not progressed or point.date < progressed[0]]
        early = bool(progressed) and (progressed[0] - starts[patient]).days < 183 and len(progressed) < 2
        rows.append(
            {
                "patient_id": patient,
                "lesion_id": lesion,
                "best": min(before, key=_ORDER.index, default="PD" if progressed else "NE"),
                "local_progression": progressed[0] if progressed else pd.NaT,
                "last_measured": own["date"].max(),
                "nadir_mm": _smallest(points),
                "early": early,
            }
        )  # fmt: skip
    columns = ["patient_id", "lesion_id", "best", "local_progression", "last_measured", "nadir_mm", "early"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def response_counts(best: pd.Series) -> dict[str, int]:
    """Return the counts of CR, PR, SD, PD, NE with ORR = CR + PR and DCR = CR + PR + SD, and the number assessed."""
    counts = {name: int((best == name).sum()) for name in ("CR", "PR", "SD", "PD", "NE")}
    counts["SD"] += int((best == "non-CR/non-PD").sum())
    counts["ORR"] = counts["CR"] + counts["PR"]
    counts["DCR"] = counts["ORR"] + counts["SD"]
    counts["assessed"] = int(best.notna().sum())
    return counts


def merge_categories(best: pd.Series, merged: Mapping[str, str]) -> tuple[pd.Series, Note]:
    """Return the responses with categories merged as a paper did, and the note that this loses information."""
    words = ", ".join(f"{old} into {new}" for old, new in merged.items())
    changed = int(best.isin(list(merged)).sum())
    note = Note(f"categories merged as published ({words}); {changed} patients changed category and are not told apart")
    return best.map(lambda x: merged.get(x, x)), note
