"""The dose of a plan file by the engine: each beam by the model of its machine, as the patient lies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cantlie.core.errors import DicomError
from cantlie.core.grid import Grid
from cantlie.core.progress import Progress, part, silent
from cantlie.core.volume import Volume
from cantlie.dicom.plan_file import PlanFile
from cantlie.dose.collapsed_cone import Medium, collapsed_cone_dose
from cantlie.dose.field import Field
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.beam_model_file import beam_of
from cantlie.machine.fluence import pixel_centres, summed_fluence
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import Machine
from cantlie.machine.mlc import Mlc
from cantlie.plan.delivery import PIXEL_MM, TAIL_MM
from cantlie.plan.pieces import by_direction, pieces
from cantlie.plan.treatment import Segment, TreatmentBeam

_SMALL_FIELD_MM = 40.0


@dataclass(frozen=True, slots=True, eq=False)
class PlanEngine:
    """A plan file ready for calculation.

    Parameters
    ----------
    plan_file
        One fraction group.
    machines
        The machine of each beam, by beam number.
    fields
        What the beams fire in one fraction, by beam model.
    directions
        The first direction of each beam, by beam number, as the patient lies.
    """

    plan_file: PlanFile
    machines: Mapping[int, Machine]
    fields: Mapping[BeamModel, Sequence[Field]]
    directions: Mapping[int, BeamGeometry]

    def fraction_dose(
        self,
        density: Volume,
        grid: Grid,
        *,
        medium: Medium = "medium",
        shift_mm: Sequence[float] = (0.0, 0.0, 0.0),
        progress: Progress = silent,
    ) -> Volume:
        """Return the dose of one fraction in Gy on a grid.

        Parameters
        ----------
        density
            Mass density in g/cm³.
        shift_mm
            Displacement of the patient from the planned place, x, y, z in LPS: the isocentre lies as much further back
            in the patient.
        """
        total = np.zeros(grid.shape, dtype=np.float32)
        for n, (model, own) in enumerate(self.fields.items()):
            step = part(progress, n / len(self.fields), (n + 1) / len(self.fields))
            placed = [_moved(field, shift_mm) for field in own] if any(shift_mm) else list(own)
            total += collapsed_cone_dose(density, placed, model, grid=grid, medium=medium, progress=step).values
        return Volume(grid, total)


def plan_engine(
    plan_file: PlanFile, machines: Mapping[int, Machine], patient_position: str, arc_step_deg: float | None = None
) -> PlanEngine:
    """Return a plan ready for calculation on a patient who lies in a given position.

    Parameters
    ----------
    arc_step_deg
        Arcs are fired from directions as far apart; None for the finest pieces.

    Raises
    ------
    DicomError
        If a beam has leaves and its machine has none.
    """
    placed = [_placed(beam, patient_position) for beam in plan_file.plan]
    fields: dict[BeamModel, list[Field]] = defaultdict(list)
    for beam in placed:
        model = beam_of(machines[beam.number])
        fields[model] += _fields_of(beam, machines[beam.number], model, plan_file, arc_step_deg)
    directions = {beam.number: beam.control_points[0].geometry for beam in placed}
    return PlanEngine(plan_file, machines, dict(fields), directions)


def _moved(field: Field, shift_mm: Sequence[float]) -> Field:
    x, y, z = (float(v) for v in np.subtract(field.geometry.isocentre_mm, shift_mm))
    return replace(field, geometry=replace(field.geometry, isocentre_mm=(x, y, z)))


def _fields_of(
    beam: TreatmentBeam, machine: Machine, model: BeamModel, plan_file: PlanFile, arc_step_deg: float | None
) -> list[Field]:
    """Return the fields of a beam for one fraction, one for each direction that it fires from.

    Leaves are those of the plan file where it has any; how thick and how rounded they are is the machine's.
    """
    mlc = _mlc(beam.number, machine, plan_file)
    by_geometry: dict[BeamGeometry, list[Segment]] = defaultdict(list)
    if arc_step_deg is None:
        for piece in pieces(beam):
            by_geometry[piece.geometry].append(piece)
    else:
        by_geometry |= by_direction(beam, arc_step_deg)
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
