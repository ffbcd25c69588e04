"""The rules of a protocol in many doses of one patient, measured only where a rule or a clinical target needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cantlie.core.volume import Volume
from cantlie.evaluation.bands import JudgedMetric, metric_values
from cantlie.evaluation.constraints import ConstraintResult, constraint_table
from cantlie.evaluation.coverage import judge_coverage
from cantlie.evaluation.dvh import Dvh, dvh
from cantlie.patient.regions import Regions
from cantlie.protocol.schema import Protocol
from cantlie.target.recipes import resolve_first
from cantlie.workflow.dosimetry import COURSE

Fractions = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RuleJudge:
    """The rules that are judged, and the masks that they need in each scope.

    It measures only what rules and clinical targets need, so that many doses of one patient can be judged quickly.
    """

    protocol: Protocol
    regions: Regions
    masks: Mapping[str, Mapping[str, Fractions]]
    clinical: tuple[str, ...]
    prescriptions_gy: Mapping[str, float]

    @classmethod
    def of(
        cls,
        protocol: Protocol,
        regions: Regions,
        doses: Mapping[str, Volume],
        prescriptions_gy: Mapping[str, float],
    ) -> RuleJudge:
        """Return the judge of a patient's doses, given the doses of the course and of each plan by its target."""
        names = [protocol.target(name).ctv_id for name in protocol.target_ids]
        clinical = tuple(dict.fromkeys(name for name in names if name in regions and regions[name].any()))
        masks: dict[str, dict[str, Fractions]] = {scope: {} for scope in doses}
        for scope in doses:
            for rule in _rules_of(protocol, scope):
                found = resolve_first(regions, rule.structure, rule.stand_ins)
                if found is not None:
                    masks[scope].setdefault(found.name, found.fractions)
        for coverage in protocol.coverage:
            scope = COURSE if coverage.scope == "course" else coverage.target
            if scope in masks and coverage.target in regions:
                masks[scope][coverage.target] = regions[coverage.target]
        for name in clinical:
            masks[COURSE][name] = regions[name]
        return cls(protocol, regions, masks, clinical, prescriptions_gy)

    def curves(self, doses: Mapping[str, Volume]) -> dict[tuple[str, str], Dvh]:
        """Return the DVHs by structure and scope."""
        grid = self.regions.grid
        return {
            (name, scope): dvh(doses[scope], mask, grid, name=name)
            for scope, masks in self.masks.items()
            for name, mask in masks.items()
        }

    def values(self, curves: Mapping[tuple[str, str], Dvh]) -> dict[JudgedMetric, float]:
        """Return the value of every rule that can be judged, and near-minimum doses of clinical targets."""
        rows: list[ConstraintResult] = []
        for scope in self.masks:
            given = self.prescriptions_gy.get(scope, max(self.prescriptions_gy.values()))
            own = {name: curve for (name, of), curve in curves.items() if of == scope}
            rows += constraint_table(_rules_of(self.protocol, scope), own, given)
        coverage = [
            judge_coverage(
                rule,
                curves.get((rule.target, COURSE if rule.scope == "course" else rule.target)),
                self.prescriptions_gy[rule.target],
            )
            for rule in self.protocol.coverage
            if rule.target in self.prescriptions_gy
        ]
        return metric_values(rows, coverage, {name: curves[name, COURSE] for name in self.clinical})


def _rules_of(protocol: Protocol, scope: str) -> Sequence[Any]:
    return [c for c in protocol.constraints if c.scope == scope or (c.scope == "plan" and scope != COURSE)]
