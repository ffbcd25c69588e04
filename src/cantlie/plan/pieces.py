"""A beam as pieces with one geometry and one aperture each: what the dose engine can calculate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from cantlie.machine.aperture import Aperture
from cantlie.machine.geometry import BeamGeometry
from cantlie.plan.treatment import ControlPoint, Segment, TreatmentBeam

GANTRY_STEP_DEG = 2.0
LEAF_STEP_MM = 2.5


def pieces(
    beam: TreatmentBeam, *, gantry_step_deg: float = GANTRY_STEP_DEG, leaf_step_mm: float = LEAF_STEP_MM
) -> tuple[Segment, ...]:
    """Return what a beam delivers, control point by control point.

    Between two control points angles, jaws and leaves move linearly with the monitor units (DICOM PS3.3 C.8.8.14.5). A
    moving interval is cut into equal parts, each with the state in its middle, so short that gantry, couch and
    collimator turn at most ``gantry_step_deg`` and no tip or jaw moves more than ``leaf_step_mm`` in one.
    """
    result: list[Segment] = []
    for first, second in pairwise(beam.control_points):
        mu = second.cumulative_mu - first.cumulative_mu
        if mu <= 0:
            continue
        turn = _turn_deg(first, second)
        travel = _travel_mm(first.aperture, second.aperture)
        count = max(1, int(np.ceil(turn / gantry_step_deg - 1e-6)), int(np.ceil(travel / leaf_step_mm - 1e-6)))
        turning = max(1, int(np.ceil(turn / gantry_step_deg - 1e-6)))
        for n in range(count):
            share = (n + 0.5) / count
            # leaves may need finer parts than the gantry: parts of one gantry step share its middle angle
            angle_share = (np.floor(share * turning) + 0.5) / turning
            result.append(
                Segment(
                    _geometry_between(first, second, float(angle_share)),
                    aperture_between(first.aperture, second.aperture, share),
                    mu / count,
                )
            )
    return tuple(result)


def by_direction(
    beam: TreatmentBeam, step_deg: float, first_share: float = 1.0
) -> list[tuple[BeamGeometry, list[Segment]]]:
    """Return the pieces of a beam together with those that come from about the same direction.

    Control points whose gantry angles span at most ``step_deg`` make up one direction: that in the middle of their
    pieces, weighted by monitor units; intervals wider than that are cut. Dose is linear in the fluence of a direction,
    so that each is calculated once. The first of them spans at most ``first_share`` of that.
    """
    groups: list[list[ControlPoint]] = []
    for first, second in pairwise(beam.control_points):
        most_deg = step_deg * (first_share if len(groups) == 1 else 1.0)
        if not groups or _turn_deg(groups[-1][0], second) > most_deg + 1e-6:
            groups.append([first])
        groups[-1].append(second)
    result = []
    for points in groups:
        parts = pieces(replace(beam, control_points=tuple(points)), gantry_step_deg=step_deg)
        if not parts:
            continue
        if _turn_deg(points[0], points[-1]) <= step_deg + 1e-6:
            result.append((_mean_geometry(parts), list(parts)))
        else:  # one interval, wider than a direction may be: its parts in the order of the gantry
            result += [(geometry, list(own)) for geometry, own in groupby(parts, key=lambda part: part.geometry)]
    return result


def _mean_geometry(parts: Sequence[Segment]) -> BeamGeometry:
    """Return the direction in the middle of parts, weighted by monitor units."""
    whole = sum(part.mu for part in parts)
    at = [
        sum(getattr(part.geometry, name) * part.mu for part in parts) / whole
        for name in ("gantry_deg", "collimator_deg", "couch_deg")
    ]
    return replace(parts[0].geometry, gantry_deg=at[0], collimator_deg=at[1], couch_deg=at[2])


def _turn_deg(first: ControlPoint, second: ControlPoint) -> float:
    a, b = first.geometry, second.geometry
    return max(
        abs(b.gantry_deg - a.gantry_deg), abs(b.collimator_deg - a.collimator_deg), abs(b.couch_deg - a.couch_deg)
    )


def _travel_mm(first: Aperture, second: Aperture) -> float:
    moved = [np.abs(np.subtract(first.jaw_x_mm, second.jaw_x_mm)), np.abs(np.subtract(first.jaw_y_mm, second.jaw_y_mm))]
    for a, b in _banks(first, second):
        moved.append(np.abs(a - b))
    return float(max(part.max() for part in moved))


def _banks(first: Aperture, second: Aperture) -> Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    if (
        first.leaf_lower_mm is None
        or first.leaf_upper_mm is None
        or second.leaf_lower_mm is None
        or second.leaf_upper_mm is None
    ):
        return ()
    return ((first.leaf_lower_mm, second.leaf_lower_mm), (first.leaf_upper_mm, second.leaf_upper_mm))


def _geometry_between(first: ControlPoint, second: ControlPoint, share: float) -> BeamGeometry:
    a, b = first.geometry, second.geometry
    return replace(
        a,
        gantry_deg=a.gantry_deg + share * (b.gantry_deg - a.gantry_deg),
        collimator_deg=a.collimator_deg + share * (b.collimator_deg - a.collimator_deg),
        couch_deg=a.couch_deg + share * (b.couch_deg - a.couch_deg),
    )


def aperture_between(first: Aperture, second: Aperture, share: float) -> Aperture:
    """Return the aperture after a share of the way between two."""
    if first is second:
        return first
    banks = [(1 - share) * a + share * b for a, b in _banks(first, second)]
    x = (1 - share) * np.asarray(first.jaw_x_mm) + share * np.asarray(second.jaw_x_mm)
    y = (1 - share) * np.asarray(first.jaw_y_mm) + share * np.asarray(second.jaw_y_mm)
    return Aperture(
        (float(x[0]), float(x[1])),
        (float(y[0]), float(y[1])),
        banks[0] if banks else first.leaf_lower_mm,
        banks[1] if banks else first.leaf_upper_mm,
    )
