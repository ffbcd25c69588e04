"""The phantom: a patient as the dose engine sees it, in water-equivalent density on the lattice of the dose grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import DoseError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dose.attenuation import water_equivalent_ratio
from cantlie.dose.regrid import voxel_means
from cantlie.machine.beam_model import BeamModel

_AIR_G_CM3 = 0.0012
_BODY_G_CM3 = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A patient as the dose engine sees it: water-equivalent density on the grid of the calculation.

    Parameters
    ----------
    grid
        The lattice of the dose grid, extended or cut to the patient.
    density
        Water-equivalent density (g/cm³), shape ``grid.shape``.
    ratio
        Water-equivalent density over mass density, same shape.
    """

    grid: Grid
    density: NDArray[np.float32]
    ratio: NDArray[np.float32]


def phantom(density: Volume, model: BeamModel, lattice: Grid) -> Phantom:
    """Return the part of a density volume that holds the patient, averaged onto the voxels of a lattice.

    Raises
    ------
    DoseError
        If a density is negative or not finite, or nothing in the volume is denser than 0.1 g/cm³.
    """
    values = np.asarray(density.values, dtype=np.float32)
    least, most = values.min(), values.max()
    if not (np.isfinite(least) and np.isfinite(most) and least >= 0):
        raise DoseError("the density has voxels that are negative or not finite", remedy="check the density curve")
    body = values > _BODY_G_CM3
    runs = []
    rows, columns = np.any(body, axis=2), np.any(body, axis=0)
    for touched in (np.any(rows, axis=1), np.any(rows, axis=0), np.any(columns, axis=0)):
        some = np.flatnonzero(touched)
        if some.size == 0:
            raise DoseError("there is nothing to deposit dose in: no voxel is denser than 0.1 g/cm³")
        runs.append(slice(int(some[0]), int(some[-1]) + 1))
    low = density.grid.mm_from_index([run.start - 0.5 for run in runs])
    high = density.grid.mm_from_index([run.stop - 0.5 for run in runs])
    spacing = np.asarray(lattice.spacing_mm)
    first = np.floor((low - lattice.lower_mm) / spacing + 1e-6).astype(int) - 1
    last = np.ceil((high - lattice.lower_mm) / spacing - 1e-6).astype(int) + 1
    x, y, z = np.asarray(lattice.origin_mm) + first * spacing
    nx, ny, nz = (int(n) for n in last - first)
    grid = Grid((nz, ny, nx), lattice.spacing_mm, (float(x), float(y), float(z)))
    inner = values[tuple(runs)]
    x, y, z = density.grid.mm_from_index([run.start for run in runs])
    inner_grid = Grid(inner.shape, density.grid.spacing_mm, (float(x), float(y), float(z)))
    mass = voxel_means(inner, inner_grid, grid)
    equivalent = voxel_means(inner * water_equivalent_ratio(inner, model), inner_grid, grid)
    np.maximum(mass, _AIR_G_CM3, out=mass)
    np.maximum(equivalent, _AIR_G_CM3, out=equivalent)
    return Phantom(grid, equivalent, equivalent / mass)


def on_lattice(values: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Cut or pad an array between two grids of one lattice."""
    offset = np.rint((np.asarray(target.origin_mm) - np.asarray(source.origin_mm)) / np.asarray(source.spacing_mm))
    shift = offset[::-1].astype(int)
    result = np.zeros(target.shape, dtype=np.float32)
    inside, outside = [], []
    for a in range(3):
        start = max(0, -shift[a])
        stop = min(target.shape[a], source.shape[a] - shift[a])
        if stop <= start:
            return result
        outside.append(slice(start, stop))
        inside.append(slice(start + shift[a], stop + shift[a]))
    result[tuple(outside)] = values[tuple(inside)]
    return result
