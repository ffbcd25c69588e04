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
from cantlie.dicom.rtdose import PIECE_TYPES, SESSION_TYPES, SINGLE_PLAN_TYPES, DoseFile
from cantlie.patient.regions import Regions
from cantlie.protocol.schema import Protocol
from cantlie.radiobiology.linear_quadratic import bed_of_sessions_gy, eqd2_from_bed_gy, high_dose_note
from cantlie.workflow.dose_scale import plan_prescription_gy, scale_notes

_REACHED, _BEYOND = 0.6, 2.0  # of the prescription: what a maximum must reach, and what it cannot exceed


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
    fraction_group
        The group of the RTPLAN that it is of; None where it is of several or of none known.
    """

    name: str
    target: str
    dose: Volume
    fractions: int | None
    fractions_from: str
    plan_uid: str = ""
    fraction_group: int | None = None


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
    RTPLAN or its fraction group, else those of its target in the protocol. The dose of one session is multiplied by
    them; doses of the beams of one plan are added up. A plan whose dose is there whole and in parts counts once.

    Parameters
    ----------
    fractions
        One number for every dose of a plan, in the order of the files, or one for all of them; may be empty.

    Raises
    ------
    InputError
        If the number of given fractions does not fit the number of doses, two doses are of one plan, or one is of a
        piece of a plan only.
    """
    for file in files:
        if file.summation_type in PIECE_TYPES:
            raise InputError(
                f"the dose is of {PIECE_TYPES[file.summation_type]} ({file.summation_type}), not of a plan",
                where="RTDOSE",
                remedy="export the dose of the plan, or name that with --dose",
            )
    single = [file for file in files if file.summation_type in SINGLE_PLAN_TYPES]
    notes: list[Note] = []
    if single and len(single) < len(files):
        notes.append(Note("the sum of plans in the case is not counted beside the plans themselves", "RTDOSE", "info"))
    if len(fractions) < 2:
        single = _each_once(single, plans, notes)
    parts = single or list(files)
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
        kinds = {file.summation_type for file in parts}
        what = "only a sum of plans is given"
        if kinds != {"MULTI_PLAN"}:
            kind = ", ".join(sorted(kind or "unstated" for kind in kinds))
            what = f"the doses are of kind {kind} and were taken as of the whole course"
        notes.append(Note(f"{what}: without fractions there is no EQD2", "RTDOSE"))
    summed = SummedPlans(Volume(grid, total), tuple(found), ())
    if not found:
        course_gy = max((protocol.prescription(name).total_gy for name in protocol.target_ids), default=0.0)
        notes += scale_notes(summed.physical, course_gy, "the protocol", "RTDOSE")
    if summed.has_fractions:
        notes += high_dose_note(summed.largest_fraction_gy, "summed plans")
    return replace(summed, notes=tuple(dict.fromkeys(notes)))


def _each_once(files: Sequence[DoseFile], plans: Sequence[PlanFile], notes: list[Note]) -> list[DoseFile]:
    """Return the doses without those that are in others: of the groups of a plan or of the plan, not of both."""
    groups = {plan.sop_instance_uid: file.fraction_groups for file in plans for plan in [file.plan]}
    left_out: set[int] = set()
    for uid in {uid for file in files for uid in file.plan_uids if file.summation_type == "PLAN"}:
        own = [file for file in files if uid in file.plan_uids]
        parts = [file for file in own if file.summation_type != "PLAN"]
        of_groups = [file for file in parts if file.summation_type == "FRACTION"]
        named = [number for file in of_groups for number in file.fraction_groups]
        all_groups = len(groups.get(uid, ())) > 1 and sorted(named) == sorted(groups[uid])
        kept = of_groups if all_groups else [file for file in own if file.summation_type == "PLAN"]
        if parts:
            what = "the doses of its fraction groups are" if all_groups else "the dose of the whole plan is"
            notes.append(Note(f"a plan is there whole and in parts: {what} counted", "RTDOSE", "info"))
        left_out |= {id(file) for file in own} - {id(file) for file in kept}
    return [file for file in files if id(file) not in left_out]


def _plan_doses(
    files: Sequence[DoseFile],
    plans: Sequence[PlanFile],
    protocol: Protocol,
    regions: Regions,
    given: Sequence[int],
    notes: list[Note],
) -> list[PlanDose]:
    result: list[PlanDose] = []
    of_beams: dict[tuple[object, ...], int] = {}
    prescribed: list[tuple[float, str, bool]] = []
    whole: set[tuple[object, ...]] = set()
    for number, file in enumerate(files):
        groups = _groups_of(file, plans)
        plan = groups[0].plan if groups else None
        targets = {one.plan.target_name for one in groups} & set(protocol.target_ids)
        target = targets.pop() if len(targets) == 1 else _most_treated(file.dose, protocol, regions)
        name = (groups[0].name if len(groups) == 1 else plan.label if plan else "") or f"plan {len(result) + 1}"
        same = sum(one.name == name or one.name.startswith(f"{name} (") for one in result)
        of_a_beam = file.summation_type in ("BEAM", "BEAM_SESSION")
        name = f"{name} ({same + 1})" if same and not of_a_beam else name
        key = (file.plan_uids, file.fraction_groups)
        if file.summation_type in ("PLAN", "FRACTION") and file.plan_uids and not given:
            if key in whole:
                raise InputError(
                    f"two doses are of the same plan, {name.removesuffix(f' ({same + 1})')!r}",
                    where="RTDOSE",
                    remedy="name the one to be judged with --dose, or give each its --fractions",
                )
            whole.add(key)
        count, source = _fractions_of(groups, target, protocol, given[number] if given else None, name, notes)
        dose = _of_all_fractions(file, count, groups, target, protocol, name, notes)
        if of_a_beam and key in of_beams:
            at = of_beams[key]
            grid = _finest([result[at], file])
            result[at] = replace(result[at], dose=Volume(grid, _on(result[at].dose, grid) + _on(dose, grid)))
            continue
        if of_a_beam:
            of_beams[key] = len(result)
            notes.append(Note("doses of single beams are summed as doses of all fractions", name))
        uid = plan.sop_instance_uid if plan is not None else ""
        prescribed.append(_prescribed(groups, target, protocol, of_a_beam))
        result.append(
            PlanDose(name, target, dose, count, source, uid, groups[0].fraction_group if len(groups) == 1 else None)
        )
    for one, (gy, source, is_part) in zip(result, prescribed, strict=True):
        notes += scale_notes(one.dose, gy, source, one.name, is_part=is_part)
    return result


def _prescribed(
    groups: Sequence[PlanFile], target: str, protocol: Protocol, of_a_beam: bool
) -> tuple[float, str, bool]:
    """Return the prescription that a dose is to reach, what says it, and whether it may be of a part of that only."""
    gy = plan_prescription_gy(groups)
    if gy:
        return gy, "its RTPLAN", of_a_beam or any(one.prescription_is_shared for one in groups)
    return (protocol.prescription(target).total_gy if target else 0.0), "the protocol", of_a_beam


def _groups_of(file: DoseFile, plans: Sequence[PlanFile]) -> list[PlanFile]:
    """Return the fraction groups of the plan that a dose is of; empty without its RTPLAN."""
    for uid in file.plan_uids:
        groups = [one for one in plans if one.plan.sop_instance_uid == uid]
        if groups:
            named = [one for one in groups if one.fraction_group in file.fraction_groups]
            holding = [one for one in groups if {beam.number for beam in one.plan} >= set(file.beams)]
            return named or holding or groups
    return []


def _fractions_of(
    groups: Sequence[PlanFile], target: str, protocol: Protocol, given: int | None, name: str, notes: list[Note]
) -> tuple[int | None, str]:
    """Return the number of fractions of a dose and what says it; None where nothing does."""
    stated = groups[0].plan.fractions if len(groups) == 1 else 0
    if given is not None:
        if stated and stated != given:
            notes.append(Note(f"{given} fractions were given; its RTPLAN says {stated}", name))
        return given, "given"
    if len(groups) > 1:
        numbers = ", ".join(f"{one.plan.fractions} in group {one.fraction_group}" for one in groups)
        message = (
            f"the dose is the sum of {len(groups)} fraction groups ({numbers} fractions), so it has no EQD2: judge the "
            "doses of the groups instead (cantlie dose writes them, RTDOSE_group1.dcm and so on)"
        )
        notes.append(Note(message, name))
        return None, ""
    if stated:
        return stated, "RTPLAN"
    if target:
        count = protocol.prescription(target).fractions
        notes.append(Note(f"no RTPLAN says its fractions; {count} of {target} in the protocol are taken", name))
        return count, "protocol"
    return None, ""


def _of_all_fractions(
    file: DoseFile,
    count: int | None,
    groups: Sequence[PlanFile],
    target: str,
    protocol: Protocol,
    name: str,
    notes: list[Note],
) -> Volume:
    """Return a dose for all fractions: that of a session times their number.

    FRACTION means all fractions of a group (DICOM PS3.3 C.8.8.3); systems that write one fraction under that name are
    known by the prescription, which only the multiple reaches.
    """
    dose = file.dose
    if not count or file.summation_type not in (*SESSION_TYPES, "FRACTION"):
        return dose
    prescribed_gy = max((one.plan.prescription_gy for one in groups), default=0.0)
    if not prescribed_gy and target:
        prescribed_gy = protocol.prescription(target).total_gy
    if file.summation_type == "FRACTION":
        if len(groups) == 1 and len(groups[0].fraction_groups) > 1:
            return dose  # of a boost there is no telling
        most_gy = float(dose.values.max())
        reached = most_gy >= _REACHED * prescribed_gy
        if reached or not _REACHED * prescribed_gy <= count * most_gy <= _BEYOND * prescribed_gy:
            return dose
        message = (
            f"the dose is said to be of a fraction group, but reaches {most_gy:.2f} Gy of the {prescribed_gy:g} Gy "
            f"prescribed; it was taken as that of one fraction and multiplied by {count}"
        )
        notes.append(Note(message, name))
    else:
        notes.append(Note(f"the dose of one fraction was multiplied by {count}", name, "info"))
    return Volume(dose.grid, dose.values * np.float32(count))


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
