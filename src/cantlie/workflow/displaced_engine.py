"""What displacements and density errors do to the dose of plans made elsewhere, calculated by the engine.

The given dose is moved with the room, as without an engine. What that misses (other depths, other tissue in the beam)
is the difference of two doses of the engine, which is smooth and hardly depends on the beam model: a coarse grid does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cantlie.core.errors import CantlieError
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part, silent
from cantlie.core.volume import Volume
from cantlie.dicom.plan_file import PlanFile
from cantlie.evaluation.scenarios import Shift, setup_scenarios
from cantlie.plan.scenario_dose import COARSE_ARC_STEP_DEG, COARSE_MM
from cantlie.workflow.machine_choice import machines_of
from cantlie.workflow.plan_doses import PlanDose
from cantlie.workflow.plan_engine import PlanEngine, plan_engine

_JUDGED_SHARE = 0.1
_SCALE = (0.7, 1.4)
_MOST_OFF = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class EngineChanges:
    """What the engine adds to the moved doses; empty where they are only moved.

    Parameters
    ----------
    density
        Target to what its dose is more, in Gy, when the patient is denser by the percentage of the request.
    setup
        Displacement to the same by target, in the coordinates of the patient.
    method
        How the doses were calculated, in words.
    """

    density: Mapping[str, Volume] = field(default_factory=dict)
    setup: Mapping[Shift, Mapping[str, Volume]] = field(default_factory=dict)
    method: str = ""
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """A plan ready for calculation: what its dose of one fraction is multiplied by, and the coarse dose as planned."""

    engine: PlanEngine
    factor: float
    planned: Volume


def engine_changes(
    doses: Sequence[PlanDose],
    files: Sequence[PlanFile],
    density: Volume,
    patient_position: str,
    frame_uid: str,
    shift_mm: Shift,
    density_percent: float,
    *,
    machine: str | None = None,
    progress: Progress = silent,
) -> EngineChanges:
    """Return what displacements and a density error change in the given doses beyond moving them.

    Every plan is first calculated as planned and held against its given dose: the changes are scaled as that asks, and
    where it is beyond what another beam model explains, nothing is calculated and a note says so.

    Parameters
    ----------
    doses, files
        Doses of plans and the RTPLANs at hand.
    density
        Mass density of the patient in g/cm³.
    patient_position, frame_uid
        Of the CT.
    shift_mm, density_percent
        Of the scenarios (`setup_scenarios`).
    machine
        Identifier or file of the machine that the user chose.
    """
    grid = density.grid.resampled((COARSE_MM,) * 3)
    shifts = [one.shift_mm for one in setup_scenarios(shift_mm) if any(one.shift_mm)]
    runs = len(doses) * (len(shifts) + 1 + bool(density_percent))
    done = 0

    def step() -> Progress:
        nonlocal done
        done += 1
        return part(progress, (done - 1) / runs, done / runs)

    try:
        plans = [_plan(one, files, density, grid, patient_position, frame_uid, machine, step()) for one in doses]
    except CantlieError as error:
        message = f"the doses were only moved, not calculated again: {error.what}"
        return EngineChanges(notes=(Note(message, "robustness"),))
    targets = [one.target for one in doses]
    if not all(targets):
        message = "the doses were only moved, not calculated again: the target of a plan is not known"
        return EngineChanges(notes=(Note(message, "robustness"),))
    denser = {}
    if density_percent:
        values = np.asarray(density.values, dtype=np.float32) * np.float32(1.0 + density_percent / 100.0)
        heavy = Volume(density.grid, values)
        denser = _summed(
            [(t, _difference(one, heavy, grid, (0.0, 0.0, 0.0), step())) for t, one in zip(targets, plans, strict=True)]
        )
    setup = {
        shift: _summed(
            [(t, _difference(one, density, grid, shift, step())) for t, one in zip(targets, plans, strict=True)]
        )
        for shift in shifts
    }
    models = " and ".join(dict.fromkeys(m.id for one in plans for m in one.engine.machines.values()))
    method = (
        f"Displacements{' and density errors' if density_percent else ''} are calculated again by the collapsed cone "
        f"with the isocentre moved, on a {COARSE_MM:g} mm grid with the beam model {models}; the given dose gets the "
        "difference. Drawn courses are moved only, without recalculation. "
    )
    return EngineChanges(denser, setup, method)


def _plan(
    dose: PlanDose,
    files: Sequence[PlanFile],
    density: Volume,
    grid: Grid,
    patient_position: str,
    frame_uid: str,
    machine: str | None,
    progress: Progress,
) -> _Plan:
    own = [
        file
        for file in files
        if dose.plan_uid and file.plan.sop_instance_uid == dose.plan_uid and file.fraction_group == dose.fraction_group
    ]
    if not own or not own[0].plan.beams:
        raise _NotKnown(f"there is no RTPLAN with beams for the dose of {dose.name}")
    file = own[0]
    if file.frame_of_reference_uid and frame_uid and file.frame_of_reference_uid != frame_uid:
        raise _NotKnown(f"{dose.name} was made on another CT")
    machines, _ = machines_of(file, machine, None)
    engine = plan_engine(file, machines, file.setup.patient_position or patient_position, COARSE_ARC_STEP_DEG)
    one = engine.fraction_dose(density, grid, progress=progress)
    found = one.values * np.float32(file.plan.fractions)
    given = np.asarray(dose.dose.resample(grid).values, dtype=np.float32)
    judged = given >= _JUDGED_SHARE * given.max()
    scale = float((given[judged] * found[judged]).sum() / max(float((found[judged] ** 2).sum()), 1e-9))
    off = float(np.sqrt(np.mean((given[judged] - scale * found[judged]) ** 2)) / max(float(given.max()), 1e-9))
    if not _SCALE[0] <= scale <= _SCALE[1] or off > _MOST_OFF:
        found_text = f"times {scale:.2f}, then {100 * off:.0f} % off"
        raise _NotKnown(f"the engine's dose of {dose.name} is not that of the RTDOSE ({found_text})")
    factor = scale * file.plan.fractions
    return _Plan(engine, factor, Volume(grid, np.asarray(one.values * np.float32(factor), dtype=np.float32)))


class _NotKnown(CantlieError):
    """A plan that cannot be calculated again."""


def _difference(plan: _Plan, density: Volume, grid: Grid, shift: Shift, progress: Progress) -> Volume:
    """Return what the patient gets more than the moved dose, at points that lie alike to the isocentre in both."""
    x, y, z = (float(v) for v in np.subtract(grid.origin_mm, shift))
    there = Grid(grid.shape, grid.spacing_mm, (x, y, z))
    dose = plan.engine.fraction_dose(density, there, shift_mm=shift, progress=progress)
    change = dose.values * np.float32(plan.factor) - plan.planned.values
    return Volume(there, np.asarray(change, dtype=np.float32))


def _summed(changes: Sequence[tuple[str, Volume]]) -> dict[str, Volume]:
    result: dict[str, Volume] = {}
    for target, change in changes:
        if target in result:
            change = Volume(change.grid, np.asarray(result[target].values + change.values, dtype=np.float32))
        result[target] = change
    return result
