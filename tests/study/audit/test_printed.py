"""Printed numbers: their digits decide what they may have been."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.study.audit.printed import numbers_in, read_p, read_printed


@pytest.mark.parametrize(
    ("text", "value", "unit", "relation"),
    [
        ("12", 12, 1, "="),
        ("12.0", 12, 0.1, "="),
        (".05", 0.05, 0.01, "="),
        ("<0.001", 0.001, 0.001, "<"),
        ("≥80", 80, 1, ">="),
        ("−0.5", -0.5, 0.1, "="),
        ("45.5 %", 45.5, 0.1, "="),
        ("1,234", 1234, 1, "="),
        ("3,27", 3.27, 0.01, "="),
        ("0·35", 0.35, 0.01, "="),
        ("0.050*", 0.05, 0.001, "="),
    ],
)
def test_printed_numbers_are_read(text: str, value: float, unit: float, relation: str) -> None:
    printed = read_printed(text)
    assert printed.value == pytest.approx(value)
    assert printed.unit == pytest.approx(unit)
    assert printed.relation == relation


@pytest.mark.parametrize("text", ["", "many", "1 2", "3±4", None, True])
def test_other_text_is_no_number(text: object) -> None:
    with pytest.raises(ValueError, match="printed number"):
        read_printed(text)


def test_p_values_are_between_zero_and_one() -> None:
    assert read_p("NS").relation == ">"
    assert read_p("P < 0.001").high == 0.001
    with pytest.raises(ValueError, match="between 0 and 1"):
        read_p("1.2")


def test_a_dash_between_numbers_is_a_range() -> None:
    assert [number.value for number in numbers_in("7 (6-12) and -3")] == [7, 6, 12, -3]


@settings(deadline=None, max_examples=200)
@given(st.floats(-1000, 1000), st.integers(0, 4))
def test_a_rounded_number_agrees_with_what_was_rounded(value: float, decimals: int) -> None:
    assert read_printed(f"{value:.{decimals}f}").agrees(value)


def test_ties_may_go_either_way_and_no_further() -> None:
    assert read_printed("31.2").agrees(31.25)
    assert read_printed("31.3").agrees(31.25)
    assert not read_printed("31.2").agrees(31.2501)
    assert read_printed("31.5").truncates(31.5789)
    assert not read_printed("31.6").truncates(31.5789)
