"""What may go otherwise than planned: the anatomy lies beside its place, session by session, or is denser than thought.

Photon dose hardly changes its shape when the patient is displaced by a few millimetres: the dose stays where the room
has it, and the anatomy moves in it (McCarter and Beckham 2000, Phys Med Biol 45:923). How well that holds for
Cantlie's plans is measured in docs/explanation/robustness.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.errors import InputError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume

Shift = tuple[float, float, float]
Kind = Literal["nominal", "set-up", "density", "course"]

LARGEST_SHIFT_MM = 50.0
_DIRECTIONS = (("left", "right"), ("posterior", "anterior"), ("head", "feet"))


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way in which a course may go.

    Attributes
    ----------
    name
        What the report calls it.
    kind
        ``set-up``: one displacement in all sessions; ``density``: the patient is denser or less dense than the CT says;
        ``course``: a course with systematic and random displacements.
    shift_mm
        Displacement of the anatomy from its planned place (x to the left, y to posterior, z to the head) in mm.
    density_factor
        What all densities are multiplied by.
    random_sd_mm
        Standard deviation of displacements from session to session, which blur the dose.
    plan_shift_mm
        Target to the mean displacement in its own plan's sessions, beside ``shift_mm``.
    """

    name: str
    kind: Kind = "nominal"
    shift_mm: Shift = (0.0, 0.0, 0.0)
    density_factor: float = 1.0
    random_sd_mm: Shift = (0.0, 0.0, 0.0)
    plan_shift_mm: Mapping[str, Shift] = field(default_factory=dict)

    def shift_of(self, target: str) -> Shift:
        """Return the mean displacement in the sessions of one plan."""
        own = self.plan_shift_mm.get(target, (0.0, 0.0, 0.0))
        return _three(np.add(self.shift_mm, own))


def setup_scenarios(shift_mm: Sequence[float], density_percent: float = 0.0) -> tuple[Scenario, ...]:
    """Return a displacement each way along each axis, and a patient who is denser and one who is less dense.

    Raises
    ------
    InputError
        If a displacement or the share is negative, not finite or beyond all reason.
    """
    _check("shift", shift_mm, LARGEST_SHIFT_MM)
    _check("density error", (density_percent,), 30.0)
    scenarios = []
    for axis, (towards, away) in enumerate(_DIRECTIONS):
        amount = float(shift_mm[axis])
        if amount > 0:
            for sign, direction in ((1.0, towards), (-1.0, away)):
                shift = [0.0, 0.0, 0.0]
                shift[axis] = sign * amount
                scenarios.append(Scenario(f"{amount:g} mm to {direction}", "set-up", _three(shift)))
    if density_percent > 0:
        for sign in (1.0, -1.0):
            name = f"density {sign * density_percent:+g} %".replace("-", "−")
            scenarios.append(Scenario(name, "density", density_factor=1.0 + sign * density_percent / 100.0))
    return tuple(scenarios)


def course_scenarios(
    systematic_sd_mm: Sequence[float],
    random_sd_mm: Sequence[float],
    fractions: Mapping[str, int],
    *,
    count: int = 20,
    seed: int = 0,
) -> tuple[Scenario, ...]:
    """Return courses with a drawn systematic displacement each and random ones in every session.

    What n random displacements do to a dose is, up to their second moments, a displacement by their mean, whose
    standard deviation is sigma / sqrt(n), and a blur of sigma sqrt(1 - 1 / n) around it.

    Parameters
    ----------
    fractions
        Target to the number of its sessions.
    count, seed
        How many courses, and where the random numbers start.
    """
    _check("systematic error", systematic_sd_mm, LARGEST_SHIFT_MM)
    _check("random error", random_sd_mm, LARGEST_SHIFT_MM)
    if not fractions or not any((*systematic_sd_mm, *random_sd_mm)):
        return ()
    random = np.random.default_rng(seed)
    sigma = np.asarray(random_sd_mm, dtype=np.float64)
    least = min(fractions.values())
    scenarios = []
    for number in range(count):
        systematic = random.normal(0.0, 1.0, 3) * np.asarray(systematic_sd_mm)
        means = {name: _three(random.normal(0.0, 1.0, 3) * sigma / np.sqrt(n)) for name, n in fractions.items()}
        blur = _three(sigma * np.sqrt(1.0 - 1.0 / least))
        scenarios.append(
            Scenario(f"course {number + 1}", "course", _three(systematic), random_sd_mm=blur, plan_shift_mm=means)
        )
    return tuple(scenarios)


def moved(dose: Volume, shift_mm: Sequence[float]) -> Volume:
    """Return what a displaced anatomy gets, in the coordinates of its CT: nothing is interpolated, the grid moves.

    A point that lies at x on the CT lies at x + shift in the room, and gets the dose that the room has there.
    Where the moved grid would end before the anatomy does, its outermost values are repeated.
    """
    spacing = np.asarray(dose.grid.spacing_mm)
    shift = np.asarray(shift_mm, dtype=np.float64)
    voxels = np.ceil(np.abs(shift) / spacing - 1e-9).astype(int)
    before, after = np.where(shift < 0, voxels, 0), np.where(shift > 0, voxels, 0)
    pad = [(int(before[a]), int(after[a])) for a in (2, 1, 0)]
    values = np.pad(dose.values, pad, mode="edge") if voxels.any() else dose.values
    x, y, z = (float(v) for v in np.asarray(dose.grid.origin_mm) - shift - before * spacing)
    nk, nj, ni = values.shape
    return Volume(Grid((nk, nj, ni), dose.grid.spacing_mm, (x, y, z)), values)


def moved_values(values: NDArray[np.floating], grid: Grid, shift_mm: Sequence[float]) -> NDArray[np.float32]:
    """Return what a displaced anatomy gets on the same grid, shape ``grid.shape``, never negative.

    Cubic convolution along each axis, exact for parabolas (Keys 1981, doi:10.1109/TASSP.1981.1163711); beyond the edge
    the outermost values hold.
    """
    result = np.asarray(values, dtype=np.float32)
    for axis, component in ((0, 2), (1, 1), (2, 0)):
        steps = float(shift_mm[component]) / grid.spacing_mm[component]
        if abs(steps) > 1e-9:
            result = _moved_along(result, axis, steps)
    return np.maximum(result, 0.0, dtype=np.float32)


def _moved_along(values: NDArray[np.float32], axis: int, steps: float) -> NDArray[np.float32]:
    whole = int(np.floor(steps))
    t = steps - whole
    weights = {
        -1: -0.5 * t + t**2 - 0.5 * t**3,
        0: 1.0 - 2.5 * t**2 + 1.5 * t**3,
        1: 0.5 * t + 2.0 * t**2 - 1.5 * t**3,
        2: -0.5 * t**2 + 0.5 * t**3,
    }
    count = values.shape[axis]
    place = np.arange(count)
    result = np.zeros_like(values)
    for offset, weight in weights.items():
        if weight != 0.0:
            result += np.float32(weight) * values.take(np.clip(place + whole + offset, 0, count - 1), axis=axis)
    return result


def blurred(dose: Volume, sd_mm: Sequence[float]) -> Volume:
    """Return a dose blurred by many random displacements with a standard deviation (x, y, z) in mm."""
    if not any(sd > 0 for sd in sd_mm):
        return dose
    dx, dy, dz = dose.grid.spacing_mm
    sigma = (sd_mm[2] / dz, sd_mm[1] / dy, sd_mm[0] / dx)
    values = ndimage.gaussian_filter(np.asarray(dose.values, dtype=np.float32), sigma, mode="nearest", truncate=3.0)
    return Volume(dose.grid, values)


def _check(what: str, values: Sequence[float], most: float) -> None:
    if not all(np.isfinite(value) and 0 <= value <= most for value in values):
        raise InputError(
            f"a {what} of {', '.join(f'{value:g}' for value in values)} is not possible",
            where="robustness",
            remedy=f"give values from 0 to {most:g}",
        )


def _three(values: Sequence[float] | NDArray[np.float64]) -> Shift:
    x, y, z = (float(value) for value in values)
    return x, y, z
