"""How complex a plan is and how long its delivery takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.machine.aperture import Aperture
from cantlie.machine.machine import Machine
from cantlie.machine.mlc import Mlc, pairs_in_jaws
from cantlie.plan.pieces import aperture_between
from cantlie.plan.treatment import TreatmentBeam, TreatmentPlan

SMALL_GAP_MM = 20.0


@dataclass(frozen=True, slots=True)
class Complexity:
    """Complexity of a plan, for one fraction.

    Parameters
    ----------
    mu, mu_per_gy
        Monitor units, and monitor units per Gy of the prescription.
    beams, segments
        Number of beams and of pieces of beam with their own aperture.
    mean_aperture_cm2
        Open area at the isocentre plane, weighted by monitor units.
    small_aperture_score
        Share of open leaf pairs whose gap is below 20 mm, weighted by monitor units (Crowe et al. 2014,
        doi:10.1007/s13246-014-0271-5).
    modulation
        One minus the mean open area over the union of all apertures of the beam, weighted by monitor units: 0 for open
        fields (plan modulation, Du et al. 2014, doi:10.1118/1.4861821).
    delivery_s
        Estimated time of a fraction: beam on, movement of leaves, jaws, gantry and couch.
    """

    mu: float
    mu_per_gy: float
    beams: int
    segments: int
    mean_aperture_cm2: float
    small_aperture_score: float
    modulation: float
    delivery_s: float


def complexity(plan: TreatmentPlan, machine: Machine) -> Complexity:
    """Return the complexity of a plan."""
    areas, smalls, weights = [], [], []
    modulations, beam_weights = [], []
    segments = 0
    for beam in plan.beams:
        union: dict[int, tuple[float, float]] = {}
        beam_areas, beam_mu = [], []
        for aperture, mu in _segments(beam):
            segments += 1
            first, gaps, widths, low, high = _gaps(aperture, machine.mlc)
            area = float(gaps @ widths) / 100.0
            opened = gaps > 1e-6
            areas.append(area)
            smalls.append(float(np.mean(gaps[opened] < SMALL_GAP_MM)) if opened.any() else 0.0)
            weights.append(mu)
            beam_areas.append(area)
            beam_mu.append(mu)
            for n in np.flatnonzero(opened):
                before = union.get(first + int(n), (np.inf, -np.inf))
                union[first + int(n)] = (min(before[0], float(low[n])), max(before[1], float(high[n])))
        if beam_mu:
            leaf_widths = machine.mlc.leaf_widths_mm if machine.mlc is not None else None
            whole = sum(
                (high - low) * (leaf_widths[leaf] if leaf_widths is not None else 1.0)
                for leaf, (low, high) in union.items()
            )
            if leaf_widths is None:
                whole = max(beam_areas) * 100.0
            modulations.append(1 - float(np.average(beam_areas, weights=beam_mu)) / max(whole / 100.0, 1e-9))
            beam_weights.append(sum(beam_mu))
    per_fraction = plan.prescription_gy / max(plan.fractions, 1)
    return Complexity(
        mu=plan.mu,
        mu_per_gy=plan.mu / per_fraction if per_fraction > 0 else float("nan"),
        beams=len(plan.beams),
        segments=segments,
        mean_aperture_cm2=float(np.average(areas, weights=weights)) if areas else 0.0,
        small_aperture_score=float(np.average(smalls, weights=weights)) if areas else 0.0,
        modulation=max(float(np.average(modulations, weights=beam_weights)), 0.0) if modulations else 0.0,
        delivery_s=float(delivery_seconds(plan, machine)),
    )


def delivery_seconds(plan: TreatmentPlan, machine: Machine) -> float:
    """Return the estimated time from the first beam on to the last beam off.

    The beam is on at the machine's dose rate, slowed down where leaves, jaws or gantry of a dynamic beam need longer.
    Between segments of a static beam the slowest movement counts, with the machine's overhead on top; gantry and couch
    move between beams one after the other, the gantry without crossing 180 degrees.
    """
    total = 0.0
    before: TreatmentBeam | None = None
    for beam in plan.beams:
        if before is not None:
            last, first = before.control_points[-1].geometry, beam.control_points[0].geometry
            total += abs(_upright(last.gantry_deg) - _upright(first.gantry_deg)) / machine.gantry_speed_deg_s
            couch = abs((last.couch_deg - first.couch_deg + 180) % 360 - 180)
            total += couch / machine.couch_speed_deg_s + machine.segment_overhead_s
        for one, two in zip(beam.control_points, beam.control_points[1:], strict=False):
            on = 60 * (two.cumulative_mu - one.cumulative_mu) / machine.max_dose_rate_mu_min
            move = move_seconds(one.aperture, two.aperture, machine)
            turn = abs((two.geometry.gantry_deg - one.geometry.gantry_deg + 180) % 360 - 180)
            move = max(move, turn / machine.gantry_speed_deg_s)
            if on > 0:
                total += max(on, move)
            elif move > 0:
                total += move + machine.segment_overhead_s
        before = beam
    return total


def _upright(gantry_deg: float) -> float:
    """Return a gantry angle from -180 to 180, which the gantry cannot cross."""
    return (gantry_deg + 180) % 360 - 180


def move_seconds(one: Aperture, two: Aperture, machine: Machine) -> float:
    """Return the time that jaws and leaves need from one aperture to another."""
    times = [0.0]
    for jaws, first, second in (
        (machine.jaw_x, one.jaw_x_mm, two.jaw_x_mm),
        (machine.jaw_y, one.jaw_y_mm, two.jaw_y_mm),
    ):
        times.append(max(abs(a - b) for a, b in zip(first, second, strict=True)) / jaws.speed_mm_s)
    if machine.mlc is not None:
        for tips, others in ((one.leaf_lower_mm, two.leaf_lower_mm), (one.leaf_upper_mm, two.leaf_upper_mm)):
            if tips is not None and others is not None:
                times.append(float(np.abs(tips - others).max()) / machine.mlc.leaf_speed_mm_s)
    return max(times)


def open_area_cm2(aperture: Aperture, machine: Machine) -> float:
    """Return what jaws and leaves leave open at the isocentre plane."""
    _, gaps, widths, _, _ = _gaps(aperture, machine.mlc)
    return float(gaps @ widths) / 100.0


def _segments(beam: TreatmentBeam) -> Iterator[tuple[Aperture, float]]:
    """Return apertures and their monitor units; that in the middle of each interval in which leaves move."""
    for one, two in zip(beam.control_points, beam.control_points[1:], strict=False):
        mu = two.cumulative_mu - one.cumulative_mu
        if mu > 0:
            yield aperture_between(one.aperture, two.aperture, 0.5) if beam.dynamic else one.aperture, mu


def _gaps(
    aperture: Aperture, mlc: Mlc | None
) -> tuple[int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the first leaf pair in the jaws, the gaps, the open widths of the pairs, and the edges of the gaps."""
    along = aperture.jaw_x_mm if mlc is None or mlc.axis == "X" else aperture.jaw_y_mm
    across = aperture.jaw_y_mm if mlc is None or mlc.axis == "X" else aperture.jaw_x_mm
    if mlc is None or aperture.leaf_lower_mm is None or aperture.leaf_upper_mm is None:
        low, high = np.array([along[0]]), np.array([along[1]])
        return 0, high - low, np.array([across[1] - across[0]]), low, high
    inside = pairs_in_jaws(mlc, aperture)
    edges = np.clip(mlc.leaf_boundaries_mm[inside.start : inside.stop + 1], across[0], across[1])
    low = np.clip(aperture.leaf_lower_mm[inside], along[0], along[1])
    high = np.clip(aperture.leaf_upper_mm[inside], along[0], along[1])
    return inside.start, np.maximum(high - low, 0.0), np.diff(edges), low, high
