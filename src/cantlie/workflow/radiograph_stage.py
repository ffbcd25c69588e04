"""Radiographs of every beam and of the set-up pair: pictures for the report, RTIMAGE files for record and verify."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.dicom.rtimage import write_rtimage
from cantlie.dose.radiograph import attenuation_of, radiograph
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import Machine
from cantlie.patient.case import Case
from cantlie.plan.delivery import beam_fluence
from cantlie.plan.treatment import TreatmentBeam, TreatmentPlan
from cantlie.report.radiograph_figure import RadiographView

PIXEL_MM = 2.0
SIZE_MM = 400.0
SETUP_DEG = (0.0, 90.0)
_MOST_ARC_IMAGES = 4

Outline = Callable[[BeamGeometry], tuple[NDArray[np.float64], ...]]


@dataclass(frozen=True, slots=True, eq=False)
class TakenRadiograph:
    """A radiograph with the beam that it shows; ``beam_number`` is None for a set-up image."""

    plan: str
    beam_number: int | None
    view: RadiographView
    jaws: Aperture | None


def take_radiographs(
    ct: Volume,
    plans: Mapping[str, TreatmentPlan],
    machine: Machine,
    model: BeamModel,
    outlines: Mapping[str, Outline],
    progress: Progress = silent,
) -> tuple[TakenRadiograph, ...]:
    """Return a radiograph for each beam (an arc at a few of its angles) and a set-up pair for each isocentre.

    Parameters
    ----------
    plans
        By target.
    outlines
        Target to a function that gives its outline in the frame of a direction.
    """
    attenuation = attenuation_of(ct)
    taken: list[TakenRadiograph] = []
    seen: set[tuple[float, float, float]] = set()
    for number, (target, plan) in enumerate(plans.items()):
        progress(number / max(len(plans), 1), f"radiographs of {target}")
        outline = outlines.get(target, _no_outline)
        for beam in plan.beams:
            taken += _of_beam(attenuation, target, beam, machine, model, outline)
        if plan.beams:
            first = plan.beams[0].control_points[0].geometry
            if first.isocentre_mm not in seen:
                seen.add(first.isocentre_mm)
                for angle in SETUP_DEG:
                    geometry = replace(first, gantry_deg=angle, collimator_deg=0.0, couch_deg=0.0)
                    image = radiograph(attenuation, geometry, size_mm=SIZE_MM, pixel_mm=PIXEL_MM, step_mm=2.0)
                    view = RadiographView(f"{target}, gantry {angle:g}°", image, outlines_mm=outline(geometry))
                    taken.append(TakenRadiograph(target, None, view, None))
    return tuple(taken)


def _no_outline(_: BeamGeometry) -> tuple[NDArray[np.float64], ...]:
    return ()


def _of_beam(
    attenuation: Volume, target: str, beam: TreatmentBeam, machine: Machine, model: BeamModel, outline: Outline
) -> list[TakenRadiograph]:
    points = list(beam.control_points)
    chosen = [points[0]]
    if beam.dynamic:
        places = np.unique(np.linspace(0, len(points) - 1, _MOST_ARC_IMAGES).astype(int))
        chosen = [points[place] for place in places]
    result = []
    for point in chosen:
        upright = replace(point.geometry, collimator_deg=0.0)
        image = radiograph(attenuation, upright, size_mm=SIZE_MM, pixel_mm=PIXEL_MM, step_mm=2.0)
        if beam.dynamic:
            jaws, fluence = point.aperture, None
        else:
            apertures = [p.aperture for p in points]
            jaws = replace(
                point.aperture,
                jaw_x_mm=(min(a.jaw_x_mm[0] for a in apertures), max(a.jaw_x_mm[1] for a in apertures)),
                jaw_y_mm=(min(a.jaw_y_mm[0] for a in apertures), max(a.jaw_y_mm[1] for a in apertures)),
            )
            fluence = beam_fluence(beam, machine, model)
        title = f"{beam.number} {beam.name}" + (f", {point.geometry.gantry_deg % 360.0:.0f}°" if beam.dynamic else "")
        view = RadiographView(
            title, image, fluence, point.geometry.collimator_deg, (*jaws.jaw_x_mm, *jaws.jaw_y_mm), outline(upright)
        )
        result.append(TakenRadiograph(target, beam.number, view, jaws))
    return result


def grouped(taken: Sequence[TakenRadiograph], labels: Mapping[str, str]) -> list[tuple[str, list[RadiographView]]]:
    """Return the pictures of the report: those of each plan's beams, then the set-up pairs."""
    groups: dict[str, list[RadiographView]] = {}
    for one in taken:
        name = f"Beams of plan {labels.get(one.plan, one.plan)}" if one.beam_number is not None else "Set-up images"
        groups.setdefault(name, []).append(one.view)
    return sorted(groups.items(), key=lambda pair: pair[0].startswith("Set-up"))


def write_radiographs(
    folder: Path,
    case: Case,
    taken: Sequence[TakenRadiograph],
    machine: Machine,
    plan_uids: Mapping[str, str],
) -> list[tuple[Path, str]]:
    """Write RTIMAGE files; return each with what it shows."""
    written: list[tuple[Path, str]] = []
    counts: dict[str, int] = {}
    for one in taken:
        geometry = one.view.image.geometry
        kind = f"beam_{one.beam_number}" if one.beam_number is not None else f"setup_{geometry.gantry_deg:g}"
        stem = f"RI_{one.plan}_{kind}"
        counts[stem] = counts.get(stem, 0) + 1
        path = folder / (f"{stem}.dcm" if counts[stem] == 1 else f"{stem}_{counts[stem]}.dcm")
        write_rtimage(
            case,
            one.view.image,
            path,
            label=f"DRR {one.plan} {one.beam_number or f'{geometry.gantry_deg:g}'}",
            machine_name=machine.name,
            plan_uid=plan_uids.get(one.plan, ""),
            beam_number=one.beam_number,
            aperture=one.jaws if one.view.collimator_deg == 0 else None,
        )
        written.append((path, f"radiograph of {one.view.title} ({one.plan})"))
    return written
