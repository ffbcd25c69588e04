"""Calendars and dates: the days that a schedule takes, and the order and distance of a study's dates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from cantlie.study.audit.claims import Dates, Schedule
from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.printed import rounded
from cantlie.study.audit.verdict import Finding, judged

MONTH_DAYS = 30.4375


def check_calendars(loaded: LoadedClaims) -> Iterator[Finding]:
    """Judge every schedule and every set of dates."""
    for index, schedule in enumerate(loaded.claims.schedule):
        yield from schedule_findings(schedule, loaded.line("schedule", index))
    for index, dates in enumerate(loaded.claims.dates):
        yield from date_findings(dates, loaded.line("dates", index))


def calendar_span(
    fractions: int, *, per_week: int = 5, per_day: int = 1, every_days: int | None = None
) -> tuple[int, int]:
    """Return the fewest and most calendar days from first to last fraction, over all starting days.

    With ``every_days`` a fraction follows every so many days, weekends included; else the first ``per_week`` days of
    each week are treatment days.
    """
    days = -(-fractions // per_day)
    if every_days is not None:
        span = (days - 1) * every_days + 1
        return span, span
    spans = []
    for start in range(per_week):
        last = start + days - 1
        spans.append(last // per_week * 7 + last % per_week - start + 1)
    return min(spans), max(spans)


def schedule_findings(claim: Schedule, line: int = 0) -> Iterator[Finding]:
    """Hold the printed duration of a course against its calendar."""
    shortest, longest = calendar_span(
        claim.fractions, per_week=claim.per_week, per_day=claim.per_day, every_days=claim.every_days
    )
    days = -(-claim.fractions // claim.per_day)
    span = f"{shortest}" if shortest == longest else f"{shortest}–{longest}"
    rhythm = f"every {claim.every_days} days" if claim.every_days else f"{claim.per_week} days a week"
    for printed, unit, length in ((claim.days, "days", 1.0), (claim.weeks, "weeks", 7.0)):
        if printed is None:
            continue
        if unit == "days":
            fits = printed.meets(shortest, longest)
        else:
            fits = printed.meets((shortest - 2) / length, (longest + 2) / length)
        as_treatment_days = unit == "days" and printed.agrees(days)
        yield judged(
            "schedule",
            claim.place,
            claim.what or "overall treatment time",
            f"{printed.text} {unit}; {claim.fractions} fractions {rhythm}",
            f"{days} treatment days span {span} calendar days",
            "calendar, first fraction on any treatment day",
            fits,
            severity="warning",
            remark="true only as treatment days; calendar time is what repopulation depends on"
            if as_treatment_days and not fits
            else "",
            slip="treatment days printed as days" if as_treatment_days else "",
            line=line,
        )


def date_findings(claim: Dates, line: int = 0) -> Iterator[Finding]:
    """Judge the order of dates, and whether the follow-up is long enough for what is reported."""
    order = [
        ("ethics approval", claim.approval, "start of accrual", claim.accrual_from),
        ("start of accrual", claim.accrual_from, "end of accrual", claim.accrual_to),
        ("end of accrual", claim.accrual_to, "end of follow-up", claim.followup_end),
        ("end of follow-up", claim.followup_end, "submission", claim.submitted),
    ]
    for first_name, first, second_name, second in order:
        if first is None or second is None:
            continue
        fits = first <= second
        yield judged(
            "dates",
            claim.place,
            f"{first_name} before {second_name}",
            f"{first:%Y-%m}, {second:%Y-%m}",
            "in order" if fits else "not in order",
            "order of dates",
            fits,
            line=line,
        )
    end = claim.followup_end or claim.submitted
    if claim.needs_months is not None and claim.accrual_to is not None and end is not None:
        have = _months(claim.accrual_to, end)
        fits = have + 1 >= claim.needs_months
        yield judged(
            "dates",
            claim.place,
            claim.what or f"complete follow-up of {claim.needs_months:g} months",
            f"last inclusion {claim.accrual_to:%Y-%m}, end of follow-up {end:%Y-%m}",
            f"{rounded(have, 3)} months for the last patient",
            f"complete {claim.needs_months:g}-month results need as much follow-up for the last patient",
            fits,
            line=line,
        )
    if claim.longest_months is not None and claim.accrual_from is not None and end is not None:
        most = _months(claim.accrual_from, end) + 1
        fits = claim.longest_months.low <= most
        yield judged(
            "dates",
            claim.place,
            "longest follow-up",
            f"{claim.longest_months.text} months; {claim.accrual_from:%Y-%m} to {end:%Y-%m}",
            f"at most {rounded(most, 3)} months",
            "no follow-up is longer than the study",
            fits,
            line=line,
        )


def _months(first: date, second: date) -> float:
    return (second - first).days / MONTH_DAYS
