"""The guide to protocols names every value that a protocol has, and no other."""

import re
from pathlib import Path
from typing import get_args

import pytest

from cantlie.protocol.schema import Protocol
from cantlie.protocol.sections import Arc, Section, TargetRecipe

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "write-a-protocol.md").read_text(encoding="utf-8")
COMMON = {"place", "choices"}
SOURCES = ("sections", "uncertainty")


def _tables() -> dict[str, type[Section]]:
    found: dict[str, type[Section]] = {}
    for name, field in Protocol.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Section):
                found[name] = kind
    return found


TABLES = _tables()


def _row(name: str) -> str:
    lines = [line for line in TEXT.splitlines() if re.match(rf"\| `\[+{name}\]+` \|", line)]
    assert len(lines) == 1, f"one row tells of {name}"
    return lines[0]


def test_every_table_has_a_row():
    rows = re.findall(r"^\| `\[+(\w+)\]+` \|", TEXT, re.MULTILINE)
    assert sorted(rows) == sorted(TABLES)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_value_of_a_table_is_named(name):
    inherited = set(TABLES["constraints"].model_fields) if name == "reference_limits" else set()
    words = set(re.findall(r"`(\w+)`", _row(name)))
    missing = set(TABLES[name].model_fields) - COMMON - inherited - words
    assert not missing


def test_the_top_of_the_file_is_named():
    row = next(line for line in TEXT.splitlines() if line.startswith("| (top of the file)"))
    assert set(Protocol.model_fields) - COMMON - set(TABLES) <= set(re.findall(r"`(\w+)`", row))


def test_recipes_are_those_of_the_schema():
    assert set(get_args(TargetRecipe)) <= set(re.findall(r"`(\w+)`", _row("targets")))


def test_nothing_else_is_named():
    fields = {field for table in TABLES.values() for field in table.model_fields} | set(Protocol.model_fields)
    fields |= set(Arc.model_fields)
    folder = Path(__file__).parents[2] / "src/cantlie/protocol"
    values = set(re.findall(r'"(\w+)"', "".join((folder / f"{name}.py").read_text() for name in SOURCES)))
    rows = "\n".join(line for line in TEXT.splitlines() if line.startswith("| "))
    named = set(re.findall(r"`(\w+)`", rows))
    assert named <= fields | values
