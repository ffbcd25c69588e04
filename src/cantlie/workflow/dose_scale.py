"""Whether a dose from elsewhere has the size of what was prescribed: cGy written as Gy are off by a factor of 100."""

from __future__ import annotations

from collections.abc import Sequence

from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.dicom.plan_file import PlanFile

_MOST, _LEAST = 10.0, 0.1
"""Share of the prescription that a maximum lies between: wide, so that only another unit or another dose is beyond."""


def scale_notes(
    dose: Volume, prescribed_gy: float, prescribed_by: str, where: str, *, is_part: bool = False
) -> tuple[Note, ...]:
    """Return a warning where the highest dose is more than 10 times, or less than a tenth of, the prescription.

    Parameters
    ----------
    prescribed_gy
        Of the course; 0 where nothing says it, and nothing is held against it.
    prescribed_by
        What says it, in words.
    is_part
        Whether the dose may be of a part of that course (a beam, a session, a boost): a low one then means nothing.
    """
    highest_gy = float(dose.values.max())
    if not prescribed_gy > 0:
        return ()
    ratio = highest_gy / prescribed_gy
    if ratio > _MOST:
        size, causes = f"{ratio:.3g} times", "cGy written as Gy"
    elif ratio < _LEAST and not is_part:
        size, causes = f"{ratio:.2g} of", "another unit than Gy, or one fraction instead of all of them,"
    else:
        return ()
    message = (
        f"its highest dose is {highest_gy:.4g} Gy, {size} the {prescribed_gy:g} Gy that {prescribed_by} prescribes; it "
        f"was taken as it stands, but {causes} would look like that: check the file and export it again in Gy"
    )
    return (Note(message, where),)


def plan_prescription_gy(groups: Sequence[PlanFile]) -> float:
    """Return the prescribed dose of some fraction groups of a plan; 0 where one says none."""
    doses = [one.plan.prescription_gy for one in groups]
    if not doses or min(doses) <= 0:
        return 0.0
    return max(doses) if any(one.prescription_is_shared for one in groups) else sum(doses)
