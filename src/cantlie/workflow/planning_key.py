"""What plans depend on: the key under which a run keeps them, equal for protocols that the same plans fulfil."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cantlie.core.provenance import environment, sha256_of_file
from cantlie.machine.machine import Machine
from cantlie.patient.density import DensityCurve
from cantlie.protocol.schema import Protocol
from cantlie.workflow.run_folder import key_of

_SEEN_BY_THE_PLANNER = (
    "targets", "split", "gtv", "normal_liver", "technique", "prescriptions", "coverage", "constraints", "minimise",
    "robustness",
)  # fmt: skip
_REMARKS = ("place", "choices", "wording", "label")


def planning_inputs(protocol: Protocol, machine: Machine) -> str:
    """Return a key that is equal for protocols that the same plans fulfil: all that the planner sees of them.

    The calendar, the biology and what is written about the protocol do not enter into it.
    """
    seen = {name: value for name, value in protocol.model_dump(mode="json").items() if name in _SEEN_BY_THE_PLANNER}
    return key_of(_without_remarks(seen), protocol.target_ids, machine.sha256)


def planning_key(
    protocol: Protocol, machine: Machine, case_sha256: str, curve: DensityCurve, aliases: Path | None
) -> str:
    """Return the key of the plans of a case: protocol (of one scheme), machine, patient and Cantlie's version."""
    return key_of(
        planning_inputs(protocol, machine),
        case_sha256,
        curve.hu.tolist(),
        curve.density_g_cm3.tolist(),
        sha256_of_file(aliases) if aliases else "",
        environment(())["cantlie"],
    )


def _without_remarks(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_remarks(item) for name, item in value.items() if name not in _REMARKS}
    if isinstance(value, list):
        return [_without_remarks(item) for item in value]
    return value
