"""The chapter on the prescription: how one of a protocol's schemes was chosen for this patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cantlie.report.document import Block, Cell, Column, Paragraph, Section, Table


@dataclass(frozen=True, slots=True)
class DistanceRow:
    """How far a luminal organ lies from the lesions."""

    organ: str
    distance_mm: float


@dataclass(frozen=True, slots=True)
class SchemeRow:
    """One scheme that was looked at; ``refused`` is empty for the one that was taken."""

    scheme: str
    total_gy: float
    fractions: int
    days: int
    basis: str
    refused: str


@dataclass(frozen=True, slots=True)
class SchemeView:
    """How the prescription was chosen.

    Attributes
    ----------
    threshold_mm
        With a rule by distance: the distance below which the lower scheme is given; else None.
    place
        Where the source prints the rule.
    """

    reason: str
    place: str = ""
    threshold_mm: float | None = None
    distances: Sequence[DistanceRow] = ()
    trials: Sequence[SchemeRow] = ()


def scheme_section(view: SchemeView | None) -> Section:
    """Return the chapter; without blocks where there was nothing to choose."""
    if view is None:
        return Section("Choice of the prescription")
    blocks: list[Block] = [Paragraph(f"{view.reason}.", "lead")]
    if view.place:
        blocks.append(Paragraph(f"The rule: {view.place}.", "small"))
    if view.distances:
        blocks.append(_distances(view))
    if view.trials:
        blocks.append(_trials(view.trials))
    return Section("Choice of the prescription", blocks)


def _distances(view: SchemeView) -> Table:
    rows = []
    for row in sorted(view.distances, key=lambda row: row.distance_mm):
        near = view.threshold_mm is not None and row.distance_mm < view.threshold_mm
        text = (
            None if view.threshold_mm is None else f"{'closer' if near else 'not closer'} than {view.threshold_mm:g} mm"
        )
        rows.append([row.organ, row.distance_mm, Cell(text, tone="warning" if near else "")])
    return Table(
        [Column("Luminal organ"), Column("Distance from the lesions", "mm", digits=1), Column("By the rule")],
        rows,
        caption="Distance of the lesions from luminal organs",
        note="Shortest distance between the surfaces, from voxels that are at least half filled.",
        compact=True,
    )


def _trials(trials: Sequence[SchemeRow]) -> Table:
    rows = []
    for row in trials:
        verdict = Cell("taken", tone="pass") if not row.refused else Cell("refused", tone="fail")
        rows.append([row.scheme, row.total_gy, row.fractions, row.days, row.basis, verdict, row.refused or None])
    return Table(
        [
            Column("Scheme", width=0.8),
            Column("Total", "Gy", digits=0, width=0.5),
            Column("Fractions", digits=0, width=0.65),
            Column("Days", digits=0, width=0.5),
            Column("Judged on", width=0.8),
            Column("Verdict", width=0.7),
            Column("Why it was refused", width=4.0),
        ],
        rows,
        caption="Schemes from the highest down",
        note="Limits are physical doses, as printed, so that a plan which breaks a rule also refuses schemes with as "
        "much dose or more. A lower scheme is refused on the scaled dose of such a plan only where a limit of an organ "
        "is broken by more than a tenth; else it is planned. The scheme that is taken has a plan of its own.",
        compact=True,
    )
