from __future__ import annotations

from cantlie.plan.request import Conflict, Trade
from cantlie.report.conflict_table import cause_of, conflict_rows
from cantlie.report.document import Cell


def test_a_row_says_the_least_violation_and_what_relaxing_buys() -> None:
    trade = Trade("Stomach", "Dmax", "<", 30.0, "Gy", "course", 31.0, 93.1, 3.1)
    conflict = Conflict("PTV", "V95%[%]", ">=", 95.0, "%", "PTV", 10, "contradiction", 90.0, 89.5, (trade,))
    assert conflict.least_violation == 5.0
    assert "Stomach Dmax < 31 instead of 30 Gy would give 93.1" in conflict.note().message
    assert "delivered 89.5 %, missed by 5.5 %; the fluence comes to 90 % at best" in conflict.note().message
    table = conflict_rows([conflict], {})
    cells = [cell.value if isinstance(cell, Cell) else cell for cell in table.rows[0]]
    text = " ".join(str(cell) for cell in cells).replace("\u00a0", " ")
    for words in ("V95%[%] ≥ 95 %", "90 %", "5 %", "89.5 %", "Stomach Dmax < 31 Gy", "better by 3.1 %"):
        assert words in text


def test_what_only_the_segments_miss_is_no_contradiction() -> None:
    conflict = Conflict("Heart", "Dmax", "<", 30.0, "Gy", "course", 1, "delivery", 29.0, 30.4)
    assert conflict.least_violation < 0
    assert conflict.note().sentence().startswith("Heart: Dmax < 30 Gy (course) was not met")
    assert "the fluence holds it (29 Gy), the segments do not" in conflict.note().message
    cells = conflict_rows([conflict], {}).rows[0]
    assert "more segments" in str(cells[-1])
    assert isinstance(cells[0], Cell) and "deliverable plan does not" in cells[0].note


def test_the_cause_is_named_in_a_line() -> None:
    small = Trade("PTV", "Dmax[%]", "<=", 110.0, "%", "course", 111.0, 91.0, 1.0)
    large = Trade("Stomach", "Dmax", "<", 30.0, "Gy", "course", 45.6, 99.5, 9.5)
    conflict = Conflict("PTV", "V95%[%]", ">=", 99.0, "%", "PTV", 10, "contradiction", 90.0, 89.5, (small, large))
    (line,) = cause_of([conflict, conflict])
    assert line.startswith("against it stands Stomach Dmax < 30") and "and PTV Dmax[%]" in line
    delivery = Conflict("Heart", "Dmax", "<", 30.0, "Gy", "course", 1, "delivery", 29.0, 30.4)
    assert ["deliverable plan does not" in line for line in cause_of([delivery])] == [True]
    assert cause_of([]) == []
