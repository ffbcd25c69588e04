"""Beam geometry: from the machine's scales (IEC 61217) to the patient's LPS coordinates, for every patient position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import GeometryError

_X, _Y, _Z = np.eye(3)

# Directions L, P and S (the rows) in the patient support system of IEC 61217 at couch angle 0:
# x to the right of a viewer who faces the gantry, y towards the gantry, z up. DICOM PS3.3 C.7.3.1.1.2.
_LPS_FROM_SUPPORT: dict[str, NDArray[np.float64]] = {
    "HFS": np.array([_X, -_Z, _Y]),
    "HFP": np.array([-_X, _Z, _Y]),
    "FFS": np.array([-_X, -_Z, -_Y]),
    "FFP": np.array([_X, _Z, -_Y]),
    "HFDR": np.array([_Z, _X, _Y]),
    "HFDL": np.array([-_Z, -_X, _Y]),
    "FFDR": np.array([_Z, -_X, -_Y]),
    "FFDL": np.array([-_Z, _X, -_Y]),
}
PATIENT_POSITIONS = tuple(_LPS_FROM_SUPPORT)


@dataclass(frozen=True, slots=True)
class BeamGeometry:
    """Where one beam direction stands relative to the patient.

    Angles are those of IEC 61217 in degrees. The beam-limiting-device frame has its origin at the isocentre, z towards
    the source, x and y turned by the collimator angle. ``x_mm`` and ``y_mm`` of a ray are always given where it crosses
    the plane through the isocentre.

    Raises
    ------
    GeometryError
        If the patient position is unknown.
    """

    isocentre_mm: tuple[float, float, float]
    gantry_deg: float
    collimator_deg: float = 0.0
    couch_deg: float = 0.0
    sad_mm: float = 1000.0
    patient_position: str = "HFS"

    def __post_init__(self) -> None:
        if self.patient_position not in _LPS_FROM_SUPPORT:
            raise GeometryError(
                f"patient position {self.patient_position!r} is not supported",
                remedy=f"supported are {', '.join(PATIENT_POSITIONS)}",
            )

    @property
    def axes(self) -> NDArray[np.float64]:
        """Unit vectors x, y, z (the rows) of the beam-limiting-device frame in LPS, shape (3, 3)."""
        gantry, collimator, couch = np.radians([self.gantry_deg, self.collimator_deg, self.couch_deg])
        gantry_axes = np.array(
            [
                [np.cos(gantry), 0.0, -np.sin(gantry)],
                [0.0, 1.0, 0.0],
                [np.sin(gantry), 0.0, np.cos(gantry)],
            ]
        )
        turn = np.array(
            [
                [np.cos(collimator), np.sin(collimator), 0.0],
                [-np.sin(collimator), np.cos(collimator), 0.0],
                [0.0, 0.0, 1.0],
            ]
        )
        fixed_from_support = np.array(
            [
                [np.cos(couch), -np.sin(couch), 0.0],
                [np.sin(couch), np.cos(couch), 0.0],
                [0.0, 0.0, 1.0],
            ]
        )
        lps_from_support = _LPS_FROM_SUPPORT[self.patient_position]
        lps_from_fixed = lps_from_support @ fixed_from_support.T
        axes: NDArray[np.float64] = turn @ gantry_axes @ lps_from_fixed.T
        return axes

    @property
    def source_mm(self) -> NDArray[np.float64]:
        """Position of the source (x, y, z) in LPS mm."""
        position: NDArray[np.float64] = np.asarray(self.isocentre_mm) + self.sad_mm * self.axes[2]
        return position

    def project(self, points_mm: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return (x_mm, y_mm) at the isocentre plane of the rays through points, and their distance along the axis.

        Parameters
        ----------
        points_mm
            Points (x, y, z) in LPS mm, shape (..., 3).

        Returns
        -------
        x_mm, y_mm
            Where the ray from the source through the point crosses the isocentre plane, shape (...).
        axial_mm
            Distance of the point from the source measured along the central axis, shape (...).
        """
        relative = (np.asarray(points_mm, dtype=np.float64) - np.asarray(self.isocentre_mm)) @ self.axes.T
        axial = self.sad_mm - relative[..., 2]
        scale = self.sad_mm / axial
        return relative[..., 0] * scale, relative[..., 1] * scale, axial
