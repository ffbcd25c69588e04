"""The same fact in several places, and statements in words against their numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations

from cantlie.study.audit.claims import Quantity, Statement
from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.printed import Printed, numbers_in
from cantlie.study.audit.verdict import Check, Finding, Severity, judged


def check_agreement(loaded: LoadedClaims) -> Iterator[Finding]:
    """Judge every quantity that is stated several times and every statement in words."""
    for index, quantity in enumerate(loaded.claims.quantity):
        yield quantity_finding(quantity, loaded.line("quantity", index))
    for index, statement in enumerate(loaded.claims.statement):
        yield statement_finding(statement, loaded.claims.alpha, loaded.line("statement", index))


def same_fact(first: str, second: str) -> bool:
    """Say whether two printed values may be the same: their numbers within rounding, else their words."""
    words = [re.sub(r"[^\w]+", " ", re.sub(r"[\d.,·]+", " ", text)).casefold().split() for text in (first, second)]
    numbers = [numbers_in(text) for text in (first, second)]
    if not numbers[0] and not numbers[1]:
        return words[0] == words[1]
    if len(numbers[0]) != len(numbers[1]):
        return False
    close = all(_same_number(a, b) for a, b in zip(*numbers, strict=True))
    return close and (words[0] == words[1] or not words[0] or not words[1])


def _same_number(first: Printed, second: Printed) -> bool:
    """Equal digits; with different numbers of digits the shorter one may be the longer one rounded; bounds may meet."""
    if first.relation != "=" or second.relation != "=":
        if first.value == second.value and first.relation != second.relation:
            return "=" in (first.relation, second.relation)
        return first.meets(second.low, second.high)
    coarse, fine = (first, second) if first.unit >= second.unit else (second, first)
    return abs(first.value - second.value) < 1e-12 if coarse.unit == fine.unit else coarse.agrees(fine.value)


def quantity_finding(claim: Quantity, line: int = 0) -> Finding:
    """Judge one fact stated in several places."""
    differing = [(a, b) for a, b in combinations(claim.stated, 2) if not same_fact(a.text, b.text)]
    numeric = any(numbers_in(stated.text) for stated in claim.stated)
    severity: Severity = claim.consequence or ("major" if numeric else "minor")
    in_table = any("table" in stated.place.casefold() for stated in claim.stated)
    check: Check = "label" if claim.kind == "label" else ("text-vs-table" if in_table else "text-vs-text")
    slip = ""
    if differing:
        a, b = differing[0]
        slip = _slip(a.text, b.text)
    return Finding(
        check,
        claim.place or "; ".join(dict.fromkeys(stated.place for stated in claim.stated)),
        claim.what,
        "; ".join(f"{stated.place}: {stated.text}" for stated in claim.stated),
        "the places agree" if not differing else f"{differing[0][0].text} against {differing[0][1].text}",
        "comparison of all places, numbers within their rounding",
        "inconsistent" if differing else "consistent",
        severity if differing else "",
        remark=claim.note,
        slip=slip,
        line=line,
    )


def _slip(first: str, second: str) -> str:
    a, b = numbers_in(first), numbers_in(second)
    if len(a) != len(b):
        return ""
    changed = [(x, y) for x, y in zip(a, b, strict=True) if not _same_number(x, y)]
    if len(changed) != 1:
        return ""
    x, y = changed[0][0].text, changed[0][1].text
    if len(x) == len(y) > 2 and sum(p != q for p, q in zip(x, y, strict=True)) == 1:
        return f"one digit differs: {x} or {y}"
    if x and y and abs(changed[0][0].value) in (abs(changed[0][1].value) * 10, abs(changed[0][1].value) / 10):
        return "the decimal point moved"
    return ""


def statement_finding(claim: Statement, alpha: float, line: int = 0) -> Finding:
    """Judge one statement in words against the numbers that it speaks of."""
    if claim.says in ("significant", "not significant"):
        assert claim.p is not None  # the schema guarantees it
        fits = claim.p.low < alpha if claim.says == "significant" else claim.p.high > alpha
        return _finding(claim, f"p {_with_sign(claim.p.text)}", f"p against {alpha:g}", fits, line, claim.says)
    shown = ", ".join(f"{name} {value.text}" for name, value in claim.values.items())
    if claim.says == "larger":
        subject = claim.values[claim.subject]
        fits = all(subject.high >= other.low for name, other in claim.values.items() if name != claim.subject)
        return _finding(claim, shown, "order of the printed values", fits, line, f"{claim.subject} is larger")
    assert claim.limit is not None  # the schema guarantees it
    limit = claim.limit.value
    fits = all(
        {
            "at least": value.high >= limit,
            "above": value.high > limit,
            "at most": value.low <= limit,
            "below": value.low < limit,
        }[claim.says]
        for value in claim.values.values()
    )
    return _finding(
        claim, shown, "the printed values against the printed bound", fits, line, f"{claim.says} {claim.limit.text}"
    )


def _finding(claim: Statement, found: str, method: str, fits: bool, line: int, said: str) -> Finding:
    return judged(
        "statement",
        claim.place,
        claim.what,
        said,
        found,
        method,
        fits,
        severity=claim.consequence or "major",
        remark=claim.note,
        line=line,
    )


def _with_sign(text: str) -> str:
    return text if text[:1] in "<>=≤≥" else f"= {text}"
