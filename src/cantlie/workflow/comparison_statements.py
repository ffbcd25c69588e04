"""What two arms differ in, by how much and how sure that is, in sentences made of nothing but the numbers.

A difference of physical doses is judged against what a dose calculation may be off. A difference of biological numbers
is taken at every corner of the uncertain parameters, at the same corner in both arms: the patient is the same, so what
is unknown about the patient is the same. It is settled where all corners agree on its sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from cantlie.target.build import ALL_LESIONS, NORMAL_LIVER
from cantlie.workflow.comparison_arm import LESSER_CC, Arm
from cantlie.workflow.comparison_biology import Assumptions, Corner, Probability

Sureness = Literal["same", "within tolerance", "beyond tolerance", "settled", "open", "outside the model", "counted"]

TOLERANCE = 0.03
"""Share of the lower prescription below which two physical doses count as the same: Cantlie's choice, near what dose
calculations differ from measurement."""
_SHOWN_ORGANS = 4


@dataclass(frozen=True, slots=True)
class Statement:
    """One quantity in two arms.

    Attributes
    ----------
    difference, low, high
        First minus other, and the ends of that over the uncertain parameters (equal to it where there are none).
    sureness
        ``same``; ``within tolerance`` or ``beyond tolerance`` (physical doses); ``settled`` or ``open`` (the sign at
        all corners); ``outside the model``; ``counted`` (sessions, monitor units: no uncertainty).
    sentence
        All of that in words.
    """

    topic: str
    quantity: str
    unit: str
    first_id: str
    other_id: str
    first: float
    other: float
    difference: float
    low: float
    high: float
    sureness: Sureness
    sentence: str


def statements(first: Arm, other: Arm, assumptions: Assumptions) -> tuple[Statement, ...]:
    """Return what two arms differ in: lesions, normal liver, organs, risks, rules, time."""
    found: list[Statement | None] = []
    half_time = assumptions.nominal_half_time_h
    if ALL_LESIONS in first.dvhs and ALL_LESIONS in other.dvhs:
        ends = [float(arm.dvhs[ALL_LESIONS].dose_at_percent_gy(95.0)) for arm in (first, other)]
        found.append(_physical("Lesions", "dose that 95 % of all lesions get", first, other, ends[0], ends[1]))
        found += _eqd2("Lesions", "all lesions", first, other, ALL_LESIONS, assumptions.tumour, half_time)
    if NORMAL_LIVER in first.dvhs and NORMAL_LIVER in other.dvhs:
        means = [arm.dvhs[NORMAL_LIVER].mean_gy for arm in (first, other)]
        found.append(_physical("Normal liver", "mean dose of normal liver", first, other, means[0], means[1]))
        found += _eqd2("Normal liver", "normal liver", first, other, NORMAL_LIVER, assumptions.liver, half_time)
    found += _organs(first, other)
    found += _risks("Complication", first, first.biology.complications, other, other.biology.complications)
    found += _risks("Control", first, first.biology.control, other, other.biology.control)
    found += _counts(first, other)
    return tuple(one for one in found if one is not None)


def _physical(topic: str, quantity: str, first: Arm, other: Arm, a: float, b: float) -> Statement:
    tolerance = TOLERANCE * min(first.prescription_gy, other.prescription_gy)
    difference = a - b
    beyond = abs(difference) > tolerance
    digits = 1 if beyond and round(abs(_as_printed(a, b, 1)), 1) > round(tolerance, 1) else 2
    signed, limit = _signed(_as_printed(a, b, digits), digits), f"{tolerance:.{digits}f}"
    sureness: Sureness
    if abs(difference) < 0.005:
        sureness, digits, tail = "same", 1, "the same"
    elif beyond:
        sureness = "beyond tolerance"
        tail = f"{signed} Gy is more than the {limit} Gy that a dose calculation may be off"
    else:
        sureness = "within tolerance"
        tail = (
            f"{signed} Gy is within the {limit} Gy (3 % of the lower prescription) that a dose calculation may be off, "
            "so it is not counted as a difference"
        )
    head = f"{_capital(quantity)}: {a:.{digits}f} Gy with {first.id}, {b:.{digits}f} Gy with {other.id}"
    return Statement(topic, quantity, "Gy", first.id, other.id, a, b, difference, difference, difference, sureness,
                     f"{head}; {tail}.")  # fmt: skip


def _eqd2(
    topic: str, what: str, first: Arm, other: Arm, structure: str, nominal: Corner, half_time_h: float
) -> list[Statement | None]:
    """Return the mean EQD2 with full repair, and with incomplete repair at the nominal half-time."""
    one, two = (_means(arm, structure) for arm in (first, other))
    result: list[Statement | None] = []
    for half_time in (None, half_time_h):
        centre = Corner(nominal.alpha_beta_gy, half_time)
        if centre not in one or centre not in two:
            continue
        corners = [c for c in one if c in two and (c.half_time_h is None) == (half_time is None)]
        differences = [one[corner] - two[corner] for corner in corners]
        quantity = f"mean EQD2 of {what} (α/β = {nominal.alpha_beta_gy:g} Gy, {centre.repair})"
        over = _corner_text(corners)
        values = one[centre], two[centre]
        result.append(_cornered(topic, quantity, "Gy", first, other, *values, differences, over, 0.05, 2))
    return result


def _means(arm: Arm, structure: str) -> dict[Corner, float]:
    curves = arm.biology.bed.get(structure, {})
    return {c: curve.mean_gy / (1.0 + 2.0 / c.alpha_beta_gy) for c, curve in curves.items()}


def _corner_text(corners: list[Corner]) -> str:
    ratios = sorted({corner.alpha_beta_gy for corner in corners})
    times = sorted(corner.half_time_h for corner in corners if corner.half_time_h is not None)
    spread = f"α/β {ratios[0]:g} to {ratios[-1]:g} Gy" if len(ratios) > 1 else f"α/β {ratios[0]:g} Gy"
    return f"{spread}, repair half-times {times[0]:g} to {times[-1]:g} h" if times else spread


def _cornered(
    topic: str,
    quantity: str,
    unit: str,
    first: Arm,
    other: Arm,
    a: float,
    b: float,
    differences: list[float],
    over: str,
    least: float,
    digits: int,
    shown: float = 1.0,
) -> Statement:
    """Return a statement on a number with a difference at every corner; below ``least`` it counts as none."""
    low, high = min(differences), max(differences)
    numbers = (
        f"{_capital(quantity)}: {shown * a:.{digits}f} {unit} with {first.id}, {shown * b:.{digits}f} {unit} with "
        f"{other.id}; difference {_signed(shown * (a - b), digits)} {unit}"
    )
    band = f"{_signed(shown * low, digits)} to {_signed(shown * high, digits)} {unit} over {over}"
    sureness: Sureness
    if max(abs(low), abs(high)) < least:
        sureness, tail = "same", f"{band}: no difference worth naming"
    elif low > 0 or high < 0 or (min(abs(low), abs(high)) < 1e-9):
        higher = first.id if high > abs(low) else other.id
        always = round(shown * min(abs(low), abs(high)), digits) > 0  # as it is printed
        sureness, tail = "settled", f"{band}: {'always higher' if always else 'never lower'} with {higher}"
    else:
        sureness, tail = "open", f"{band}: which is higher depends on these values"
    return Statement(topic, quantity, unit, first.id, other.id, a, b, a - b, low, high, sureness, f"{numbers}, {tail}.")


def _organs(first: Arm, other: Arm) -> list[Statement | None]:
    """Return the organs with the largest difference of the dose of their hottest 0.03 cc or of their mean dose."""
    skipped = {NORMAL_LIVER, ALL_LESIONS, "Liver"}
    rows: list[Statement] = []
    for name in first.dvhs:
        if name in skipped or name not in other.dvhs or name.startswith(("PTV", "CTV")):
            continue
        one, two = first.dvhs[name], other.dvhs[name]
        small = min(LESSER_CC, one.volume_cc, two.volume_cc)
        hot = [float(curve.dose_at_volume_gy(small)) for curve in (one, two)]
        rows.append(_physical("Organs", f"D{small:.2g}cc of {name}", first, other, hot[0], hot[1]))
        rows.append(_physical("Organs", f"mean dose of {name}", first, other, one.mean_gy, two.mean_gy))
    beyond = [row for row in rows if row.sureness == "beyond tolerance"]
    if beyond:
        beyond.sort(key=lambda row: -abs(row.difference))
        return list(beyond[:_SHOWN_ORGANS])
    if not rows:
        return []
    largest = max(rows, key=lambda row: abs(row.difference))
    return [largest]


def _risks(
    topic: str, first: Arm, of_first: tuple[Probability, ...], other: Arm, of_other: tuple[Probability, ...]
) -> list[Statement | None]:
    known = {one.model.id: one for one in of_other}
    result: list[Statement | None] = []
    for one in of_first:
        two = known.get(one.model.id)
        if two is None or one.value is None or two.value is None:
            continue
        quantity = f"{one.model.endpoint} ({one.model.name})"
        differences = _differences(one.corners, two.corners) or [one.value - two.value]
        over = one.band
        statement = _cornered(
            topic, quantity, "%", first, other, one.value, two.value, differences, over, 0.0005, 2, shown=100.0
        )
        if one.generic:
            sentence = f"{statement.sentence} Its parameters are generic, so that only the direction means anything."
            statement = replace(statement, sentence=sentence)
        reasons: dict[str, list[str]] = {}
        for arm, probability in ((first, one), (other, two)):
            if not (probability.trusted or probability.generic):
                reasons.setdefault(probability.reason, []).append(arm.id)
        if reasons:
            why = "; ".join(f"{reason} ({', '.join(arms)})" for reason, arms in reasons.items())
            statement = _outside(statement, why)
        result.append(statement)
    return result


def _outside(statement: Statement, reason: str) -> Statement:
    sentence = f"{statement.sentence} Not to be relied on: {reason}."
    return replace(statement, sureness="outside the model", sentence=sentence)


def _differences(one: Mapping[tuple[float, ...], float], two: Mapping[tuple[float, ...], float]) -> list[float]:
    return [value - two[corner] for corner, value in one.items() if corner in two]


def _counts(first: Arm, other: Arm) -> list[Statement | None]:
    rows: list[tuple[str, str, float, float, int]] = [
        ("length of the course", "calendar days", first.calendar.calendar_days, other.calendar.calendar_days, 0),
        ("days with treatment", "days", first.calendar.treatment_days, other.calendar.treatment_days, 0),
        ("sessions", "sessions", first.sessions, other.sessions, 0),
        ("monitor units of the whole course", "MU", first.course_mu, other.course_mu, 0),
    ]
    found: list[Statement | None] = [_count(*row, first, other) for row in rows]
    minutes = _count("estimated time on the machine in the whole course, without set-up and imaging", "min",
                     first.course_minutes, other.course_minutes, 0, first, other)  # fmt: skip
    met = [arm.rules_met for arm in (first, other)]
    sentence = "; ".join(
        f"{arm.id} meets {good} of the {good + bad + unknown} rules of its protocol"
        + (f" ({unknown} cannot be evaluated)" if unknown else "")
        for arm, (good, bad, unknown) in zip((first, other), met, strict=True)
    )
    broken = [float(row[1]) for row in met]
    difference = broken[0] - broken[1]
    rules = Statement("Rules", "broken rules of the own protocol", "rules", first.id, other.id, broken[0], broken[1],
                      difference, difference, difference, "counted", f"{sentence}.")  # fmt: skip
    return [*found, minutes, rules]


def _count(quantity: str, unit: str, a: float, b: float, digits: int, first: Arm, other: Arm) -> Statement:
    apart = _as_printed(a, b, digits)
    tail = f"difference {_amount(_signed(apart, digits), unit)}"
    if not apart:
        tail = "the same" if a == b else f"difference below {_amount(f'{10.0**-digits:g}', unit)}"
    values = [f"{_amount(f'{v:.{digits}f}', unit)} with {arm.id}" for v, arm in ((a, first), (b, other))]
    sentence = f"{_capital(quantity)}: {', '.join(values)}; {tail}."
    sureness: Sureness = "same" if a == b else "counted"
    return Statement("Course and machine", quantity, unit, first.id, other.id, a, b, a - b, a - b, a - b, sureness,
                     sentence)  # fmt: skip


def _as_printed(a: float, b: float, digits: int) -> float:
    """Return the difference of two numbers as they are printed, so that a reader finds it again."""
    return float(f"{a:.{digits}f}") - float(f"{b:.{digits}f}")


def _amount(number: str, unit: str) -> str:
    """Return a number with its unit: 3 sessions, but 1 session."""
    return f"{number} {unit.removesuffix('s') if number.lstrip('+−') == '1' else unit}"


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
