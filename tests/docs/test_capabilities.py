"""The table of capabilities says nothing that is not there: states, counts, paths and test names."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "reference" / "capabilities.md").read_text(encoding="utf-8")
STATES = ("done", "part", "open")
# How many rows each chapter of the mission table has.
LETTERS = {"A": 16, "B": 12, "C": 15, "D": 19, "E": 8, "F": 13, "G": 17, "H": 22, "R": 11}


def _rows() -> list[list[str]]:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in TEXT.splitlines()]
    return [row for row in rows if re.fullmatch(r"[A-HR]\d\d", row[0])]


ROWS = _rows()


def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_row_of_the_mission_stands_once_and_in_order():
    expected = [f"{letter}{number:02d}" for letter, count in LETTERS.items() for number in range(1, count + 1)]
    assert [row[0] for row in ROWS] == expected


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_is_whole_and_names_what_exists(row):
    assert len(row) == 6, "a row has ID, capability, state, code, test and what is missing"
    _, capability, state, code, shown, missing = row
    assert capability
    assert state in STATES
    paths = re.findall(r"`(src/[^`]+)`", code)
    tests = re.findall(r"`(tests/[^`]+)`", shown)
    assert code.count("`") == 2 * len(paths)
    assert shown.count("`") == 2 * len(tests)
    if state == "done":
        assert paths, "what is done has code"
        assert tests, "what is done has a test that shows it"
        assert not missing, "what is done misses nothing"
    else:
        assert missing, "what is not done says what is missing"
    if state == "open":
        assert not paths
        assert not tests
    for path in paths:
        assert (ROOT / path).is_file(), path
    for name in tests:
        path, separator, function = name.partition("::")
        assert separator, f"{name} names no test"
        assert (ROOT / path).is_file(), path
        assert function in _functions(ROOT / path), name


def test_the_counts_at_the_top_are_those_of_the_rows():
    counts = Counter(row[2] for row in ROWS)
    printed = {state: int(number) for state, number in re.findall(r"^\| `(\w+)` \| (\d+) \|", TEXT, re.MULTILINE)}
    assert printed == {**{state: counts[state] for state in STATES}, "all": len(ROWS)}
