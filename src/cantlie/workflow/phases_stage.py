"""The first stage for a 4D-CT: which phase is planned on, and the internal targets of what the phases show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import InputError
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part, silent
from cantlie.core.provenance import sha256_of_bytes
from cantlie.core.volume import Volume
from cantlie.course.registration import RegistrationSettings, register
from cantlie.dicom.case_images import CaseImage, images_of_case, phases_of, read_image
from cantlie.dicom.reading import read_case
from cantlie.patient.case import Case
from cantlie.patient.density import density_volume
from cantlie.patient.masks import structure_fractions
from cantlie.patient.regions import Regions
from cantlie.protocol.sections import Phases
from cantlie.report.document import Block, Column, Paragraph, Section, Table
from cantlie.target.phase_contours import (
    LIVER,
    MovingStructure,
    itv_name,
    moving_structures,
    named_phases,
    with_internal_targets,
)
from cantlie.workflow.patient_stage import CaseRequest, PreparedPatient, prepare_patient

Fractions = NDArray[np.float32]
PlanningPhase = Literal["exhale", "mid_position", "average"]
_EXHALE_PERCENT = 50.0
_PROJECTIONS = {"maximum": "a maximum intensity projection", "minimum": "a minimum intensity projection",
                "average": "the average of the phases"}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class RespiratoryPhases:
    """What the phases of a 4D-CT told.

    Parameters
    ----------
    phases
        All phases found, in their order.
    planned_on
        The image that is planned on, in words.
    moving
        Structures with their internal targets.
    source
        Where the contours of the phases come from.
    """

    phases: tuple[str, ...]
    planned_on: str
    moving: tuple[MovingStructure, ...]
    source: str

    def results(self) -> dict[str, Any]:
        """Return it as plain values for results.json."""
        return {
            "phases": list(self.phases),
            "planned_on": self.planned_on,
            "contours": self.source,
            "structures": [
                {
                    "structure": one.name,
                    "itv": one.itv,
                    "phases": list(one.phases),
                    "amplitude_mm": {"left_right": one.motion.amplitude_mm[0],
                                     "anterior_posterior": one.motion.amplitude_mm[1],
                                     "craniocaudal": one.motion.amplitude_mm[2]},
                    "exhale": one.motion.exhale,
                    "mid_position": one.motion.mid_position,
                    "planned_cc": one.planned_cc,
                    "itv_cc": one.itv_cc,
                }
                for one in self.moving
            ],
        }  # fmt: skip

    def section(self) -> Section:
        """Return the chapter of the report."""
        blocks: list[Block] = [
            Paragraph(
                f"{len(self.phases)} phases of breathing were found ({', '.join(self.phases)}). "
                f"Planned on {self.planned_on}. Contours: {self.source}.",
                style="lead",
            )
        ]
        if self.moving:
            columns = [Column("Structure"), Column("Phases"), Column("Left-right", unit="mm", digits=1),
                       Column("Anterior-posterior", unit="mm", digits=1), Column("Craniocaudal", unit="mm", digits=1),
                       Column("Planning phase", unit="cm³", digits=1), Column("All phases", unit="cm³", digits=1),
                       Column("Exhale")]  # fmt: skip
            rows = [
                [f"{one.name} → {one.itv}", len(one.phases), *one.motion.amplitude_mm, one.planned_cc, one.itv_cc,
                 one.motion.exhale]
                for one in self.moving
            ]  # fmt: skip
            blocks.append(
                Table(columns, rows, caption="Motion of the centre, peak to peak, and the union of the phases (ITV)")
            )
        return Section("Breathing", blocks)


def prepare_breathing_patient(
    request: CaseRequest, phases: Phases, *, wanted: PlanningPhase | None = None, progress: Progress = silent
) -> tuple[PreparedPatient, RespiratoryPhases | None]:
    """Read a case; where it holds a 4D-CT, choose the planning phase and add the internal targets to its regions.

    The lesions of all phases with contours of their own are united to ``ITV...`` (the liver to ``Liver_ITV``); so are
    structures of one set that are named after phases (GTV_0 ... GTV_90). A contour on a projection (MIP) or average is
    taken for the internal target. Contours on one phase only are propagated where the protocol says so.

    Parameters
    ----------
    request
        How to read the case; a series or structure set that the user names is planned on, before all rules.
    wanted
        The user's choice of the phase in place of the protocol's.

    Raises
    ------
    CantlieError
        If the case cannot be used, or the wanted phase cannot be told.
    """
    path, aliases = request.case, request.aliases
    is_chosen = bool(request.series or request.structure_set)
    images = () if is_chosen else _with_own_sets(images_of_case(path, patient_id=request.patient))
    cycle = phases_of(images)
    asked = wanted or phases.planning
    if not cycle:
        prepared = prepare_patient(request, progress)
        prepared, named = _named_in_one_set(prepared)
        if wanted is not None and named is None:
            raise InputError("the case holds no 4D-CT", where="--planning-phase", remedy="leave the option out")
        return prepared, named
    chosen = _planning_image(path, images, cycle, asked, aliases)
    on_chosen = replace(request, series=chosen.series_uid, structure_set=chosen.structure_sets[0])
    prepared = prepare_patient(on_chosen, part(progress, 0.0, 0.4))
    names = [_name(image) for image in cycle]
    notes = [Note(f"planned on {_name(chosen)} of a 4D-CT with {len(cycle)} phases ({', '.join(names)})", "CT", "info")]
    others: dict[str, Mapping[str, Fractions]] = {}
    hashes = [prepared.case.input_sha256]
    drawn = [image for image in cycle if image.structure_sets and image is not chosen]
    source = "drawn on each phase"
    for number, image in enumerate(drawn):
        progress(0.4 + 0.3 * number / len(drawn), f"contours of {_name(image)}")
        case = _case(path, image, aliases)
        hashes.append(case.input_sha256)
        others[_name(image)] = _masks(case, prepared.regions)
    regions = prepared.regions
    moving: tuple[MovingStructure, ...] = ()
    if chosen.label.kind in _PROJECTIONS:
        source = f"drawn on {_PROJECTIONS[chosen.label.kind]}, and taken for the internal target"
        for name in [n for n in regions.fractions if n.upper().startswith("GTV") and itv_name(n) not in regions]:
            regions = regions.with_region(itv_name(name), regions[name])
        notes.append(Note(f"the lesions were {source}", "ITV"))
    elif not others and phases.contours == "propagated":
        others = _propagated(path, prepared, [i for i in cycle if i is not chosen], part(progress, 0.4, 0.95))
        source = f"drawn on {_name(chosen)} and propagated to the other phases by deformable registration"
        notes.append(Note(f"the contours were {source}; look at them", "ITV"))
    elif not others:
        source = f"drawn on {_name(chosen)} only; there is no internal target"
        message = (
            'one phase is contoured, so there is no ITV; contour the others, or set phases.contours = "propagated"'
        )
        notes.append(Note(message, "4D-CT"))
    if others:
        ordered = {name: others[name] for name in names if name in others}
        moving = moving_structures(regions, _with_planned(ordered, regions, names, _name(chosen)), _name(chosen))
        regions = with_internal_targets(regions, moving)
        notes += _doubts(moving, chosen, asked)
    density = prepared.density
    planned_on = f"{_name(chosen)}" + (f" ({asked.replace('_', '-')})" if chosen.label.kind == "phase" else "")
    if asked == "average" and chosen.label.kind == "phase":
        density = _mean_density(path, prepared, cycle)
        planned_on = f"{_name(chosen)}, with dose in the mean density of all phases"
        notes.append(Note("dose is computed in the mean of all phases; contours are those of one phase", "CT", "info"))
    case = replace(prepared.case, input_sha256=sha256_of_bytes("\n".join([*hashes, asked, phases.contours]).encode()))
    prepared = replace(
        prepared, case=case, regions=regions, density=density, notes=tuple(dict.fromkeys((*prepared.notes, *notes)))
    )
    progress(1.0, "phases of breathing")
    return prepared, RespiratoryPhases(tuple(names), planned_on, moving, source)


def _with_own_sets(images: Sequence[CaseImage]) -> tuple[CaseImage, ...]:
    """Give a structure set that fits several images (it names a frame, no image) to the one nearest to exhale."""
    ranked = sorted(images, key=lambda image: abs((image.label.phase_percent or 0.0) - _EXHALE_PERCENT))
    taken: set[str] = set()
    own: dict[str, tuple[str, ...]] = {}
    for image in ranked:
        own[image.series_uid] = tuple(uid for uid in image.structure_sets if uid not in taken)
        taken |= set(image.structure_sets)
    return tuple(replace(image, structure_sets=own[image.series_uid]) for image in images)


def _planning_image(
    path: Path, images: Sequence[CaseImage], cycle: Sequence[CaseImage], asked: PlanningPhase, aliases: Path | None
) -> CaseImage:
    """Return the image to plan on: one that has contours, the wanted phase where that is among them."""
    drawn = [image for image in cycle if image.structure_sets]
    frame = cycle[0].frame_uid
    projections = [i for i in images if i.label.kind in _PROJECTIONS and i.frame_uid == frame and i.structure_sets]
    if asked == "average":
        own = [image for image in projections if image.label.kind == "average"]
        if own:
            return own[0]
    if not drawn:
        if projections:
            return projections[0]
        raise InputError(
            "the case holds a 4D-CT, but no phase of it has contours",
            where=str(path),
            remedy="add the RTSTRUCT of at least one phase, or choose another CT with --series",
        )
    if len(drawn) == 1:
        return drawn[0]
    percents = [image.label.phase_percent for image in drawn]
    if asked != "mid_position" and all(percent is not None for percent in percents):
        return min(drawn, key=lambda image: abs((image.label.phase_percent or 0.0) - _EXHALE_PERCENT))
    moving = _centres(path, drawn, aliases)
    chosen = moving.motion.mid_position if asked == "mid_position" else moving.motion.exhale
    return next(image for image in drawn if _name(image) == chosen)


def _centres(path: Path, drawn: Sequence[CaseImage], aliases: Path | None) -> MovingStructure:
    """Return the motion of what is contoured on most phases, a lesion before the liver."""
    first = _case(path, drawn[0], aliases)
    coarse = first.ct.volume.grid.resampled((3.0, 3.0, max(first.ct.volume.grid.spacing_mm[2], 2.0)))
    empty = Regions(coarse, {})
    by_phase = {_name(image): _masks(_case(path, image, aliases), empty) for image in drawn}
    found = moving_structures(empty, by_phase, "")
    if not found:
        raise InputError(
            "no lesion and no liver is contoured on two phases, so the mid-position cannot be told",
            where="phases.planning",
            remedy="contour the phases, or plan on exhale",
        )
    return max(found, key=lambda one: (len(one.phases), one.name != LIVER))


def _case(path: Path, image: CaseImage, aliases: Path | None) -> Case:
    uid = image.structure_sets[0] if image.structure_sets else None
    return read_case(path, aliases=aliases, series_uid=image.series_uid, structure_set=uid)


def _masks(case: Case, planned: Regions) -> dict[str, Fractions]:
    """Return the masks of lesions and liver of another phase on the planning grid."""
    wanted = [s for s in case.structures if s.contours_mm and (s.key == LIVER or s.key.upper().startswith("GTV"))]
    return {s.key: structure_fractions(s, planned.grid) for s in wanted}


def _with_planned(
    others: Mapping[str, Mapping[str, Fractions]], regions: Regions, names: Sequence[str], planned: str
) -> dict[str, Mapping[str, Fractions]]:
    """Return the phases in the order of the cycle, with the planning phase in its place."""
    own = {n: m for n, m in regions.fractions.items() if n == LIVER or n.upper().startswith("GTV")}
    return {name: own if name == planned else others[name] for name in names if name == planned or name in others}


def _propagated(
    path: Path, prepared: PreparedPatient, others: Sequence[CaseImage], progress: Progress
) -> dict[str, Mapping[str, Fractions]]:
    """Return the lesions and the liver of the planning phase as registration finds them on the other phases."""
    regions = prepared.regions
    if LIVER not in regions:
        raise InputError("contours are propagated with the liver", where=LIVER, remedy="contour the liver")
    reach = np.argwhere(regions[LIVER] > 0.5)
    grid = regions.grid
    lower = grid.mm_from_index(reach.min(axis=0)) - 50.0
    upper = grid.mm_from_index(reach.max(axis=0)) + 50.0
    box, at = grid.crop(lower, upper)
    planned = Volume(box, np.asarray(prepared.case.ct.volume.values)[at])
    names = [n for n in regions.fractions if n == LIVER or n.upper().startswith("GTV")]
    found: dict[str, Mapping[str, Fractions]] = {}
    for number, image in enumerate(others):
        step = part(progress, number / len(others), (number + 1) / len(others))
        other = read_image(path, image.series_uid).volume
        other_box = Volume(box, other.resample(box, outside=-1000.0).values)
        link = register(other_box, planned, RegistrationSettings("demons", 3.0), progress=step)
        masks: dict[str, Fractions] = {}
        for name in names:
            mask = np.zeros(grid.shape, np.float32)
            mask[at] = np.clip(link.field.pull(Volume(box, regions[name][at]), box).values, 0, 1)
            masks[name] = mask
        found[_name(image)] = masks
    return found


def _mean_density(path: Path, prepared: PreparedPatient, cycle: Sequence[CaseImage]) -> Volume:
    grid = prepared.case.ct.volume.grid
    total: NDArray[np.float64] = np.zeros(grid.shape)
    for image in cycle:
        total += read_image(path, image.series_uid).volume.resample(grid, outside=-1000.0).values
    mean = Volume(grid, (total / len(cycle)).astype(np.float32))
    return density_volume(mean, prepared.regions["BODY"], prepared.curve)


def _doubts(moving: Sequence[MovingStructure], chosen: CaseImage, asked: PlanningPhase) -> list[Note]:
    notes = []
    for one in moving:
        if asked == "exhale" and chosen.label.kind == "phase" and one.motion.exhale != _name(chosen):
            places = dict(zip(one.phases, one.motion.centres_mm[:, 2], strict=True))
            lower = places[one.motion.exhale] - places[_name(chosen)] if _name(chosen) in places else 0.0
            if lower > 2.0:
                message = f"it lies {lower:.1f} mm higher on {one.motion.exhale} than on the phase taken for exhale"
                notes.append(Note(message, one.name))
    return notes


def _named_in_one_set(prepared: PreparedPatient) -> tuple[PreparedPatient, RespiratoryPhases | None]:
    """Unite structures of one set that are named after phases."""
    groups = named_phases(list(prepared.regions.fractions))
    if not groups:
        return prepared, None
    fractions = dict(prepared.regions.fractions)
    moving: list[MovingStructure] = []
    phases: dict[float, None] = {}
    for base, members in groups.items():
        by_phase = {f"{percent:g} %": {base: fractions.pop(name)} for percent, name in members.items()}
        phases |= dict.fromkeys(members)
        exhale = min(members, key=lambda percent: abs(percent - _EXHALE_PERCENT))
        planned = by_phase[f"{exhale:g} %"][base]
        if base in fractions:
            planned = fractions[base]
        fractions[base] = planned
        own = Regions(prepared.regions.grid, {base: planned})
        moving += moving_structures(own, by_phase, f"{exhale:g} %")
    regions = with_internal_targets(Regions(prepared.regions.grid, fractions), moving)
    names = ", ".join(groups)
    note = Note(f"{names}: contours named after phases were united to an internal target", "ITV", "info")
    source = "of one structure set, named after the phases"
    prepared = replace(prepared, regions=regions, notes=(*prepared.notes, note))
    return prepared, RespiratoryPhases(
        tuple(f"{p:g} %" for p in sorted(phases)), "the one CT of the case", tuple(moving), source
    )


def _name(image: CaseImage) -> str:
    label = image.label
    if label.kind != "phase":
        return image.description or label.kind
    return f"{label.phase_percent:g} %" if label.phase_percent is not None else f"phase {label.position}"
