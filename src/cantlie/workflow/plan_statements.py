"""Does a recalculated plan fit the CT, the machine and what the plan itself says: skin distance, dose at its point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import GeometryError
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.dicom.plan_file import PlanFile
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import SAME_ENERGY_MV, Machine
from cantlie.patient.case import Case

SSD_TOLERANCE_MM = 10.0
DOSE_TOLERANCE = 0.05
_STEP_MM = 1.0
_SAME_POINT_MM = 0.1
_NO_DOSE_SHARE = 0.05


def machine_notes(plan_file: PlanFile, machines: Mapping[int, Machine]) -> list[Note]:
    """Say where the machine of the recalculation is not that of the plan: energy, filter, distance, name.

    Parameters
    ----------
    machines
        The machine of each beam, by beam number.
    """
    plan = plan_file.plan
    notes: list[Note] = []
    used = {machine.id: machine for machine in machines.values()}
    if plan.machine_id and not any(plan.machine_id in (one.id, one.name) for one in used.values()):
        models = " and ".join(used)
        message = f"the plan is for the machine {plan.machine_id}; it was calculated with the beam model of {models}"
        notes.append(Note(message, "RTPLAN"))
    for beam in plan:
        machine = machines[beam.number]
        where = f"beam {beam.number}"
        energy = plan_file.energy_mv[beam.number]
        mode = plan_file.fluence_mode[beam.number]
        sad_mm = beam.control_points[0].geometry.sad_mm
        if not energy:
            notes.append(Note(f"the plan does not say the energy; {machine.energy_mv:g} MV was taken", where))
        elif abs(energy - machine.energy_mv) >= SAME_ENERGY_MV:
            notes.append(Note(f"planned for {energy:g} MV, but {machine.id} has {machine.energy_mv:g} MV", where))
        if mode != "STANDARD":
            message = f"planned in the fluence mode {mode}, but the beam model of {machine.id} is of another"
            notes.append(Note(message, where))
        if abs(sad_mm - machine.sad_mm) > 1.0:
            message = f"the source lies {sad_mm:g} mm from the axis, but that of {machine.id} {machine.sad_mm:g} mm"
            notes.append(Note(message, where))
    return notes


def case_notes(
    plan_file: PlanFile, case: Case, body: NDArray[np.floating], geometries: dict[int, BeamGeometry]
) -> list[Note]:
    """Say where a plan may belong to another CT: frame, structure set, isocentre, skin distance.

    Parameters
    ----------
    body
        Share of each voxel of the CT inside the patient, shape (nz, ny, nx).
    geometries
        The first direction of each beam, by beam number, as the patient lies.
    """
    notes: list[Note] = []
    if not plan_file.frame_of_reference_uid or not case.ct.frame_of_reference_uid:
        notes.append(Note("plan and CT do not both name their frame of reference; it was taken as the same", "RTPLAN"))
    own = case.structures.sop_instance_uid
    if plan_file.structure_set_uid and own and plan_file.structure_set_uid != own:
        notes.append(Note("the plan was made on another structure set than that of the case", "RTPLAN", "info"))
    grid = case.ct.volume.grid
    for number, geometry in geometries.items():
        where = f"beam {number}"
        if not _inside(grid, geometry.isocentre_mm):
            x, y, z = geometry.isocentre_mm
            notes.append(Note(f"the isocentre lies outside the CT, at x {x:.0f}, y {y:.0f}, z {z:.0f} mm", where))
        stated_mm = plan_file.statements[number].ssd_mm
        found_mm = skin_distance_mm(grid, body, geometry)
        if stated_mm is not None and found_mm is not None and abs(found_mm - stated_mm) > SSD_TOLERANCE_MM:
            message = f"the plan has the skin {stated_mm:.0f} mm from the source, this CT has it at {found_mm:.0f} mm"
            notes.append(Note(message, where))
    return notes


def skin_distance_mm(grid: Grid, body: NDArray[np.floating], geometry: BeamGeometry) -> float | None:
    """Return the distance from the source to where the central axis enters the patient; None where it does not.

    Parameters
    ----------
    grid, body
        Share of each voxel inside the patient, shape ``grid.shape``.
    geometry
        The beam direction.
    """
    reach_mm = geometry.sad_mm + float(np.linalg.norm(np.subtract(grid.upper_mm, grid.lower_mm)))
    along_mm = np.arange(0.0, reach_mm, _STEP_MM)
    index = np.rint(grid.index_from_mm(geometry.source_mm - along_mm[:, None] * geometry.axes[2])).astype(int)
    on_grid = np.flatnonzero(((index >= 0) & (index < grid.shape)).all(axis=1))
    inside = on_grid[body[tuple(index[on_grid].T)] >= 0.5]
    return float(along_mm[inside[0]]) if inside.size else None


def stated_dose(plan_file: PlanFile, dose: Volume) -> tuple[dict[str, Any] | None, list[Note]]:
    """Hold the dose against that which the plan states at a point, where all its beams state it at the same one.

    Parameters
    ----------
    dose
        Dose of the whole plan in Gy.

    Returns
    -------
    found, notes
        Point and both doses of one fraction, None where the plan does not state them; a note where they are more than
        5 % apart.
    """
    statements = [plan_file.statements[beam.number] for beam in plan_file.plan]
    points = [one.point_mm for one in statements if one.point_mm is not None]
    if (
        len(points) < len(statements)
        or np.ptp(points, axis=0).max() > _SAME_POINT_MM
        or not _inside(dose.grid, points[0])
    ):
        return None, []
    stated_gy = sum(one.dose_gy or 0.0 for one in statements)
    found_gy = float(dose.sample([points[0]])[0]) / plan_file.plan.fractions
    if stated_gy <= 0:
        return None, []
    off = found_gy / stated_gy - 1.0
    notes = []
    if abs(off) > DOSE_TOLERANCE:
        message = (
            f"the plan states {stated_gy:.3f} Gy per fraction at its reference point, recalculated {found_gy:.3f} Gy "
            f"({100 * off:+.1f} %): another beam model or CT, or something that changes the beam and is not in the file"
        )
        notes.append(Note(message, "RTPLAN"))
    return {
        "point_mm": points[0],
        "stated_gy": stated_gy,
        "recalculated_gy": found_gy,
        "difference_percent": 100 * off,
    }, notes


def check_reaches(dose: Volume, plan_file: PlanFile, where: str) -> None:
    """Refuse a dose that is nothing: no beam meets the patient.

    Raises
    ------
    GeometryError
        If the largest dose is below 0.05 cGy per monitor unit of the largest beam.
    """
    most_mu = max(beam.mu for beam in plan_file.plan) * plan_file.plan.fractions
    if float(dose.values.max()) < _NO_DOSE_SHARE * 0.01 * most_mu:
        x, y, z = plan_file.plan.beams[0].control_points[0].geometry.isocentre_mm
        raise GeometryError(
            f"no beam of the plan meets the patient; its isocentre is x {x:.0f}, y {y:.0f}, z {z:.0f} mm",
            where=where,
            remedy="give the CT that the plan was made on",
        )


def _inside(grid: Grid, point_mm: tuple[float, float, float]) -> bool:
    return bool((np.asarray(point_mm) >= grid.lower_mm).all() and (np.asarray(point_mm) <= grid.upper_mm).all())
