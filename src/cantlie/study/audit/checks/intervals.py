"""Ratios, differences and confidence intervals: the estimate, its interval and its p must tell one story."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from scipy import stats

from cantlie.study.audit.claims import Difference, Interval, Ratio, Survival
from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.printed import Printed, rounded
from cantlie.study.audit.verdict import Check, Finding, Severity, judged

WALD_SOURCE = "Altman and Bland 2011, doi 10.1136/bmj.d2304"
_Map = Callable[[float], float]
CI_SOURCE = "Brookmeyer and Crowley 1982, doi 10.2307/2530286; Greenwood 1926"


def check_intervals(loaded: LoadedClaims) -> Iterator[Finding]:
    """Judge every ratio, every difference, and the intervals of medians and rates."""
    for index, ratio in enumerate(loaded.claims.ratio):
        yield from ratio_findings(ratio, loaded.claims.alpha, loaded.line("ratio", index))
    for index, difference in enumerate(loaded.claims.difference):
        yield from difference_findings(difference, loaded.claims.alpha, loaded.line("difference", index))
    lines = [loaded.line("survival", index) for index in range(len(loaded.claims.survival))]
    yield from median_intervals(loaded.claims.survival, lines)
    yield from _rate_intervals(loaded.claims.survival, lines)


def ratio_findings(claim: Ratio, alpha: float = 0.05, line: int = 0) -> Iterator[Finding]:
    """A ratio is the geometric middle of its interval; its p follows from both (Wald)."""
    low, high = claim.ci
    if low.value > high.value:
        yield _reversed("hazard-ratio", claim.place, claim.what or "ratio", claim.estimate, claim.ci, line)
        return
    if low.value <= 0 or high.value <= 0 or claim.estimate.value <= 0:
        yield Finding(
            "hazard-ratio",
            claim.place,
            claim.what,
            _shown(claim.estimate, claim.ci),
            "ratios are above 0",
            "sign",
            "inconsistent",
            "major",
            line=line,
        )
        return
    logs = _Scale(
        *(
            math.log(max(bound, 1e-12))
            for bound in (claim.estimate.low, claim.estimate.high, low.low, low.high, high.low, high.high)
        )
    )
    middle = math.sqrt(low.value * high.value)
    fits = logs.symmetric()
    yield judged(
        "hazard-ratio",
        claim.place,
        f"{claim.what or 'estimate'}: estimate in its interval",
        _shown(claim.estimate, claim.ci),
        f"geometric middle {rounded(middle)}",
        "the estimate is the geometric mean of its limits",
        fits,
        slip="" if fits else _interval_slip(claim.estimate, low, high, math.log, math.exp),
        source=WALD_SOURCE,
        line=line,
    )
    if claim.p is not None and fits:
        yield _p_finding("hazard-ratio", claim, logs, 0.0, alpha, line)


def difference_findings(claim: Difference, alpha: float = 0.05, line: int = 0) -> Iterator[Finding]:
    """An estimate on a linear scale is the middle of its interval; its p follows from both (Wald)."""
    low, high = claim.ci
    if low.value > high.value:
        yield _reversed("interval", claim.place, claim.what or "difference", claim.estimate, claim.ci, line)
        return
    scale = _Scale(claim.estimate.low, claim.estimate.high, low.low, low.high, high.low, high.high)
    fits = scale.symmetric()
    yield judged(
        "interval",
        claim.place,
        f"{claim.what or 'estimate'}: estimate in its interval",
        _shown(claim.estimate, claim.ci),
        f"middle {rounded((low.value + high.value) / 2)}",
        "the estimate is the middle of its limits",
        fits,
        severity="warning",
        slip="" if fits else _interval_slip(claim.estimate, low, high, _itself, _itself),
        source=WALD_SOURCE,
        line=line,
    )
    if claim.p is not None and claim.null is not None:
        yield _p_finding("interval", claim, scale, claim.null, alpha, line)


@dataclass(frozen=True, slots=True)
class _Scale:
    """An estimate and its limits on the scale where they are symmetric, each with its rounding."""

    estimate_low: float
    estimate_high: float
    low_low: float
    low_high: float
    high_low: float
    high_high: float

    def symmetric(self) -> bool:
        """Say whether some values that round to the printed ones are symmetric."""
        middle_low, middle_high = (self.low_low + self.high_low) / 2, (self.low_high + self.high_high) / 2
        return middle_low <= self.estimate_high + 1e-9 and middle_high >= self.estimate_low - 1e-9

    def p_limits(self, null: float, level: float) -> tuple[float, float]:
        """Return the smallest and largest Wald p that the printed interval allows."""
        quantile = 2 * stats.norm.isf((1 - level / 100) / 2)
        widths = [
            (high - low) / quantile for low, high in ((self.low_low, self.high_high), (self.low_high, self.high_low))
        ]
        ps = []
        nearest = min(max(null, self.estimate_low), self.estimate_high)
        estimates = (self.estimate_low, self.estimate_high, nearest)
        for estimate, error in itertools.product(estimates, widths):
            if error > 0:
                ps.append(2 * float(stats.norm.sf(abs(estimate - null) / error)))
            else:
                ps.append(0.0)
        return min(ps), max(ps)


def _p_finding(check: Check, claim: Ratio | Difference, scale: _Scale, null: float, alpha: float, line: int) -> Finding:
    assert claim.p is not None  # the caller looked
    low, high = scale.p_limits(null, claim.level)
    fits = claim.p.meets(low, high)
    printed_significant = claim.p.high <= alpha if claim.p.relation != "=" else claim.p.value < alpha
    significant = scale.low_high > null or scale.high_low < null
    other_test = bool(claim.test) and "wald" not in claim.test.casefold() and "cox" not in claim.test.casefold()
    if not fits and other_test and printed_significant == significant:
        fits = True
    contradicts = printed_significant != (high < alpha) and (low >= alpha or high < alpha)
    severity: Severity = "major" if contradicts else "warning"
    if low <= claim.p.high + 1.5 * claim.p.unit and high >= claim.p.low - 1.5 * claim.p.unit:
        severity = "minor"
    sign = "" if claim.p.text[:1] in "<>≤≥=" else "= "
    return judged(
        check,
        claim.place,
        f"{claim.what or 'estimate'}: p from the interval",
        f"{_shown(claim.estimate, claim.ci)}, p {sign}{claim.p.text}",
        f"p {rounded(low, 3)} to {rounded(high, 3)}" if rounded(low, 3) != rounded(high, 3) else f"p {rounded(low, 3)}",
        "Wald test from the estimate and the width of its interval, within their rounding",
        fits,
        severity=severity,
        remark="" if other_test or fits else "the interval and the p-value tell different stories",
        source=WALD_SOURCE,
        line=line,
    )


def median_intervals(claims: list[Survival], lines: list[int]) -> Iterator[Finding]:
    """Intervals of medians: the median inside; symmetric where stated or where the paper's others are (SPSS)."""
    with_ci = [
        (claim, line)
        for claim, line in zip(claims, lines, strict=True)
        if claim.ci is not None and claim.median is not None
    ]
    own = [claim for claim, _ in with_ci if not claim.cited and claim.ci_type == "unknown"]
    symmetric = sum(_is_symmetric(claim.median, claim.ci) for claim in own if claim.median and claim.ci)
    habit = len(own) >= 3 and symmetric >= 2 and symmetric > 2 * (len(own) - symmetric)
    for claim, line in with_ci:
        assert claim.median is not None and claim.ci is not None  # chosen above
        name = f"median {claim.endpoint} ({claim.group})"
        is_habit = habit and not claim.cited and claim.ci_type == "unknown"
        expects = claim.ci_type == "plain" or is_habit
        yield interval_finding(
            claim.median,
            claim.ci,
            claim.place,
            name,
            expects_symmetry=expects,
            line=line,
            why="the other intervals of this paper are symmetric (median ± z·SE, as SPSS prints)" if is_habit else "",
        )


def interval_finding(
    estimate: Printed,
    ci: Interval,
    place: str,
    item: str,
    *,
    expects_symmetry: bool,
    line: int = 0,
    why: str = "",
    rate: bool = False,
) -> Finding:
    """Judge an estimate against its interval: inside always, in the middle where the convention says so."""
    low, high = ci
    if low.value > high.value:
        return _reversed("interval", place, item, estimate, ci, line)
    inside = low.low <= estimate.high and estimate.low <= high.high
    symmetric = _is_symmetric(estimate, ci)
    fits = inside and (symmetric or not expects_symmetry)
    convention = "symmetric, estimate ± z·SE" if symmetric else _skewed(estimate, ci, rate)
    return judged(
        "interval",
        place,
        f"{item} in its interval",
        _shown(estimate, ci),
        f"middle {rounded((low.value + high.value) / 2)}; {convention}",
        "the estimate is the middle of a symmetric interval"
        if expects_symmetry
        else "the estimate lies in its interval",
        fits,
        severity="major" if not inside else "warning",
        remark="" if fits and not why else why,
        slip="" if fits else _interval_slip(estimate, low, high, _itself, _itself),
        source=CI_SOURCE,
        line=line,
    )


def _rate_intervals(claims: list[Survival], lines: list[int]) -> Iterator[Finding]:
    rows = [
        (claim, months, claim.rates[months], ci, line)
        for claim, line in zip(claims, lines, strict=True)
        for months, ci in claim.rate_ci.items()
        if months in claim.rates
    ]
    own = [row for row in rows if not row[0].cited]
    symmetric = sum(_is_symmetric(rate, ci) for _, _, rate, ci, _ in own)
    habit = symmetric >= 2 and symmetric >= 2 * (len(own) - symmetric)
    for claim, months, rate, ci, line in rows:
        name = f"{claim.endpoint} ({claim.group}) at {months} months"
        expects = claim.ci_type == "plain" or (habit and not claim.cited)
        why = "the other intervals of rates in this paper are symmetric" if expects and habit else ""
        judged = interval_finding(rate, ci, claim.place, name, expects_symmetry=expects, line=line, why=why, rate=True)
        yield replace(judged, slip=_other_time(claim, months, ci) or judged.slip) if judged.slip else judged
        if claim.n is not None:
            yield _standard_error(claim, rate, ci, name, line)


def _other_time(claim: Survival, months: str, ci: Interval) -> str:
    """The interval may belong to the rate at another time."""
    middle = (ci[0].value + ci[1].value) / 2
    here = abs(claim.rates[months].value - middle)
    for other, rate in claim.rates.items():
        if other != months and abs(rate.value - middle) < here / 5:
            words = f"the interval belongs to the rate at {other} months ({rate.text}) rather than to {months} months"
            if not _is_symmetric(rate, ci):
                upper = f"{2 * rate.value - ci[0].value:.{ci[1].decimals}f} for {ci[1].text}"
                words += f", where {upper} would be symmetric"
            return words
    return ""


def _standard_error(claim: Survival, rate: Printed, ci: Interval, name: str, line: int) -> Finding:
    """The standard error behind an interval cannot be below the binomial one of all patients (no censoring)."""
    quantile = 2 * float(stats.norm.isf((1 - claim.level / 100) / 2))
    error = (ci[1].high - ci[0].low) / quantile
    assert claim.n is not None  # the caller looked
    share = min(max(rate.value / 100, 0.0), 1.0)
    least = 100 * math.sqrt(share * (1 - share) / claim.n)
    fits = error >= 0.9 * least or ci[0].value <= 0 or ci[1].value >= 100
    return judged(
        "interval",
        claim.place,
        f"{name}: width of the interval",
        f"{_shown(rate, ci)}, n = {claim.n}",
        f"SE {rounded(error, 3)}, binomial SE of {claim.n} patients {rounded(least, 3)}",
        "Greenwood's standard error is at least the binomial one of all patients",
        fits,
        severity="warning",
        source=CI_SOURCE,
        line=line,
    )


def _reversed(check: Check, place: str, item: str, estimate: Printed, ci: Interval, line: int) -> Finding:
    return Finding(
        check,
        place,
        f"{item}: limits",
        _shown(estimate, ci),
        "the lower limit is above the upper one",
        "order of the limits",
        "inconsistent",
        "major",
        slip="the limits are exchanged, or a digit is wrong",
        line=line,
    )


def _is_symmetric(estimate: Printed | None, ci: Interval | None) -> bool:
    if estimate is None or ci is None:
        return False
    low, high = ci
    return _Scale(estimate.low, estimate.high, low.low, low.high, high.low, high.high).symmetric()


def _skewed(estimate: Printed, ci: Interval, rate: bool) -> str:
    """Name the scale on which the interval is symmetric: log for times, log(−log) for rates; else its two arms."""
    low, high = ci
    printed = (estimate, low, high)
    names: list[tuple[str, Callable[[float], float]]] = []
    if min(number.low for number in printed) > 0:
        names.append(("the log scale", math.log))
        if rate and max(number.high for number in printed) < 100:
            names.append(("the log(−log) scale", lambda percent: math.log(-math.log(percent / 100))))
    for name, scale in names:
        bounds = [sorted((scale(number.low), scale(number.high))) for number in printed]
        if _Scale(*bounds[0], *bounds[1], *bounds[2]).symmetric():
            return f"symmetric on {name}"
    return f"not symmetric (-{rounded(estimate.value - low.value, 3)}, +{rounded(high.value - estimate.value, 3)})"


def _interval_slip(estimate: Printed, low: Printed, high: Printed, to_scale: _Map, from_scale: _Map) -> str:
    """The one number that would make the interval symmetric, if a single one does so plausibly."""
    if estimate.text == low.text or estimate.text == high.text:
        limit = "lower" if estimate.text == low.text else "upper"
        middle = from_scale((to_scale(low.value) + to_scale(high.value)) / 2)
        return f"the {limit} limit is printed in place of the estimate ({middle:.{estimate.decimals}f} would fit)"
    centre = from_scale((to_scale(low.value) + to_scale(high.value)) / 2)
    lower = from_scale(2 * to_scale(estimate.value) - to_scale(high.value))
    upper = from_scale(2 * to_scale(estimate.value) - to_scale(low.value))
    fixes = [
        f"{name} {value:.{printed.decimals}f} for {printed.text}"
        for name, value, printed in (
            ("estimate", centre, estimate),
            ("lower limit", lower, low),
            ("upper limit", upper, high),
        )
        if math.isfinite(value)
    ]
    signed = [
        printed
        for printed, turned in ((low, (high.value - low.value) / 2), (high, (low.value - high.value) / 2))
        if abs(turned - estimate.value) <= (estimate.unit + max(low.unit, high.unit)) / 2
    ]
    if signed and to_scale is _itself:
        return f"a minus sign lost before {signed[0].text}"
    return "one of: " + "; ".join(fixes)


def _itself(value: float) -> float:
    return value


def _shown(estimate: Printed, ci: Interval) -> str:
    return f"{estimate.text} ({ci[0].text} to {ci[1].text})"
