"""Doses: total = fractions × dose per fraction, BED and EQD2, forwards and backwards, whole fractions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from cantlie.radiobiology.linear_quadratic import bed_gy, eqd2_from_bed_gy
from cantlie.study.audit.claims import Fractionation, Phase
from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.printed import Printed, rounded
from cantlie.study.audit.verdict import Finding, Severity, judged

LQ_SOURCE = "Fowler 1989, doi 10.1259/0007-1285-62-740-679"
_OTHER_ALPHA_BETA = (2.0, 2.5, 3.0, 4.0, 8.0, 10.0)


def check_doses(loaded: LoadedClaims) -> Iterator[Finding]:
    """Apply every check of dose arithmetic."""
    for index, claim in enumerate(loaded.claims.fractionation):
        line = loaded.line("fractionation", index)
        yield from fractionation_findings(claim, line)


def fractionation_findings(claim: Fractionation, line: int = 0) -> Iterator[Finding]:
    """Judge one fractionation: its product, its BED and EQD2, its ranges."""
    yield from _product(claim, line)
    yield from _effect(claim, line)
    yield from _whole_fractions(claim, line)
    yield from _ranges(claim, line)
    yield from _phases(claim, line)


def _finding(
    claim: Fractionation,
    item: str,
    printed: str,
    found: str,
    method: str,
    fits: bool,
    line: int,
    slip: str = "",
    source: str = "",
    severity: Severity = "major",
) -> Finding:
    return judged(
        "dose",
        claim.place,
        f"{claim.what}: {item}" if claim.what else item,
        printed,
        found,
        method,
        fits,
        severity=severity,
        slip=slip,
        source=source,
        line=line,
    )


def _product(claim: Fractionation, line: int) -> Iterator[Finding]:
    if claim.total is None or claim.fractions is None or claim.per_fraction is None:
        return
    product = claim.fractions * claim.per_fraction.value
    fits = claim.total.meets(product, product) or (
        claim.total.meets(claim.fractions * claim.per_fraction.low, claim.fractions * claim.per_fraction.high)
        and claim.per_fraction.unit < 1
    )
    whole = claim.total.value / claim.per_fraction.value if claim.per_fraction.value else 0
    slip = f"{round(whole)} fractions would fit" if abs(whole - round(whole)) < 1e-9 else ""
    yield _finding(
        claim,
        "total = fractions × dose per fraction",
        f"{claim.total.text} Gy; {claim.fractions} × {claim.per_fraction.text} Gy",
        f"{rounded(product, 6)} Gy",
        "n·d",
        fits,
        line,
        slip,
    )


def _effect(claim: Fractionation, line: int) -> Iterator[Finding]:
    if claim.bed is None and claim.eqd2 is None:
        return
    course = _course(claim)
    if course is None:
        return
    fractions, per_fraction = course
    shown = f"{fractions} × {rounded(per_fraction, 6)} Gy, α/β {claim.alpha_beta:g} Gy"
    for name, printed in (("BED", claim.bed), ("EQD2", claim.eqd2)):
        if printed is None:
            continue
        value = _effect_of(name, fractions, per_fraction, claim.alpha_beta)
        yield _finding(
            claim,
            name,
            f"{printed.text} Gy ({shown})",
            f"{rounded(value, 6)} Gy",
            "n·d·(1 + d/(α/β))" + ("" if name == "BED" else " / (1 + 2/(α/β))"),
            printed.agrees(value),
            line,
            _effect_slip(printed, fractions, per_fraction, claim.alpha_beta, name),
            LQ_SOURCE,
        )


def _course(claim: Fractionation) -> tuple[int, float] | None:
    """The fractions and dose per fraction, from any two of total, fractions and dose per fraction."""
    if claim.fractions is not None and claim.per_fraction is not None:
        return claim.fractions, claim.per_fraction.value
    if claim.fractions is not None and claim.total is not None:
        return claim.fractions, claim.total.value / claim.fractions
    if claim.total is not None and claim.per_fraction is not None:
        whole = claim.total.value / claim.per_fraction.value
        if abs(whole - round(whole)) < 1e-6:
            return round(whole), claim.per_fraction.value
    return None


def _bed(fractions: int, per_fraction: float, alpha_beta: float) -> float:
    return float(bed_gy(per_fraction, fractions, alpha_beta))


def _effect_of(name: str, fractions: int, per_fraction: float, alpha_beta: float) -> float:
    bed = _bed(fractions, per_fraction, alpha_beta)
    return bed if name == "BED" else float(eqd2_from_bed_gy(bed, alpha_beta))


def _effect_slip(printed: Printed, fractions: int, per_fraction: float, alpha_beta: float, name: str) -> str:
    for other in _OTHER_ALPHA_BETA:
        if other != alpha_beta and printed.agrees(_effect_of(name, fractions, per_fraction, other)):
            return f"another α/β: {other:g} Gy gives {printed.text}"
    if printed.agrees(fractions * per_fraction):
        return "the physical dose stands in place of the biological one"
    for count in range(max(1, fractions - 5), fractions + 6):
        if count != fractions and printed.agrees(_effect_of(name, count, per_fraction, alpha_beta)):
            return f"{count} fractions give {printed.text}"
    return ""


def _whole_fractions(claim: Fractionation, line: int) -> Iterator[Finding]:
    if claim.per_fraction is None or claim.fractions is not None:
        return
    totals = [claim.total] if claim.total is not None else []
    totals += list(claim.total_range or ())
    for total in totals:
        low = total.low / claim.per_fraction.value
        high = total.high / claim.per_fraction.value
        whole = total.value / claim.per_fraction.value
        exact = abs(whole - round(whole)) < 1e-9
        fits = exact or (total.unit < 1 and int(high + 1e-9) >= low - 1e-9 and int(high + 1e-9) > 0)
        yield _finding(
            claim,
            f"{total.text} Gy in whole fractions",
            f"{total.text} Gy at {claim.per_fraction.text} Gy",
            f"{rounded(whole, 5)} fractions",
            "total / dose per fraction is a whole number",
            fits,
            line,
            severity="warning",
        )


def _ranges(claim: Fractionation, line: int) -> Iterator[Finding]:
    if claim.bed_range is None and claim.total_range is None:
        return
    singles = [value for value in (claim.bed,) if value is not None and claim.total is None]
    beds = [*(claim.bed_range or ()), *singles]
    if claim.per_fraction_range is None or claim.fractions_range is None:
        return
    low_d, high_d = claim.per_fraction_range[0].value, claim.per_fraction_range[1].value
    low_n, high_n = claim.fractions_range
    totals = claim.total_range
    for bed in beds:
        found = _course_for_bed(bed, (low_n, high_n), (low_d, high_d), totals, claim.alpha_beta)
        yield _finding(
            claim,
            f"a course with BED {bed.text} Gy",
            f"{bed.text} Gy; {low_n}–{high_n} fractions of {low_d:g}–{high_d:g} Gy"
            + (f", {totals[0].text}–{totals[1].text} Gy" if totals else ""),
            f"{found[0]} × {rounded(found[1])} Gy" if found else "no course within the printed ranges",
            f"search over whole fractions and steps of 0.05 Gy, α/β {claim.alpha_beta:g} Gy",
            found is not None,
            line,
            source=LQ_SOURCE,
        )
    if totals is not None:
        for total in totals:
            fits = any(
                low_d - 1e-9 <= value / n <= high_d + 1e-9
                for n in range(low_n, high_n + 1)
                for value in (total.low, total.value, total.high)
            )
            yield _finding(
                claim,
                f"{total.text} Gy within the printed fractions",
                f"{total.text} Gy; {low_n}–{high_n} fractions of {low_d:g}–{high_d:g} Gy",
                "possible" if fits else "impossible",
                "total / fractions lies within the doses per fraction",
                fits,
                line,
            )


def _course_for_bed(
    bed: Printed,
    fractions: tuple[int, int],
    doses: tuple[float, float],
    totals: tuple[Printed, Printed] | None,
    alpha_beta: float,
) -> tuple[int, float] | None:
    """The course of the roundest dose per fraction that gives a BED: whole numbers, then tenths, then twentieths."""
    for step in (1.0, 0.5, 0.1, 0.05):
        steps = range(round(doses[0] / step), round(doses[1] / step) + 1)
        for number, n in itertools.product(steps, range(fractions[0], fractions[1] + 1)):
            dose = number * step
            within = doses[0] - 1e-9 <= dose <= doses[1] + 1e-9
            within = within and (totals is None or totals[0].low - 1e-9 <= n * dose <= totals[1].high + 1e-9)
            if within and bed.agrees(_bed(n, dose, alpha_beta)):
                return n, dose
    return None


def _phases(claim: Fractionation, line: int) -> Iterator[Finding]:
    if not claim.phases:
        return
    totals = ([claim.total] if claim.total is not None else []) + list(claim.total_range or ())
    for total in totals:
        found = _sum_of_phases(total, claim.phases)
        parts = " + ".join(f"{n} × {p.per_fraction.text}" for n, p in zip(found or (), claim.phases, strict=False))
        yield _finding(
            claim,
            f"{total.text} Gy from its phases",
            f"{total.text} Gy; "
            + " + ".join(f"{p.fractions[0]}–{p.fractions[1]} × {p.per_fraction.text} Gy" for p in claim.phases),
            parts if found else "no whole fractions of the phases give it",
            "search over whole fractions of every phase",
            found is not None,
            line,
        )


def _sum_of_phases(total: Printed, phases: list[Phase]) -> tuple[int, ...] | None:
    for counts in itertools.product(*[range(p.fractions[0], p.fractions[1] + 1) for p in phases]):
        if total.agrees(sum(n * phase.per_fraction.value for n, phase in zip(counts, phases, strict=True))):
            return counts
    return None
