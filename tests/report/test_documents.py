"""Documents as HTML and PDF: complete, self-contained, escaped, the same twice."""

import re
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from cantlie.core.errors import OutputError
from cantlie.report import style
from cantlie.report.document import (
    Bullets,
    Callout,
    Cell,
    Column,
    Document,
    Figure,
    FigureRow,
    Heading,
    Images,
    KeyValue,
    Paragraph,
    Section,
    Subheading,
    Table,
    Tile,
    Tiles,
    text_of,
)
from cantlie.report.html import html_of_document, write_html
from cantlie.report.pdf import pdf_of_document, write_pdf


def _figure() -> Figure:
    with style.figure_style():
        figure = style.new_figure(3.0, 2.0)
        axes = figure.add_axes((0.15, 0.2, 0.8, 0.7))
        axes.plot(np.arange(5), np.arange(5) ** 2, label="α/β ≤ 2.5 Gy")
        axes.legend()
    return Figure(figure, caption="A parabola", alt="A rising curve", name="parabola")


def _document() -> Document:
    figure = _figure()
    return Document(
        title="A <title> & more",
        subtitle="#set page(fill: red)",
        meta=[("Date", date(2026, 1, 2)), ("Runs", 3)],
        lead=[Tiles([Tile("Coverage", 95.21, "%", "of PTV1", tone="pass"), Tile("MU", None)])],
        sections=[
            Section(
                "First $x$",
                [
                    Paragraph("Text with *stars*, _lines_, #hash and doi:10.1177/15330338211051808.", "lead"),
                    Subheading("Below"),
                    Bullets(["one", "two"], numbered=True),
                    Callout("Look <here>", "Take care", "warning", ["a", "b"]),
                    KeyValue([("version", "1.0"), ("count", 7)], columns=2),
                    Paragraph("let x = 1 <y>", "code"),
                    Table(
                        ["Structure", Column("Achieved", "Gy", digits=1), "Verdict"],
                        [
                            Heading("Course"),
                            [Cell("Liver", swatch="#0072b2"), -3.26, Cell("pass", tone="pass")],
                            ["Cord", None, Cell("fail", tone="fail", note="because")],
                        ],
                        caption="Limits",
                        note="A note",
                    ),
                ],
            ),
            Section("Second", [figure, FigureRow([figure, _figure()], "Two")], new_page=True),
        ],
    )


def test_html_is_self_contained_and_escaped() -> None:
    html = html_of_document(_document())
    assert "A &lt;title&gt; &amp; more" in html
    assert "<title> & more" not in html
    outside = re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', html)
    assert outside == ["https://doi.org/10.1177/15330338211051808"]
    assert all(address.startswith("data:") for address in re.findall(r"url\(([^)]{0,20})", html))
    assert html.count("Research use only") >= 3
    assert "−3.3" in html
    assert 'alt="A rising curve"' in html
    assert html.count('scope="col"') == 3


def test_html_and_pdf_are_the_same_twice() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    assert html_of_document(_document()) == html_of_document(_document())
    assert pdf_of_document(_document(), created=moment) == pdf_of_document(_document(), created=moment)


def test_pdf_has_pages_and_shares_pictures(tmp_path: Path) -> None:
    images = Images()
    write_html(_document(), tmp_path / "report.html", images)
    assert set(images.files) == {"parabola.svg", "parabola-2.svg"}
    write_pdf(_document(), tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def test_a_broken_picture_is_an_error_in_plain_words() -> None:
    document = Document("Title", [Section("S", [Figure(b"not a picture")])])
    with pytest.raises(OutputError, match="PDF cannot be set"):
        pdf_of_document(document)


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells under 3 columns"):
        html_of_document(Document("T", [Section("S", [Table(["a", "b", "c"], [["x", "y"]])])]))


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (None, None, "–"),
        (float("nan"), 2, "–"),
        (-0.001, 1, "0.0"),
        (-1.26, 1, "−1.3"),
        (np.float32(2.5), 2, "2.50"),
        (np.int64(7), None, "7"),
        (12.34567, None, "12.35"),
        (True, None, "yes"),
        (float("-inf"), None, "−∞"),
    ],
)
def test_values_are_written_as_reports_do(value: object, digits: int | None, expected: str) -> None:
    assert text_of(value, digits) == expected


def test_the_style_leaves_the_callers_settings_alone() -> None:
    import matplotlib as mpl

    before = mpl.rcParams["font.size"]
    with style.figure_style():
        assert mpl.rcParams["font.size"] == 7.5
    assert mpl.rcParams["font.size"] == before
