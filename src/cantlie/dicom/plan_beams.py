"""One beam of an RTPLAN: control points followed one by one; what cannot be calculated is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from cantlie.core.errors import DicomError
from cantlie.core.notes import Note
from cantlie.dicom.plan_blocks import read_blocks
from cantlie.dicom.values import integer, is_missing, items, number, numbers, text
from cantlie.machine.aperture import Aperture
from cantlie.machine.block import Block
from cantlie.machine.geometry import BeamGeometry
from cantlie.plan.treatment import ControlPoint, TreatmentBeam

OPEN_JAW_MM = 200.0
_FARTHEST_MM = 500.0  # no jaw or leaf of any linac stands farther from the axis at the isocentre plane
_SAD_MM = (500.0, 1500.0)
_ENERGY_MV = (1.0, 50.0)
_MOST_MU = 1e5
_WEIGHT_SHARE = 1e-3
_DOSIMETER_UNITS = ("MU", "MINUTE")
_JAWS = {"X": "x", "ASYMX": "x", "Y": "y", "ASYMY": "y"}
_ACCESSORIES = (
    ("NumberOfWedges", "WedgeSequence", "a wedge"),
    ("NumberOfBoli", "ReferencedBolusSequence", "a bolus"),
    ("NumberOfCompensators", "CompensatorSequence", "a compensator"),
    ("", "ApplicatorSequence", "an applicator"),
)
_ANGLES = (
    ("GantryAngle", "GantryRotationDirection", "gantry"),
    ("BeamLimitingDeviceAngle", "BeamLimitingDeviceRotationDirection", "collimator"),
    ("PatientSupportAngle", "PatientSupportRotationDirection", "couch"),
)


@dataclass(frozen=True, slots=True, eq=False)
class BeamFile:
    """A beam as read, with what belongs to its machine.

    ``leaf_boundaries_mm`` is None for a beam without leaves; ``energy_mv`` is 0 and ``ssd_mm`` (from the source to the
    skin at the first control point) None where the file does not say them. ``dosimeter_unit`` is ``MU``, or ``MINUTE``
    where a timer ends the beam. ``blocks`` stay in the field of every control point.
    """

    beam: TreatmentBeam
    leaf_boundaries_mm: NDArray[np.float64] | None
    mlc_axis: str
    energy_mv: float
    fluence_mode: str
    ssd_mm: float | None
    dosimeter_unit: str
    blocks: tuple[Block, ...]


def read_beam(one: Dataset, where: str, patient_position: str, meterset: float, notes: list[Note]) -> BeamFile:
    """Read an item of the beam sequence (DICOM PS3.3 C.8.8.14); remarks are added to the notes.

    Raises
    ------
    DicomError
        If it is damaged, contradicts itself or has something that Cantlie cannot calculate.
    """
    _refuse_what_is_not_modelled(one, where, notes)
    reader = _BeamReader(one, where, patient_position, notes)
    beam = reader.beam(integer(one, "BeamNumber", where), meterset)
    ssd_mm = number(items(one, "ControlPointSequence")[0], "SourceToSurfaceDistance", where, 0.0)
    return BeamFile(
        beam,
        reader.leaf_boundaries_mm,
        reader.mlc_axis,
        reader.energy_mv,
        _fluence_mode(one),
        ssd_mm or None,
        text(one, "PrimaryDosimeterUnit", "MU").upper(),
        read_blocks(one, where),
    )


def _fluence_mode(one: Dataset) -> str:
    for mode in items(one, "PrimaryFluenceModeSequence"):
        if text(mode, "FluenceMode").upper() == "NON_STANDARD":
            return text(mode, "FluenceModeID") or "NON_STANDARD"
    return "STANDARD"


def _refuse_what_is_not_modelled(one: Dataset, where: str, notes: list[Note]) -> None:
    radiation = text(one, "RadiationType", "PHOTON").upper()
    if radiation != "PHOTON":
        raise DicomError(f"the beam is of {radiation.lower()}s", where=where, remedy="give a photon plan")
    if is_missing(one, "RadiationType"):
        notes.append(Note("the plan does not say what the beam consists of; photons were taken", where.split(", ")[-1]))
    unit = text(one, "PrimaryDosimeterUnit", "MU").upper()
    if unit not in _DOSIMETER_UNITS:
        raise DicomError(
            f"the beam is metered in {unit}, not MU", where=where, remedy="give a plan in monitor units or minutes"
        )
    for count_keyword, sequence_keyword, name in _ACCESSORIES:
        count = integer(one, count_keyword, where, 0) if count_keyword else 0
        if count > 0 or items(one, sequence_keyword):
            raise DicomError(
                f"the beam has {name}, which Cantlie does not calculate", where=where, remedy="give a plan without it"
            )


def _forward(degrees: float) -> float:
    """Return a rotation between 0 and 360 degrees; a step back by rounding is no whole turn."""
    turn = degrees % 360.0
    return turn - 360.0 if turn > 360.0 - 1e-3 else turn


class _BeamReader:
    """Reads the control points of a beam, carrying on what does not change from one to the next."""

    def __init__(self, one: Dataset, where: str, patient_position: str, notes: list[Note]) -> None:
        self.one = one
        self.where = where
        self.patient_position = patient_position
        self.notes = notes
        self.leaf_boundaries_mm: NDArray[np.float64] | None = None
        self.mlc_axis = ""
        self.energy_mv = 0.0
        self.jaws: dict[str, tuple[float, float]] = {}
        self.leaves: NDArray[np.float64] | None = None
        self.angles: dict[str, float] = {}
        self.directions: dict[str, str] = {}
        self.isocentre: tuple[float, float, float] | None = None
        self.jaw_types: set[str] = set()
        self.undirected: set[str] = set()
        self._devices()

    def _error(self, what: str, remedy: str = "export the plan again") -> DicomError:
        return DicomError(what, where=self.where, remedy=remedy)

    @property
    def _short(self) -> str:
        """The beam without its file, for notes."""
        return self.where.rsplit(", ", 1)[-1]

    def _check_reach(self, positions_mm: NDArray[np.float64], what: str) -> None:
        reach = float(np.abs(positions_mm).max(initial=0.0))
        if reach > _FARTHEST_MM:
            raise self._error(f"{what} reach {reach:g} mm from the axis, which no linac does")

    def _devices(self) -> None:
        for device in items(self.one, "BeamLimitingDeviceSequence"):
            kind = text(device, "RTBeamLimitingDeviceType").upper()
            if kind in _JAWS:
                if _JAWS[kind] in self.jaw_types:
                    raise self._error(
                        f"the beam has two pairs of {_JAWS[kind].upper()} jaws", "give a machine with one"
                    )
                self.jaw_types.add(_JAWS[kind])
            elif kind in ("MLCX", "MLCY"):
                if self.leaf_boundaries_mm is not None:
                    raise self._error("the beam has two multileaf collimators", "give a machine with one")
                pairs = integer(device, "NumberOfLeafJawPairs", self.where)
                edges = numbers(device, "LeafPositionBoundaries", pairs + 1, self.where)
                if (np.diff(edges) <= 0).any():
                    raise self._error("the leaf boundaries do not grow")
                self._check_reach(edges, "leaf boundaries")
                self.leaf_boundaries_mm, self.mlc_axis = edges, kind[-1]
            else:
                raise self._error(f"the beam has a beam limiting device of type {kind!r}", "give a machine without it")
        for axis in ("x", "y"):
            if axis not in self.jaw_types:
                self.jaws[axis] = (-OPEN_JAW_MM, OPEN_JAW_MM)
                note = f"the beam has no {axis.upper()} jaws; they are taken as open to {OPEN_JAW_MM:g} mm"
                unbounded = self.leaf_boundaries_mm is None
                self.notes.append(Note(note, self._short, "warning" if unbounded else "info"))

    def beam(self, beam_number: int, meterset: float) -> TreatmentBeam:
        one = self.one
        points = items(one, "ControlPointSequence")
        if len(points) < 2:
            raise self._error("the beam has fewer than two control points")
        stated = integer(one, "NumberOfControlPoints", self.where, len(points))
        if stated > len(points):
            raise self._error(f"the beam has {len(points)} control points, but says that it has {stated}")
        final = number(one, "FinalCumulativeMetersetWeight", self.where)
        if meterset > _MOST_MU:
            raise self._error(f"the beam has {meterset:g} MU in one fraction, which no linac delivers")
        if not (final > 0 and meterset > 0):
            raise self._error(f"the beam has {meterset:g} MU and a final weight of {final:g}")
        sad_mm = number(one, "SourceAxisDistance", self.where, 1000.0)
        if not _SAD_MM[0] <= sad_mm <= _SAD_MM[1]:
            raise self._error(f"the source lies {sad_mm:g} mm from the axis, which no linac has")
        control_points = []
        weight = 0.0
        for n, point in enumerate(points):
            self._update(point)
            if n and is_missing(point, "CumulativeMetersetWeight"):
                raise self._error(f"control point {n} has no cumulative meterset weight")
            weight = number(point, "CumulativeMetersetWeight", self.where, weight)
            assert self.isocentre is not None
            geometry = BeamGeometry(
                isocentre_mm=self.isocentre,
                gantry_deg=self.angles["GantryAngle"],
                collimator_deg=self.angles["BeamLimitingDeviceAngle"],
                couch_deg=self.angles["PatientSupportAngle"],
                sad_mm=sad_mm,
                patient_position=self.patient_position,
            )
            mu = weight if final == meterset else weight * meterset / final
            control_points.append(ControlPoint(geometry, self._aperture(), mu))
        mu_steps = np.diff([point.cumulative_mu for point in control_points])
        if control_points[0].cumulative_mu != 0 or (mu_steps < 0).any():
            raise self._error("the cumulative meterset weights do not grow from 0")
        if abs(weight - final) > _WEIGHT_SHARE * final:
            raise self._error(f"the cumulative meterset weights end at {weight:g}, but the final weight is {final:g}")
        self._tell_turns(control_points)
        return TreatmentBeam(
            number=beam_number,
            name=text(one, "BeamName") or f"{beam_number}",
            control_points=tuple(control_points),
            dynamic=text(one, "BeamType").upper() == "DYNAMIC",
        )

    def _aperture(self) -> Aperture:
        if set(self.jaws) != {"x", "y"} or (self.leaf_boundaries_mm is not None and self.leaves is None):
            raise self._error("the first control point lacks positions of jaws or leaves")
        if self.leaves is None:
            return Aperture(self.jaws["x"], self.jaws["y"])
        lower, upper = self.leaves.reshape(2, -1)
        return Aperture(self.jaws["x"], self.jaws["y"], lower, upper)

    def _update(self, point: Dataset) -> None:
        if not is_missing(point, "NominalBeamEnergy"):
            energy = number(point, "NominalBeamEnergy", self.where)
            if not _ENERGY_MV[0] <= energy <= _ENERGY_MV[1]:
                raise self._error(f"the beam has {energy:g} MV, which no linac has")
            if self.energy_mv not in (0.0, energy):
                raise self._error("the energy changes within the beam", "give a plan of one energy a beam")
            self.energy_mv = energy
        moved: set[str] = set()
        for device in items(point, "BeamLimitingDevicePositionSequence"):
            kind = text(device, "RTBeamLimitingDeviceType").upper()
            if _JAWS.get(kind, kind) in moved:
                raise self._error(f"a control point has two positions of {kind}")
            moved.add(_JAWS.get(kind, kind))
            if kind in _JAWS:
                low, high = (float(v) for v in numbers(device, "LeafJawPositions", 2, self.where))
                if low > high:
                    raise self._error(f"the {kind} jaws are crossed: {low:g}, {high:g} mm")
                self._check_reach(np.array([low, high]), f"the {kind} jaws")
                self.jaws[_JAWS[kind]] = (low, high)
            elif self.leaf_boundaries_mm is not None and kind == f"MLC{self.mlc_axis}":
                self.leaves = numbers(device, "LeafJawPositions", 2 * (len(self.leaf_boundaries_mm) - 1), self.where)
                if (self.leaves.reshape(2, -1)[0] > self.leaves.reshape(2, -1)[1] + 1e-6).any():
                    raise self._error("leaves of the two banks are crossed")
                self._check_reach(self.leaves, "the leaves")
            else:
                raise self._error(f"positions for {kind!r}, which the beam does not have")
        for angle, direction, part in _ANGLES:
            self._turn(point, angle, direction, part)
        for keyword in ("TableTopEccentricAngle", "TableTopPitchAngle", "TableTopRollAngle", "GantryPitchAngle"):
            if abs((number(point, keyword, self.where, 0.0) + 180) % 360 - 180) > 1e-3:
                raise self._error(f"{keyword} is not 0, which Cantlie does not calculate", "give a plan without it")
        if not is_missing(point, "IsocenterPosition"):
            x, y, z = (float(v) for v in numbers(point, "IsocenterPosition", 3, self.where))
            if self.isocentre is not None and np.abs(np.subtract(self.isocentre, (x, y, z))).max() > 0.01:
                raise self._error("the isocentre moves within the beam", "give a plan of one isocentre a beam")
            self.isocentre = self.isocentre or (x, y, z)
        if self.isocentre is None:
            raise self._error("the beam has no isocentre")

    def _turn(self, point: Dataset, keyword: str, direction_keyword: str, part: str) -> None:
        """Follow an angle so that it changes linearly between control points, past 360 degrees if need be."""
        if not is_missing(point, keyword):
            value = number(point, keyword, self.where)
            if abs(value) > 360:
                raise self._error(f"the {part} stands at {value:g} degrees, more than a whole turn")
            if keyword in self.angles:
                before = self.angles[keyword]
                direction = self.directions.get(keyword, "NONE")
                if direction == "CW":
                    value = before + _forward(value - before)
                elif direction == "CC":
                    value = before - _forward(before - value)
                else:
                    value = before + (value - before + 180.0) % 360.0 - 180.0
                    if abs(value - before) > 1e-3:
                        self.undirected.add(part)
            self.angles[keyword] = value
        elif keyword not in self.angles:
            if keyword == "GantryAngle":
                raise self._error("the beam has no gantry angle")
            self.angles[keyword] = 0.0
            self.notes.append(Note(f"the beam does not say how the {part} stands; 0 degrees were taken", self._short))
        if not is_missing(point, direction_keyword):
            self.directions[keyword] = text(point, direction_keyword).upper()

    def _tell_turns(self, points: list[ControlPoint]) -> None:
        """Say where a part turns with the beam on though the plan does not say which way."""
        for part in sorted(self.undirected):
            angles = [getattr(point.geometry, f"{part}_deg") for point in points]
            pairs = zip(pairwise(angles), pairwise(point.cumulative_mu for point in points), strict=True)
            if any(abs(b - a) > 1e-3 and after > before for (a, b), (before, after) in pairs):
                message = f"the plan does not say which way the {part} turns; the shorter way was taken"
                self.notes.append(Note(message, self._short))
