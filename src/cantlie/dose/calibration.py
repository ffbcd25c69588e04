"""Calibration: how much primary fluence one monitor unit is, from the dose at a point of a water phantom."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dose.field import Field
from cantlie.dose.phantom import on_lattice, phantom
from cantlie.dose.superposition import unit_dose
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import aperture_fluence, pixel_centres
from cantlie.machine.geometry import BeamGeometry

_VOXEL_MM = 2.5
_BEYOND_MM = 100.0


@lru_cache(maxsize=16)
def fluence_per_mu(model: BeamModel, sad_mm: float = 1000.0) -> float:
    """Return the primary photon fluence (per cm², on the axis at the isocentre, wide open beam) of one monitor unit.

    The dose engine calculates the calibration field in water; the point stands in the middle of a voxel.
    """
    calibration = model.calibration
    half = 0.5 * calibration.field_mm
    across = 2 * int((half + _BEYOND_MM) / _VOXEL_MM) + 1
    # The surface lies on a voxel boundary and the point in the middle of a voxel, whatever the depth.
    above = max(round(calibration.depth_mm / _VOXEL_MM - 0.5), 1)
    step = calibration.depth_mm / (above + 0.5)
    below = int(_BEYOND_MM / step) + 1
    side = -0.5 * (across - 1) * _VOXEL_MM
    grid = Grid((across, above + 1 + below, across), (_VOXEL_MM, step, _VOXEL_MM), (side, -above * step, side))
    water = Volume(grid, np.ones(grid.shape, dtype=np.float32))
    pixels = pixel_centres(-half - 60.0, half + 60.0, 1.0)
    fluence = aperture_fluence(Aperture((-half, half), (-half, half)), 1.0, None, model, pixels, pixels, sad_mm)
    # The point is the origin; gantry 0 shines along +y, and the isocentre lies on the axis at its distance.
    isocentre_y = sad_mm - calibration.ssd_mm - calibration.depth_mm
    field = Field(BeamGeometry((0.0, isocentre_y, 0.0), 0.0, sad_mm=sad_mm), fluence)
    patient = phantom(water, model, grid)
    dose = on_lattice(unit_dose(patient, field, model)[0], patient.grid, grid)
    at_point = float(dose[across // 2, above, across // 2])
    # Contaminating electrons are stated as a share of this very dose.
    fade = float(np.exp(-calibration.depth_mm / model.electron_contamination_depth_mm))
    return calibration.gy_per_mu / (at_point * (1.0 + model.electron_contamination * fade))
