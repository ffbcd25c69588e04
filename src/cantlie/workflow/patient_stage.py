"""The first stage of every road: read a case, make its masks and its density."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPatient:
    """A patient ready for planning: masks by TG-263 name and mass density in g/cm³, both on the CT grid."""

    case: Case
    report: ReadingReport
    regions: Regions
    density: Volume
    curve: DensityCurve
    notes: tuple[Note, ...]


def prepare_patient(
    path: Path,
    *,
    aliases: Path | None = None,
    density_curve: Path | None = None,
    series: str | None = None,
    structure_set: str | None = None,
    patient: str | None = None,
    progress: Progress = silent,
) -> PreparedPatient:
    """Read a case and rasterise its structures.

    Raises
    ------
    CantlieError
        If the case cannot be used, with what is wrong, where, and what to do.
    """
    curve = read_density_curve(density_curve)
    progress(0.05, "reading DICOM")
    case, report = read_case_with_report(
        path, aliases=aliases, series_uid=series, structure_set=structure_set, patient_id=patient
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
    return PreparedPatient(case, report, regions, density, curve, case.notes)


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
