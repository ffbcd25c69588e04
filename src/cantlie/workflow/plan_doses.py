"""Plans made elsewhere, each with its dose and its fractions, summed as physical dose and as EQD2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import InputError
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.dicom.plan_file import PlanFile
from cantlie.dicom.rtdose import DoseFile
from cantlie.patient.regions import Regions
from cantlie.protocol.schema import Protocol
from cantlie.radiobiology.linear_quadratic import bed_of_sessions_gy, eqd2_from_bed_gy, high_dose_note


@dataclass(frozen=True, slots=True, eq=False)
class PlanDose:
    """The dose of one plan.

    Attributes
    ----------
    name
        The plan's label, with a number where another plan has the same, or its number among the doses.
    target
        The target of the protocol that it treats; empty where none can be told.
    dose
        Physical dose of all its fractions in Gy.
    fractions
        Number of fractions; None where nothing says it.
    fractions_from
        What says it: ``given``, ``RTPLAN`` or ``protocol``.
    plan_uid
        SOP instance UID of its RTPLAN, where that is at hand.
    """

    name: str
    target: str
    dose: Volume
    fractions: int | None
    fractions_from: str
    plan_uid: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class SummedPlans:
    """All plans of a course on one grid, each counted with its own fractions.

    Attributes
    ----------
    physical
        Sum of the physical doses in Gy.
    plans
        The plans; empty where only a sum is at hand.
    """

    physical: Volume
    plans: tuple[PlanDose, ...]
    notes: tuple[Note, ...]

    @property
    def has_fractions(self) -> bool:
        """Whether the fractions of every plan are known, so that EQD2 can be summed."""
        return bool(self.plans) and all(plan.fractions for plan in self.plans)

    @property
    def largest_fraction_gy(self) -> float:
        """The largest dose of any voxel in one fraction of one plan."""
        return max(float(plan.dose.values.max()) / plan.fractions for plan in self.plans if plan.fractions)

    def bed(self, alpha_beta_gy: float) -> Volume:
        """Return the BED per voxel in Gy: of each plan with its own dose per fraction, then summed; full repair.

        Raises
        ------
        InputError
            If the fractions of a plan are not known.
        """
        if not self.has_fractions:
            raise InputError(
                "the fractions of a plan are not known", where="RTDOSE", remedy="add its RTPLAN or give --fractions"
            )
        grid = self.physical.grid
        counts = [plan.fractions or 1 for plan in self.plans]
        doses = [_on(plan.dose, grid) / np.float32(count) for plan, count in zip(self.plans, counts, strict=True)]
        return Volume(grid, np.asarray(bed_of_sessions_gy(doses, counts, alpha_beta_gy), dtype=np.float32))

    def eqd2(self, alpha_beta_gy: float) -> Volume:
        """Return the EQD2 per voxel in Gy (see `bed`)."""
        found = self.bed(alpha_beta_gy)
        return Volume(found.grid, np.asarray(eqd2_from_bed_gy(found.values, alpha_beta_gy), dtype=np.float32))

    def by_target(self) -> dict[str, Volume]:
        """Return the physical dose of each target's plans."""
        grid = self.physical.grid
        doses: dict[str, Volume] = {}
        for plan in self.plans:
            if plan.target in doses:
                doses[plan.target] = Volume(grid, _on(doses[plan.target], grid) + _on(plan.dose, grid))
            elif plan.target:
                doses[plan.target] = plan.dose
        return doses


def summed_plans(
    files: Sequence[DoseFile],
    plans: Sequence[PlanFile],
    protocol: Protocol,
    regions: Regions,
    fractions: Sequence[int] = (),
) -> SummedPlans:
    """Return the plans behind some dose files, and their sum on the finest of their grids.

    Doses of plans are summed; a sum that lies beside them is not counted again. A plan's dose belongs to the target
    that its RTPLAN names, else to the one that it gives the most. Its fractions are those given, else those of its
    RTPLAN, else those of its target in the protocol. The dose of one fraction is multiplied by them; doses of the
    beams of one plan are added up.

    Parameters
    ----------
    fractions
        One number for every dose of a plan, in the order of the files, or one for all of them; may be empty.

    Raises
    ------
    InputError
        If the number of given fractions does not fit the number of doses, or two doses are of one plan.
    """
    single = [file for file in files if file.summation_type in ("PLAN", "FRACTION", "BEAM")]
    parts = single or list(files)
    notes: list[Note] = []
    if single and len(single) < len(files):
        notes.append(Note("the sum of plans in the case is not counted beside the plans themselves", "RTDOSE", "info"))
    if any(file.dose_type == "EFFECTIVE" for file in parts):
        notes.append(Note("a dose is biologically weighted, but judged as physical dose", "RTDOSE"))
    if len(fractions) not in (0, 1, len(parts)):
        raise InputError(
            f"{len(fractions)} numbers of fractions for {len(parts)} doses",
            where="--fractions",
            remedy="give one for every dose, in their order, or one for all",
        )
    given = [*fractions] * len(parts) if len(fractions) == 1 else list(fractions)
    found = [] if not single and not given else _plan_doses(parts, plans, protocol, regions, given, notes)
    grid = _finest(found or parts)
    total: NDArray[np.float32] = np.zeros(grid.shape, dtype=np.float32)
    for one in found or parts:
        total += _on(one.dose, grid)
    if not found:
        notes.append(Note("only a sum of plans is given: without their fractions there is no EQD2", "RTDOSE"))
    summed = SummedPlans(Volume(grid, total), tuple(found), ())
    if summed.has_fractions:
        notes += high_dose_note(summed.largest_fraction_gy, "summed plans")
    return replace(summed, notes=tuple(dict.fromkeys(notes)))


def _plan_doses(
    files: Sequence[DoseFile],
    plans: Sequence[PlanFile],
    protocol: Protocol,
    regions: Regions,
    given: Sequence[int],
    notes: list[Note],
) -> list[PlanDose]:
    by_uid = {file.plan.sop_instance_uid: file.plan for file in plans}
    result: list[PlanDose] = []
    of_beams: dict[tuple[str, ...], int] = {}
    whole: set[tuple[str, ...]] = set()
    for number, file in enumerate(files):
        plan = next((by_uid[uid] for uid in file.plan_uids if uid in by_uid), None)
        named = plan.target_name if plan is not None and plan.target_name in protocol.target_ids else ""
        target = named or _most_treated(file.dose, protocol, regions)
        name = (plan.label if plan is not None else "") or f"plan {len(result) + 1}"
        same = sum(one.name == name or one.name.startswith(f"{name} (") for one in result)
        name = f"{name} ({same + 1})" if same and file.summation_type != "BEAM" else name
        if file.summation_type == "PLAN" and file.plan_uids and not given:
            if file.plan_uids in whole:
                raise InputError(
                    f"two doses are of the same plan, {name.removesuffix(f' ({same + 1})')!r}",
                    where="RTDOSE",
                    remedy="name the one to be judged with --dose, or give each its --fractions",
                )
            whole.add(file.plan_uids)
        count: int | None = None
        source = ""
        if given:
            count, source = given[number], "given"
            if plan is not None and plan.fractions and plan.fractions != count:
                notes.append(Note(f"{count} fractions were given; its RTPLAN says {plan.fractions}", name))
        elif plan is not None and plan.fractions:
            count, source = plan.fractions, "RTPLAN"
        elif target:
            count, source = protocol.prescription(target).fractions, "protocol"
            notes.append(Note(f"no RTPLAN says its fractions; {count} of {target} in the protocol are taken", name))
        dose = file.dose
        if file.summation_type == "FRACTION" and count:
            dose = Volume(dose.grid, dose.values * np.float32(count))
            notes.append(Note(f"the dose of one fraction was multiplied by {count}", name, "info"))
        if file.summation_type == "BEAM" and file.plan_uids in of_beams:
            at = of_beams[file.plan_uids]
            grid = _finest([result[at], file])
            result[at] = replace(result[at], dose=Volume(grid, _on(result[at].dose, grid) + _on(dose, grid)))
            continue
        if file.summation_type == "BEAM":
            of_beams[file.plan_uids] = len(result)
            notes.append(Note("doses of single beams are summed as doses of all fractions", name))
        uid = plan.sop_instance_uid if plan is not None else ""
        result.append(PlanDose(name, target, dose, count, source, uid))
    return result


def _finest(doses: Sequence[PlanDose | DoseFile]) -> Grid:
    return min((one.dose.grid for one in doses), key=lambda grid: float(np.prod(grid.spacing_mm)))


def _on(dose: Volume, grid: Grid) -> NDArray[np.float32]:
    values = dose.values if dose.grid.is_close(grid) else dose.resample(grid).values
    return np.asarray(values, dtype=np.float32)


def _most_treated(dose: Volume, protocol: Protocol, regions: Regions) -> str:
    """Return the target with the highest mean dose."""
    means = {}
    for name in protocol.target_ids:
        index = np.argwhere(regions[name] > 0.5) if name in regions else np.empty((0, 3))
        if len(index):
            points = regions.grid.mm_from_index(index[:: max(1, len(index) // 5000)])
            means[name] = float(dose.sample(points).mean())
    return max(means, key=lambda name: means[name]) if means else ""
