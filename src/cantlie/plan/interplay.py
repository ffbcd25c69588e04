"""Interplay: the dose of a moving target when leaves and breathing both follow the clock.

Every piece of a beam (a segment, or a few degrees of an arc) is delivered while the liver is in some states of
breathing. What a segment gives to a point in a state is the share of its field's dose there that its fluence has in
the field's fluence, along the ray through the point: exact where dose follows fluence, and the segments always add up
to the field. Of an arc every direction is one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.grid import Grid
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.course.breathing import Breathing, BreathingStates
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.machine.aperture import Aperture, FluenceMap
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import summed_fluence
from cantlie.machine.machine import Machine
from cantlie.plan.complexity import move_seconds
from cantlie.plan.delivery import beam_fields
from cantlie.plan.pieces import by_direction
from cantlie.plan.treatment import Segment, TreatmentBeam, TreatmentPlan

ELECTRON_SD_MM = 3.0
SCATTER_SD_MM = 20.0
SCATTER_SHARE = 0.15
"""What carries dose sideways, for the shares of segments only: 15 % by photons scattered in the patient."""
GRID_SD = 0.41
"""Spread of a voxel's mean and of linear interpolation, in voxels: the root of 1/12 and 1/12."""
PIECE_DEG = 4.0
"""Part of an arc that counts as one piece."""
_SAMPLES_PER_PIECE = 40
_SECONDS_PER_SAMPLE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class PieceDoses:
    """What each piece of a plan gives to points in each state of breathing.

    Parameters
    ----------
    dose_gy
        Dose of the whole plan (all its fractions), shape (pieces, states, points).
    beam
        Beam of each piece, shape (pieces,).
    begin_s, end_s
        When it is delivered after its beam came on, shape (pieces,).
    """

    dose_gy: NDArray[np.float32]
    beam: NDArray[np.int64]
    begin_s: NDArray[np.float64]
    end_s: NDArray[np.float64]

    def blurred_gy(self, states: BreathingStates) -> NDArray[np.float64]:
        """Return the dose of points when every piece meets all states for their share of the time."""
        flat = self.dose_gy.sum(axis=0, dtype=np.float64)
        result: NDArray[np.float64] = states.dwell @ flat
        return result

    def state_shares(
        self, breathing: Breathing, states: BreathingStates, phases: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the share of each piece's time in each state, shape (pieces, states).

        Parameters
        ----------
        phases
            Phase of breathing, 0 to 1, when each beam comes on, shape (beams,).
        """
        duration = self.end_s - self.begin_s
        longest = float(duration.max()) if len(duration) else 0.0
        count = int(np.clip(np.ceil(longest / _SECONDS_PER_SAMPLE), 4, 10 * _SAMPLES_PER_PIECE))
        moments = self.begin_s[:, None] + duration[:, None] * (np.arange(count) + 0.5) / count
        shares = breathing.share(moments + breathing.period_s * phases[self.beam][:, None])
        state = states.of(shares)
        result = np.zeros((len(self.beam), len(states)))
        for number in range(len(states)):
            result[:, number] = (state == number).mean(axis=1)
        return result

    def course_gy(
        self, breathing: Breathing, states: BreathingStates, fractions: int, random: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return the dose of points in one course whose beams come on at random phases in every fraction."""
        beams = int(self.beam.max()) + 1 if len(self.beam) else 0
        shares = np.zeros((len(self.beam), len(states)))
        for _ in range(fractions):
            shares += self.state_shares(breathing, states, random.uniform(0.0, 1.0, beams))
        flat = self.dose_gy.reshape(-1, self.dose_gy.shape[2])
        return np.asarray((shares / fractions).astype(np.float32).reshape(-1) @ flat, dtype=np.float64)


def piece_doses(
    plan: TreatmentPlan,
    density: Volume,
    machine: Machine,
    model: BeamModel,
    grid: Grid,
    points_mm: NDArray[np.float64],
    states: BreathingStates,
    progress: Progress = silent,
) -> PieceDoses:
    """Return the dose of every piece of a plan to points of the liver in each state.

    Parameters
    ----------
    grid
        Grid of the fields' collapsed-cone doses.
    points_mm
        Points of the planning CT, shape (n, 3); in a state they lie ``states.shift_mm`` further.
    """
    spacing = max(grid.spacing_mm)
    places = points_mm[None, :, :] + states.shift_mm[:, None, :]
    doses: list[NDArray[np.float32]] = []
    beams: list[int] = []
    begins: list[float] = []
    ends: list[float] = []
    for number, beam in enumerate(plan.beams):
        progress(number / len(plan.beams), f"pieces of beam {beam.number}")
        clock = 0.0
        before: Aperture | None = None
        for field, parts in zip(beam_fields(beam, machine, model, PIECE_DEG), _parts(beam), strict=True):
            dose = collapsed_cone_dose(density, [field], model, grid=grid).sample(places)
            x, y, _ = field.geometry.project(places)
            pieces = [_merged(parts)] if beam.dynamic else parts
            whole = _fluence_at(_carried(field.fluence, spacing), x, y) if len(pieces) > 1 else np.ones(0)
            total_mu = sum(one.mu for one in pieces)
            for part in pieces:
                ratio: NDArray[np.float64] = np.ones(x.shape)
                if len(pieces) > 1:
                    own = _fluence_of(part.aperture, part.mu, field.fluence, machine, model)
                    share = _fluence_at(_carried(own, spacing), x, y)
                    seen = whole > 1e-6 * whole.max(initial=0.0)
                    ratio = np.where(seen, share / np.maximum(whole, 1e-12), part.mu / total_mu)
                doses.append((plan.fractions * dose * ratio).astype(np.float32))
                beams.append(number)
                if before is not None and not beam.dynamic:
                    move = move_seconds(before, part.aperture, machine)
                    clock += move + machine.segment_overhead_s if move > 0 else 0.0
                begins.append(clock)
                clock += _on_seconds(part, beam, machine)
                ends.append(clock)
                before = part.aperture
    shape = (0, len(states), len(points_mm))
    stacked = np.stack(doses) if doses else np.zeros(shape, dtype=np.float32)
    return PieceDoses(stacked, np.array(beams, dtype=np.int64), np.array(begins), np.array(ends))


def _merged(parts: Sequence[Segment]) -> Segment:
    return replace(parts[len(parts) // 2], mu=sum(part.mu for part in parts))


def _parts(beam: TreatmentBeam) -> list[Sequence[Segment]]:
    step = PIECE_DEG if beam.dynamic else 360.0
    return [parts for _, parts in by_direction(beam, step)]


def _on_seconds(part: Segment, beam: TreatmentBeam, machine: Machine) -> float:
    on = 60.0 * part.mu / machine.max_dose_rate_mu_min
    if not beam.dynamic:
        return on
    turned = 0.0
    for one, two in zip(beam.control_points, beam.control_points[1:], strict=False):
        turned += abs((two.geometry.gantry_deg - one.geometry.gantry_deg + 180) % 360 - 180)
    return max(on, turned / machine.gantry_speed_deg_s * part.mu / max(beam.mu, 1e-9))


def _fluence_of(aperture: Aperture, mu: float, like: FluenceMap, machine: Machine, model: BeamModel) -> FluenceMap:
    return summed_fluence([aperture], [mu], machine.mlc, model, like.x_mm, like.y_mm, machine.sad_mm)


def _carried(fluence: FluenceMap, spacing_mm: float) -> FluenceMap:
    """Return a fluence blurred as its dose is: by electrons and the voxels of the grid, and by scattered photons."""
    pixel = float(fluence.x_mm[1] - fluence.x_mm[0])
    values = np.asarray(fluence.values_mu, dtype=np.float64)
    near = ndimage.gaussian_filter(values, np.hypot(ELECTRON_SD_MM, spacing_mm * GRID_SD) / pixel, mode="nearest")
    far = ndimage.gaussian_filter(values, SCATTER_SD_MM / pixel, mode="nearest")
    return replace(fluence, values_mu=(1.0 - SCATTER_SHARE) * near + SCATTER_SHARE * far)


def _fluence_at(fluence: FluenceMap, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    columns = (x - fluence.x_mm[0]) / (fluence.x_mm[1] - fluence.x_mm[0])
    rows = (y - fluence.y_mm[0]) / (fluence.y_mm[1] - fluence.y_mm[0])
    found: NDArray[np.float64] = ndimage.map_coordinates(
        np.asarray(fluence.values_mu, dtype=np.float64), [rows.ravel(), columns.ravel()], order=1, mode="nearest"
    ).reshape(x.shape)
    return found
