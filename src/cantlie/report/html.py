"""Documents as one self-contained HTML file: fonts and pictures inside, nothing fetched, printable, accessible."""

from __future__ import annotations

import base64
import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from cantlie.core.files import write_text
from cantlie.report import style
from cantlie.report.document import (
    Document,
    Images,
    plain,
)

_MIME = {"svg": "image/svg+xml", "png": "image/png"}
_LINK = re.compile(r"(?:https?://|doi:)[^\s<>\"]+[^\s<>\".,;:)\]]")


def _linked(text: str) -> Markup:
    """Escape a text and turn web addresses and DOIs into links."""
    parts: list[Markup] = []
    end = 0
    for match in _LINK.finditer(text):
        address = match[0]
        target = f"https://doi.org/{address.removeprefix('doi:')}" if address.startswith("doi:") else address
        parts.append(escape(text[end : match.start()]))
        parts.append(Markup('<a href="{}">{}</a>').format(target, address))
        end = match.end()
    parts.append(escape(text[end:]))
    return Markup("").join(parts)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cantlie.report", "templates"),
        autoescape=select_autoescape(["html", "jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["linked"] = _linked
    return environment


def html_of_document(document: Document, images: Images | None = None) -> str:
    """Return a document as one HTML page.

    Parameters
    ----------
    images
        Pictures that were already encoded for another rendering of the same document.
    """
    pictures = images or Images()
    content = plain(document, pictures)
    sources = {
        name: f"data:{_MIME[name.rsplit('.', 1)[1]]};base64,{base64.b64encode(data).decode('ascii')}"
        for name, data in pictures.files.items()
    }
    fonts = {
        "regular": style.font_base64("Inter-Regular.ttf"),
        "semibold": style.font_base64("Inter-SemiBold.ttf"),
        "italic": style.font_base64("Inter-Italic.ttf"),
    }
    return (
        _environment()
        .get_template("document.html.jinja")
        .render(document=content, images=sources, fonts=fonts, style=style)
    )


def write_html(document: Document, path: Path, images: Images | None = None) -> None:
    """Write a document as one self-contained HTML file.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    write_text(path, html_of_document(document, images))
