"""The report of a recalculated plan, filled from what was read and calculated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.dicom.plan_file import PlanFile
from cantlie.evaluation.dvh import Dvh
from cantlie.plan.treatment import TreatmentBeam
from cantlie.report.case_report import BeamRow
from cantlie.report.recalculation_pages import AgreementView, GroupView, RecalculationView
from cantlie.workflow.dose_comparison import outlines_of
from cantlie.workflow.evaluation_page import beam_row_of_file
from cantlie.workflow.machine_choice import beam_quality
from cantlie.workflow.patient_stage import PreparedPatient
from cantlie.workflow.plan_engine import PlanEngine


@dataclass(frozen=True, slots=True, eq=False)
class GroupDose:
    """A fraction group of a plan with its dose: that of all its fractions, in Gy."""

    engine: PlanEngine
    dose: Volume
    reference_point: dict[str, Any] | None

    @property
    def file(self) -> PlanFile:
        """The fraction group as read."""
        return self.engine.plan_file


def recalculation_view(
    patient: PreparedPatient,
    groups: Sequence[GroupDose],
    dose: Volume,
    curves: Mapping[str, Dvh],
    agreement: AgreementView | None,
    notes: Sequence[Note],
    record: Mapping[str, Any],
    *,
    label: str,
    dose_to: str,
) -> RecalculationView:
    """Return the report of a recalculated plan; ``record`` is what run.json holds, ``label`` a pseudonym."""
    provenance = record["provenance"]
    first = groups[0].file
    machines = {machine.id: machine for group in groups for machine in group.engine.machines.values()}
    facts: list[tuple[str, object]] = [
        ("Plan", first.plan.label or "no label"),
        ("Machine of the plan", first.plan.machine_id or "not named"),
        ("Beam model", " and ".join(f"{id_} ({beam_quality(machine)})" for id_, machine in machines.items())),
        ("Patient position", first.setup.patient_position or patient.case.ct.patient_position),
        ("Dose to", dose_to),
        ("Grid of the dose", f"{' × '.join(f'{s:g}' for s in dose.grid.spacing_mm)} mm"),
        ("Calculated on", str(provenance.get("dose_device", "cpu"))),
    ]
    return RecalculationView(
        case_label=label,
        created=datetime.now(UTC).astimezone(),
        version=str(provenance["cantlie"]),
        ct=patient.case.ct.volume,
        structures=outlines_of(patient.regions),
        facts=facts,
        groups=[_group(group) for group in groups],
        dose=dose,
        dvhs=curves,
        agreement=agreement,
        notes=notes,
        provenance=[
            ("Cantlie", provenance["cantlie"]),
            ("Python", provenance["python"]),
            ("Packages", ", ".join(f"{name} {version}" for name, version in provenance["packages"].items())),
            ("Input files SHA-256", provenance["case_sha256"]),
            ("Plan SHA-256", provenance["plan_sha256"]),
            ("Machine SHA-256", provenance["machine_sha256"]),
        ],
        citations=list(record["citations"]),
    )


def _group(group: GroupDose) -> GroupView:
    plan, point = group.file.plan, group.reference_point
    return GroupView(
        name=group.file.name,
        target=plan.target_name,
        prescription_gy=plan.prescription_gy,
        fractions=plan.fractions,
        isocentre_mm=plan.beams[0].control_points[0].geometry.isocentre_mm,
        beams=[_beam(beam, group) for beam in plan],
        maximum_gy=float(group.dose.values.max()),
        prescription_is_shared=group.file.prescription_is_shared,
        reference_point_gy=None if point is None else (point["stated_gy"], point["recalculated_gy"]),
    )


def _beam(beam: TreatmentBeam, group: GroupDose) -> BeamRow:
    return beam_row_of_file(beam, group.file, group.engine.machines[beam.number].energy_mv)
