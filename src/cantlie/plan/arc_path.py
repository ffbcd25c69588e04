"""The way of the gantry: which arcs a plan has, their sectors and their control points."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cantlie.core.notes import Note
from cantlie.machine.geometry import BeamGeometry
from cantlie.plan.technique import Site
from cantlie.protocol.sections import Arc as PrescribedArc

SECTOR_DEG = 8.0
SECTOR_OF_SEVERAL_DEG = 12.0
SECTOR_OF_LARGE_DEG = 16.0
"""Width of the sectors whose middle stands for the directions of all their control points in the optimiser: of one arc,
of several, which see the target from the same sides, and of a large target, whose beamlets are many."""
LARGE_MM = 100.0
INTERVAL_DEG = 4.0
"""Most that the gantry turns between two control points."""


@dataclass(frozen=True, slots=True)
class ArcPath:
    """One arc: where it starts, how far and in which sense it turns (positive is clockwise, IEC 61217)."""

    start: BeamGeometry
    turn_deg: float
    fields: int
    per_field: int

    def sectors(self) -> list[BeamGeometry]:
        """Return the directions in the middle of the sectors."""
        return [self._at((n + 0.5) / self.fields) for n in range(self.fields)]

    def control_points(self) -> tuple[BeamGeometry, ...]:
        """Return the directions of the control points; gantry angles run on past 0 and 360 degrees."""
        count = self.fields * self.per_field
        return tuple(self._at(n / count) for n in range(count + 1))

    def _at(self, share: float) -> BeamGeometry:
        return replace(self.start, gantry_deg=round(self.start.gantry_deg + share * self.turn_deg, 6))


def arc_paths(site: Site, isocentre: tuple[float, float, float]) -> tuple[ArcPath, ...]:
    """Return the arcs of a target: the protocol's, or as many full turns as it asks for, to and fro.

    Full turns go from 181 to 179 degrees and back: the gantry does not pass 180 degrees. The collimator stands 10
    degrees beside the protocol's angle, to the other side in every second arc, so that the gaps between leaves do not
    fall on each other.
    """
    request = site.request
    technique = request.protocol.technique
    arcs = technique.arcs
    if not arcs:
        base = technique.collimator_deg if site.target.collimator_deg is None else site.target.collimator_deg
        arcs = tuple(
            PrescribedArc(
                start_deg=181.0 if n % 2 == 0 else 179.0,
                stop_deg=179.0 if n % 2 == 0 else 181.0,
                direction="CW" if n % 2 == 0 else "CC",
                collimator_deg=(base + (10.0 if n % 2 == 0 else -10.0)) % 360.0,
            )
            for n in range(technique.arc_count)
        )
        site.notes.append(
            Note(
                f"{len(arcs)} full arc{'s' * (len(arcs) > 1)} chosen; the protocol gives none", site.target.name, "info"
            )
        )
    sector = SECTOR_DEG if len(arcs) == 1 else SECTOR_OF_SEVERAL_DEG
    if np.ptp(site.points_mm, axis=0).max() > LARGE_MM:
        sector = SECTOR_OF_LARGE_DEG
    return tuple(_path(arc, isocentre, site, sector) for arc in arcs)


def _path(arc: PrescribedArc, isocentre: tuple[float, float, float], site: Site, sector_deg: float) -> ArcPath:
    machine = site.request.machine
    start = BeamGeometry(
        isocentre, arc.start_deg, arc.collimator_deg, arc.couch_deg, machine.sad_mm, site.request.patient_position
    )
    fields = max(1, int(np.ceil(abs(arc.turn_deg) / sector_deg - 1e-6)))
    per_field = max(1, int(np.ceil(abs(arc.turn_deg) / fields / INTERVAL_DEG - 1e-6)))
    return ArcPath(start, arc.turn_deg, fields, per_field)
