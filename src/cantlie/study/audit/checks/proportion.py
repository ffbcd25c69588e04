"""Standard errors and intervals of proportions: which convention made them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import get_args

from cantlie.statistics.proportion import IntervalMethod, proportion_interval
from cantlie.study.audit.claims import Proportion
from cantlie.study.audit.printed import rounded
from cantlie.study.audit.verdict import Finding, judged

SE_SOURCE = "standard error of a binomial proportion"
CI_SOURCE = "Newcombe 1998, doi 10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E"


def proportion_spread(claim: Proportion, line: int = 0) -> Iterator[Finding]:
    """Judge the standard error and the confidence interval that are printed with a percentage."""
    if claim.count is not None:
        counts = [claim.count]
    else:
        counts = [k for k in range(claim.of + 1) if claim.percent.agrees(100 * k / claim.of)]
    if not counts or max(counts) > claim.of:
        return
    if claim.se is not None:
        errors = [100 * math.sqrt(k / claim.of * (1 - k / claim.of) / claim.of) for k in counts]
        fits = any(claim.se.agrees(error) for error in errors)
        slip = "the standard deviation stands in place of the standard error"
        yield judged(
            "interval",
            claim.place,
            f"{claim.what}: standard error",
            f"{claim.percent.text} ± {claim.se.text}, n = {claim.of}",
            f"{rounded(errors[0])}",
            "√(p(1−p)/n) of the printed proportion",
            fits,
            severity="warning",
            slip=slip if any(claim.se.agrees(e * math.sqrt(claim.of)) for e in errors) else "",
            source=SE_SOURCE,
            line=line,
        )
    if claim.ci is not None:
        low, high = claim.ci
        made_by = []
        shown = []
        for method in get_args(IntervalMethod):
            limits = [proportion_interval(k, claim.of, method=method, level=claim.level / 100) for k in counts]
            shown.append(f"{method} {100 * limits[0].lower:.1f} to {100 * limits[0].upper:.1f}")
            if any(low.agrees(100 * each.lower) and high.agrees(100 * each.upper) for each in limits):
                made_by.append(method)
        yield judged(
            "interval",
            claim.place,
            f"{claim.what}: interval",
            f"{claim.percent.text} ({low.text} to {high.text}), n = {claim.of}",
            f"made by {', '.join(made_by)}" if made_by else "; ".join(shown),
            "intervals of a proportion by every usual method",
            bool(made_by),
            severity="warning",
            source=CI_SOURCE,
            line=line,
        )
