"""Two CTs of one patient tied together: by a registration object that came with them, or by Cantlie's registration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part, silent
from cantlie.core.volume import Volume
from cantlie.course.deformed_dose import TG132_UNCERTAINTY_MM
from cantlie.course.registration import RegistrationSettings, register
from cantlie.course.registration_field import DisplacementField, RigidTransform
from cantlie.course.registration_quality import LIMIT_DICE, TG132, RegistrationQuality, registration_quality
from cantlie.dicom.registration_file import (
    RegistrationFile,
    write_deformable_registration,
    write_spatial_registration,
)
from cantlie.patient.case import Case
from cantlie.patient.masks import structure_fractions
from cantlie.patient.names import BODY

CITATIONS = (
    "Mattes et al. 2003, doi:10.1109/TMI.2003.809072 (mutual information)",
    "Vercauteren et al. 2009, doi:10.1016/j.neuroimage.2008.10.040 (diffeomorphic demons)",
    TG132,
)
LIVER = "Liver"
CONVENTION = "point of the reference CT + displacement = point of the moving CT (moving_from_reference), LPS mm"


@dataclass(frozen=True, slots=True, eq=False)
class ImageLink:
    """Where each point of a reference CT lies in a moving CT, and how good that is.

    Parameters
    ----------
    field
        moving_from_reference, on the registration grid.
    rigid
        Its rigid step; None where a registration object gave the field.
    origin
        Who registered, and how.
    correlation
        Of the grey values: before, after the rigid step, at the end; empty where a registration object was used.
    uncertainty_mm
        Standard error taken for the dose: 2 mm (TG-132), or the mean distance of the liver surfaces where that is more.
    """

    field: DisplacementField
    rigid: RigidTransform | None
    origin: str
    correlation: tuple[float, ...]
    quality: RegistrationQuality
    uncertainty_mm: float
    notes: tuple[Note, ...] = ()


def link_images(
    reference: Case,
    moving: Case,
    settings: RegistrationSettings,
    registrations: Sequence[RegistrationFile] = (),
    progress: Progress = silent,
) -> ImageLink:
    """Tie two CTs together.

    Parameters
    ----------
    registrations
        Objects that came with the CTs; the first that connects both is used, a deformable one before a rigid one.

    Raises
    ------
    GeometryError
        If the images cannot be registered.
    """
    grid = reference.ct.volume.grid.resampled((settings.spacing_mm,) * 3)
    drawn = masks_of(reference, grid)
    progress(0.1, "structures of both CTs")
    other = masks_of(moving, _coarse(moving.ct.volume.grid))
    fitting = [one for one in registrations if one.connects(reference.ct, moving.ct)]
    fitting.sort(key=lambda one: not one.deformable)
    notes: list[Note] = []
    rigid: RigidTransform | None = None
    if fitting:
        chosen = fitting[0]
        field = chosen.field_between(reference.ct, moving.ct, grid)
        kind = "deformable" if chosen.deformable else "rigid"
        origin = f"the {kind} registration object of the case, not Cantlie's own registration"
        correlation: tuple[float, ...] = ()
        notes += [*chosen.notes, Note(f"{origin} was used", "registration", "info")]
        progress(0.9, "registration object")
    else:
        step = part(progress, 0.1, 0.95)
        found = register(reference.ct.volume, moving.ct.volume, settings, reference_mask=drawn.get(BODY), progress=step)
        field, rigid, correlation = found.field, found.rigid, found.correlation
        origin = f"Cantlie, {settings.method} at {settings.spacing_mm:g} mm"
        notes += found.notes
    body = np.asarray(drawn[BODY].values) >= 0.5 if BODY in drawn and drawn[BODY].grid == field.grid else None
    quality = registration_quality(field, reference_structures=drawn, moving_structures=other, mask=body)
    poor = [name for name, value in quality.dice.items() if value < LIMIT_DICE]
    if poor:
        notes.append(
            Note(f"propagated and drawn contours overlap little (Dice below {LIMIT_DICE}): {', '.join(poor)}",
                 "registration")
        )  # fmt: skip
    if reference.identity.patient_id != moving.identity.patient_id:
        notes.append(Note("the patient IDs of the two CTs differ; make sure that they are of one patient", "CT"))
    distance = quality.surface_distance_mm.get(LIVER, 0.0)
    error = max(TG132_UNCERTAINTY_MM, distance if np.isfinite(distance) else 0.0)
    return ImageLink(field, rigid, origin, correlation, quality, error, tuple(dict.fromkeys(notes)))


def masks_of(case: Case, grid: Grid) -> dict[str, Volume]:
    """Return the partial-volume masks of all structures with contours on a grid, by their standard names."""
    return {s.key: Volume(grid, structure_fractions(s, grid)) for s in case.structures if s.contours_mm}


def link_results(link: ImageLink) -> dict[str, Any]:
    """Return a link as plain values for results.json."""
    quality = link.quality
    result: dict[str, Any] = {
        "origin": link.origin,
        "convention": CONVENTION,
        "largest_displacement_mm": float(np.linalg.norm(link.field.displacement_mm, axis=-1).max()),
        "jacobian": asdict(quality.jacobian),
        "dice": dict(quality.dice),
        "mean_surface_distance_mm": dict(quality.surface_distance_mm),
        "uncertainty_mm": link.uncertainty_mm,
        "source": TG132,
    }
    if link.correlation:
        before, rigid, after = link.correlation
        result["correlation"] = {"before": before, "rigid": rigid, "after": after}
    if link.rigid is not None:
        result["rigid_matrix"] = link.rigid.matrix().tolist()
        result["rotation_deg"] = list(link.rigid.angles_deg)
        result["translation_mm"] = list(link.rigid.translation_mm)
    return result


def write_link(
    folder: Path, reference: Case, moving: Case, link: ImageLink, *, moving_image_class: str = ""
) -> dict[str, str]:
    """Write a link as registration objects: REG_rigid.dcm where there is a rigid step, REG_deformable.dcm.

    Returns
    -------
    dict of str to str
        File name to what it holds.
    """
    options: Mapping[str, Any] = {"moving_image_class": moving_image_class} if moving_image_class else {}
    written = {}
    if link.rigid is not None:
        path = folder / "REG_rigid.dcm"
        write_spatial_registration(reference, moving, link.rigid.matrix(), path, comment=link.origin, **options)
        written[path.name] = "rigid registration of the earlier CT to this one"
    path = folder / "REG_deformable.dcm"
    write_deformable_registration(reference, moving, link.field, path, comment=link.origin, **options)
    written[path.name] = "deformable registration of the earlier CT to this one"
    return written


def _coarse(grid: Grid) -> Grid:
    dx, dy, dz = (max(2.0, s) for s in grid.spacing_mm)
    return grid.resampled((dx, dy, dz))
