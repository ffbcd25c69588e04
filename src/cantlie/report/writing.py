"""A document as the files of a run: report.html, report.pdf and its figures."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cantlie.core.files import write_bytes
from cantlie.report.document import Document, Images
from cantlie.report.html import write_html
from cantlie.report.pdf import write_pdf


def write_report(
    document: Document, folder: Path, created: datetime | None = None, *, pdf: bool = True, png_dpi: float = 160.0
) -> None:
    """Write report.html, report.pdf and figures/ (SVG and PNG) into a folder.

    Parameters
    ----------
    created
        When the run was made, for the PDF; None for now.
    png_dpi
        Resolution of the PNG beside each drawn figure.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    images = Images()
    write_html(document, folder / "report.html", images)
    if pdf:
        write_pdf(document, folder / "report.pdf", images, created)
    for name, content in images.files.items():
        write_bytes(folder / "figures" / name, content)
    for figure in document.figures():
        picture = figure.png(png_dpi)
        if picture is not None:
            write_bytes(folder / "figures" / f"{images.add(figure).rsplit('.', 1)[0]}.png", picture)
