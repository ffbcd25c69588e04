"""Medians, ranges, means and standard deviations against counts and classes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from cantlie.study.audit.claims import Summary
from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.printed import Printed, numbers_in, rounded
from cantlie.study.audit.verdict import Check, Finding, Severity, judged

GRIM_SOURCE = "Brown and Heathers 2017, doi 10.1177/1948550616673876"
GRIMMER_SOURCE = "Anaya 2016, doi 10.7287/peerj.preprints.2400v1; Allard 2018"


def check_distributions(loaded: LoadedClaims) -> Iterator[Finding]:
    """Apply every check of the distribution of one variable."""
    for index, claim in enumerate(loaded.claims.summary):
        line = loaded.line("summary", index)
        yield from _inside_range(claim, line)
        yield from _median_in_bins(claim, line)
        yield from _sums(claim, line)
        yield from _groups(claim, line)
        if claim.whole_numbers and claim.mean is not None:
            yield grim(claim.mean, claim.n, claim.place, claim.what, line)
            if claim.sd is not None:
                yield grimmer(claim.mean, claim.sd, claim.n, claim.place, claim.what, line)


def class_limits(label: str, *, whole_numbers: bool = True) -> tuple[float, float] | None:
    """Read the limits of a class: ``32-49``, ``<50``, ``≥ 50``, ``>1 and <=3``, ``3``, ``2-<3 cm``; None if none.

    A class of whole years ``32-49`` reaches up to 50 (an age of 49.9 is 49 years).
    """
    text = label.replace("≤", "<=").replace("≥", ">=").replace("–", "-").replace("—", "-").replace("−", "-")
    low, high = -math.inf, math.inf
    spans = re.search(r"(\d+(?:\.\d+)?)\s*(?:-|to)\s*(<?)\s*(\d+(?:\.\d+)?)", text)
    if spans:
        low = float(spans.group(1))
        high = float(spans.group(3))
        if not spans.group(2) and whole_numbers and "." not in spans.group(0):
            high += 1 - 1e-9
        return low, high
    bounds = re.findall(r"(<=|>=|<|>)\s*(\d+(?:\.\d+)?)", text)
    for sign, number in bounds:
        if "<" in sign:
            high = min(high, float(number))
        else:
            low = max(low, float(number))
    if bounds:
        return low, high
    numbers = numbers_in(text)
    return (numbers[0].value, numbers[0].value) if len(numbers) == 1 else None


def grim(mean: Printed, patients: int, place: str, item: str, line: int = 0) -> Finding:
    """GRIM: the mean of n whole numbers is a whole number over n."""
    total = round(mean.value * patients)
    near = [candidate for candidate in range(total - 1, total + 2) if mean.agrees(candidate / patients)]
    fits = bool(near) or mean.unit * patients >= 1
    return judged(
        "grim",
        place,
        item,
        f"mean {mean.text} of {patients}",
        f"{near[0]}/{patients}" if near else f"{total}/{patients} = {rounded(total / patients, 6)}",
        "the sum of whole numbers is whole (GRIM)",
        fits,
        severity="warning",
        source=GRIM_SOURCE,
        line=line,
    )


def grimmer(mean: Printed, sd: Printed, patients: int, place: str, item: str, line: int = 0) -> Finding:
    """GRIMMER: the sum of squares of n whole numbers is whole and as even or odd as their sum."""
    fits = False
    low_total, high_total = math.ceil(patients * mean.low - 1e-9), math.floor(patients * mean.high + 1e-9)
    for total in range(low_total, high_total + 1):
        base = total * total / patients
        low = (patients - 1) * max(sd.low, 0.0) ** 2 + base
        high = (patients - 1) * sd.high**2 + base
        first, last = math.ceil(low - 1e-7), math.floor(high + 1e-7)
        if any(squares % 2 == total % 2 for squares in range(first, min(last, first + 2) + 1)):
            fits = True
            break
    return judged(
        "grim",
        place,
        f"{item}, SD",
        f"{mean.text} ± {sd.text}, n = {patients}",
        "possible" if fits else "no whole numbers have this mean and SD",
        "sum and sum of squares of whole numbers (GRIMMER)",
        fits,
        severity="warning",
        source=GRIMMER_SOURCE,
        line=line,
    )


def median_interval(counts: list[tuple[float, float, int]]) -> tuple[float, float]:
    """Return where the median of patients counted in classes ``(low, high, count)`` must lie."""
    ordered = sorted((item for item in counts if item[2] > 0), key=lambda item: (item[0], item[1]))
    total = sum(count for _, _, count in ordered)
    positions = [(total + 1) // 2, total // 2 + 1]
    low, high = [], []
    for position in positions:
        seen = 0
        for start, stop, count in ordered:
            seen += count
            if seen >= position:
                low.append(start)
                high.append(stop)
                break
    return sum(low) / 2, sum(high) / 2


def _finding(
    claim: Summary,
    check: Check,
    item: str,
    printed: str,
    found: str,
    method: str,
    fits: bool,
    line: int,
    severity: Severity = "major",
    remark: str = "",
    slip: str = "",
) -> Finding:
    name = f"{claim.what}: {item}" if claim.what else item
    return judged(
        check, claim.place, name, printed, found, method, fits, severity=severity, remark=remark, slip=slip, line=line
    )


def _inside_range(claim: Summary, line: int) -> Iterator[Finding]:
    if claim.range is None:
        return
    low, high = claim.range
    shown = f"{low.text} to {high.text}"
    for name, value in (("median", claim.median), ("mean", claim.mean)):
        if value is not None:
            fits = value.high >= low.low and value.low <= high.high
            yield _finding(
                claim,
                "order-statistics",
                f"{name} within the range",
                f"{value.text} ({shown})",
                "inside" if fits else "outside",
                f"a {name} lies between the extremes",
                fits,
                line,
            )
    if claim.sd is not None and claim.n > 1:
        most = (high.high - low.low) / 2 * math.sqrt(claim.n / (claim.n - 1))
        fits = claim.sd.low <= most
        yield _finding(
            claim,
            "order-statistics",
            "SD against the range",
            f"SD {claim.sd.text} ({shown})",
            f"at most {rounded(most)}",
            "half the range × √(n/(n-1)) bounds the SD (Popoviciu 1935)",
            fits,
            line,
        )
    if claim.limits and (allowed := class_limits(claim.limits)) is not None:
        fits = low.high >= allowed[0] and high.low <= allowed[1]
        yield _finding(
            claim,
            "order-statistics",
            "range within the limits of entry",
            f"{shown}; {claim.limits}",
            "inside" if fits else "outside",
            "patients meet the entry criteria",
            fits,
            line,
        )


def _bins(claim: Summary) -> list[tuple[float, float, int]]:
    found = []
    for label, count in claim.bins.items():
        limits = class_limits(label)
        if limits is None:
            return []
        low, high = limits
        if claim.whole_numbers:
            low = low + 1 if _open_below(label, low) else low
            high = high - 1 if _open_above(label, high) else high
        if claim.range is not None:
            low, high = max(low, claim.range[0].low), min(high, claim.range[1].high)
        found.append((low, high, count))
    return found


def _median_in_bins(claim: Summary, line: int) -> Iterator[Finding]:
    bins = _bins(claim)
    if claim.median is None or not bins:
        return
    low, high = median_interval(bins)
    fits = claim.median.meets(low, high)
    total = sum(claim.bins.values())
    shown = ", ".join(f"{count} in {label}" for label, count in claim.bins.items())
    yield _finding(
        claim,
        "order-statistics",
        "median against the classes",
        f"median {claim.median.text}; {shown}",
        f"the middle of {total} lies in [{rounded(low)}, {rounded(high)}]",
        "order statistics from counts per class",
        fits,
        line,
    )


def _sums(claim: Summary, line: int) -> Iterator[Finding]:
    if claim.sum is None:
        return
    if claim.mean is not None:
        value = claim.sum.value / claim.n
        slip = ""
        if claim.mean.truncates(value):
            slip = "the mean was cut off instead of rounded"
        yield _finding(
            claim,
            "mean",
            "mean = sum / number",
            f"{claim.mean.text}; {claim.sum.text} in {claim.n}",
            rounded(value),
            "division",
            claim.mean.agrees(value),
            line,
            slip=slip,
        )
    bins = _bins(claim)
    if bins and sum(count for *_, count in bins) == claim.n:
        edges = [(math.ceil(low - 1e-9), high, count) for low, high, count in bins if math.isfinite(low)]
        least = sum(low * count for low, _, count in edges)
        most = sum(math.floor(high + 1e-9) * count if math.isfinite(high) else math.inf for _, high, count in edges)
        fits = len(edges) < len(bins) or (least <= claim.sum.high and claim.sum.low <= most)
        yield _finding(
            claim,
            "total",
            "sum against the classes",
            f"{claim.sum.text} in {claim.n}",
            f"between {least:g} and {most:g}",
            "smallest and largest sum that the classes allow",
            fits,
            line,
        )


def _open_below(label: str, low: float) -> bool:
    return f">{low:g}" in label.replace(" ", "")


def _open_above(label: str, high: float) -> bool:
    return f"<{high:g}" in label.replace(" ", "")


def _groups(claim: Summary, line: int) -> Iterator[Finding]:
    if len(claim.groups) < 2:
        return
    groups = list(claim.groups.values())
    shown = list(claim.groups)
    for name, pooled, values in (
        ("median", claim.median, [group.median for group in groups]),
        ("mean", claim.mean, [group.mean for group in groups]),
    ):
        known = [value for value in values if value is not None]
        if pooled is None or len(known) != len(groups):
            continue
        low, high = min(value.low for value in known), max(value.high for value in known)
        if name == "mean":
            total = sum(group.n for group in groups)
            low = sum(group.n * value.low for group, value in zip(groups, known, strict=True)) / total
            high = sum(group.n * value.high for group, value in zip(groups, known, strict=True)) / total
        yield _finding(
            claim,
            "order-statistics",
            f"pooled {name} against its groups",
            f"{pooled.text}; " + ", ".join(f"{label} {value.text}" for label, value in zip(shown, known, strict=True)),
            f"between {rounded(low)} and {rounded(high)}",
            f"the pooled {name} lies between those of its groups",
            pooled.meets(low, high),
            line,
        )
    ranges = [group.range for group in groups]
    present = [item for item in ranges if item is not None]
    if claim.range is not None and len(present) == len(groups):
        low = min(item[0].value for item in present)
        high = max(item[1].value for item in present)
        fits = claim.range[0].agrees(low) and claim.range[1].agrees(high)
        yield _finding(
            claim,
            "order-statistics",
            "pooled range against its groups",
            f"{claim.range[0].text}–{claim.range[1].text}; "
            + ", ".join(f"{label} {item[0].text}–{item[1].text}" for label, item in zip(shown, present, strict=True)),
            f"{low:g}–{high:g}",
            "the extremes of the groups are the extremes of all",
            fits,
            line,
        )
