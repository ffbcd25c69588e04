"""Measured beam data: depth doses, profiles, output factors and the calibration of one photon beam in a water tank."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import InputError
from cantlie.core.notes import Note
from cantlie.machine.beam_model import Calibration

CurveKind = Literal["depth dose", "profile"]
ScanAxis = Literal["depth", "x", "y", "diagonal"]

_FEWEST_POINTS = 5
_CENTRE_MM = 10.0
_BEYOND_MAXIMUM_MM = 80.0
_REFERENCE_MM = 100.0


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredCurve:
    """Relative dose along a line in a flat water tank, in an open rectangular field centred on the axis.

    Parameters
    ----------
    kind, axis
        What was scanned: a depth dose on the axis, or a profile across it at one depth.
    field_mm
        Width of the field along x and y (IEC 61217 beam-limiting-device frame) at the isocentre plane.
    ssd_mm
        Distance from the source to the water surface.
    x_mm, y_mm, depth_mm
        Where each value was measured, in true (not projected) mm, shape (n,).
    value
        Readings, proportional to dose to water, shape (n,).
    energy_mv
        Nominal energy if the file states it.
    where
        File and line, for messages.
    """

    kind: CurveKind
    axis: ScanAxis
    field_mm: tuple[float, float]
    ssd_mm: float
    x_mm: NDArray[np.float64]
    y_mm: NDArray[np.float64]
    depth_mm: NDArray[np.float64]
    value: NDArray[np.float64]
    energy_mv: float | None = None
    where: str = ""

    @property
    def position_mm(self) -> NDArray[np.float64]:
        """Position along the scan: depth, x, y, or the signed distance along the diagonal, shape (n,)."""
        if self.axis == "depth":
            return self.depth_mm
        if self.axis == "diagonal":
            return np.asarray(np.hypot(self.x_mm, self.y_mm) * np.where(self.x_mm < 0, -1.0, 1.0))
        return self.x_mm if self.axis == "x" else self.y_mm

    @property
    def label(self) -> str:
        """A short name for tables and figures."""
        size = f"{self.field_mm[0]:g}×{self.field_mm[1]:g} mm, SSD {self.ssd_mm:g} mm"
        if self.kind == "depth dose":
            return f"depth dose {size}"
        return f"{self.axis} profile {size}, depth {float(np.median(self.depth_mm)):g} mm"


@dataclass(frozen=True, slots=True, eq=False)
class OutputFactors:
    """Dose per monitor unit at one point on the axis for several fields, relative to one of them.

    Parameters
    ----------
    ssd_mm, depth_mm
        Where the point lies.
    field_mm
        Widths along x and y at the isocentre plane, shape (n, 2).
    value
        Output factors, shape (n,).
    """

    ssd_mm: float
    depth_mm: float
    field_mm: NDArray[np.float64]
    value: NDArray[np.float64]
    energy_mv: float | None = None
    where: str = ""

    @property
    def reference(self) -> int:
        """Index of the reference field: 100 mm × 100 mm if it is there, or else the field whose factor is next to 1."""
        square = np.flatnonzero((np.abs(self.field_mm - _REFERENCE_MM) < 0.5).all(axis=1))
        return int(square[0]) if square.size else int(np.argmin(np.abs(self.value - 1.0)))


@dataclass(frozen=True, slots=True)
class MeasuredCalibration:
    """The absolute dose per monitor unit that a file states."""

    calibration: Calibration
    energy_mv: float | None = None
    where: str = ""


MeasuredPart = MeasuredCurve | OutputFactors | MeasuredCalibration


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredBeam:
    """All that was measured of one photon beam, checked."""

    energy_mv: float
    curves: tuple[MeasuredCurve, ...]
    outputs: tuple[OutputFactors, ...]
    calibration: Calibration
    notes: tuple[Note, ...] = ()

    @property
    def depth_doses(self) -> tuple[MeasuredCurve, ...]:
        """The depth doses."""
        return tuple(curve for curve in self.curves if curve.kind == "depth dose")

    @property
    def profiles(self) -> tuple[MeasuredCurve, ...]:
        """The profiles."""
        return tuple(curve for curve in self.curves if curve.kind == "profile")


def measured_beam(
    parts: Iterable[MeasuredPart], energy_mv: float | None = None, notes: Iterable[Note] = ()
) -> MeasuredBeam:
    """Put the parts of a data set together.

    Parameters
    ----------
    energy_mv
        Nominal energy; needed where no file states it, must agree with those that do.

    Raises
    ------
    InputError
        If a curve cannot be used, there is no depth dose, or the energies differ; names file and line.
    """
    found = list(parts)
    energy, energy_where = energy_mv, "--energy"
    for part in found:
        if part.energy_mv is None:
            continue
        if energy is None:
            energy, energy_where = part.energy_mv, part.where
        elif abs(part.energy_mv - energy) > 0.01:
            raise InputError(
                f"the data mix energies: {part.energy_mv:g} MV here and {energy:g} MV in {energy_where}",
                where=part.where,
                remedy="put each energy into its own folder",
            )
    if energy is None:
        raise InputError(
            "no file states the energy", where=found[0].where if found else "", remedy="give it with --energy"
        )
    curves = tuple(_checked(part) for part in found if isinstance(part, MeasuredCurve))
    outputs = tuple(part for part in found if isinstance(part, OutputFactors))
    calibrations = [part for part in found if isinstance(part, MeasuredCalibration)]
    if not any(curve.kind == "depth dose" for curve in curves):
        raise InputError("there is no depth dose in the data", remedy="add at least one of an open field")
    remarks = list(notes)
    if not any(curve.kind == "profile" for curve in curves):
        remarks.append(Note("there are no profiles: horns, source size and jaw transmission stay typical values"))
    if not outputs:
        remarks.append(Note("there are no output factors: the extra-focal source stays a typical value"))
    if len(calibrations) > 1 and any(c.calibration != calibrations[0].calibration for c in calibrations[1:]):
        raise InputError("two calibrations differ", where=f"{calibrations[0].where} and {calibrations[1].where}")
    if not calibrations:
        usual = Calibration()
        remarks.append(
            Note(
                f"no calibration is given: 1 MU is taken as {usual.gy_per_mu:g} Gy at {usual.depth_mm:g} mm depth, SSD "
                f"{usual.ssd_mm:g} mm, field {usual.field_mm:g} mm"
            )
        )
    calibration = calibrations[0].calibration if calibrations else Calibration()
    return MeasuredBeam(energy, curves, outputs, calibration, tuple(remarks))


def _checked(curve: MeasuredCurve) -> MeasuredCurve:
    """Return a curve in ascending order after looking whether it can be used."""
    position = curve.position_mm
    if position.size < _FEWEST_POINTS:
        raise InputError(f"the {curve.kind} has only {position.size} points", where=curve.where)
    order = np.argsort(position, kind="stable")
    order = order[np.append(True, np.diff(position[order]) > 1e-6)]
    curve = replace(
        curve,
        x_mm=curve.x_mm[order],
        y_mm=curve.y_mm[order],
        depth_mm=curve.depth_mm[order],
        value=curve.value[order],
    )
    if curve.value.max() <= 0 or curve.value.min() < -0.05 * curve.value.max():
        raise InputError(f"the {curve.kind} has negative readings or none above zero", where=curve.where)
    if curve.kind == "depth dose":
        _check_depth_dose(curve)
    else:
        _check_profile(curve)
    return curve


def _check_depth_dose(curve: MeasuredCurve) -> None:
    top = int(np.argmax(curve.value))
    depth = curve.depth_mm
    if depth[0] < -1e-6:
        raise InputError(f"the depth dose has a negative depth ({depth[0]:g} mm)", where=curve.where)
    if top == 0 or curve.value[0] > 0.985 * curve.value[top] or top == depth.size - 1:
        raise InputError(
            f"the depth dose does not cover its maximum (it runs from {depth[0]:g} to {depth[-1]:g} mm)",
            where=curve.where,
            remedy="measure from the surface",
        )
    if depth[-1] < depth[top] + _BEYOND_MAXIMUM_MM:
        raise InputError(
            f"the depth dose ends at {depth[-1]:g} mm, less than {_BEYOND_MAXIMUM_MM:g} mm behind its maximum",
            where=curve.where,
            remedy="measure to a depth of at least 200 mm",
        )


def _check_profile(curve: MeasuredCurve) -> None:
    position = curve.position_mm
    if np.abs(position).min() > _CENTRE_MM:
        raise InputError("the profile does not reach the axis", where=curve.where)
    if curve.depth_mm.min() <= 0:
        raise InputError("the profile lies at no depth in water", where=curve.where)
