"""Writing a cohort as a folder of CSV files that can be read again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cantlie.cohort.importing import SYNTHETIC_MARK
from cantlie.cohort.tables import Cohort
from cantlie.core.files import write_text


def write_cohort(cohort: Cohort, folder: Path, *, remarks: tuple[str, ...] = ()) -> tuple[Path, ...]:
    """Write one CSV file for each table; a synthetic cohort also gets a file that says so, with the remarks.

    Columns without any value are left out.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    written = []
    if cohort.synthetic:
        lines = [
            "SYNTHETIC",
            "",
            "The patients in this folder do not exist. The tables were made from numbers printed in a paper, to try",
            "out the analysis. They are no evidence. Cantlie marks every output made from them as SYNTHETIC.",
            "",
            *remarks,
        ]
        write_text(folder / SYNTHETIC_MARK, "\n".join(lines) + "\n")
        written.append(folder / SYNTHETIC_MARK)
    for name, frame in cohort.tables.items():
        filled = frame.dropna(axis=1, how="all")
        whole = {
            str(column): filled[column].astype("Int64")
            for column in filled
            if filled[column].dtype.kind == "f" and (filled[column].dropna() % 1 == 0).all()
        }
        text = pd.DataFrame(filled.assign(**whole)).to_csv(index=False, date_format="%Y-%m-%d")
        write_text(folder / f"{name}.csv", text)
        written.append(folder / f"{name}.csv")
    return tuple(written)
