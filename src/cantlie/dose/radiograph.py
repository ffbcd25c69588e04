"""Digitally reconstructed radiographs: line integrals of the CT's attenuation, as a detector behind the patient sees.

Rays run from the source through the CT, which is sampled by trilinear interpolation (Sherouse 1990, Int J Radiat Oncol
Biol Phys 18:651). The attenuation is that of water scaled with the CT number, with bone lifted as kilovoltage beams do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import DoseError
from cantlie.core.volume import Volume
from cantlie.dose.rays import density_at, frame_of
from cantlie.machine.geometry import BeamGeometry

WATER_PER_MM = 0.02
"""Attenuation of water at about 70 keV (NIST XCOM: 0.193 per cm)."""
BONE_FROM_HU = 150.0
BONE_LIFT = 1.6
"""What attenuation beyond that of soft tissue is multiplied by: calcium absorbs more than its density says."""
STEP_MM = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Radiograph:
    """A radiograph on the plane through the isocentre, in the beam's-eye view.

    Parameters
    ----------
    geometry
        Direction; pixels lie in its beam-limiting-device frame, seen from the source.
    x_mm, y_mm
        Pixel centres, growing, shapes (nx,) and (ny,).
    attenuation
        Line integral of attenuation along each ray, shape (ny, nx); more is brighter in print.
    """

    geometry: BeamGeometry
    x_mm: NDArray[np.float64]
    y_mm: NDArray[np.float64]
    attenuation: NDArray[np.float32]


def attenuation_of(ct: Volume) -> Volume:
    """Return the attenuation per mm of a CT in HU for a kilovoltage beam."""
    hu = np.asarray(ct.values, dtype=np.float32)
    values = np.maximum(hu + np.float32(1000.0), 0.0) * np.float32(WATER_PER_MM / 1000.0)
    bone = np.maximum(hu - np.float32(BONE_FROM_HU), 0.0)
    values += bone * np.float32((BONE_LIFT - 1.0) * WATER_PER_MM / 1000.0)
    return Volume(ct.grid, values)


def radiograph(
    attenuation: Volume,
    geometry: BeamGeometry,
    *,
    size_mm: float = 400.0,
    pixel_mm: float = 1.5,
    step_mm: float = STEP_MM,
) -> Radiograph:
    """Return the radiograph of a patient for one direction.

    Parameters
    ----------
    attenuation
        Attenuation per mm (`attenuation_of` a CT); nothing outside its grid.
    geometry
        Direction, isocentre and distance of the source. The collimator turns the image with it: give 0 to look upright.
    size_mm, pixel_mm
        Edge of the square image and of a pixel in the isocentre plane.

    Raises
    ------
    DoseError
        If the size or the pixel is not possible.
    """
    if not (0 < pixel_mm <= size_mm) or size_mm / pixel_mm > 4096 or step_mm <= 0:
        raise DoseError("the radiograph has no pixels or too many", remedy="choose another size or pixel width")
    count = round(size_mm / pixel_mm)
    centres = (np.arange(count, dtype=np.float64) - 0.5 * (count - 1)) * pixel_mm
    lower, upper = attenuation.grid.lower_mm, attenuation.grid.upper_mm
    corners = np.array([[x, y, z] for x in (lower[0], upper[0]) for y in (lower[1], upper[1])
                        for z in (lower[2], upper[2])])  # fmt: skip
    axial = (np.asarray(geometry.source_mm) - corners) @ geometry.axes[2]
    first, last = max(float(axial.min()), 1.0), float(axial.max())
    steps = max(int(np.ceil((last - first) / step_mm)), 1) if last > first else 0
    result = np.zeros((count, count), dtype=np.float32)
    if steps:
        frame = frame_of(geometry, attenuation.grid)
        values = np.asarray(attenuation.values, dtype=np.float32)
        _integrate(values, frame, centres / geometry.sad_mm, first, (last - first) / steps, steps, result)
    return Radiograph(geometry, centres, centres, result)


@numba.njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _integrate(attenuation, frame, tangents, first, step, steps, result):  # type: ignore[no-untyped-def]
    """Sum attenuation along the rays through all pixels; ``frame`` is that of `rays.frame_of`."""
    nk, nj, ni = attenuation.shape
    source = np.empty(3)
    for a in range(3):
        source[a] = (frame[2, a] - frame[0, a]) / frame[1, a]
    for row in numba.prange(result.shape[0]):
        tan_y = tangents[row]
        for column in range(result.shape[1]):
            tan_x = tangents[column]
            i_per = (tan_x * frame[3, 0] + tan_y * frame[4, 0] - frame[5, 0]) / frame[1, 0]
            j_per = (tan_x * frame[3, 1] + tan_y * frame[4, 1] - frame[5, 1]) / frame[1, 1]
            k_per = (tan_x * frame[3, 2] + tan_y * frame[4, 2] - frame[5, 2]) / frame[1, 2]
            low, high = first, first + step * steps
            for start, per, top in (
                (source[0], i_per, ni - 0.5),
                (source[1], j_per, nj - 0.5),
                (source[2], k_per, nk - 0.5),
            ):
                if abs(per) < 1e-12:
                    if start < -0.5 or start > top:
                        high = low
                else:
                    one, two = (-0.5 - start) / per, (top - start) / per
                    low = max(low, min(one, two))
                    high = min(high, max(one, two))
            total = 0.0
            if high > low:
                begin = max(int((low - first) / step), 0)
                end = min(int((high - first) / step) + 1, steps)
                for n in range(begin, end):
                    axial = first + step * (n + 0.5)
                    total += density_at(
                        attenuation, source[0] + axial * i_per, source[1] + axial * j_per, source[2] + axial * k_per
                    )
            result[row, column] = total * step * np.sqrt(1.0 + tan_x * tan_x + tan_y * tan_y)
