"""The main road: from a patient's DICOM and a protocol to plans, course dose, evaluation, DICOM and report."""

from __future__ import annotations

from cantlie.core.errors import InputError
from cantlie.core.progress import Progress, silent
from cantlie.protocol.loading import load_protocol
from cantlie.workflow.choices import with_choices
from cantlie.workflow.displaced_course import shift_log_for
from cantlie.workflow.machine_choice import machine_for
from cantlie.workflow.on_device import on_requested_device
from cantlie.workflow.plan_on_new_ct import plan_after_previous, plan_two_cts, two_cts
from cantlie.workflow.plan_on_one_ct import plan_on_one_ct
from cantlie.workflow.planned_case import PlanCase, PlannedCase
from cantlie.workflow.what_if import with_robust_planning


@on_requested_device
def plan_case(request: PlanCase, progress: Progress = silent) -> PlannedCase:
    """Plan a case and write everything into its output folder; a run that was stopped goes on where it was.

    Raises
    ------
    CantlieError
        If something that the user gave cannot be used, with what is wrong, where, and what to do.
    """
    protocol, choice_notes = with_choices(
        load_protocol(request.protocol),
        delivery=request.delivery,
        arcs=request.arcs,
        gantry=request.gantry,
        couch=request.couch,
        couch_most=request.couch_most,
        lesions=request.lesions,
        fields=request.fields,
        split=request.split,
        junction=request.junction,
        junction_mm=request.junction_mm,
        plane=request.plane,
        scheme=request.scheme,
    )
    shift_log_for(request.what_if.shifts, request.what_if.simulated_mm)
    protocol, robust_notes = with_robust_planning(protocol, request.what_if)
    choice_notes = (*choice_notes, *robust_notes)
    machine = machine_for(request.machine, protocol, request.start)
    if request.previous is not None:
        return plan_after_previous(request, protocol, machine, choice_notes, progress)
    for option, value in (("--given", request.given), ("--previous-ct", request.previous_ct)):
        if value is not None:
            raise InputError(
                "it belongs to an earlier plan, and none is named",
                where=option,
                remedy="name its output folder with --previous, or leave it out",
            )
    both = two_cts(request, protocol) if request.new_ct == "look" else None
    if both is not None:
        return plan_two_cts(*both, protocol, machine, choice_notes, progress)
    return plan_on_one_ct(request, protocol, machine, choice_notes, progress)
