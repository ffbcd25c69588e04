"""The logic of survival curves: medians against rates, endpoints against each other, rates against patients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from cantlie.study.audit.checks.enumeration import LARGEST, Stratum, joint_pattern, reachable_pattern
from cantlie.study.audit.claims import Survival
from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.printed import Printed, rounded
from cantlie.study.audit.verdict import Finding, judged

KM_SOURCE = "Kaplan and Meier 1958, doi 10.1080/01621459.1958.10501452"


def check_survival(loaded: LoadedClaims) -> Iterator[Finding]:
    """Apply every check of survival logic."""
    claims = loaded.claims.survival
    lines = [loaded.line("survival", index) for index in range(len(claims))]
    for claim, line in zip(claims, lines, strict=True):
        yield from median_against_rates(claim, line)
        yield from _falling(claim, line)
        yield from _counts(claim, line)
        yield from _possible(claim, line)
    yield from _endpoints(claims, lines)
    yield from _pooled(claims, lines)
    yield from _joint(claims, lines)


def median_against_rates(claim: Survival, line: int = 0) -> Iterator[Finding]:
    """A curve is above 50 % before its median and at or below it afterwards."""
    if claim.median is None or not claim.rates:
        return
    median = claim.median
    wrong: list[str] = []
    for months, rate in _in_order(claim):
        if median.high < months and rate.low > 50:
            wrong.append(f"{rate.text}% at {months:g} months puts the median after {months:g}")
        if median.low > months and rate.high < 50:
            wrong.append(f"{rate.text}% at {months:g} months puts the median before {months:g}")
    before = [months for months, rate in _in_order(claim) if rate.low > 50]
    after = [months for months, rate in _in_order(claim) if rate.high < 50]
    bracket = f"({before[-1]:g}" if before else "(0"
    bracket += f", {after[0]:g}]" if after else ", …)"
    if before and max(claim.event_months, default=math.inf) <= before[-1]:
        wrong = wrong or [f"the last event is at {max(claim.event_months):g} months with the curve above 50%"]
    yield Finding(
        "logic",
        claim.place,
        f"median {_name(claim)} against its rates",
        f"median {median.text}; " + ", ".join(f"{rate.text}% at {months:g}" for months, rate in _in_order(claim)),
        f"the median lies in {bracket}" if not wrong else "; ".join(wrong),
        "the curve crosses 50 % at the median",
        "inconsistent" if wrong else "consistent",
        "major" if wrong else "",
        line=line,
    )


def compare_endpoints(lower: Printed, upper: Printed, item: str, place: str, why: str, line: int = 0) -> Finding:
    """Judge two rates (or medians) of which the first cannot exceed the second."""
    fits = lower.low <= upper.high + 1e-9
    return judged(
        "logic",
        place,
        item,
        f"{lower.text} and {upper.text}",
        f"{lower.text} <= {upper.text}" if fits else f"{lower.text} > {upper.text}",
        why,
        fits,
        slip="the two values or endpoints may be exchanged",
        line=line,
    )


def _in_order(claim: Survival) -> list[tuple[float, Printed]]:
    return sorted(((float(months), rate) for months, rate in claim.rates.items()), key=lambda pair: pair[0])


def _name(claim: Survival) -> str:
    return f"{claim.endpoint} ({claim.group})"


def _falling(claim: Survival, line: int) -> Iterator[Finding]:
    ordered = _in_order(claim)
    if len(ordered) < 2:
        return
    rises = [(a, b) for a, b in pairwise(ordered) if b[1].low > a[1].high + 1e-9]
    yield Finding(
        "logic",
        claim.place,
        f"{_name(claim)} does not rise",
        ", ".join(f"{rate.text}% at {months:g}" for months, rate in ordered),
        "falls or stays" if not rises else f"rises between {rises[0][0][0]:g} and {rises[0][1][0]:g} months",
        "a survival curve cannot rise",
        "inconsistent" if rises else "consistent",
        "major" if rises else "",
        line=line,
    )


def _counts(claim: Survival, line: int) -> Iterator[Finding]:
    if not claim.counts or claim.n is None:
        return
    agreeing = [
        months
        for months, count in claim.counts.items()
        if months in claim.rates and claim.rates[months].agrees(100 * count / claim.n)
    ]
    if len(agreeing) == len(claim.counts):
        yield Finding(
            "method",
            claim.place,
            f"{_name(claim)}: how the rates were made",
            "Kaplan–Meier rates",
            f"every rate is a whole number of {claim.n}",
            "count / patients at every landmark",
            "consistent",
            remark="crude proportions equal Kaplan–Meier rates only without censoring before the last landmark",
            line=line,
        )


def _possible(claim: Survival, line: int) -> Iterator[Finding]:
    if claim.n is None or not claim.rates or claim.counts:
        return
    ordered = _in_order(claim)
    shown = ", ".join(f"{rate.text}% at {months:g}" for months, rate in ordered)
    printed = f"{shown}; n = {claim.n}" + (f", {claim.events} events" if claim.events is not None else "")
    item = f"{_name(claim)} rates from {claim.n} patients"
    if claim.n > LARGEST:
        yield Finding(
            "km-feasibility",
            claim.place,
            item,
            printed,
            "-",
            "enumeration of events and censorings",
            "not recomputable",
            remark=f"with more than {LARGEST} patients nearly every rate is possible",
            source=KM_SOURCE,
            line=line,
        )
        return
    pattern = reachable_pattern(claim.n, [rate for _, rate in ordered], events=claim.events)
    if pattern is None:
        found, remark = "no order of events and censorings gives these rates", ""
    else:
        found = f"possible with {pattern.events} events and {pattern.censored} censored by {ordered[-1][0]:g} months"
        remark = "" if pattern.censored == 0 else "not a crude proportion: censoring before the landmark is needed"
    yield judged(
        "km-feasibility",
        claim.place,
        item,
        printed,
        found,
        "enumeration of all orders of events and censorings",
        pattern is not None,
        remark=remark,
        source=KM_SOURCE,
        line=line,
    )


def _endpoints(claims: list[Survival], lines: list[int]) -> Iterator[Finding]:
    for i, upper in enumerate(claims):
        for j, lower in enumerate(claims):
            if i == j or upper.group != lower.group or upper.cited or lower.cited:
                continue
            rule = _rule(lower, upper)
            if not rule:
                continue
            place = lower.place if lower.place == upper.place else f"{lower.place}; {upper.place}"
            for months in sorted(set(lower.rates) & set(upper.rates), key=float):
                item = f"{lower.endpoint} against {upper.endpoint} ({lower.group}) at {months} months"
                yield compare_endpoints(lower.rates[months], upper.rates[months], item, place, rule, lines[j])
            if lower.median is not None and upper.median is not None:
                item = f"median {lower.endpoint} against median {upper.endpoint} ({lower.group})"
                yield compare_endpoints(lower.median, upper.median, item, place, rule, lines[j])


def _rule(lower: Survival, upper: Survival) -> str:
    """Why the first endpoint cannot exceed the second; empty where no rule holds."""
    low, high = lower.endpoint.upper(), upper.endpoint.upper()
    if high == "OS" and low != "OS" and lower.death_is_event:
        return f"death is an event of {lower.endpoint}, so its curve cannot be above overall survival"
    if high in ("LC", "DMFS") and low == "PFS" and upper.death_is_event is not True and lower.by == upper.by:
        return f"every {upper.endpoint} event is an event of {lower.endpoint}, so {lower.endpoint} cannot be above it"
    return ""


def _pooled(claims: list[Survival], lines: list[int]) -> Iterator[Finding]:
    for whole, line in zip(claims, lines, strict=True):
        for by in sorted({claim.by for claim in claims if claim.of == whole.group and claim.by}):
            parts = [c for c in claims if c.endpoint == whole.endpoint and c.of == whole.group and c.by == by]
            if len(parts) < 2 or whole.by == by:
                continue
            for months in whole.rates:
                rates = [part.rates.get(months) for part in parts]
                known = [rate for rate in rates if rate is not None]
                if len(known) == len(parts):
                    yield _between(whole, parts, known, whole.rates[months], f"at {months} months", by, line)
            medians = [part.median for part in parts if part.median is not None]
            if whole.median is not None and len(medians) == len(parts):
                yield _between(whole, parts, medians, whole.median, "median", by, line)


def _between(
    whole: Survival, parts: list[Survival], values: list[Printed], pooled: Printed, what: str, by: str, line: int
) -> Finding:
    low, high = min(value.low for value in values), max(value.high for value in values)
    fits = pooled.high >= low - 1e-9 and pooled.low <= high + 1e-9
    sizes = [part.n for part in parts]
    remark = ""
    if what != "median" and all(sizes):
        mean = sum((n or 0) * value.value for n, value in zip(sizes, values, strict=True)) / sum(n or 0 for n in sizes)
        remark = f"weighted mean of the groups {rounded(mean, 3)}; censoring allows some difference"
    shown = ", ".join(f"{part.group} {value.text}" for part, value in zip(parts, values, strict=True))
    return judged(
        "logic",
        whole.place,
        f"{_name(whole)} {what} against its groups by {by}",
        f"{pooled.text}; {shown}",
        f"between {rounded(min(v.value for v in values))} and {rounded(max(v.value for v in values))}",
        "a pooled value lies between those of its groups",
        fits,
        severity="warning",
        remark=remark,
        line=line,
    )


def _joint(claims: list[Survival], lines: list[int]) -> Iterator[Finding]:
    """All strata of a small group must come from one and the same course of events."""
    for whole, line in zip(claims, lines, strict=True):
        for months, rate in whole.rates.items():
            if whole.n is None or whole.n > LARGEST or whole.of:
                continue
            partitions: list[list[Stratum]] = []
            for by in sorted({c.by for c in claims if c.of == whole.group and c.endpoint == whole.endpoint and c.by}):
                parts = [c for c in claims if c.of == whole.group and c.by == by and c.endpoint == whole.endpoint]
                strata = [
                    Stratum(c.group, c.n, c.rates[months]) for c in parts if months in c.rates and c.n is not None
                ]
                if len(strata) == len(parts) >= 2 and sum(stratum.patients for stratum in strata) == whole.n:
                    partitions.append(strata)
            if not partitions:
                continue
            found = joint_pattern(Stratum(whole.group, whole.n, rate), partitions)
            if found is None:  # a longer course of events may exist: nothing is known
                continue
            names = ", ".join(f"{s.name} {s.rate.text}% (n={s.patients})" for p in partitions for s in p)
            yield Finding(
                "km-feasibility",
                whole.place,
                f"{_name(whole)} at {months} months together with its groups",
                f"{rate.text}% of {whole.n}; {names}",
                f"all reproduced by {found}",
                "joint enumeration of events and censorings over all printed groups",
                "consistent",
                remark="the printed group sizes are supported",
                source=KM_SOURCE,
                line=line,
            )
