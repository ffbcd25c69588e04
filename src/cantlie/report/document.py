"""A document as data: sections of paragraphs, tables, figures and call-outs, which HTML and PDF render alike."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, TypeAlias

from matplotlib.figure import Figure as MatplotlibFigure

from cantlie.core.provenance import RESEARCH_USE_ONLY
from cantlie.report.style import png_of_figure, svg_of_figure

Tone = Literal["", "pass", "fail", "warning", "muted", "accent"]
Align = Literal["left", "right", "centre"]

MISSING = "–"


@dataclass(frozen=True, slots=True)
class Cell:
    """One table cell with more than a plain value.

    Parameters
    ----------
    value
        Text or number; numbers are written with the digits of their column.
    tone
        ``pass``, ``fail``, ``warning``, ``muted`` or ``accent``; pass and fail also get a sign, so that the meaning
        does not hang on the colour.
    swatch
        A colour (``#rrggbb``) shown as a small line before the text, as a legend.
    note
        Small print below the value.
    """

    value: object
    tone: Tone = ""
    strong: bool = False
    swatch: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: header, unit in the header, alignment (numbers right by default) and digits after the point."""

    header: str
    unit: str = ""
    align: Align | None = None
    digits: int | None = None
    width: float = 0.0


@dataclass(frozen=True, slots=True)
class Heading:
    """A row that heads the rows after it."""

    text: str


Row: TypeAlias = "Sequence[object] | Heading"


@dataclass(frozen=True, slots=True)
class Table:
    """A table as columns and rows; a cell is a plain value, None (shown as a dash) or a `Cell`.

    ``compact`` sets it smaller. A column ``width`` is a share (fraction) of what is left over by columns without one.
    """

    columns: Sequence[Column | str]
    rows: Sequence[Row]
    caption: str = ""
    note: str = ""
    compact: bool = False


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Plain text; ``lead`` opens a section, ``small`` is small print, ``code`` keeps lines as they are."""

    text: str
    style: Literal["body", "lead", "small", "code"] = "body"


@dataclass(frozen=True, slots=True)
class Subheading:
    """A heading inside a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of plain texts."""

    items: Sequence[str]
    numbered: bool = False


@dataclass(frozen=True, slots=True)
class Callout:
    """A remark that must be seen."""

    text: str
    title: str = ""
    tone: Literal["info", "warning", "fail", "pass"] = "info"
    items: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class KeyValue:
    """Facts as pairs of name and value, in one or more columns."""

    items: Sequence[tuple[str, object]]
    columns: int = 2


@dataclass(frozen=True, slots=True)
class Tile:
    """One key figure."""

    label: str
    value: object
    unit: str = ""
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Key figures side by side."""

    tiles: Sequence[Tile]


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """A picture: a matplotlib figure, or the bytes of an SVG or PNG file.

    Parameters
    ----------
    alt
        What the picture shows, for readers who cannot see it.
    name
        File name without suffix below ``figures/``; also the anchor in the HTML.
    width
        Share of the text width, 0 to 1.
    """

    image: MatplotlibFigure | bytes
    caption: str = ""
    alt: str = ""
    name: str = ""
    width: float = 1.0

    def encoded(self) -> tuple[bytes, Literal["svg", "png"]]:
        """Return the picture as file content and its format."""
        content = svg_of_figure(self.image) if isinstance(self.image, MatplotlibFigure) else self.image
        return content, "png" if content.startswith(b"\x89PNG") else "svg"

    def png(self, dpi: float = 160.0) -> bytes | None:
        """Return the picture as PNG, or None when it was given as SVG."""
        if isinstance(self.image, MatplotlibFigure):
            return png_of_figure(self.image, dpi)
        return self.image if self.image.startswith(b"\x89PNG") else None


@dataclass(frozen=True, slots=True)
class FigureRow:
    """Pictures side by side."""

    figures: Sequence[Figure]
    caption: str = ""


Block: TypeAlias = Paragraph | Subheading | Bullets | Callout | KeyValue | Tiles | Table | Figure | FigureRow


@dataclass(frozen=True, slots=True)
class Section:
    """A chapter. ``new_page`` starts it on a new page of the PDF."""

    title: str
    blocks: Sequence[Block] = ()
    new_page: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report.

    Parameters
    ----------
    title, subtitle
        Shown on top of the first page.
    meta
        Pairs of name and value below the title, such as the date and the version.
    lead
        Blocks between the title and the first section, such as the key figures.
    footer
        Shown on every page, beside the page number.
    language
        BCP 47 tag for screen readers and hyphenation.
    """

    title: str
    sections: Sequence[Section]
    subtitle: str = ""
    meta: Sequence[tuple[str, object]] = ()
    lead: Sequence[Block] = ()
    footer: str = RESEARCH_USE_ONLY
    language: str = "en"
    running_title: str = field(default="")

    def figures(self) -> Iterator[Figure]:
        """Return all pictures in order."""
        for blocks in (self.lead, *(section.blocks for section in self.sections)):
            for block in blocks:
                if isinstance(block, Figure):
                    yield block
                elif isinstance(block, FigureRow):
                    yield from block.figures


def text_of(value: object, digits: int | None = None) -> str:
    """Return a value as a report writes it: fixed digits, a true minus sign, a dash for what is missing.

    Without ``digits`` floats are written with four significant figures.
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M %Z").strip()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, numbers.Real):
        number = float(value)
        if math.isnan(number):
            return MISSING
        if math.isinf(number):
            return "∞" if number > 0 else "−∞"
        if digits is not None:
            text = f"{number:.{digits}f}"
            text = text.lstrip("-") if float(text) == 0 else text
        elif isinstance(value, numbers.Integral):
            text = str(int(value))
        else:
            text = f"{number:.4g}"
        return text.replace("-", "−")
    return str(value)


def _plain_cell(value: object, column: Column) -> dict[str, Any]:
    cell = value if isinstance(value, Cell) else Cell(value)
    return {
        "text": text_of(cell.value, column.digits),
        "tone": cell.tone,
        "strong": cell.strong,
        "swatch": cell.swatch,
        "note": cell.note,
    }


def _is_number(value: object) -> bool:
    inner = value.value if isinstance(value, Cell) else value
    return isinstance(inner, numbers.Real) and not isinstance(inner, bool)


def _plain_table(table: Table) -> dict[str, Any]:
    columns = [Column(column) if isinstance(column, str) else column for column in table.columns]
    body = [row for row in table.rows if not isinstance(row, Heading)]
    for row in body:
        if len(row) != len(columns):
            raise ValueError(f"table row of {len(row)} cells under {len(columns)} columns: {row!r}")
    aligns: list[str] = []
    for n, column in enumerate(columns):
        present = [row[n] for row in body if row[n] is not None]
        numeric = bool(present) and all(_is_number(value) for value in present)
        aligns.append(column.align or ("right" if numeric else "left"))
    return {
        "kind": "table",
        "columns": [
            {"header": column.header, "unit": column.unit, "align": align, "width": column.width}
            for column, align in zip(columns, aligns, strict=True)
        ],
        "rows": [
            {"heading": row.text, "cells": []}
            if isinstance(row, Heading)
            else {"heading": "", "cells": [_plain_cell(v, c) for v, c in zip(row, columns, strict=True)]}
            for row in table.rows
        ],
        "caption": table.caption,
        "note": table.note,
        "compact": table.compact,
    }


class Images:
    """The pictures of one rendering, each encoded once and known by its file name."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._names: dict[int, str] = {}

    def add(self, figure: Figure) -> str:
        """Encode a picture if that has not been done and return its file name."""
        if id(figure) not in self._names:
            content, suffix = figure.encoded()
            name = f"{figure.name or f'figure-{len(self.files) + 1}'}.{suffix}"
            while name in self.files:
                name = f"{name.removesuffix('.' + suffix)}-2.{suffix}"
            self.files[name] = content
            self._names[id(figure)] = name
        return self._names[id(figure)]


def _plain_figure(figure: Figure, images: Images) -> dict[str, Any]:
    return {
        "kind": "figure",
        "file": images.add(figure),
        "caption": figure.caption,
        "alt": figure.alt or figure.caption,
        "width": figure.width,
    }


def _plain_block(block: Block, images: Images) -> dict[str, Any]:
    match block:
        case Paragraph():
            return {"kind": "paragraph", "text": block.text, "style": block.style}
        case Subheading():
            return {"kind": "subheading", "text": block.text}
        case Bullets():
            return {"kind": "bullets", "items": list(block.items), "numbered": block.numbered}
        case Callout():
            return {
                "kind": "callout",
                "title": block.title,
                "text": block.text,
                "tone": block.tone,
                "items": list(block.items),
            }
        case KeyValue():
            items = [{"name": name, **_plain_cell(value, Column(""))} for name, value in block.items]
            return {"kind": "keyvalue", "items": items, "columns": block.columns}
        case Tiles():
            tiles = [
                {
                    "label": tile.label,
                    "value": text_of(tile.value),
                    "unit": tile.unit,
                    "note": tile.note,
                    "tone": tile.tone,
                }
                for tile in block.tiles
            ]
            return {"kind": "tiles", "tiles": tiles}
        case Table():
            return _plain_table(block)
        case Figure():
            return _plain_figure(block, images)
        case FigureRow():
            figures = [_plain_figure(figure, images) for figure in block.figures]
            return {"kind": "figurerow", "figures": figures, "caption": block.caption}


def plain(document: Document, images: Images) -> dict[str, Any]:
    """Return the document as plain lists, dicts and strings for a template; pictures are put into ``images``."""
    return {
        "title": document.title,
        "subtitle": document.subtitle,
        "running_title": document.running_title or document.title,
        "meta": [{"name": name, "text": text_of(value)} for name, value in document.meta],
        "lead": [_plain_block(block, images) for block in document.lead],
        "sections": [
            {
                "title": section.title,
                "anchor": f"section-{n}",
                "new_page": section.new_page,
                "blocks": [_plain_block(block, images) for block in section.blocks],
            }
            for n, section in enumerate(document.sections, start=1)
        ],
        "footer": document.footer,
        "language": document.language,
    }
