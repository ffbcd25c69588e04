"""Plans on other CTs of the patient: their doses carried over to the CT that all is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cantlie.core.errors import DicomError
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part, silent
from cantlie.core.volume import Volume
from cantlie.course.deformed_dose import DeformedDose, deformed_dose
from cantlie.course.registration import RegistrationSettings
from cantlie.dicom.companions import doses_of_case, plans_of_case
from cantlie.dicom.plan_file import PlanFile
from cantlie.dicom.reading import read_case
from cantlie.dicom.registration_file import registrations_of_case
from cantlie.dicom.rtdose import SINGLE_PLAN_TYPES, DoseFile
from cantlie.patient.case import Case
from cantlie.patient.regions import Regions
from cantlie.protocol.schema import Protocol
from cantlie.report.case_pages import with_colours
from cantlie.report.case_report import StructureView
from cantlie.report.document import Figure, Paragraph, Section
from cantlie.report.uncertainty_figure import uncertainty_figure
from cantlie.report.view import view_of
from cantlie.workflow.dosimetry import Dosimetry
from cantlie.workflow.image_link import ImageLink, link_images, link_results
from cantlie.workflow.limit_bands import bands_results, bands_table, limit_bands
from cantlie.workflow.link_page import link_section


@dataclass(frozen=True, slots=True, eq=False)
class OtherCt:
    """One other CT: its case, its doses on the reference CT, its plans, and how the two CTs hang together."""

    case: Case
    carried: tuple[DeformedDose, ...]
    files: tuple[DoseFile, ...]
    plans: tuple[PlanFile, ...]
    link: ImageLink


@dataclass(frozen=True, slots=True, eq=False)
class OtherCts:
    """All other CTs.

    ``files`` are RTDOSE as read, with the dose on the grid of the reference CT; ``plans`` the RTPLANs beside them.
    """

    cts: tuple[OtherCt, ...] = ()

    @property
    def files(self) -> tuple[DoseFile, ...]:
        """The doses of all of them."""
        return tuple(file for ct in self.cts for file in ct.files)

    @property
    def plans(self) -> tuple[PlanFile, ...]:
        """The plans of all of them."""
        return tuple(plan for ct in self.cts for plan in ct.plans)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What must be said."""
        notes = [note for ct in self.cts for note in (*ct.link.notes, *(n for c in ct.carried for n in c.notes))]
        if self.cts:
            count = len(self.cts)
            message = (
                f"doses of {count} other CT{'' if count == 1 else 's'} were deformed to this CT by interpolation; all "
                "is judged here"
            )
            notes.append(Note(message, "RTDOSE", "info"))
        return tuple(dict.fromkeys(notes))

    def carried_gy(self) -> tuple[Volume, Volume]:
        """Return the sum of the carried-over doses and of their standard errors, on the grid of the first."""
        parts = [one for ct in self.cts for one in ct.carried]
        grid = parts[0].dose.grid
        dose, error = (np.zeros(grid.shape, np.float32) for _ in range(2))
        for one in parts:
            dose += one.dose.resample(grid).values
            error += one.uncertainty.resample(grid).values
        return Volume(grid, dose), Volume(grid, error)

    def results(self, dosimetry: Dosimetry, protocol: Protocol, regions: Regions, total: Volume) -> dict[str, Any]:
        """Return them as plain values for results.json; empty without any."""
        if not self.cts:
            return {}
        dose, error = self.carried_gy()
        return {
            "other_cts": {
                "judged_on": "the CT of CASE",
                "registrations": [link_results(ct.link) for ct in self.cts],
                "limits": bands_results(limit_bands(dosimetry, protocol, regions, total, dose, error)),
            }
        }

    def chapters(
        self,
        reference: Case,
        views: Sequence[StructureView],
        dosimetry: Dosimetry,
        protocol: Protocol,
        regions: Regions,
        total: Volume,
    ) -> tuple[Section, ...]:
        """Return the chapters of the report; none without other CTs."""
        if not self.cts:
            return ()
        dose, error = self.carried_gy()
        views = with_colours(views)
        figure = uncertainty_figure(
            reference.ct.volume, error, view_of(reference.ct.volume, views), [v for v in views if v.role == "target"]
        )
        origins = "; ".join(dict.fromkeys(ct.link.origin for ct in self.cts))
        first = Section(
            "Doses of other CTs",
            [
                Paragraph(
                    f"{_counted(len(self.files), 'dose')} of {_counted(len(self.cts), 'other CT')} "
                    f"{'was' if len(self.files) == 1 else 'were'} deformed to this CT ({origins}; "
                    "interpolation) and summed with the doses here, each with its own fractions.",
                    style="lead",
                ),
                bands_table(limit_bands(dosimetry, protocol, regions, total, dose, error), "Other CTs"),
                Figure(
                    figure,
                    caption="Standard error of the dose that was carried over: its gradient times the error of the "
                    "registration",
                    alt="Uncertainty of the deformed dose",
                    name="other-ct-uncertainty",
                ),
            ],
        )
        lesions = [view.name for view in views if view.role == "gtv"]
        chapters = [first]
        for number, ct in enumerate(self.cts, start=1):
            title = "Registration of the CTs" if len(self.cts) == 1 else f"Registration of CT {number + 1}"
            chapters.append(link_section(reference, ct.case, ct.link, lesions, title=title, other="the other CT"))
        return tuple(chapters)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def doses_of_other_cts(
    folders: Sequence[Path], case: Path, reference: Case, *, aliases: Path | None = None, progress: Progress = silent
) -> OtherCts:
    """Read the doses that lie on other CTs and carry them over to the reference CT.

    Parameters
    ----------
    folders
        Each with a CT, its RTSTRUCT where there is one, its RTDOSE and, for the fractions, its RTPLAN; registration
        objects there or in the case are used before Cantlie's own registration.
    case
        Folder of the reference case.

    Raises
    ------
    DicomError
        If a folder has no dose, or is the case itself.
    """
    cts = []
    for number, folder in enumerate(folders):
        step = part(progress, number / len(folders), (number + 1) / len(folders))
        other = read_case(folder, aliases=aliases)
        if other.ct.series_instance_uid == reference.ct.series_instance_uid:
            raise DicomError(
                "this is the CT of the case itself", where=str(folder), remedy="name its doses with --dose instead"
            )
        files = doses_of_case(folder, other)
        single = [file for file in files if file.summation_type in SINGLE_PLAN_TYPES]
        if not files:
            raise DicomError("the other CT has no RTDOSE", where=str(folder), remedy="add the dose of its plan")
        objects = (*registrations_of_case(folder), *registrations_of_case(case))
        link = link_images(reference, other, RegistrationSettings(), objects, step)
        carried = []
        for file in single or files:
            grid = reference.ct.volume.grid.resampled(file.dose.grid.spacing_mm)
            carried.append(deformed_dose(file.dose, link.field, grid, registration_mm=link.uncertainty_mm))
        mapped = tuple(replace(f, dose=c.dose) for f, c in zip(single or files, carried, strict=True))
        cts.append(OtherCt(other, tuple(carried), mapped, plans_of_case(folder, other), link))
    return OtherCts(tuple(cts))
