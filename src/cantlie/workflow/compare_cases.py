"""Several protocols on one patient: each planned in its own folder, then one report on all of them."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal

from cantlie.core.errors import CantlieError, InputError, PlanningError
from cantlie.core.files import write_json, write_text
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.machine.machine import Machine
from cantlie.patient.regions import Regions
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.schema import Protocol
from cantlie.report.comparison_pages import write_comparison_report
from cantlie.target.build import NORMAL_LIVER
from cantlie.workflow.choices import with_choices
from cantlie.workflow.comparison_arm import Arm, arm_of, cropped
from cantlie.workflow.comparison_biology import Assumptions
from cantlie.workflow.comparison_halves import BedDifference, bed_difference
from cantlie.workflow.comparison_page import Anatomy, anatomy_of, comparison_report
from cantlie.workflow.comparison_plans import SharedPlans, adopt_plans, are_the_same
from cantlie.workflow.comparison_results import (
    Comparison,
    FailedArm,
    biological_dvh_csv,
    long_table_csv,
    physical_dvh_csv,
    results_of_comparison,
    statements_csv,
)
from cantlie.workflow.comparison_statements import statements
from cantlie.workflow.machine_choice import machine_for
from cantlie.workflow.patient_stage import CaseRequest
from cantlie.workflow.plan_case import plan_case
from cantlie.workflow.planned_case import PlanCase, PlannedCase
from cantlie.workflow.planning_key import planning_inputs
from cantlie.workflow.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class CompareCases(CaseRequest):
    """What the user asks for; None stands for the protocol's or Cantlie's default.

    Parameters
    ----------
    protocols
        At least two built-in protocols or TOML files. The first is the one that the others are compared with.
    schemes
        Protocol id to prescription scheme, where a protocol leaves a choice.
    plane
        Dividing plane for the protocols that divide the liver.
    """

    protocols: tuple[str, ...]
    out: Path
    schemes: tuple[tuple[str, str], ...] = ()
    machine: str | None = None
    plane: str | None = None
    start: date | None = None
    attributions: tuple[str, ...] = ()
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """One protocol as it was asked for."""

    protocol: Protocol
    machine: Machine
    request: PlanCase


def compare_cases(request: CompareCases, progress: Progress = silent) -> Comparison:
    """Plan a case by several protocols and write one report on what differs; each plan resumes where it was.

    Protocols that the same plans fulfil are planned once. A protocol that cannot be planned leaves a row with the
    reason and does not stop the others.

    Raises
    ------
    CantlieError
        If something that the user gave cannot be used, or no two protocols can be planned.
    """
    asked = _asked(request)
    weights = {f"protocol {one.protocol.id}": 90.0 for one in asked} | {"comparison": 5.0, "report": 20.0}
    command = {"name": "compare", "protocols": [one.protocol.id for one in asked], "label": request.label}
    with RunFolder(request.out, command, weights, progress) as run:
        return _stages(run, request, asked)


def _asked(request: CompareCases) -> list[_Asked]:
    """Load everything that was named, so that a wrong name is found before anything is planned."""
    if len(request.protocols) < 2:
        raise InputError(
            "a comparison needs at least two protocols", where="--protocol", remedy="repeat --protocol for each"
        )
    schemes = dict(request.schemes)
    asked: list[_Asked] = []
    for name in request.protocols:
        protocol = load_protocol(name)
        if any(protocol.id == one.protocol.id for one in asked):
            raise InputError(f"the protocol {protocol.id} is named twice", where="--protocol", remedy="name each once")
        choices = {"scheme": schemes.pop(protocol.id, None)}
        if request.plane is not None and protocol.split is not None:
            choices["plane"] = request.plane
        single = PlanCase(
            case=request.case,
            protocol=name,
            out=request.out / protocol.id,
            machine=request.machine,
            density_curve=request.density_curve,
            aliases=request.aliases,
            plane=choices.get("plane"),
            start=request.start,
            scheme=choices["scheme"],
            series=request.series,
            structure_set=request.structure_set,
            patient=request.patient,
            new_ct="ignore",
            label=request.label,
            attributions=request.attributions,
            device=request.device,
        )
        protocol, _ = with_choices(protocol, scheme=single.scheme, plane=single.plane)
        asked.append(_Asked(protocol, machine_for(request.machine, protocol, request.start), single))
    if schemes:
        known = ", ".join(one.protocol.id for one in asked)
        raise InputError(
            f"a scheme is given for {next(iter(schemes))}, which is not compared",
            where="--scheme",
            remedy=f"name one of {known}",
        )
    return asked


def _stages(run: RunFolder, request: CompareCases, asked: Sequence[_Asked]) -> Comparison:
    protocols = [one.protocol for one in asked]
    assumptions = Assumptions.of(protocols[0].biology)
    arms: list[Arm] = []
    failed: list[FailedArm] = []
    first_error: CantlieError | None = None
    anatomy: Anatomy | None = None
    liver: Volume | None = None
    shared: dict[str, SharedPlans] = {}
    for one in asked:
        inputs = planning_inputs(one.protocol, one.machine)
        donor = shared.get(inputs)

        def work(step: Progress, one: _Asked = one, donor: SharedPlans | None = donor) -> PlannedCase:
            if donor is not None:
                adopt_plans(donor, one.protocol, one.request)
            return plan_case(one.request, step)

        try:
            planned = run.stage(f"protocol {one.protocol.id}", one.protocol.sha256, work, keep=False)
        except CantlieError as error:
            first_error = first_error or error
            failed.append(FailedArm(one.protocol.id, one.protocol.title, error.sentence()))
            continue
        except Exception:
            record = one.request.out / "error.txt"
            write_text(record, traceback.format_exc())
            reason = f"an error of Cantlie itself, not of your input; please report {one.protocol.id}/error.txt."
            failed.append(FailedArm(one.protocol.id, one.protocol.title, reason))
            continue
        same = donor is not None and are_the_same(donor, planned)
        arms.append(arm_of(planned, protocols, assumptions, donor.protocol_id if donor is not None and same else ""))
        if anatomy is None:
            anatomy = anatomy_of(planned)
            liver = _normal_liver(planned.targets.regions)
            run.add_provenance(case_sha256=planned.patient.case.input_sha256, machine_sha256=planned.machine.sha256)
        shared.setdefault(inputs, SharedPlans.of(planned))
        del planned  # it holds the CT and all masks
    if len(arms) < 2 or anatomy is None:
        if first_error is not None and len(failed) == len(asked):
            raise first_error
        raise PlanningError(
            "fewer than two protocols could be planned: " + " ".join(f"{f.id}: {f.reason}" for f in failed),
            where="comparison",
            remedy="compare protocols that this case can be planned by",
        )
    comparison = run.stage(
        "comparison", "", lambda step: _compared(arms, failed, assumptions, liver, anatomy, protocols), keep=False
    )
    run.note(comparison.notes)
    run.cite(citation for arm in arms for citation in arm.citations)
    run.clear("figures")
    run.stage("report", "", lambda step: _write(run, request, comparison, anatomy, step), keep=False)
    return comparison


def _compared(
    arms: Sequence[Arm],
    failed: Sequence[FailedArm],
    assumptions: Assumptions,
    liver: Volume | None,
    anatomy: Anatomy,
    protocols: Sequence[Protocol],
) -> Comparison:
    first, *others = arms
    found = [statement for other in others for statement in statements(first, other, assumptions)]
    differences: dict[str, tuple[BedDifference, ...]] = {}
    if liver is not None:
        for other in others:
            differences[other.id] = tuple(
                bed_difference(first.biology.bed_of_liver_gy[h], other.biology.bed_of_liver_gy[h], liver, h)
                for h in assumptions.repairs
            )
    notes = _notes_of(arms)
    notes += [Note(f"not planned: {one.reason}", one.id) for one in failed]
    notes += _unlike(protocols)
    return Comparison(
        anatomy.label, tuple(arms), tuple(failed), assumptions, tuple(found), differences, tuple(dict.fromkeys(notes))
    )


def _notes_of(arms: Sequence[Arm]) -> list[Note]:
    """Return the notes of all arms, each once: what not all of them say names the ones that do."""
    said: dict[Note, list[str]] = {}
    for arm in arms:
        for note in arm.notes:
            said.setdefault(note, []).append(arm.id)
    notes = []
    for note, by in said.items():
        where = [note.where] if len(by) == len(arms) else [", ".join(by), note.where]
        notes.append(replace(note, where="; ".join(part for part in where if part)))
    return notes


def _unlike(protocols: Sequence[Protocol]) -> list[Note]:
    """Return notes where protocols mean different things by the same words, or assume other biology."""
    first, *others = protocols
    notes = []
    for other in others:
        if Assumptions.of(other.biology) != Assumptions.of(first.biology):
            notes.append(Note(f"its biological values are not used; all are judged by those of {first.id}", other.id))
        if (other.gtv, other.normal_liver) != (first.gtv, first.normal_liver):
            message = f"lesions or normal liver are not defined as in {first.id}: {other.gtv}; {other.normal_liver}"
            notes.append(Note(message, other.id))
    return notes


def _normal_liver(regions: Regions) -> Volume | None:
    if NORMAL_LIVER not in regions or not regions[NORMAL_LIVER].any():
        return None
    return cropped(Volume(regions.grid, regions[NORMAL_LIVER]))


def _write(run: RunFolder, request: CompareCases, comparison: Comparison, anatomy: Anatomy, progress: Progress) -> None:
    out = request.out
    write_json(out / "results.json", results_of_comparison(comparison))
    write_text(out / "comparison.csv", long_table_csv(comparison))
    write_text(out / "differences.csv", statements_csv(comparison.statements))
    write_text(out / "dvh.csv", physical_dvh_csv(comparison))
    for kind in ("eqd2", "bed"):
        write_text(out / f"dvh_{kind}.csv", biological_dvh_csv(comparison, kind))
    progress(0.2, "figures and report")
    write_comparison_report(comparison_report(comparison, anatomy, run.record, request.attributions), out)
