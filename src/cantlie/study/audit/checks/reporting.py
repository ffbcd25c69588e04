"""Complete reporting: the flow of patients, announced results, and what cannot be recomputed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.verdict import CHECK_NAMES, Check, Finding, judged


def check_reporting(loaded: LoadedClaims) -> Iterator[Finding]:
    """Follow patients from entry to analysis, announced results to their report; list what stays open."""
    for index, flow in enumerate(loaded.claims.flow):
        line = loaded.line("flow", index)
        left = flow.entered - sum(part.n for part in flow.excluded)
        fits = left == flow.analysed
        away = " - ".join(str(part.n) for part in flow.excluded)
        yield judged(
            "total",
            flow.place,
            f"patients of {flow.group}",
            f"{flow.entered} - {away or 0} -> {flow.analysed}",
            str(left),
            "entered less excluded = analysed",
            fits,
            line=line,
        )
        toxic = [part for part in flow.excluded if part.from_toxicity and part.n]
        safety = flow.safety_analysed if flow.safety_analysed is not None else flow.analysed
        if toxic and safety < flow.entered:
            reasons = ", ".join(f"{part.n} for {part.reason}" for part in toxic)
            yield Finding(
                "reporting",
                flow.place,
                f"toxicity of {flow.group}: who is counted",
                f"toxicity among {safety} of {flow.entered} treated",
                f"left out because of toxicity: {reasons}",
                "a safety table counts every treated patient",
                "inconsistent",
                "warning",
                remark=f"with all treated the denominator is {flow.entered}",
                line=line,
                source="ICH E9 section 5.2.4; CONSORT Harms 2022, doi 10.1136/bmj-2022-073725",
            )
    for index, promise in enumerate(loaded.claims.announced):
        reported = bool(promise.reported)
        yield judged(
            "reporting",
            promise.place,
            promise.what,
            f"announced: {promise.place}",
            promise.reported if reported else "no result is reported",
            "announced against reported",
            reported,
            severity="warning",
            remark=promise.note,
            line=loaded.line("announced", index),
        )
    for index, item in enumerate(loaded.claims.open):
        check = cast("Check", item.check if item.check in CHECK_NAMES else "method")
        yield Finding(
            check,
            item.place,
            item.what,
            item.printed,
            item.known or "-",
            item.why,
            "not recomputable",
            item.consequence or "",
            remark=item.note,
            line=loaded.line("open", index),
        )
