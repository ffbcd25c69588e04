"""Which machine a case is planned or a plan recalculated for: the one asked for, at the energy that is wanted."""

from __future__ import annotations

from datetime import date, datetime

from cantlie.core.errors import DicomError
from cantlie.core.notes import Note
from cantlie.course.calendar import next_monday
from cantlie.dicom.plan_file import PlanFile
from cantlie.machine.machine import Machine, load_machine, machine_at_energy
from cantlie.protocol.schema import Protocol

USUAL_LINAC = "generic-6mv-mlci"
USUAL_COBALT = "generic-co60"


def machine_for(asked: str | None, protocol: Protocol, start: date | None) -> Machine:
    """Return the machine of a plan.

    Without a choice it is the machine that the protocol names, at the energy that the protocol asks for where that
    linac has it. A machine that was asked for stays at its own energy.

    Parameters
    ----------
    asked
        Identifier or file of the machine that the user chose.
    start
        First day of the course, for which the timer of a cobalt machine is set; None for next Monday.

    Raises
    ------
    MachineError
        If there is no such machine or it cannot be read.
    """
    if asked:
        machine = load_machine(asked)
    else:
        own = load_machine(protocol.technique.machine)
        machine = machine_at_energy(own, protocol.technique.energy_mv) or own
    return machine.on(start or next_monday(date.today()))


def machines_of(
    plan_file: PlanFile, asked: str | None, treatment_date: date | None
) -> tuple[dict[int, Machine], list[Note]]:
    """Return the machine of each beam of a plan, by beam number, and what was assumed of the day of treatment.

    A beam is calculated at its own nominal energy where the linac has it. Without a choice a plan in monitor units is
    taken for the usual generic linac, one in minutes for the generic cobalt machine.

    Parameters
    ----------
    asked
        Identifier or file of the machine that the user chose.
    treatment_date
        Day for which the timer of a cobalt machine was set; None for the date of the plan.

    Raises
    ------
    MachineError
        If there is no such machine or it cannot be read.
    DicomError
        If the plan counts minutes and the machine monitor units, or the other way round.
    """
    by_timer = plan_file.dosimeter_unit == "MINUTE"
    leaves = "-mlc" if plan_file.leaf_boundaries_mm else ""
    machine = load_machine(asked or (f"{USUAL_COBALT}{leaves}" if by_timer else USUAL_LINAC))
    unit, own_unit = _COUNTED[plan_file.dosimeter_unit], _COUNTED[machine.dosimeter_unit]
    if unit != own_unit:
        raise DicomError(
            f"the plan counts {unit}, but {machine.id} {own_unit}",
            where="RTPLAN",
            remedy=f"choose a {'cobalt machine' if by_timer else 'linac'} by --machine",
        )
    notes: list[Note] = []
    if machine.cobalt is not None:
        day = treatment_date or _date_of(plan_file.plan_date)
        if day is None:
            message = "the plan has no date; the source was taken as on its reference date, undecayed"
            notes.append(Note(message, machine.id))
        else:
            machine = machine.on(day)
            share = 100.0 * machine.cobalt.remaining if machine.cobalt else 100.0
            message = f"the source was taken as on {day}, with {share:.1f} % of the dose rate of its reference date"
            notes.append(Note(message, machine.id, "info" if treatment_date else "warning"))
    found = {n: machine_at_energy(machine, energy) or machine for n, energy in plan_file.energy_mv.items()}
    return found, notes


def beam_quality(machine: Machine) -> str:
    """Return the quality of a machine's beam in words: ``6 MV``, or ``cobalt-60`` with the day of its timer."""
    if machine.cobalt is None:
        return f"{machine.energy_mv:g} MV"
    day = machine.cobalt.treatment_date
    return "cobalt-60" if day is None else f"cobalt-60 (timer for the source on {day})"


_COUNTED = {"MU": "monitor units", "MINUTE": "minutes of a timer"}


def _date_of(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None
