"""The first stage of every road: read a case, make its masks and its density."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import StructureError
from cantlie.core.files import read_text
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.dicom.inventory import ReadingReport
from cantlie.dicom.reading import read_case_with_report
from cantlie.patient.case import Case
from cantlie.patient.density import DensityCurve, default_density_curve, density_volume
from cantlie.patient.regions import Regions

_OUTSIDE_SHARE = 0.02
_TISSUE_HU = (-600.0, 400.0)


@dataclass(frozen=True, slots=True)
class CaseRequest:
    """A case and how the user wants it read; None stands for the default.

    Parameters
    ----------
    case
        Folder or zip of DICOM files.
    aliases
        TOML file of structure names.
    density_curve
        CSV file of HU and density.
    series, structure_set, patient
        Which CT, structure set and patient to take where the case holds several.
    label
        What reports call the case.
    """

    case: Path
    _: KW_ONLY
    aliases: Path | None = None
    density_curve: Path | None = None
    series: str | None = None
    structure_set: str | None = None
    patient: str | None = None
    label: str = ""

    def pseudonym(self, case: Case) -> str:
        """Return what reports call the case: what the user does, or its own pseudonym."""
        return self.label or case.pseudonym


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPatient:
    """A patient ready for planning: masks by TG-263 name and mass density in g/cm³, both on the CT grid."""

    case: Case
    report: ReadingReport
    regions: Regions
    density: Volume
    curve: DensityCurve
    notes: tuple[Note, ...]


def prepare_patient(request: CaseRequest, progress: Progress = silent) -> PreparedPatient:
    """Read a case and rasterise its structures.

    Raises
    ------
    CantlieError
        If the case cannot be used, with what is wrong, where, and what to do.
    """
    curve = read_density_curve(request.density_curve)
    progress(0.05, "reading DICOM")
    case, report = read_case_with_report(
        request.case,
        aliases=request.aliases,
        series_uid=request.series,
        structure_set=request.structure_set,
        patient_id=request.patient,
    )
    progress(0.4, "drawing structures")
    usable = [structure for structure in case.structures if structure.contours_mm]
    regions = Regions.from_structures(usable, case.ct.volume.grid)
    if "BODY" not in regions or not regions["BODY"].any():
        raise StructureError(
            "the outline of the patient lies outside the CT", where="BODY", remedy="check that both belong together"
        )
    progress(0.9, "density")
    density = density_volume(case.ct.volume, regions["BODY"], curve)
    notes = (*case.notes, *_outside_notes(regions), *_tissue_notes(case.ct.volume, regions["BODY"]))
    return PreparedPatient(case, report, regions, density, curve, notes)


def _outside_notes(regions: Regions) -> list[Note]:
    """Say which structures reach out of the patient, where the density is that of air."""
    body = regions["BODY"]
    notes = []
    for name, mask in regions.fractions.items():
        whole = float(mask.sum(dtype=np.float64))
        outside = whole - float(np.minimum(mask, body).sum(dtype=np.float64))
        if name != "BODY" and outside > _OUTSIDE_SHARE * whole:
            message = (
                f"{100 * outside / whole:.0f} % of it lies outside the outline of the patient, in what is taken as air"
            )
            notes.append(Note(message, name))
    return notes


def _tissue_notes(ct: Volume, body: NDArray[np.floating]) -> list[Note]:
    """Say where the HU inside the patient are not those of tissue: rescale values wrong, or not a CT in HU."""
    images_and_masks = zip(ct.values, body >= 0.5, strict=True)
    medians = [float(np.median(image[inside])) for image, inside in images_and_masks if inside.any()]
    odd = [median for median in medians if not _TISSUE_HU[0] <= median <= _TISSUE_HU[1]]
    if not odd:
        return []
    images = "of the CT" if len(odd) == len(medians) else f"of {len(odd)} of {len(medians)} CT images"
    message = f"half of the patient {images} lies beyond {odd[0]:.0f} HU, which is not tissue; check the rescale values"
    return [Note(message, "CT")]


def read_density_curve(path: Path | None) -> DensityCurve:
    """Return the density curve of a CSV file, or the default one.

    Raises
    ------
    CantlieError
        If the file cannot be read or is not a density curve.
    """
    if path is None:
        return default_density_curve()
    return DensityCurve.from_csv_text(read_text(path, "density curve"), str(path))
