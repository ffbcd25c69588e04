"""Judge plans made elsewhere: CT, structures and RTDOSE in; DVHs, constraint table, EQD2 of the sum and report out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from cantlie.core.errors import DicomError
from cantlie.core.files import write_json, write_text
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.course.calendar import next_monday, plan_calendar
from cantlie.course.delivered import DeliveredCourse
from cantlie.dicom.companions import doses_of_case, plans_of_case
from cantlie.dicom.plan_file import PlanFile, read_stated_plans
from cantlie.dicom.rtdose import DoseFile, read_dose_file
from cantlie.dose.device import Device, device_name
from cantlie.machine.machine import load_machine
from cantlie.patient.names import standard_name
from cantlie.patient.regions import Regions
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.schema import Protocol
from cantlie.radiobiology.model import Estimate
from cantlie.report.case_pages import write_case_report
from cantlie.report.case_report import StructureView
from cantlie.report.document import Section
from cantlie.target.build import build_targets
from cantlie.target.recipes import matching
from cantlie.workflow.choices import with_choices
from cantlie.workflow.delivery_record import (
    delivered_course_of_case,
    delivery_results,
    delivery_sections,
)
from cantlie.workflow.displaced_course import shift_log_for
from cantlie.workflow.displaced_engine import EngineChanges, engine_changes
from cantlie.workflow.dosimetry import COURSE, Dosimetry, judge_doses
from cantlie.workflow.evaluation_page import evaluation_report
from cantlie.workflow.on_device import on_requested_device
from cantlie.workflow.other_cts import OtherCts, doses_of_other_cts
from cantlie.workflow.patient_stage import CaseRequest, PreparedPatient, prepare_patient
from cantlie.workflow.plan_doses import SummedPlans, summed_plans
from cantlie.workflow.results import dvh_csv, results_of, risks_of
from cantlie.workflow.robustness_stage import RobustnessRequest
from cantlie.workflow.run_folder import RunFolder, key_of
from cantlie.workflow.summed_biology import SummedBiology, biology_of_sum, eqd2_metrics
from cantlie.workflow.what_if import Answers, Subject, WhatIf, answers_to, course_of_doses

STAGES = {
    "reading the case": 4.0,
    "other CTs": 1.0,
    "targets": 3.0,
    "evaluation": 5.0,
    "EQD2": 5.0,
    "what if": 6.0,
    "report": 10.0,
}


@dataclass(frozen=True, slots=True)
class EvaluateCase(CaseRequest):
    """What the user asks for. Without ``doses`` those that lie in the case are judged.

    ``plans`` are RTPLANs outside the case; ``fractions`` are those of the doses in their order, or one for all, where
    no RTPLAN says them; ``scheme`` is that of a protocol with several. ``others`` are folders of plans on other CTs of
    the patient, whose doses are deformed to the CT of the case and summed; their fractions follow those of the case.
    With ``recalculate`` the dose engine finds what displacements and density errors change beyond moving the doses,
    with the beam model of ``machine`` and the CT's ``density_curve``; it needs the RTPLANs.
    """

    protocol: str
    out: Path
    doses: tuple[Path, ...] = ()
    plans: tuple[Path, ...] = ()
    fractions: tuple[int, ...] = ()
    scheme: str | None = None
    start: date | None = None
    others: tuple[Path, ...] = ()
    what_if: WhatIf = field(default_factory=WhatIf)
    machine: str | None = None
    recalculate: bool = True
    device: Device = "auto"


@dataclass(frozen=True, slots=True, eq=False)
class _Targets:
    """Regions with the protocol's targets, and the lesions among them."""

    regions: Regions
    lesions: tuple[str, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Evaluation:
    """All that was read and found; ``plans`` and ``files`` are those of the case and of other CTs."""

    patient: PreparedPatient
    protocol: Protocol
    files: tuple[DoseFile, ...]
    plans: tuple[PlanFile, ...]
    others: OtherCts
    targets: _Targets
    summed: SummedPlans
    dosimetry: Dosimetry
    biology: SummedBiology | None
    recorded: DeliveredCourse | None
    answers: Answers
    scheme_notes: tuple[Note, ...]

    @property
    def risks(self) -> tuple[Estimate, ...]:
        """The modelled risks, where there is a biology."""
        return () if self.biology is None else self.biology.risks

    @property
    def notes(self) -> tuple[Note, ...]:
        """What must be said, in the order of the road."""
        return tuple(
            dict.fromkeys(
                (
                    *self.patient.notes,
                    *(note for plan in self.plans if not plan.plan.beams for note in plan.notes),
                    *self.targets.notes,
                    *self.scheme_notes,
                    *self.summed.notes,
                    *self.others.notes,
                    *self.dosimetry.notes,
                    *(note for risk in self.risks for note in risk.notes),
                    *self.answers.notes,
                    *(() if self.recorded is None else self.recorded.notes),
                )
            )
        )

    def sections(self) -> dict[str, Any]:
        """Return the sections of results.json."""
        over_cts = self.others.results(self.dosimetry, self.protocol, self.targets.regions, self.summed.physical)
        return {
            "reading": list(self.patient.report.lines()),
            "doses": [{"summation": f.summation_type, "maximum_gy": float(f.dose.values.max())} for f in self.files],
            "plans_summed": _plans_summed(self.summed),
            "eqd2": eqd2_metrics(self.biology, self.dosimetry.dvhs[COURSE]),
            "radiobiology": {"ntcp": risks_of(self.risks)},
            **over_cts,
            "delivery_record": None if self.recorded is None else delivery_results(self.recorded),
            **self.answers.results(),
        }

    def chapters(self, views: Sequence[StructureView]) -> tuple[Section, ...]:
        """Return the chapters of the report beyond the doses and their limits, given its structures."""
        over_cts = self.others.chapters(
            self.patient.case, views, self.dosimetry, self.protocol, self.targets.regions, self.summed.physical
        )
        return (*over_cts, *self.answers.chapters(views), *delivery_sections(self.recorded))


@on_requested_device
def evaluate_case(request: EvaluateCase, progress: Progress = silent) -> Dosimetry:
    """Judge the doses of a case by a protocol; write results.json, DVHs of physical dose and EQD2, and the report.

    Raises
    ------
    CantlieError
        If the case or a dose cannot be used.
    """
    protocol, _ = with_choices(load_protocol(request.protocol), scheme=request.scheme)
    if request.machine:
        load_machine(request.machine)  # a wrong name is refused before the work begins
    shift_log_for(request.what_if.shifts, request.what_if.simulated_mm)
    with RunFolder(request.out, {"name": "evaluate", "protocol": request.protocol}, STAGES, progress) as run:
        return _stages(run, request, protocol)


def _stages(run: RunFolder, request: EvaluateCase, protocol: Protocol) -> Dosimetry:
    patient = run.stage(
        "reading the case", key_of(str(request.case)), lambda step: prepare_patient(request, step), keep=False
    )
    files = _dose_files(request, patient)
    plans = (
        *plans_of_case(request.case, patient.case),
        *(plan for path in request.plans for plan in read_stated_plans(path)),
    )
    others = run.stage(
        "other CTs",
        "",
        lambda step: doses_of_other_cts(
            request.others, request.case, patient.case, aliases=request.aliases, progress=step
        ),
        keep=False,
    )
    files, plans = (*files, *others.files), (*plans, *others.plans)
    with_targets = run.stage("targets", "", lambda step: _with_targets(patient.regions, protocol, step), keep=False)
    regions = with_targets.regions
    summed = summed_plans(files, plans, protocol, regions, request.fractions)
    prescriptions = {name: protocol.prescription(name).total_gy for name in protocol.target_ids}
    doses = {COURSE: summed.physical, **summed.by_target()}
    dosimetry = run.stage(
        "evaluation", "", lambda step: judge_doses(regions, protocol, doses, prescriptions, step), keep=False
    )
    physical = dosimetry.dvhs[COURSE]
    biology = run.stage("EQD2", "", lambda step: biology_of_sum(summed, regions, protocol, physical, step), keep=False)
    fractions = {plan.target: plan.fractions for plan in summed.plans if plan.target and plan.fractions}
    recorded = delivered_course_of_case(request.case, patient.case, plans, protocol, request.start)
    calendar = plan_calendar(protocol, request.start or next_monday(date.today()))
    course = course_of_doses(protocol, doses, fractions, calendar if recorded is None else recorded.calendar)

    def engine(asked: RobustnessRequest, step: Progress) -> EngineChanges:
        ct = patient.case.ct
        return engine_changes(
            summed.plans, plans, patient.density, ct.patient_position, ct.frame_of_reference_uid, asked.shift_mm,
            asked.density_percent, machine=request.machine, progress=step,
        )  # fmt: skip

    able = request.recalculate and bool(plans) and bool(summed.plans)
    if able:
        run.add_provenance(dose_device=device_name())
    subject = Subject(protocol, regions, doses, prescriptions, fractions, course, engine=engine if able else None)
    answers = run.stage("what if", "", lambda step: answers_to(request.what_if, subject, step), keep=False)
    found = _Evaluation(
        patient, protocol, files, plans, others, with_targets, summed, dosimetry, biology, recorded, answers,
        _unknown_scheme(request, protocol),
    )  # fmt: skip
    _write(run, request, found)
    return dosimetry


def _write(run: RunFolder, request: EvaluateCase, found: _Evaluation) -> None:
    """Write results.json, the DVHs and the report."""
    out, protocol, dosimetry, notes = request.out, found.protocol, found.dosimetry, found.notes
    results = results_of(
        f"Evaluation by {protocol.title}",
        protocol,
        dosimetry,
        plans=[file.plan for file in found.plans],
        sections=found.sections(),
        notes=notes,
    )
    write_json(out / "results.json", results)
    for scope, curves in dosimetry.dvhs.items():
        write_text(out / ("dvh.csv" if scope == COURSE else f"dvh_{scope}.csv"), dvh_csv(curves))
    run.clear("dvh_eqd2.csv", "figures")
    if found.biology is not None:
        write_text(out / "dvh_eqd2.csv", dvh_csv(found.biology.curves))
    found.answers.write(out)
    run.note(notes)
    run.cite([protocol.citation.sentence(), *(risk.model.source for risk in found.risks)])
    run.add_provenance(case_sha256=found.patient.case.input_sha256, protocol_sha256=protocol.sha256)
    label = request.pseudonym(found.patient.case)
    page = evaluation_report(
        found.patient, found.targets.regions, found.targets.lesions, protocol, found.summed, found.plans, dosimetry,
        found.biology, notes, run.record, label,
    )  # fmt: skip
    page = replace(page, more=(*page.more, *found.chapters(page.structures)))
    run.stage("report", "", lambda step: write_case_report(page, out), keep=False)


def _plans_summed(summed: SummedPlans) -> list[dict[str, Any]]:
    return [
        {
            "plan": plan.name,
            "target": plan.target or None,
            "fractions": plan.fractions,
            "fractions_from": plan.fractions_from or None,
            "maximum_physical_gy": float(plan.dose.values.max()),
        }
        for plan in summed.plans
    ]


def _unknown_scheme(request: EvaluateCase, protocol: Protocol) -> tuple[Note, ...]:
    if protocol.choice is None or request.scheme is not None:
        return ()
    message = f"judged by the scheme {protocol.choice.default}; another one of {', '.join(protocol.schemes)}: --scheme"
    return (Note(message, "prescription"),)


def _dose_files(request: EvaluateCase, patient: PreparedPatient) -> tuple[DoseFile, ...]:
    if request.doses:
        return tuple(read_dose_file(path) for path in request.doses)
    files = doses_of_case(request.case, patient.case)
    if not files:
        raise DicomError(
            "the case holds no RTDOSE", where=str(request.case), remedy="add the dose to the case or name it by --dose"
        )
    return files


def _with_targets(regions: Regions, protocol: Protocol, progress: Progress) -> _Targets:
    """Return the regions with the protocol's targets: the contoured ones, or those that Cantlie builds."""
    regions = _under_their_ids(regions, protocol)
    lesions = tuple(name for name in matching(regions, protocol.gtv) if regions[name].any())
    missing = [name for name in protocol.target_ids if name not in regions]
    if not missing:
        return _Targets(regions, lesions, ())
    built = build_targets(regions, protocol, progress=progress)
    result = built.regions
    for name in protocol.target_ids:
        if name not in missing:
            result = result.with_region(name, regions[name])
    are, it, were = ("is", "it", "was") if len(missing) == 1 else ("are", "they", "were")
    message = f"{' and '.join(missing)} {are} not contoured; {it} {were} built from the contours by the protocol"
    note = Note(message, "targets")
    return _Targets(result, built.lesions, (note, *built.notes))


def _under_their_ids(regions: Regions, protocol: Protocol) -> Regions:
    """Return the regions with targets under the protocol's names: a contour PTV1 was read as PTV_1."""
    ids = {standard_name(name) or name: name for name in protocol.target_ids}
    return Regions(regions.grid, {ids.get(name, name): mask for name, mask in regions.fractions.items()})
