"""The error tree: every error says what is wrong, where, and what to do about it."""

from __future__ import annotations


class CantlieError(Exception):
    """A problem that a user can understand and mend.

    Parameters
    ----------
    what
        What is wrong, as one clause without a full stop.
    where
        The file, tag, row, structure or setting that it concerns; may be empty.
    remedy
        What the user can do about it, as one clause; may be empty.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what.rstrip(". ")
        self.where = where
        self.remedy = remedy.rstrip(". ")
        super().__init__(self.sentence())

    @property
    def further(self) -> tuple[str, ...]:
        """More problems of the same kind, one clause each, where an input has several."""
        return ()

    def sentence(self) -> str:
        """Return the whole message as one line: what, where, what to do."""
        place = f" ({self.where})" if self.where else ""
        advice = f"; {self.remedy}" if self.remedy else ""
        return f"{self.what}{place}{advice}."


class InputError(CantlieError):
    """An option or a file named by the user that cannot be used."""


class DicomError(CantlieError):
    """A DICOM file or folder that cannot be used."""


class StructureError(CantlieError):
    """A structure that is missing, empty or contradictory."""


class GeometryError(CantlieError):
    """Images, grids or beams whose geometry does not fit together."""


class ProtocolError(CantlieError):
    """A protocol, study or claims file that is wrong, with the line and the reason."""


class MachineError(CantlieError):
    """A machine that is unknown, or something that the machine cannot deliver."""


class DoseError(CantlieError):
    """A dose calculation that cannot be done as asked."""


class PlanningError(CantlieError):
    """A plan that cannot be made from the given patient, protocol and machine."""


class CohortError(CantlieError):
    """A patient-level table that breaks a rule, with file, row and column."""


class StatisticsError(CantlieError):
    """Data that a statistical method cannot be applied to."""


class OutputError(CantlieError):
    """An output folder or file that cannot be written."""
