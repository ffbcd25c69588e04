"""Printed tables: bars, CSV, indents, headings, and messages with line and column."""

import pytest

from cantlie.core.errors import ProtocolError
from cantlie.study.audit.cells import read_cell
from cantlie.study.audit.table import read_table


@pytest.mark.parametrize(
    ("text", "label", "kind", "count", "percent"),
    [
        ("15", "", "count", 15, None),
        ("15 (44.1)", "", "count", 15, "44.1"),
        ("15(44.1%)", "", "count", 15, "44.1"),
        ("44.1% (15)", "", "count", 15, "44.1"),
        ("15/34 (44.1%)", "", "count", 15, "44.1"),
        ("15, 44.1%", "", "count", 15, "44.1"),
        ("", "", "empty", 0, None),
        ("—", "", "empty", 0, None),
        ("yes", "", "text", 0, None),
    ],
)
def test_counts_are_read(text: str, label: str, kind: str, count: int, percent: str | None) -> None:
    cell = read_cell(text, label=label)
    assert (cell.kind, cell.count) == (kind, count)
    assert (cell.percent.text if cell.percent else None) == percent


def test_means_and_medians_are_read() -> None:
    mean = read_cell("18.28 ± 3.27")
    assert mean.kind == "mean"
    assert mean.centre is not None
    assert mean.centre.unit == pytest.approx(0.01)
    assert read_cell("57 (12)", label="Age, mean (SD)").kind == "mean"
    assert read_cell("57 (12)", label="Age").kind == "count"
    median = read_cell("7 (6–12)")
    assert median.kind == "median"
    assert median.high is not None
    assert median.high.value == 12


BARS = """
item       | A (n=34) | B (n = 33) | p
Age        |          |            | .627
  32-49    | 15       | 17         |
  50-65    | 19       | 16         |
Volume     | 18.2±3.2 | 17.9±4.3   | >.05
"""


def test_a_table_with_bars_is_understood() -> None:
    table = read_table(BARS)
    assert [(group.name, group.size) for group in table.groups] == [("A", 34), ("B", 33)]
    assert [(variable.name, len(variable.rows)) for variable in table.variables] == [("Age", 2), ("Volume", 1)]
    assert table.variables[0].p_text == ".627"


def test_a_csv_without_indents_is_understood() -> None:
    text = "Item,A (n=10),B (n=10),Total,P value\nSex,,,,0.65\nMale,6,5,11,\nFemale,4,5,9,\nAge,50±3,51±4,,0.5\n"
    table = read_table(text)
    assert [group.is_total for group in table.groups] == [False, False, True]
    assert [(variable.name, len(variable.rows)) for variable in table.variables] == [("Sex", 2), ("Age", 1)]


@pytest.mark.parametrize("divider", [";", "\t"])
def test_csv_may_have_semicolons_or_tabs(divider: str) -> None:
    rows = [["Item", "A (n=10)", "B (n=10)"], ["Sex", "", ""], ["  m", "6 (60,0)", "5 (50,0)"], ["  f", "4", "5"]]
    table = read_table("\n".join(divider.join(row) for row in rows))
    percent = table.variables[0].rows[0].cells[0].percent
    assert percent is not None
    assert percent.value == 60.0


def test_rows_with_their_own_p_are_independent() -> None:
    text = "site | A | B | p\nSites | | |\n  Bone | 3 | 4 | 0.7\n  Brain | 2 | 9 | 0.02\n"
    table = read_table(text, sizes={"A": 10, "B": 10})
    assert [variable.name for variable in table.variables] == ["Sites: Bone", "Sites: Brain"]
    assert all(variable.independent for variable in table.variables)


@pytest.mark.parametrize(
    ("text", "sizes", "message"),
    [
        ("a | b\n", {}, "no rows"),
        ("a | p\nx | 0.5\n", {}, "no column of patients"),
        ("a | A | A\nx | 1 | 2\n", {}, "two columns are named 'A'"),
        ("a | A\nx | 1 | 2\n", {}, "line 2"),
        ("a | A | p\nx | 1 | soon\n", {}, "line 2, row 'x', column p"),
        ("a | A\nx | 1\n", {"B": 3}, "a column 'B'"),
    ],
)
def test_wrong_tables_are_refused_with_the_line(text: str, sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        read_table(text, sizes=sizes)
