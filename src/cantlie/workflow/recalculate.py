"""Recalculate a photon plan made anywhere: CT, structures and RTPLAN in, RTDOSE out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import DicomError, GeometryError
from cantlie.core.files import write_json
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part, silent
from cantlie.core.volume import Volume
from cantlie.dicom.plan_file import PlanFile, read_plan_file
from cantlie.dicom.rtdose import write_rtdose
from cantlie.dose.collapsed_cone import Medium, collapsed_cone_dose
from cantlie.dose.device import Device, device_name
from cantlie.dose.field import Field
from cantlie.evaluation.dvh import dvh
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.beam_model_file import beam_of
from cantlie.machine.fluence import pixel_centres, summed_fluence
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import Machine
from cantlie.machine.mlc import Mlc
from cantlie.plan.delivery import PIXEL_MM, TAIL_MM
from cantlie.plan.pieces import pieces
from cantlie.plan.treatment import Segment, TreatmentBeam
from cantlie.workflow.machine_choice import machines_of
from cantlie.workflow.on_device import on_requested_device
from cantlie.workflow.patient_stage import prepare_patient
from cantlie.workflow.plan_statements import case_notes, check_reaches, machine_notes, stated_dose
from cantlie.workflow.run_folder import RunFolder, key_of

STAGES = {"reading the case": 4.0, "dose": 6.0, "writing": 1.0}
_FINE_MM = 2.5
_SMALL_FIELD_MM = 40.0


@dataclass(frozen=True, slots=True)
class RecalculatePlan:
    """What the user asks for; None stands for the default."""

    case: Path
    plan: Path
    out: Path
    machine: str | None = None
    density_curve: Path | None = None
    aliases: Path | None = None
    series: str | None = None
    structure_set: str | None = None
    patient: str | None = None
    grid_mm: float = _FINE_MM
    dose_to: Literal["medium", "water"] = "medium"
    treatment_date: date | None = None
    device: Device = "auto"


@on_requested_device
def recalculate(request: RecalculatePlan, progress: Progress = silent) -> dict[str, Any]:
    """Calculate the dose of a plan and write RTDOSE and results.json; return what results.json holds.

    Raises
    ------
    CantlieError
        If the case, the plan or the machine cannot be used, or the plan belongs to another patient.
    """
    settings = {"name": "dose", "machine": request.machine, "grid_mm": request.grid_mm, "dose_to": request.dose_to}
    with RunFolder(request.out, settings, STAGES, progress) as run:
        run.add_provenance(dose_device=device_name())
        return _stages(run, request)


def _stages(run: RunFolder, request: RecalculatePlan) -> dict[str, Any]:
    plan_file = read_plan_file(request.plan)
    machines, date_notes = machines_of(plan_file, request.machine, request.treatment_date)
    patient = run.stage(
        "reading the case",
        key_of(str(request.case)),
        lambda step: prepare_patient(
            request.case,
            aliases=request.aliases,
            density_curve=request.density_curve,
            series=request.series,
            structure_set=request.structure_set,
            patient=request.patient,
            progress=step,
        ),
        keep=False,
    )
    case = patient.case
    _check_belongs(plan_file, case.ct.frame_of_reference_uid, case.identity.patient_id, str(request.plan))
    plan = plan_file.plan
    grid = patient.density.grid.resampled((request.grid_mm,) * 3)
    position = plan_file.setup.patient_position or case.ct.patient_position
    placed = [_placed(beam, position) for beam in plan]
    directions = {beam.number: beam.control_points[0].geometry for beam in placed}
    notes = [
        *patient.notes,
        *plan_file.notes,
        *machine_notes(plan_file, machines),
        *date_notes,
        *case_notes(plan_file, case, patient.regions["BODY"], directions),
    ]
    if position != case.ct.patient_position:
        message = f"the plan is for a patient who lies {position}, the CT was taken {case.ct.patient_position}"
        notes.append(Note(message, "RTPLAN"))
    fields: dict[BeamModel, list[Field]] = defaultdict(list)
    for beam in placed:
        model = beam_of(machines[beam.number])
        fields[model] += fields_of(beam, machines[beam.number], model, plan_file)
    per_fraction = run.stage(
        "dose",
        key_of("dose"),
        lambda step: _summed_dose(patient.density, fields, grid, request.dose_to, step),
        keep=False,
    )
    dose = Volume(grid, per_fraction * np.float32(plan.fractions))
    check_reaches(dose, plan_file, str(request.plan))
    point_dose, point_notes = stated_dose(plan_file, dose)
    notes += point_notes
    curves = {
        name: dvh(dose, mask, patient.regions.grid, name=name)
        for name, mask in patient.regions.fractions.items()
        if mask.any()
    }

    def write(step: Progress) -> dict[str, Any]:
        path = request.out / "RTDOSE.dcm"
        write_rtdose(case, dose, path, plan_uids=[plan.sop_instance_uid], comment=f"dose to {request.dose_to}")
        results = {
            "plan": plan.label,
            "machine": " and ".join(dict.fromkeys(machine.id for machine in machines.values())),
            "energy_mv": {str(number): machine.energy_mv for number, machine in machines.items()},
            "dose_to": request.dose_to,
            "fractions": plan.fractions,
            "mu_per_fraction": plan.mu,
            "meterset_unit": plan_file.dosimeter_unit,
            "maximum_gy": float(dose.values.max()),
            "reference_point": point_dose,
            "grid": {"shape_kji": grid.shape, "spacing_mm": grid.spacing_mm, "origin_mm": grid.origin_mm},
            "structures": {
                name: {"volume_cc": c.volume_cc, "Dmean_gy": c.mean_gy, "Dmin_gy": c.min_gy, "Dmax_gy": c.max_gy}
                for name, c in curves.items()
            },
            "dose_file": path.name,
            "warnings": [note.sentence() for note in dict.fromkeys(notes)],
        }
        write_json(request.out / "results.json", results)
        return results

    results = run.stage("writing", key_of("writing"), write, keep=False)
    run.note(notes)
    return results


def _summed_dose(
    density: Volume, fields: dict[BeamModel, list[Field]], grid: Grid, medium: Medium, progress: Progress
) -> NDArray[np.float32]:
    """Return the dose of one fraction, each beam by the model of its energy, shape ``grid.shape``."""
    total = np.zeros(grid.shape, dtype=np.float32)
    for n, (model, own) in enumerate(fields.items()):
        step = part(progress, n / len(fields), (n + 1) / len(fields))
        total += collapsed_cone_dose(density, own, model, grid=grid, medium=medium, progress=step).values
    return total


def fields_of(beam: TreatmentBeam, machine: Machine, model: BeamModel, plan_file: PlanFile) -> list[Field]:
    """Return the fields of a beam for one fraction, one for each direction that it fires from.

    Leaves are those of the plan file where it has any; how thick and how rounded they are is the machine's.
    """
    mlc = _mlc(beam.number, machine, plan_file)
    by_geometry: dict[BeamGeometry, list[Segment]] = defaultdict(list)
    for piece in pieces(beam):
        by_geometry[piece.geometry].append(piece)
    fields = []
    for geometry, own in by_geometry.items():
        apertures = [piece.aperture for piece in own]
        tail = TAIL_MM if machine.mlc is not None or model.focal_spot_sigma_mm > 0 else 2 * PIXEL_MM
        low_x, high_x = (f([a.jaw_x_mm for a in apertures]) for f in (np.min, np.max))
        low_y, high_y = (f([a.jaw_y_mm for a in apertures]) for f in (np.min, np.max))
        pixel = PIXEL_MM if min(high_x - low_x, high_y - low_y) > _SMALL_FIELD_MM else PIXEL_MM / 2
        fluence = summed_fluence(
            apertures,
            [piece.mu for piece in own],
            mlc,
            model,
            pixel_centres(low_x - tail, high_x + tail, pixel),
            pixel_centres(low_y - tail, high_y + tail, pixel),
            geometry.sad_mm,
            plan_file.blocks.get(beam.number, ()),
        )
        fields.append(Field(geometry, fluence))
    return fields


def _mlc(number: int, machine: Machine, plan_file: PlanFile) -> Mlc | None:
    boundaries = plan_file.leaf_boundaries_mm.get(number)
    if boundaries is None:
        return machine.mlc
    if machine.mlc is None:
        raise DicomError(
            f"beam {number} has leaves, but {machine.id} has none",
            where="RTPLAN",
            remedy="choose a machine with a multileaf collimator by --machine",
        )
    along_x = plan_file.mlc_axis.get(number, machine.mlc.axis) == "X"
    return replace(machine.mlc, leaf_boundaries_mm=boundaries, axis="X" if along_x else "Y")


def _placed(beam: TreatmentBeam, patient_position: str) -> TreatmentBeam:
    """Return a beam for a patient who lies in a given position."""
    points = tuple(
        replace(point, geometry=replace(point.geometry, patient_position=patient_position))
        for point in beam.control_points
    )
    return replace(beam, control_points=points)


def _check_belongs(plan_file: PlanFile, frame_uid: str, patient_id: str, where: str) -> None:
    if plan_file.frame_of_reference_uid and frame_uid and plan_file.frame_of_reference_uid != frame_uid:
        raise GeometryError(
            "the plan was made in another frame of reference than the CT",
            where=where,
            remedy="give the CT that the plan was made on",
        )
    if plan_file.patient_id and patient_id and plan_file.patient_id != patient_id:
        raise DicomError("the plan belongs to another patient than the CT", where=where, remedy="give matching files")
