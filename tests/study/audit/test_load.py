"""Claims files: what is wrong is told with line and field."""

from pathlib import Path

import pytest

from cantlie.core.errors import ProtocolError
from cantlie.study.audit.load import builtin_ids, load_claims, read_claims

GOOD = """id = "x"
[[total]]
place = "Table 1"
parts = [1, 2]
total = 3
"""


def message_of(text: str) -> str:
    with pytest.raises(ProtocolError) as caught:
        read_claims(text.encode(), place="my.toml")
    return caught.value.sentence()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("total = 3", "totl = 3", ["line 5", "total.1.totl", "no known field", "parts, total"]),
        ("total = 3", "", ["line 2", "'total' is missing"]),
        ("parts = [1, 2]", 'parts = [1, "two"]', ["line 4", "total.1.parts.2", "not a printed number"]),
        ("total = 3", "total = .3", ["line 5", "no valid TOML", "never a bare .05"]),
        ('id = "x"', 'id = "x y"', ["line 1", "field id"]),
        ("[[total]]", "[[totals]]", ["line 2", "'totals' is no known field"]),
    ],
)
def test_a_wrong_claims_file_names_line_and_field(old: str, new: str, words: list[str]) -> None:
    read_claims(GOOD.encode(), place="my.toml")
    sentence = message_of(GOOD.replace(old, new))
    assert "my.toml" in sentence
    for word in words:
        assert word in sentence


def test_impossible_rates_are_refused() -> None:
    text = 'id = "x"\n[[survival]]\nplace = "Text"\nendpoint = "OS"\nrates = { "12" = 110 }\n'
    assert "line 2" in message_of(text)
    assert "between 0 and 100" in message_of(text)


def test_a_wrong_table_row_names_its_line_in_the_file() -> None:
    text = "id = \"x\"\n[[table]]\nplace = \"Table 1\"\nrows = '''\nitem | A | p\nx | 1 | soon\n'''\n"
    assert "my.toml, line 6, row 'x', column p" in message_of(text)


def test_an_empty_file_states_nothing() -> None:
    assert "states nothing" in message_of('id = "x"\n')


def test_unknown_sources_name_the_known_papers(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="zhang2021"):
        load_claims("nobody1999")
    with pytest.raises(ProtocolError, match="no such"):
        load_claims(tmp_path / "absent.toml")


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProtocolError, match="UTF-8"):
        load_claims(path)


def test_a_table_may_stand_in_a_csv_file_beside_the_claims(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("item,A (n=3)\nSex,\n m,1\n f,2\n", encoding="utf-8")
    (tmp_path / "claims.toml").write_text('id = "x"\n[[table]]\nplace = "Table 1"\nfile = "table.csv"\n')
    loaded = load_claims(tmp_path / "claims.toml")
    assert loaded.tables[0].variables[0].name == "Sex"
    (tmp_path / "table.csv").unlink()
    with pytest.raises(ProtocolError, match="line 4, field file"):
        load_claims(tmp_path / "claims.toml")


def test_the_digits_of_the_file_are_kept() -> None:
    text = 'id = "x"\n[[proportion]]\nplace = "Text"\ncount = 1\nof = 2\npercent = 50.0\n'
    loaded = read_claims(text.encode(), place="x")
    assert loaded.claims.proportion[0].percent.text == "50.0"


@pytest.mark.parametrize("study", builtin_ids())
def test_the_papers_that_come_along_are_understood_to_the_last_cell(study: str) -> None:
    loaded = load_claims(study)
    unread = {cell.casefold() for table in loaded.tables for _, _, cell in table.unread}
    assert unread <= {"yes"}
    assert loaded.claims.citation.doi
