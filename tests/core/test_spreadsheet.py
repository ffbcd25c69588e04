"""CSV as spreadsheets of several countries write it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.errors import InputError
from cantlie.core.spreadsheet import number_of, read_sheet

PLAIN = "id,value\nP1,1.5\nP2,-2\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        "sep=;\n" + PLAIN.replace(",", ";"),
        "sep=,\r\n\r\n" + PLAIN,
        "\n\nid,value,,\nP1,1.5,,\n,,,\n P2 , -2 ,,\n",
        '"id","value"\n"P1","1.5"\n"P2","-2"',
    ],
)
def test_the_same_table_however_it_is_saved(text):
    sheet = read_sheet(text, "table.csv")
    assert sheet.header == ("id", "value") and sheet.rows == (("P1", "1.5"), ("P2", "-2"))
    assert not sheet.decimal_comma


def test_decimal_commas_are_known_by_the_separator():
    sheet = read_sheet("id;value;size\nP1;1,5;2\nP2;1.234,25;3\n", "table.csv")
    assert sheet.decimal_comma
    assert [number_of(row[1], sheet.decimal_comma) for row in sheet.rows] == [1.5, 1234.25]
    assert not read_sheet('id,value\nP1,"1,5"\n', "table.csv").decimal_comma
    with pytest.raises(ValueError, match="thousand or a fraction"):
        number_of("1.234", decimal_comma=True)
    with pytest.raises(ValueError, match="could not convert"):
        number_of("1,5")
    assert number_of("1.5", decimal_comma=True) == 1.5 and number_of("\u22123") == -3


def test_lines_are_those_of_the_file():
    sheet = read_sheet('id,text\n\nP1,"two\nlines"\nP2,x\n', "table.csv")
    assert sheet.lines == (4, 5)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "empty"), ("\n\n", "empty"), ("a,b\n1\n", "1 cell, the header 2"), ("a,b\n1,2,3\n", "3 cells"),
     ('a,b\n"1\n', "not closed")],
)  # fmt: skip
def test_what_is_no_table_is_refused(text, words):
    with pytest.raises(InputError, match=words) as caught:
        read_sheet(text, "table.csv")
    assert "table.csv" in caught.value.where


@given(st.text(alphabet='ab1,;\t\n\r" .', max_size=60))
@settings(deadline=None, max_examples=200)
def test_any_text_is_a_table_or_refused(text):
    try:
        sheet = read_sheet(text, "table.csv")
    except InputError:
        return
    assert all(len(row) == len(sheet.header) for row in sheet.rows)
