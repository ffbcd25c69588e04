"""What the planner is asked and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import PlanningError
from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.machine.aperture import FluenceMap
from cantlie.machine.machine import Machine
from cantlie.patient.regions import Regions
from cantlie.plan.treatment import TreatmentPlan
from cantlie.protocol.schema import Protocol


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    """How finely and how long the planner works; the defaults suit a liver plan.

    Parameters
    ----------
    voxel_mm
        Spacing of the voxels that the optimiser sees; None takes 2.5 to 5 mm, finer for smaller targets.
    max_voxels
        Most voxels that the optimiser sees; beyond, those far from the targets are thinned out first.
    beamlet_mm
        Width of the beamlets; None takes the protocol's.
    dose_grid_mm
        Spacing (dx, dy, dz) of the final dose; None takes the protocol's.
    fluence_iterations, aperture_iterations
        Steps of the optimiser before and after sequencing.
    max_segments
        Most segments of a field.
    feedback_rounds
        How often the final dose corrects the optimiser's dose.
    constraint_margin
        Share of a limit that the optimiser keeps in reserve, for what the final dose differs.
    seed
        Of the choice of the voxels that are left out.
    """

    voxel_mm: float | None = None
    max_voxels: int = 60000
    beamlet_mm: float | None = None
    dose_grid_mm: tuple[float, float, float] | None = None
    fluence_iterations: int = 160
    aperture_iterations: int = 120
    max_segments: int = 12
    feedback_rounds: int = 3
    constraint_margin: float = 0.05
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PlanTarget:
    """A target of one plan: its region, the dose of the whole plan and how its beams stand.

    Parameters
    ----------
    name
        Name of the target in the protocol and of its region.
    prescription_gy, fractions
        Dose of the whole plan and its number of fractions.
    gantry_deg
        Gantry angles; empty to take the protocol's or to let the planner choose.
    fields
        Number of fields when the planner chooses; None takes the protocol's.
    collimator_deg, couch_deg
        Angles of all its fields; None takes the protocol's.
    """

    name: str
    prescription_gy: float
    fractions: int
    gantry_deg: tuple[float, ...] = ()
    fields: int | None = None
    collimator_deg: float | None = None
    couch_deg: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class PlanningRequest:
    """Everything a course of plans is made from.

    Parameters
    ----------
    density
        Mass density in g/cm³ on the CT grid, air outside the body.
    regions
        Partial-volume masks on the CT grid: ``BODY``, every target by its name, and the patient's structures by their
        TG-263 names, from which the recipes of the protocol are formed.
    targets
        One for each plan of the course, in the order of the protocol.
    levels
        For a feathered junction: target to the part of its prescription, 0 to 1, that its plan gives each voxel, on the
        CT grid. Rules on the target then count where its level is 1.
    given_dose
        Physical dose in Gy that earlier sessions gave to this anatomy (another CT's, carried over); limits on the
        course hold for the sum, those on a plan for the plan alone.
    """

    density: Volume
    regions: Regions
    protocol: Protocol
    machine: Machine
    patient_position: str
    targets: tuple[PlanTarget, ...]
    settings: PlannerSettings = PlannerSettings()
    levels: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    given_dose: Volume | None = None

    def __post_init__(self) -> None:
        if not self.targets:
            raise PlanningError("there is no target to plan for")
        if not self.density.grid.is_close(self.regions.grid):
            raise PlanningError("the density and the regions lie on different grids")
        for target in self.targets:
            if target.name not in self.regions or not self.regions[target.name].any():
                raise PlanningError(
                    f"the target {target.name} is missing or empty",
                    where="regions",
                    remedy="check the contours that it is made of",
                )

    @classmethod
    def of_protocol(
        cls,
        density: Volume,
        regions: Regions,
        protocol: Protocol,
        machine: Machine,
        patient_position: str,
        *,
        scheme: str | None = None,
        settings: PlannerSettings | None = None,
        levels: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> PlanningRequest:
        """Return the request for all targets of a protocol in one of its schemes."""
        targets = []
        for name in protocol.target_ids:
            prescription = protocol.prescription(name, scheme)
            targets.append(PlanTarget(name, prescription.total_gy, prescription.fractions))
        return cls(
            density,
            regions,
            protocol,
            machine,
            patient_position,
            tuple(targets),
            settings or PlannerSettings(),
            levels or {},
        )


@dataclass(frozen=True, slots=True)
class GoalOutcome:
    """One rule of the protocol: what was asked, what the optimised fluence promised and what the segments deliver.

    ``scope`` is ``course`` for the sum of all plans, else the name of the target whose plan is meant. ``promised`` is
    nan when the structure was not seen by the optimiser.
    """

    structure: str
    metric: str
    op: str
    limit: float
    unit: str
    scope: str
    promised: float
    delivered: float
    met: bool

    @property
    def excess(self) -> float:
        """By how much the rule is missed in its unit; not positive when it is kept."""
        return self.delivered - self.limit if self.op.startswith("<") else self.limit - self.delivered

    def sentence(self) -> str:
        """Return the rule and what became of it as one line."""
        verdict = "met" if self.met else f"missed by {self.excess:.2g} {self.unit}"
        return (
            f"{self.structure} ({self.scope}): {self.metric} {self.op} {self.limit:g} {self.unit}, "
            f"delivered {self.delivered:.4g} {self.unit}, {verdict}"
        )


@dataclass(frozen=True, slots=True)
class Trade:
    """What relaxing one rule would buy for another.

    Parameters
    ----------
    structure, metric, op, limit, unit, scope
        The rule to be relaxed.
    relaxed_to
        The limit that was tried instead.
    best
        What the broken rule's metric would then be, in its own unit.
    gain
        By how much that is better than without relaxing; positive is better.
    """

    structure: str
    metric: str
    op: str
    limit: float
    unit: str
    scope: str
    relaxed_to: float
    best: float
    gain: float


@dataclass(frozen=True, slots=True)
class Conflict:
    """A rule that does not hold beside the others.

    Parameters
    ----------
    structure, metric, op, limit, unit, scope, priority
        The rule.
    kind
        ``contradiction`` where not even the fluence can hold it, ``delivery`` where only the segments cannot.
    best
        What the fluence reaches while the rules before it hold: the least violation.
    delivered
        What the segments deliver.
    opposed_by
        The rules that stand against it, and what relaxing each would buy, verified by solving again.
    """

    structure: str
    metric: str
    op: str
    limit: float
    unit: str
    scope: str
    priority: int
    kind: str
    best: float
    delivered: float
    opposed_by: tuple[Trade, ...] = ()

    @property
    def least_violation(self) -> float:
        """By how much the rule is missed at least, in its unit; not positive when the fluence holds it."""
        return self.best - self.limit if self.op.startswith("<") else self.limit - self.best

    def note(self) -> Note:
        """Return what became of the rule, what is possible, and what relaxing others would buy."""
        missed = abs(self.delivered - self.limit)
        if self.kind == "delivery":
            cause = f"the fluence holds it ({self.best:.4g} {self.unit}), the segments do not"
        else:
            cause = f"the fluence comes to {self.best:.4g} {self.unit} at best"
        trades = "; ".join(
            f"{t.structure} {t.metric} {t.op} {t.relaxed_to:g} instead of {t.limit:g} {t.unit} would give {t.best:.4g}"
            for t in self.opposed_by
        )
        return Note(
            f"{self.metric} {self.op} {self.limit:g} {self.unit} ({self.scope}) was not met beside the other rules: "
            f"delivered {self.delivered:.4g} {self.unit}, missed by {missed:.3g} {self.unit}; {cause}"
            + (f" ({trades})" if trades else ""),
            self.structure,
        )


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """The course of an optimisation: the stage, and the objective's value after each step, shapes (steps,).

    ``points`` are the metrics of the rules named in ``rules`` after some of the steps, whose numbers are ``at``.
    """

    stage: tuple[str, ...]
    objective: NDArray[np.float64]
    seconds: NDArray[np.float64]
    rules: tuple[str, ...] = ()
    at: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    points: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))

    def rows(self) -> list[dict[str, Any]]:
        """Return the steps at which the rules were looked at: step, stage, seconds, objective, metric of each rule."""
        return [
            {
                "step": int(step),
                "stage": self.stage[step],
                "seconds": round(float(self.seconds[step]), 3),
                "objective": float(self.objective[step]),
                "rules": dict(zip(self.rules, (float(value) for value in values), strict=True)),
            }
            for step, values in zip(self.at, self.points, strict=True)
        ]


@dataclass(frozen=True, slots=True, eq=False)
class PlannedTarget:
    """The plan of one target.

    Parameters
    ----------
    plan
        The deliverable plan.
    dose
        Collapsed-cone dose of its segments in Gy for the whole plan, on the dose grid.
    fluence
        Optimised fluence of each beam before sequencing, monitor units per fraction.
    scale
        Factor of the final normalisation.
    """

    target: PlanTarget
    plan: TreatmentPlan
    dose: Volume
    fluence: tuple[FluenceMap, ...]
    scale: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class PlanningResult:
    """The plans of a course, their doses, and how well each rule of the protocol is kept in the delivered dose.

    ``conflicts`` has a row for every rule that is broken: at best, delivered, and what stands against it.
    """

    plans: tuple[PlannedTarget, ...]
    outcomes: tuple[GoalOutcome, ...]
    history: History
    seconds: dict[str, float]
    notes: tuple[Note, ...] = field(default=())
    conflicts: tuple[Conflict, ...] = ()

    @property
    def total_dose(self) -> Volume:
        """The sum of the doses of all plans in Gy."""
        first = self.plans[0].dose
        total = np.zeros(first.grid.shape, dtype=np.float32)
        for planned in self.plans:
            total += planned.dose.values
        return Volume(first.grid, total)

    @property
    def all_met(self) -> bool:
        """Whether every rule holds in the delivered dose."""
        return all(outcome.met for outcome in self.outcomes)
