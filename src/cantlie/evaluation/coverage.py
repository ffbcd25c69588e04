"""Coverage rules: how much of a target lies inside an isodose.

The papers write it in four forms, which are all ``at least this share of the target inside that isodose``:
"85-90 % isodose covers the PTV" (Zhang 2021), "95 % of the prescription to 99 %, 100 % to 95 % of the PTV" (Liu 2022,
two rules), "90-95 % isodose" (Pei 2019) and "90 % of the PTV" (Yin 2014).
"""

from __future__ import annotations

from dataclasses import dataclass

from cantlie.evaluation.dvh import Dvh
from cantlie.evaluation.metrics import metric_value
from cantlie.evaluation.verdict import Verdict, holds
from cantlie.protocol.schema import Coverage


@dataclass(frozen=True, slots=True)
class CoverageResult:
    """One coverage rule, judged.

    Attributes
    ----------
    isodose_percent, isodose_gy
        The isodose of the rule, in % of the prescription and in Gy.
    required_percent, achieved_percent
        Share of the target that must lie inside it, and that does; None when it cannot be evaluated.
    range_percent
        Share of the target inside the loosest and the strictest isodose, where the source prints a range.
    covering_isodose_percent
        The highest isodose that covers the required share, in % of the prescription.
    """

    target: str
    isodose_percent: float
    isodose_gy: float
    required_percent: float
    achieved_percent: float | None
    margin_percent: float | None
    verdict: Verdict
    scope: str = "plan"
    isodose_range_percent: tuple[float, float] | None = None
    range_percent: tuple[float, float] | None = None
    covering_isodose_percent: float | None = None
    reason: str = ""
    wording: str = ""
    place: str = ""


def judge_coverage(rule: Coverage, dvh: Dvh | None, prescription_gy: float) -> CoverageResult:
    """Return a coverage rule with what the dose does.

    Parameters
    ----------
    dvh
        DVH of the target in the dose of the rule's scope; None where the target is missing.
    prescription_gy
        The dose that is 100 %.
    """
    achieved: float | None = None
    covering: float | None = None
    printed: tuple[float, float] | None = None
    shares: tuple[float, float] | None = None
    verdict: Verdict = "not evaluable"
    if rule.isodose_least_percent is not None and rule.isodose_most_percent is not None:
        printed = (rule.isodose_least_percent, rule.isodose_most_percent)
    if dvh is not None:
        achieved = metric_value(rule.metric, dvh, prescription_gy)
        verdict = "pass" if holds(achieved, ">=", rule.volume_percent) else "fail"
        covering = 100.0 * float(dvh.dose_at_percent_gy(rule.volume_percent)) / prescription_gy
        if printed is not None:
            low, high = dvh.volume_at_dose_percent([value * prescription_gy / 100.0 for value in printed])
            shares = (float(low), float(high))
    return CoverageResult(
        target=rule.target,
        isodose_percent=rule.isodose_percent,
        isodose_gy=rule.isodose_percent * prescription_gy / 100.0,
        required_percent=rule.volume_percent,
        achieved_percent=achieved,
        margin_percent=None if achieved is None else achieved - rule.volume_percent,
        verdict=verdict,
        scope=rule.scope,
        isodose_range_percent=printed,
        range_percent=shares,
        covering_isodose_percent=covering,
        reason=f"{rule.target} has no contour, or no plan of its own" if dvh is None else "",
        wording=rule.wording,
        place=rule.place,
    )
