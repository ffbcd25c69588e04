"""The dose of every plan and of the course, judged: DVHs, constraint rows, coverage and indices."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.evaluation.constraints import ConstraintResult, constraint_table
from cantlie.evaluation.coverage import CoverageResult, judge_coverage
from cantlie.evaluation.dvh import Dvh, dvh
from cantlie.evaluation.indices import PlanIndices, plan_indices
from cantlie.patient.regions import Regions
from cantlie.protocol.metric import Metric
from cantlie.protocol.references import beside_references
from cantlie.protocol.schema import Protocol
from cantlie.target.recipes import resolve_first

COURSE = "course"
BODY = "BODY"
LEAST_AREA_CUT = 0.01
"""Share of a structure's largest area that the first or last slice of the CT holds if the CT ends within it."""


@dataclass(frozen=True, slots=True, eq=False)
class Dosimetry:
    """Everything that is measured in the doses.

    Parameters
    ----------
    dvhs
        Scope (``course`` or the target of a plan) to structure name or recipe to DVH.
    constraints, reference_limits, coverage
        Judged rows.
    indices
        Scope to one row of indices per target, for the isodose that is to cover it (`covering_share`); in the course,
        it is that of each target's own prescription.
    """

    dvhs: Mapping[str, Mapping[str, Dvh]]
    constraints: tuple[ConstraintResult, ...]
    reference_limits: tuple[ConstraintResult, ...]
    coverage: tuple[CoverageResult, ...]
    indices: Mapping[str, tuple[PlanIndices, ...]]
    notes: tuple[Note, ...]

    @property
    def all_met(self) -> bool:
        """Whether no rule of the protocol is broken."""
        verdicts = [row.verdict for row in self.constraints] + [row.verdict for row in self.coverage]
        return "fail" not in verdicts


def judge_doses(
    regions: Regions,
    protocol: Protocol,
    doses: Mapping[str, Volume],
    prescriptions_gy: Mapping[str, float],
    progress: Progress = silent,
    *,
    course_prescriptions_gy: Mapping[str, float] | None = None,
) -> Dosimetry:
    """Judge the doses of all plans and of the course by a protocol.

    Parameters
    ----------
    regions
        Masks of all structures and targets.
    doses
        Scope to dose in Gy: ``course`` and each plan by its target.
    prescriptions_gy
        Target to prescribed dose of its whole plan.
    course_prescriptions_gy
        Target to the dose prescribed in the whole course, where other plans gave a part of it before.
    """
    in_course = course_prescriptions_gy or prescriptions_gy
    masks, notes = _masks(regions, protocol)
    targets = [name for name in protocol.target_ids if name in prescriptions_gy]
    dvhs: dict[str, dict[str, Dvh]] = {}
    for number, (scope, dose) in enumerate(doses.items()):
        progress(number / len(doses), f"DVH of {scope}")
        dvhs[scope] = {name: dvh(dose, mask, regions.grid, name=name) for name, mask in masks.items()}
    for of_scope in dvhs.values():
        for curve in of_scope.values():
            notes += [note for note in curve.notes if note not in notes and curve.name != BODY]
    course_gy = max(in_course.values())
    constraints: list[ConstraintResult] = []
    for scope in dvhs:
        rows = [c for c in protocol.constraints if c.scope == scope or (c.scope == "plan" and scope != COURSE)]
        given = course_gy if scope == COURSE else prescriptions_gy[scope]
        constraints += constraint_table(rows, dvhs[scope], given)
    cut = {name for name, mask in masks.items() if _is_cut_by_the_ct(mask)}
    notes += _notes_on_cut(constraints, cut)
    constraints = _with_references([_of_what_is_imaged(row, cut) for row in constraints], protocol)
    limits = constraint_table(protocol.reference_limits, dvhs[COURSE], course_gy)
    limits = tuple(_of_what_is_imaged(row, cut) for row in limits)
    coverage = []
    for rule in protocol.coverage:
        if rule.target in targets:
            scope = COURSE if rule.scope == "course" else rule.target
            found = dvhs.get(scope, {}).get(rule.target)
            wanted = in_course if scope == COURSE else prescriptions_gy
            coverage.append(judge_coverage(rule, found, wanted[rule.target]))
    indices: dict[str, tuple[PlanIndices, ...]] = {}
    for scope, of_scope in dvhs.items():
        judged = targets if scope == COURSE else [scope]
        wanted = in_course if scope == COURSE else prescriptions_gy
        indices[scope] = tuple(
            plan_indices(of_scope[name], of_scope[BODY], wanted[name], covering_share(protocol, name) * wanted[name])
            for name in judged
            if name in of_scope
        )
    return Dosimetry(dvhs, tuple(constraints), limits, tuple(coverage), indices, tuple(notes))


def covering_share(protocol: Protocol, target: str) -> float:
    """Return the isodose that is to cover a target, as a share of its prescription.

    A prescription to the mean dose covers half of a target and cannot be what its conformity is judged on. Without a
    rule on coverage it is the prescription itself.
    """
    return max((one.isodose_percent for one in protocol.coverage if one.target == target), default=100.0) / 100


def _is_cut_by_the_ct(mask: NDArray[np.float32]) -> bool:
    areas = mask.sum(axis=(1, 2), dtype=np.float64)
    return bool(max(areas[0], areas[-1]) > LEAST_AREA_CUT * areas.max())


def _needs_the_whole(row: ConstraintResult) -> bool:
    """Say whether a metric is a mean or refers to the structure's whole volume."""
    metric = Metric.parse(row.metric)
    if metric.is_dose:
        return metric.kind == "mean" or (metric.kind == "dose_at_volume" and metric.argument_unit == "%")
    return metric.unit == "%" or metric.kind == "volume_below_dose"


def _of_what_is_imaged(row: ConstraintResult, cut: Collection[str]) -> ConstraintResult:
    if row.evaluated_structure not in cut or not _needs_the_whole(row):
        return row
    said = "of the imaged part: the CT ends within it"
    return replace(row, reason=f"{row.reason}; {said}" if row.reason else said)


def _notes_on_cut(rows: Iterable[ConstraintResult], cut: Collection[str]) -> list[Note]:
    metrics: dict[str, list[str]] = {}
    for row in rows:
        if row.evaluated_structure in cut and _needs_the_whole(row):
            metrics.setdefault(row.evaluated_structure, []).append(row.metric)
    return [
        Note(f"the CT ends within it; the imaged part alone counts in {', '.join(dict.fromkeys(names))}", structure)
        for structure, names in metrics.items()
    ]


def _with_references(rows: list[ConstraintResult], protocol: Protocol) -> list[ConstraintResult]:
    """Return the rows with what reference limits of the same metric say beside them."""
    beside: dict[tuple[str, str, float], list[str]] = {}
    for one in beside_references(protocol):
        rule = protocol.constraints[one.index]
        key = (rule.structure, str(rule.parsed_metric), rule.limit)
        beside.setdefault(key, []).append(f"{one.relation} {one.short()}")
    return [
        replace(row, reference="; ".join(beside[row.structure, row.metric, row.limit]))
        if row.scope == COURSE and (row.structure, row.metric, row.limit) in beside
        else row
        for row in rows
    ]


def _masks(regions: Regions, protocol: Protocol) -> tuple[dict[str, NDArray[np.float32]], list[Note]]:
    """Return every mask that is worth a DVH: all regions, and the recipes of the protocol's rows."""
    masks = {name: mask for name, mask in regions.fractions.items() if mask.any()}
    notes: list[Note] = []
    for row in _rows(protocol):
        found = resolve_first(regions, row[0], row[1])
        if found is None:
            continue
        masks.setdefault(found.name, found.fractions)
        notes += [note for note in found.notes if note not in notes]
    return masks, notes


def _rows(protocol: Protocol) -> Iterable[tuple[str, tuple[str, ...]]]:
    for constraint in (*protocol.constraints, *protocol.reference_limits):
        yield constraint.structure, constraint.stand_ins
