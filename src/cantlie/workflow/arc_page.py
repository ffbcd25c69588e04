"""What the report shows of arcs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import Machine
from cantlie.machine.mlc import pairs_in_jaws
from cantlie.plan.arc_profile import arc_profile
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan
from cantlie.report.arc_view import ApertureView, ArcView

Outlines = tuple[NDArray[np.float64], ...]

_SHOWN = 8


def arc_view(beam: TreatmentBeam, machine: Machine, outline: Callable[[BeamGeometry], Outlines]) -> ArcView:
    """Return an arc for the report, with openings at even distances along it.

    Parameters
    ----------
    outline
        Gives the target's outline as a direction sees it.
    """
    points = beam.control_points
    shown = np.unique(np.linspace(0, len(points) - 1, _SHOWN + 2)[1:-1].round().astype(int))
    views = tuple(
        ApertureView(
            points[n].geometry.gantry_deg % 360.0, open_rectangles(points[n], machine), outline(points[n].geometry)
        )
        for n in shown
    )
    turn = "clockwise" if points[-1].geometry.gantry_deg > points[0].geometry.gantry_deg else "counter-clockwise"
    first, last = (points[n].geometry.gantry_deg % 360.0 for n in (0, -1))
    return ArcView(f"{beam.name}: {first:g}° to {last:g}°, {turn}", arc_profile(beam, machine), views)


def open_rectangles(point: ControlPoint, machine: Machine) -> NDArray[np.float64]:
    """Return what jaws and leaves leave open at a control point, as x low, x high, y low, y high, shape (n, 4)."""
    aperture, mlc = point.aperture, machine.mlc
    if mlc is None or aperture.leaf_lower_mm is None or aperture.leaf_upper_mm is None:
        return np.array([[*aperture.jaw_x_mm, *aperture.jaw_y_mm]])
    along, across = (
        (aperture.jaw_x_mm, aperture.jaw_y_mm) if mlc.axis == "X" else (aperture.jaw_y_mm, aperture.jaw_x_mm)
    )
    inside = pairs_in_jaws(mlc, aperture)
    edges = np.clip(mlc.leaf_boundaries_mm[inside.start : inside.stop + 1], *across)
    low, high = np.clip(aperture.leaf_lower_mm[inside], *along), np.clip(aperture.leaf_upper_mm[inside], *along)
    opened = (high > low) & (edges[1:] > edges[:-1])
    leaves, bands = np.stack([low, high], axis=1)[opened], np.stack([edges[:-1], edges[1:]], axis=1)[opened]
    return np.hstack([leaves, bands] if mlc.axis == "X" else [bands, leaves])


def arc_summaries(plan: TreatmentPlan, machine: Machine) -> list[dict[str, float | str]]:
    """Return the arcs of a plan as plain values: time, and the ranges of MU per degree, dose rate and gantry speed."""
    return [{"arc": beam.name, **arc_profile(beam, machine).summary()} for beam in plan if beam.dynamic]
