"""Protocols that ask for the same plans: what a planner sees of a protocol, and plans taken over from another run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cantlie.core.provenance import environment, sha256_of_file
from cantlie.machine.machine import Machine
from cantlie.patient.density import DensityCurve
from cantlie.plan.request import PlanningResult
from cantlie.protocol.schema import Protocol
from cantlie.workflow import archive
from cantlie.workflow.plan_case import PlanCase, PlannedCase
from cantlie.workflow.run_folder import key_of

_SEEN_BY_THE_PLANNER = (
    "targets", "split", "gtv", "normal_liver", "technique", "prescriptions", "choice", "coverage", "constraints",
    "minimise",
)  # fmt: skip
_REMARKS = ("place", "choices", "wording", "label")


def planning_inputs(protocol: Protocol, machine: Machine) -> str:
    """Return a key that is equal for protocols that the same plans fulfil: all that the planner sees of them.

    The calendar, the biology and what is written about the protocol do not enter into it.
    """
    seen = {name: value for name, value in protocol.model_dump(mode="json").items() if name in _SEEN_BY_THE_PLANNER}
    return key_of(_without_remarks(seen), protocol.target_ids, machine.sha256)


@dataclass(frozen=True, slots=True, eq=False)
class SharedPlans:
    """Plans that another protocol may take over, and what they were made from besides the protocol."""

    protocol_id: str
    planning: PlanningResult
    case_sha256: str
    machine_sha256: str
    curve: DensityCurve

    @classmethod
    def of(cls, planned: PlannedCase) -> SharedPlans:
        """Return the plans of a planned case, without its images."""
        return cls(
            planned.protocol.id,
            planned.planning,
            planned.patient.case.input_sha256,
            planned.machine.sha256,
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
    key = key_of(
        {
            "case_sha256": shared.case_sha256,
            "protocol": protocol.model_dump(mode="json"),
            "machine_sha256": shared.machine_sha256,
            "density_curve": [shared.curve.hu.tolist(), shared.curve.density_g_cm3.tolist()],
            "aliases_sha256": sha256_of_file(request.aliases) if request.aliases else "",
            "cantlie": environment()["cantlie"],
        }
    )
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


def _without_remarks(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_remarks(item) for name, item in value.items() if name not in _REMARKS}
    if isinstance(value, list):
        return [_without_remarks(item) for item in value]
    return value
