"""The report of plans made elsewhere: the same pages as for Cantlie's own, without what only planning knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cantlie.core.notes import Note
from cantlie.dicom.plan_file import PlanFile
from cantlie.machine.aperture import Aperture
from cantlie.patient.regions import Regions
from cantlie.plan.treatment import TreatmentBeam
from cantlie.protocol.schema import Protocol
from cantlie.report.case_report import BeamRow, BiologyRow, CaseReport, PlanView, TargetsView, VolumeRow
from cantlie.workflow.case_page import risk_rows, structure_views
from cantlie.workflow.dosimetry import COURSE, Dosimetry
from cantlie.workflow.patient_stage import PreparedPatient
from cantlie.workflow.plan_doses import PlanDose, SummedPlans
from cantlie.workflow.results import segments_of
from cantlie.workflow.summed_biology import SummedBiology


def evaluation_report(
    patient: PreparedPatient,
    regions: Regions,
    lesions: Sequence[str],
    protocol: Protocol,
    summed: SummedPlans,
    files: Sequence[PlanFile],
    dosimetry: Dosimetry,
    biology: SummedBiology | None,
    notes: Sequence[Note],
    record: Mapping[str, Any],
    label: str,
) -> CaseReport:
    """Return the report of an evaluated case; ``record`` is what run.json holds, ``label`` a pseudonym."""
    views = structure_views(regions, lesions, protocol)
    shown = {view.name for view in views} | {row.evaluated_structure for row in dosimetry.constraints}
    known = [name for name in protocol.target_ids if name in regions]
    prescriptions = {name: protocol.prescription(name).total_gy for name in protocol.target_ids}
    by_group = {(file.plan.sop_instance_uid, file.fraction_group): file for file in files}
    provenance = record["provenance"]
    return CaseReport(
        title=f"Evaluation by: {protocol.title}",
        subtitle="Plans made elsewhere, judged by the rules of " + protocol.citation.sentence(),
        case_label=label,
        created=datetime.now(UTC).astimezone(),
        version=str(provenance["cantlie"]),
        ct=patient.case.ct.volume,
        structures=views,
        plans=[
            _plan_view(plan, by_group.get((plan.plan_uid, plan.fraction_group or 0)), dosimetry, prescriptions, shown)
            for plan in summed.plans
        ],
        course_dose=summed.physical,
        course_prescription_gy=max(prescriptions.values()),
        course_dvhs={name: curve for name, curve in dosimetry.dvhs[COURSE].items() if name in shown},
        constraints=dosimetry.constraints,
        coverage=dosimetry.coverage,
        protocol_summary=_summary(summed),
        protocol_id=protocol.id,
        patient_position=patient.case.ct.patient_position,
        course_indices=dosimetry.indices[COURSE],
        reference_limits=dosimetry.reference_limits,
        targets=TargetsView([], [VolumeRow(name, dosimetry.dvhs[COURSE][name].volume_cc) for name in known]),
        biology=_biology_rows(biology, dosimetry),
        biology_note=(
            "EQD2 is that of each plan with its own dose per fraction, voxel by voxel, then summed; repair between "
            "fractions is taken as complete. Physical dose and EQD2 stand in columns of their own."
        )
        if biology is not None
        else "",
        ntcp=[] if biology is None else risk_rows(biology.risks),
        notes=[*notes, *(Note(line, "reading", "info") for line in patient.report.lines())],
        provenance=[
            ("Cantlie", provenance["cantlie"]),
            ("Python", provenance["python"]),
            ("Packages", ", ".join(f"{name} {version}" for name, version in provenance["packages"].items())),
            ("Input files SHA-256", patient.case.input_sha256),
            ("Protocol", f"{protocol.id} ({protocol.source})"),
            ("Protocol SHA-256", protocol.sha256),
        ],
        citations=list(record["citations"]),
    )


def _summary(summed: SummedPlans) -> str:
    if not summed.plans:
        return "Only a sum of plans is given."
    texts = []
    for plan in summed.plans:
        fractions = f"{plan.fractions} fractions ({plan.fractions_from})" if plan.fractions else "fractions not known"
        texts.append(f"{plan.name}{f' for {plan.target}' if plan.target else ''}: {fractions}")
    return f"{len(summed.plans)} {'plan' if len(summed.plans) == 1 else 'plans summed'}: " + "; ".join(texts) + "."


def _plan_view(
    plan: PlanDose, file: PlanFile | None, dosimetry: Dosimetry, prescriptions: Mapping[str, float], shown: set[str]
) -> PlanView:
    curves = dosimetry.dvhs.get(plan.target, {})
    beams = [] if file is None else [beam_row_of_file(beam, file) for beam in file.plan]
    first = file.plan.beams[0].control_points[0].geometry.isocentre_mm if beams and file is not None else (0.0,) * 3
    return PlanView(
        label=plan.name.removeprefix("plan "),
        target=plan.target,
        dose=plan.dose,
        prescription_gy=prescriptions.get(plan.target) or float(plan.dose.values.max()),
        fractions=plan.fractions or 1,
        normalisation="as in the files",
        isocentre_mm=first,
        beams=beams,
        dvhs={name: curve for name, curve in curves.items() if name in shown},
        indices=dosimetry.indices.get(plan.target, ()),
    )


def beam_row_of_file(beam: TreatmentBeam, file: PlanFile, unstated_energy_mv: float = 6.0) -> BeamRow:
    """Return the line of the beam table for a beam that was read from a file."""
    points = beam.control_points
    geometry, last = points[0].geometry, points[-1].geometry
    apertures: list[Aperture] = [point.aperture for point in points]
    turned = abs(last.gantry_deg - geometry.gantry_deg) > 0.5
    return BeamRow(
        number=beam.number,
        name=beam.name,
        gantry_deg=geometry.gantry_deg % 360.0,
        collimator_deg=geometry.collimator_deg,
        couch_deg=geometry.couch_deg,
        mu=beam.mu,
        segments=segments_of(points),
        jaw_x_mm=(min(a.jaw_x_mm[0] for a in apertures), max(a.jaw_x_mm[1] for a in apertures)),
        jaw_y_mm=(min(a.jaw_y_mm[0] for a in apertures), max(a.jaw_y_mm[1] for a in apertures)),
        gantry_stop_deg=last.gantry_deg % 360.0 if turned else None,
        rotation=("CW" if last.gantry_deg > geometry.gantry_deg else "CC") if turned else "",
        energy_mv=file.energy_mv.get(beam.number) or unstated_energy_mv,
        meterset_unit="min" if file.dosimeter_unit == "MINUTE" else "MU",
    )


def _biology_rows(biology: SummedBiology | None, dosimetry: Dosimetry) -> list[BiologyRow]:
    if biology is None:
        return []
    rows = []
    for name, curve in biology.curves.items():
        physical = dosimetry.dvhs[COURSE].get(name)
        alpha_beta = f"EQD2 (α/β = {biology.alpha_beta_gy[name]:g} Gy)"
        rows.append(
            BiologyRow(name, f"mean {alpha_beta}", curve.mean_gy, "Gy", None if physical is None else physical.mean_gy)
        )
        rows.append(
            BiologyRow(name, f"maximum {alpha_beta}", curve.max_gy, "Gy", None if physical is None else physical.max_gy)
        )
    return rows
