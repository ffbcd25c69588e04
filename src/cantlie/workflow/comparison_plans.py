"""Plans taken over from the run of another protocol that asks for the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cantlie.machine.machine import Machine
from cantlie.patient.density import DensityCurve
from cantlie.plan.request import PlanningResult
from cantlie.protocol.schema import Protocol
from cantlie.workflow import archive
from cantlie.workflow.planned_case import PlanCase, PlannedCase
from cantlie.workflow.planning_key import planning_key


@dataclass(frozen=True, slots=True, eq=False)
class SharedPlans:
    """Plans that another protocol may take over, and what they were made from besides the protocol."""

    protocol_id: str
    planning: PlanningResult
    case_sha256: str
    machine: Machine
    curve: DensityCurve

    @classmethod
    def of(cls, planned: PlannedCase) -> SharedPlans:
        """Return the plans of a planned case, without its images."""
        return cls(
            planned.protocol.id,
            planned.planning,
            planned.patient.case.input_sha256,
            planned.machine,
            planned.patient.curve,
        )


def adopt_plans(shared: SharedPlans, protocol: Protocol, request: PlanCase) -> None:
    """Put the plans of one protocol into the run folder of another that asks for the same ones.

    They are kept under the key that planning this protocol would have, so that `plan_case` finds them there and goes
    on with its own calendar. Plans that lie there already stay. Where the protocol chooses its scheme by the patient,
    nothing is taken over, for the key is not known before.

    Parameters
    ----------
    shared
        The plans that are taken over.
    protocol, request
        The protocol that asks for the same plans, with the user's choices in it, and the run that it is planned by.
    """
    if protocol.choice is not None:
        return
    key = planning_key(protocol, shared.machine, shared.case_sha256, shared.curve, request.aliases)
    kept = kept_plans(request.out)
    if archive.load(kept, key) is None:
        archive.save(kept, key, shared.planning)


def are_the_same(shared: SharedPlans, planned: PlannedCase) -> bool:
    """Say whether a planned case has the same plans: the same monitor units and the same dose in every voxel."""
    pairs = list(zip(shared.planning.plans, planned.planning.plans, strict=False))
    return len(shared.planning.plans) == len(planned.planning.plans) and all(
        one.target.name == two.target.name
        and one.plan.mu == two.plan.mu
        and one.dose.grid == two.dose.grid
        and bool(np.array_equal(one.dose.values, two.dose.values))
        for one, two in pairs
    )


def kept_plans(folder: Path) -> Path:
    """Return the file in which `plan_case` keeps the plans of a run."""
    return folder / ".stages" / "planning.npz"
