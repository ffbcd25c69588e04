"""The fields of a plan as one linear map: from openings under the leaves to the dose of the optimiser's voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cantlie.plan.raster import Raster, SourceBlur

Array = NDArray[np.floating]


class Influence(Protocol):
    """The dose of beamlets in voxels: a matrix, or anything that multiplies like one."""

    @property
    def shape(self) -> tuple[int, int]:
        """Voxels and beamlets."""
        ...

    def forward(self, weights_mu: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the dose in Gy of each voxel for the monitor units of each beamlet."""
        ...

    def adjoint(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the transposed matrix times a vector of voxels."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FieldSet:
    """The fields of one plan.

    Parameters
    ----------
    rasters, blurs
        One of each for every field.
    influence
        Dose of the used beamlets of all rasters, field by field, row by row, per MU and fraction.
    fractions
        Of the plan: doses here are those of the whole plan.
    """

    rasters: tuple[Raster, ...]
    blurs: tuple[SourceBlur, ...]
    influence: Influence
    fractions: int

    def dose_gy(self, openings: Sequence[Array]) -> NDArray[np.float64]:
        """Return the dose of the whole plan in each voxel.

        Parameters
        ----------
        openings
            For each field the monitor units per fraction that reach each column of each leaf pair, shape
            (leaves, columns).
        """
        weights = [
            blur.apply(raster.spread(np.asarray(opening, dtype=np.float32)))[raster.used]
            for raster, blur, opening in zip(self.rasters, self.blurs, openings, strict=True)
        ]
        dose = self.influence.forward(np.concatenate(weights).astype(np.float32, copy=False))
        return self.fractions * np.asarray(dose, dtype=np.float64)

    def opening_gradients(self, dose_gradient: Array) -> list[Array]:
        """Return the derivative with respect to each field's opening: the adjoint of `dose_gy`."""
        scaled = (self.fractions * dose_gradient).astype(np.float32)
        beamlets = self.influence.adjoint(scaled)
        gradients: list[Array] = []
        start = 0
        for raster, blur in zip(self.rasters, self.blurs, strict=True):
            values = np.zeros(raster.shape, dtype=np.float32)
            count = int(np.count_nonzero(raster.used))
            values[raster.used] = beamlets[start : start + count]
            start += count
            gradients.append(raster.gather(blur.adjoint(values)))
        return gradients
