"""The report of a recalculated plan: its beams, its dose, and how that agrees with the dose of the plan's system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.evaluation.dvh import Dvh
from cantlie.evaluation.gamma import GammaResult
from cantlie.report import case_tables as tables
from cantlie.report.case_pages import with_colours
from cantlie.report.case_report import BeamRow, StructureView
from cantlie.report.closing_sections import provenance_section, remarks_section
from cantlie.report.document import (
    Block,
    Column,
    Document,
    Figure,
    KeyValue,
    Paragraph,
    Section,
    Subheading,
    Table,
    Tile,
    Tiles,
)
from cantlie.report.dose_pair_pages import (
    WINDOW,
    DosePairView,
    criteria,
    difference_blocks,
    gamma_picture,
    structure_blocks,
)
from cantlie.report.dvh_figure import colours_on_white, dvh_figure
from cantlie.report.isodose_figure import isodose_figure
from cantlie.report.view import View, view_of
from cantlie.report.writing import write_report

_ISODOSES = (10.0, 30.0, 50.0, 70.0, 90.0, 95.0, 100.0, 107.0)


@dataclass(frozen=True, slots=True, eq=False)
class GroupView:
    """A fraction group of the plan.

    Parameters
    ----------
    prescription_gy
        0 where the plan does not say it.
    maximum_gy
        Of the dose of all its fractions.
    prescription_is_shared
        Whether the prescription is one dose for several groups together.
    reference_point_gy
        Dose of one fraction at the point that the plan names: as it states it, and recalculated.
    """

    name: str
    target: str
    prescription_gy: float
    fractions: int
    isocentre_mm: tuple[float, float, float]
    beams: Sequence[BeamRow]
    maximum_gy: float
    prescription_is_shared: bool = False
    reference_point_gy: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class AgreementView:
    """A recalculation held against the planned dose (reference): ``pair`` with gamma 3 %/3 mm, and gamma 2 %/2 mm."""

    pair: DosePairView
    strict: GammaResult


@dataclass(frozen=True, slots=True, eq=False)
class RecalculationView:
    """All that the report shows; ``dose`` is that of all fractions in Gy, ``dvhs`` its histograms by structure."""

    case_label: str
    created: datetime
    version: str
    ct: Volume
    structures: Sequence[StructureView]
    facts: Sequence[tuple[str, object]]
    groups: Sequence[GroupView]
    dose: Volume
    dvhs: Mapping[str, Dvh]
    agreement: AgreementView | None = None
    notes: Sequence[Note] = ()
    provenance: Sequence[tuple[str, object]] = ()
    citations: Sequence[str] = field(default_factory=tuple)


def recalculation_document(view: RecalculationView) -> Document:
    """Return the report of a recalculated plan."""
    structures = with_colours(view.structures)
    sections = [_plan(view), _dose(view, structures)]
    if view.agreement is not None:
        sections.append(_agreement(view.agreement))
    sections += [remarks_section(view.notes), provenance_section(view.provenance, view.citations)]
    plan = dict(view.facts).get("Plan", "")
    return Document(
        title="Recalculated plan",
        subtitle="The dose of a plan made elsewhere, by collapsed cone from its beams and monitor units",
        running_title=f"Recalculated plan: {view.case_label}",
        meta=[("Case", view.case_label), ("Plan", plan), ("Made", view.created), ("Cantlie", view.version)],
        lead=[_tiles(view)],
        sections=[section for section in sections if section.blocks],
    )


def write_recalculation_report(view: RecalculationView, folder: Path) -> None:
    """Write report.html, report.pdf and figures/ (SVG and PNG) into a folder.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    write_report(recalculation_document(view), folder, view.created)


def _tiles(view: RecalculationView) -> Tiles:
    by_timer = any(beam.meterset_unit == "min" for group in view.groups for beam in group.beams)
    fractions = sum(group.fractions for group in view.groups)
    meterset = " + ".join(f"{sum(beam.mu for beam in group.beams):.4g}" for group in view.groups)
    several = f" in {len(view.groups)} groups" if len(view.groups) > 1 else ""
    tiles = [
        Tile("Dose maximum", f"{float(view.dose.values.max()):.2f}", "Gy", "all fractions"),
        Tile("Fractions", fractions, "", f"{sum(len(g.beams) for g in view.groups)} beams{several}"),
        Tile("Timer" if by_timer else "Monitor units", meterset, "min" if by_timer else "MU", "per fraction"),
    ]
    if view.agreement is not None:
        pair = view.agreement.pair
        percent = 100.0 * pair.difference.mean_gy / pair.normalisation_gy
        tiles.append(Tile("Mean difference", f"{percent:+.1f}".replace("-", "−"), "%", "recalculated − planned"))
        if pair.gamma is not None:
            tiles.append(Tile("Gamma pass rate", f"{pair.gamma.pass_percent:.1f}", "%", criteria(pair.gamma)))
    return Tiles(tiles)


def _plan(view: RecalculationView) -> Section:
    blocks: list[Block] = [KeyValue(list(view.facts))]
    for group in view.groups:
        if len(view.groups) > 1:
            blocks.append(Subheading(group.name))
        x, y, z = group.isocentre_mm
        facts: list[tuple[str, object]] = [
            ("Target", group.target or "not named"),
            (
                "Prescription",
                _prescribed(group),
            ),
            ("Isocentre x, y, z", f"{x:.1f}, {y:.1f}, {z:.1f} mm".replace("-", "−")),
            ("Dose maximum", f"{group.maximum_gy:.2f} Gy"),
        ]
        if group.reference_point_gy is not None:
            stated, found = group.reference_point_gy
            off = f"{100 * (found / stated - 1):+.1f} %".replace("-", "−")
            text = f"{stated:.3f} Gy planned, {found:.3f} Gy recalculated ({off}), per fraction"
            facts.append(("At the plan's reference point", text))
        blocks.append(KeyValue(facts))
        blocks.append(tables.beam_rows(group.beams, "Beams (angles by IEC 61217)"))
    return Section("Plan", blocks)


def _prescribed(group: GroupView) -> str:
    dose_gy, count = group.prescription_gy, group.fractions
    if not dose_gy:
        return f"not in the plan; {count} fractions"
    if group.prescription_is_shared:
        return f"{dose_gy:g} Gy by several groups together; {count} fractions here"
    return f"{dose_gy:g} Gy in {count} × {dose_gy / count:.4g} Gy"


def _dose(view: RecalculationView, structures: Sequence[StructureView]) -> Section:
    colours = colours_on_white(structures, view.dvhs)
    own = [group.prescription_gy for group in view.groups if not group.prescription_is_shared]
    shared = {(group.target, group.prescription_gy) for group in view.groups if group.prescription_is_shared}
    prescription = sum(own) + sum(dose_gy for _, dose_gy in shared)
    known = all(group.prescription_gy for group in view.groups)
    full_gy = prescription if known else float(view.dose.values.max())
    name = "the prescription" if known else "the maximum, as the plan has no prescription"
    picture = isodose_figure(
        view.ct,
        view.dose,
        structures,
        _view(view, structures, full_gy),
        prescription_gy=round(full_gy, 2),
        levels_percent=_ISODOSES,
        window=WINDOW,
        note=f"Dose maximum {float(view.dose.values.max()):.1f} Gy",
    )
    blocks: list[Block] = [
        Figure(
            picture,
            f"Recalculated dose of all fractions. Isodoses in % of {full_gy:.4g} Gy, {name}; targets white, organs "
            "grey. The patient's right is on the left of the axial and coronal images.",
            "Isodose lines on an axial, a coronal and a sagittal slice of the CT",
            "isodose",
        ),
        tables.dose_statistics(view.dvhs, structures, colours, "Dose statistics, physical dose of all fractions"),
    ]
    shown = {name: curve for name, curve in view.dvhs.items() if name != "BODY"}
    if shown:
        blocks.append(
            Figure(
                dvh_figure(
                    shown,
                    structures,
                    title="Recalculated dose, all fractions",
                    prescription_gy=prescription if known else None,
                ),
                "Cumulative dose-volume histograms of the recalculated dose.",
                "Dose-volume histograms; the numbers are in the table of dose statistics",
                "dvh-recalculated",
            )
        )
    return Section("Dose", blocks, new_page=True)


def _view(view: RecalculationView, structures: Sequence[StructureView], full_gy: float) -> View:
    """Return a view through the targets, or through the middle of the high dose where there are none."""
    if any(s.role == "target" for s in structures):
        return view_of(view.ct, structures)
    high = view.dose.values >= 0.8 * min(full_gy, float(view.dose.values.max()))
    cloud = StructureView("high dose", Volume(view.dose.grid, high.astype("float32")), "target")
    return view_of(view.ct, [cloud, *(s for s in structures if s.role == "body")])


def _agreement(agreement: AgreementView) -> Section:
    pair = agreement.pair
    gammas = [agreement.strict, *([] if pair.gamma is None else [pair.gamma])]
    rows = [[criteria(one), one.pass_percent, one.mean, one.median, one.p95, one.judged] for one in gammas]
    blocks: list[Block] = [
        Paragraph(
            f"Reference: {pair.names[0]}, as the system of the plan calculated it. Gamma is global: 100 % is its "
            f"maximum of {pair.normalisation_gy:.2f} Gy, and voxels below {pair.threshold_percent:g} % of that are not "
            "judged."
        ),
        Table(
            [
                "Gamma",
                Column("γ ≤ 1", "%", digits=2),
                Column("Mean γ", digits=3),
                Column("Median γ", digits=3),
                Column("95th percentile", digits=3),
                Column("Voxels judged", digits=0),
            ],
            rows,
            caption="Gamma pass rates",
        ),
    ]
    for name, one in zip(("gamma-strict", "gamma"), gammas, strict=False):
        blocks.append(gamma_picture(pair, one, name))
    blocks += [Subheading("Difference"), *difference_blocks(pair)]
    if pair.structures:
        blocks += [Subheading("Structures"), *structure_blocks(pair)]
    return Section("Against the planned dose", blocks, new_page=True)
