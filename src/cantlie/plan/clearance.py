"""Whether the treatment head would meet the patient or the couch: an estimate by boxes and a cylinder.

The head is a cylinder around the beam axis that begins at the machine's ``head_distance_mm`` from the isocentre. The
patient is the box around the body in the CT, continued 1 m to both sides of the isocentre along the couch; the couch
top is a slab below it. Arms, lateral set-up devices and the couch's foot are not known: an estimate, not a guarantee.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import Machine

Array = NDArray[np.float64]

LENGTH_MM = 1000.0
COUCH_HALF_WIDTH_MM = 265.0
COUCH_THICKNESS_MM = 60.0
CLEARANCE_MM = 20.0
_STEP_MM = 40.0


def obstacle_mm(
    grid: Grid, body: NDArray[np.floating], isocentre_mm: tuple[float, float, float], position: str
) -> Array:
    """Return points on the patient's box and the couch top, (x, y, z) in LPS mm, shape (n, 3).

    Parameters
    ----------
    grid, body
        Mask of the body.
    position
        Patient position, such as HFS; it says where the couch is.
    """
    up = BeamGeometry(isocentre_mm, 0.0, patient_position=position).axes
    inside = np.argwhere(body > 0.5)
    if not len(inside):
        return np.zeros((0, 3))
    points = grid.mm_from_index(inside[:: max(1, len(inside) // 20000)]) - np.asarray(isocentre_mm)
    lateral, height = points @ up[0], points @ up[2]
    low, high = float(lateral.min()), float(lateral.max())
    bottom, top = float(height.min()), float(height.max())
    middle = 0.5 * (low + high)
    boxes = (
        (low, high, bottom, top),
        (middle - COUCH_HALF_WIDTH_MM, middle + COUCH_HALF_WIDTH_MM, bottom - COUCH_THICKNESS_MM, bottom),
    )
    clouds = []
    for x0, x1, z0, z1 in boxes:
        x = np.linspace(x0, x1, max(2, int((x1 - x0) / _STEP_MM) + 2))
        z = np.linspace(z0, z1, max(2, int((z1 - z0) / _STEP_MM) + 2))
        y = np.arange(-LENGTH_MM, LENGTH_MM + 1.0, _STEP_MM)
        rim = [(a, b) for a in x for b in (z0, z1)] + [(a, b) for a in (x0, x1) for b in z]
        rim_xz = np.asarray(rim)
        clouds.append(
            np.stack([np.tile(rim_xz[:, 0], len(y)), np.repeat(y, len(rim_xz)), np.tile(rim_xz[:, 1], len(y))], axis=1)
        )
    return np.asarray(np.concatenate(clouds) @ up + np.asarray(isocentre_mm))


def is_clear(geometry: BeamGeometry, machine: Machine, obstacle: Array) -> bool:
    """Say whether the head stays clear of the obstacle in a direction, by the estimate of this module."""
    relative = obstacle - np.asarray(geometry.isocentre_mm)
    axis = geometry.axes[2]
    axial = relative @ axis
    radial = np.linalg.norm(relative - axial[:, None] * axis, axis=1)
    hit = (axial > machine.head_distance_mm - CLEARANCE_MM) & (radial < machine.head_radius_mm + CLEARANCE_MM)
    return not bool(hit.any())
