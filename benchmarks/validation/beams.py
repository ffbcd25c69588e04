"""Phantoms and fields that several chapters share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dose.field import Field
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import aperture_fluence, pixel_centres
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.mlc import Mlc

POINT = BeamModel.named("reference-6mv-point")
TYPICAL = BeamModel.named("generic-6mv")
LUNG_G_CM3 = 0.26


def water(
    spacing_mm: float, half_mm: float, depth_mm: float, surface_mm: float = -100.0,
    lung_mm: tuple[float, float] | None = None,
) -> Volume:  # fmt: skip
    """Return a water block; gantry 0 enters it at y = ``surface_mm``. Lung may lie between two depths."""
    across = round(2 * half_mm / spacing_mm)
    down = round(depth_mm / spacing_mm)
    low = -0.5 * (across - 1) * spacing_mm
    grid = Grid((across, down, across), (spacing_mm,) * 3, (low, surface_mm + 0.5 * spacing_mm, low))
    values = np.ones(grid.shape, dtype=np.float32)
    if lung_mm is not None:
        depth = grid.y_mm - surface_mm
        values[:, (depth > lung_mm[0]) & (depth < lung_mm[1])] = LUNG_G_CM3
    return Volume(grid, values)


def jaw_field(
    x_mm: tuple[float, float], y_mm: tuple[float, float], model: BeamModel, *, mu: float = 100.0,
    gantry_deg: float = 0.0, isocentre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0), sad_mm: float = 1000.0,
    pixel_mm: float = 1.0,
) -> Field:  # fmt: skip
    """Return a rectangular field by jaws."""
    return shaped_field(
        Aperture(x_mm, y_mm), None, model, mu=mu, gantry_deg=gantry_deg, isocentre_mm=isocentre_mm, sad_mm=sad_mm,
        pixel_mm=pixel_mm,
    )  # fmt: skip


def shaped_field(
    aperture: Aperture, mlc: Mlc | None, model: BeamModel, *, mu: float = 100.0, gantry_deg: float = 0.0,
    isocentre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0), sad_mm: float = 1000.0, pixel_mm: float = 1.0,
) -> Field:  # fmt: skip
    """Return a field of an aperture, with room for the penumbra and what passes the collimator."""
    room = 30.0 if model.extra_focal_fraction else 5.0
    x, y = (pixel_centres(low - room, high + room, pixel_mm) for low, high in (aperture.jaw_x_mm, aperture.jaw_y_mm))
    fluence = aperture_fluence(aperture, mu, mlc, model, x, y, sad_mm)
    return Field(BeamGeometry(isocentre_mm, gantry_deg, sad_mm=sad_mm), fluence)


def leaf_aperture(mlc: Mlc, opening: Sequence[tuple[float, float, float, float]], margin_mm: float = 0.0) -> Aperture:
    """Return leaves and jaws around a union of rectangles (x low, x high, y low, y high) that is one run per leaf."""
    centres = mlc.leaf_centres_mm
    lower = np.full(centres.size, np.inf)
    upper = np.full(centres.size, -np.inf)
    for x_low, x_high, y_low, y_high in opening:
        inside = (centres > y_low) & (centres < y_high)
        lower[inside] = np.minimum(lower[inside], x_low)
        upper[inside] = np.maximum(upper[inside], x_high)
    shut = ~np.isfinite(lower)
    # Closed pairs wait in the middle of the nearest open one, under the jaws.
    places = np.flatnonzero(~shut)
    nearest = places[np.abs(np.flatnonzero(shut)[:, None] - places).argmin(axis=1)]
    middle = 0.5 * (lower[nearest] + upper[nearest])
    lower[shut], upper[shut] = middle - 0.5 * mlc.min_gap_mm, middle + 0.5 * mlc.min_gap_mm
    box = np.array(opening)
    return Aperture(
        (float(box[:, 0].min() - margin_mm), float(box[:, 1].max() + margin_mm)),
        (float(box[:, 2].min() - margin_mm), float(box[:, 3].max() + margin_mm)),
        lower,
        upper,
    )


def along(dose: Volume, points_mm: NDArray[np.float64], strip_mm: Sequence[float] = (0.0,)) -> NDArray[np.float64]:
    """Return the dose at points (n, 3), averaged over a strip along z."""
    return np.mean([dose.sample(points_mm + np.array([0.0, 0.0, z])) for z in strip_mm], axis=0)


def crossing(x: NDArray[np.float64], y: NDArray[np.float64], level: float) -> float:
    """Return the outermost x at which a profile falls through a level, nan if it never does."""
    falls = np.flatnonzero((y[:-1] >= level) & (y[1:] < level))
    if falls.size == 0:
        return float("nan")
    n = falls[-1]
    return float(x[n] + (y[n] - level) / (y[n] - y[n + 1]) * (x[n + 1] - x[n]))
