"""The chapter of a report on a link of two CTs, with the outlines of both."""

from __future__ import annotations

from collections.abc import Sequence

from cantlie.patient.case import Case
from cantlie.patient.names import BODY
from cantlie.report.case_report import StructureView
from cantlie.report.document import Section
from cantlie.report.registration_pages import registration_section
from cantlie.workflow.image_link import LIVER, ImageLink, link_results, masks_of

_DRAWN, _CARRIED = "#ffffff", "#ff7043"


def link_section(
    reference: Case, moving: Case, link: ImageLink, lesions: Sequence[str], *, title: str, other: str = "the earlier CT"
) -> Section:
    """Return the chapter: figures of TG-132, both CTs side by side, checkerboard.

    Parameters
    ----------
    lesions
        Names of the lesions to outline beside the liver.
    other
        What the moving CT is called in captions.
    """
    grid = reference.ct.volume.grid.resampled((2.0, 2.0, 3.0))
    image = reference.ct.volume.resample(grid, outside=-1000.0)
    aligned = link.field.pull(moving.ct.volume, grid, outside=-1000.0)
    drawn = masks_of(reference, link.field.grid)
    masks = masks_of(moving, moving.ct.volume.grid.resampled((2.0, 2.0, 3.0)))
    shown = [name for name in (LIVER, *lesions) if name in drawn]
    lines = [StructureView(name, drawn[name], "organ", _DRAWN) for name in shown]
    if BODY in drawn:
        lines.append(StructureView(BODY, drawn[BODY], "body"))
    carried = [
        StructureView(f"{name} of {other}", link.field.pull(masks[name]), "gtv", _CARRIED)
        for name in shown
        if name in masks
    ]
    titles = ("This CT", f"{other[0].upper()}{other[1:]}, deformed to this one")
    return registration_section(link_results(link), image, aligned, lines, carried, titles=titles, title=title)
