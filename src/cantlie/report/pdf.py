"""Documents as PDF, set by typst from the same plain data as the HTML."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from cantlie.core.errors import OutputError
from cantlie.core.files import write_bytes
from cantlie.report import style
from cantlie.report.document import Document, Images, plain


def pdf_of_document(document: Document, images: Images | None = None, created: datetime | None = None) -> bytes:
    """Return a document as PDF (tagged, with an outline and with alternative texts).

    Parameters
    ----------
    images
        Pictures that were already encoded for another rendering of the same document.
    created
        Date of creation in the file; now when not given.

    Raises
    ------
    OutputError
        If the document cannot be set.
    """
    import typst

    pictures = images or Images()
    content = plain(document, pictures)
    content["colours"] = {
        name.lower(): getattr(style, name)
        for name in ("INK", "MUTED", "RULE", "PAPER", "WASH", "ACCENT", "PASS", "FAIL", "WARNING")
    }
    package = resources.files("cantlie.report")
    files: Any = {
        "main.typ": package.joinpath("templates", "document.typ").read_bytes(),
        "document.json": json.dumps(content, ensure_ascii=False).encode("utf-8"),
        **{f"images/{name}": data for name, data in pictures.files.items()},
    }
    with resources.as_file(package.joinpath("fonts")) as fonts:
        try:
            return typst.compile(
                files,
                font_paths=[str(fonts)],
                format="pdf",
                timestamp=int((created or datetime.now(UTC)).timestamp()),
            )
        except typst.TypstError as error:
            raise OutputError(f"the PDF cannot be set: {error}", where=document.title) from error


def write_pdf(document: Document, path: Path, images: Images | None = None, created: datetime | None = None) -> None:
    """Write a document as PDF.

    Raises
    ------
    OutputError
        If the document cannot be set or the file cannot be written.
    """
    write_bytes(path, pdf_of_document(document, images, created))
