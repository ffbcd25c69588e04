"""Beam map: a field's fluence made ready for asking, anywhere in a patient, what its primary photons release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.errors import DoseError
from cantlie.core.grid import Grid
from cantlie.dose.attenuation import DEPTH_STEP_MM, terma
from cantlie.dose.field import Field
from cantlie.dose.rays import Fan, fan
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.geometry import BeamGeometry

# How far electrons are followed from the open beam, in water and in lung, for photons of up to 6.5 MeV; for higher ones
# further, by a power of the energy: they scatter less, but not in proportion to their range.
_ELECTRON_MARGIN_MM = 18.0
_LUNG_MARGIN_MM = 60.0
_MARGIN_ENERGY_MEV = 6.5
_MARGIN_POWER = 0.7
_SOFTENING_STEP_MM = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class BeamMap:
    """A field's fluence with its tables.

    Parameters
    ----------
    geometry
        The beam direction.
    rays
        The fan of rays that covers the fluence map.
    pixel_mm, edge_mm
        Pixel of the fluence map, and its lower edges along x and y.
    integral
        Running integral of the fluence map, shape (rows + 1, columns + 1).
    reach_mm
        Distance of each pixel from the open part of the map.
    table
        Energy released (Gy per unit fluence) and hardening against water-equivalent depth, shape (2, n).
    softening
        Relative attenuation against the distance off axis, shape (1, m); (1, 1) if there is none.
    contamination_mm
        Depth over which contaminating electrons fade; 0 if there are none.
    margin_mm
        How far from the open part of the map electrons are followed, in water and in lung.
    """

    geometry: BeamGeometry
    rays: Fan
    pixel_mm: float
    edge_mm: tuple[float, float]
    integral: NDArray[np.float64]
    reach_mm: NDArray[np.float64]
    table: NDArray[np.float64]
    softening: NDArray[np.float64]
    contamination_mm: float
    margin_mm: tuple[float, float]

    @property
    def axes(self) -> NDArray[np.float64]:
        """Unit vectors x and y of the collimator and z along the photons (the rows), shape (3, 3)."""
        axes = self.geometry.axes
        return np.stack([axes[0], axes[1], -axes[2]])

    def arguments(
        self, frame: Any, integral: Any, reach_mm: Any, depth: Any, table: Any, softening: Any
    ) -> tuple[Any, ...]:
        """Return the arguments of :func:`cantlie.dose.rays.release` between density and results.

        The arrays are given, for they may lie on another device.
        """
        return (
            frame, self.geometry.sad_mm, integral, *self.edge_mm, self.pixel_mm, reach_mm, depth, *self.rays.first_mm,
            self.rays.pitch_mm, self.rays.start_mm, self.rays.step_mm, table, DEPTH_STEP_MM, softening,
            _SOFTENING_STEP_MM, self.contamination_mm, *self.margin_mm,
        )  # fmt: skip


def beam_map(grid: Grid, field: Field, model: BeamModel) -> BeamMap | None:
    """Return the beam map of a field for a patient's grid; None if nothing comes from it.

    Raises
    ------
    DoseError
        If the fluence map is not usable.
    """
    fluence = field.fluence
    values = np.asarray(fluence.values_mu, dtype=np.float64)
    if values.shape != (fluence.y_mm.size, fluence.x_mm.size):
        raise DoseError("a fluence map does not have the shape of its pixel axes")
    if not np.isfinite(values).all() or values.min() < -1e-9:
        raise DoseError("a fluence map has values that are negative or not finite")
    if values.max() <= 0:
        return None
    pixel = fluence.pixel_mm
    edge = (float(fluence.x_mm[0] - 0.5 * pixel), float(fluence.y_mm[0] - 0.5 * pixel))
    ranges = [(low, low + pixel * n) for low, n in zip(edge, values.shape[::-1], strict=True)]
    spacing = min(grid.spacing_mm)
    integral = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    integral[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    table = terma(model)
    softening = np.ones((1, 1))
    if model.off_axis_attenuation:
        softening = model.relative_attenuation(np.arange(0.0, 400.0, _SOFTENING_STEP_MM))[None, :]
    return BeamMap(
        field.geometry,
        fan(field.geometry, grid, ranges[0], ranges[1], spacing, spacing),
        pixel,
        edge,
        integral,
        ndimage.distance_transform_edt(values <= 2e-4 * values.max(), sampling=pixel),
        np.stack([table.gy_per_fluence, table.hardening]),
        softening,
        model.electron_contamination_depth_mm if model.electron_contamination > 0 else 0.0,
        electron_margins_mm(model),
    )


def electron_margins_mm(model: BeamModel) -> tuple[float, float]:
    """Return how far from the open beam electrons are followed, in water and in lung (mm)."""
    energies, share = model.photons()
    further = max(1.0, float(energies[share > 0].max()) / _MARGIN_ENERGY_MEV) ** _MARGIN_POWER
    return _ELECTRON_MARGIN_MM * further, _LUNG_MARGIN_MM * further
