"""Values against what is usual in the clinic; every range names its source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cantlie.study.audit.claims import Plausible
from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.printed import rounded
from cantlie.study.audit.table import PrintedTable
from cantlie.study.audit.verdict import Finding, judged


@dataclass(frozen=True, slots=True)
class UsualRange:
    """The usual range of a quantity, or its existing values."""

    low: float
    high: float
    unit: str
    source: str
    only: tuple[float, ...] = ()


_LABEL = "prescribing information (FDA/EMA label)"
USUAL: dict[str, UsualRange] = {
    "trastuzumab loading": UsualRange(4, 8, "mg/kg", _LABEL),
    "trastuzumab maintenance": UsualRange(2, 6, "mg/kg", _LABEL),
    "pertuzumab loading": UsualRange(840, 840, "mg", _LABEL),
    "pertuzumab maintenance": UsualRange(420, 420, "mg", _LABEL),
    "lapatinib daily": UsualRange(750, 1500, "mg", _LABEL),
    "palbociclib daily": UsualRange(75, 125, "mg", _LABEL),
    "pyrotinib daily": UsualRange(240, 400, "mg", _LABEL),
    "trastuzumab emtansine": UsualRange(2.4, 3.6, "mg/kg", _LABEL),
    "trastuzumab deruxtecan": UsualRange(3.2, 6.4, "mg/kg", _LABEL),
    "capecitabine twice daily": UsualRange(625, 1250, "mg/m²", _LABEL),
    "5-fluorouracil continuous daily": UsualRange(
        150, 400, "mg/m²", "continuous infusion with radiotherapy (NCCN rectal cancer)"
    ),
    "sorafenib daily": UsualRange(200, 800, "mg", _LABEL),
    "CTCAE version": UsualRange(2, 6, "", "NCI CTEP", (2, 3, 4, 4.01, 4.02, 4.03, 5, 6)),
    "RECIST version": UsualRange(1, 1.1, "", "Eisenhauer 2009, doi 10.1016/j.ejca.2008.10.026", (1, 1.1)),
    "AJCC edition": UsualRange(1, 9, "", "AJCC", tuple(range(1, 10))),
    "age": UsualRange(0, 110, "years", "human life span"),
    "Child-Pugh score": UsualRange(5, 15, "points", "Pugh 1973, doi 10.1002/bjs.1800600817"),
    "ECOG": UsualRange(0, 5, "", "Oken 1982, doi 10.1097/00000421-198212000-00014"),
    "KPS": UsualRange(0, 100, "%", "Karnofsky 1949"),
    "liver volume": UsualRange(600, 4000, "cc", "human liver volumes with disease"),
    "dose per fraction": UsualRange(0.5, 30, "Gy", "external radiotherapy"),
    "photon energy": UsualRange(4, 25, "MV", "clinical linear accelerators"),
    "margin": UsualRange(0, 30, "mm", "external radiotherapy"),
}


def check_plausibility(loaded: LoadedClaims) -> Iterator[Finding]:
    """Hold stated values against usual ranges, and spreads of dose tables against the spread between patients."""
    for index, claim in enumerate(loaded.claims.plausible):
        yield plausible_finding(claim, loaded.line("plausible", index))
    for table_claim, table in zip(loaded.claims.table, loaded.tables, strict=True):
        if table_claim.content == "dosimetry":
            yield from _narrow_spreads(table, table_claim.place)


def plausible_finding(claim: Plausible, line: int = 0) -> Finding:
    """Judge one value; a quantity without a range on file is not recomputable."""
    usual = USUAL.get(claim.quantity)
    item = claim.what or claim.quantity
    if usual is None:
        return Finding(
            "plausibility",
            claim.place,
            item,
            claim.value.text,
            "-",
            "usual clinical range",
            "not recomputable",
            remark=f"no range on file for '{claim.quantity}'; known are: {', '.join(sorted(USUAL))}",
            line=line,
        )
    value = claim.value
    if usual.only:
        fits = any(abs(value.value - known) < 1e-9 for known in usual.only)
        found = f"existing: {', '.join(f'{known:g}' for known in usual.only)}"
    else:
        fits = value.high >= usual.low and value.low <= usual.high
        found = f"usual {rounded(usual.low)}–{rounded(usual.high)} {usual.unit}".rstrip()
        if usual.low == usual.high:
            found = f"usual {rounded(usual.low)} {usual.unit}".rstrip()
    slip = ""
    if not fits and not usual.only:
        for factor, words in ((10.0, "a digit is missing"), (0.1, "a digit too many")):
            if usual.low <= value.value * factor <= usual.high:
                slip = f"{words}: {rounded(value.value * factor)} {usual.unit}".rstrip()
        matching = [name for name, other in USUAL.items() if _same_dose(other, value.value, usual.unit)]
        if matching and not slip:
            slip = f"the usual dose of {matching[0]}"
        elif matching:
            slip += f"; it is also the usual dose of {matching[0]}"
    unit = f" {usual.unit}" if usual.unit and usual.unit not in value.text else ""
    return judged(
        "plausibility",
        claim.place,
        item,
        f"{value.text}{unit}",
        found,
        "usual clinical range",
        fits,
        severity="warning",
        slip=slip,
        remark=claim.note,
        source=usual.source,
        line=line,
    )


def _same_dose(other: UsualRange, value: float, unit: str) -> bool:
    return other.unit == unit and not other.only and other.source == _LABEL and value in (other.low, other.high)


def _narrow_spreads(table: PrintedTable, place: str) -> Iterator[Finding]:
    """A spread below 1 % of the mean between patients is unusual for an organ at risk; it may be a standard error."""
    for variable in table.variables:
        if "ptv" in variable.name.casefold():
            continue
        means = [cell for row in variable.rows for cell in row.cells if cell.kind == "mean"]
        ratios = [
            cell.spread.value / cell.centre.value
            for cell in means
            if cell.spread is not None and cell.centre is not None and cell.centre.value > 0
        ]
        if ratios and max(ratios) < 0.01:
            yield Finding(
                "plausibility",
                place,
                f"{variable.name}: spread between patients",
                "; ".join(cell.text for cell in means),
                f"at most {rounded(100 * max(ratios), 2)}% of the mean",
                "spread of an organ dose between patients",
                "not recomputable",
                "warning",
                remark="standard errors may stand in place of standard deviations",
                line=variable.line,
            )
