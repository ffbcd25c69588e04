"""The figures of one patient for the report of a study: taken from finished runs of `cantlie plan` or `follow-up`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cantlie.core.errors import InputError
from cantlie.evaluation.verdict import judged_text
from cantlie.report.document import Block, Cell, Column, Figure, Section, Table, Tone
from cantlie.study.dosimetry_runs import json_of_run

_CAPTIONS = {
    "targets": "Delineation: targets and organs at risk on the planning CT.",
    "isodose-course": "Dose distribution of the whole course.",
    "dvh-course": "Dose-volume histograms of the whole course.",
    "before-after": "Images before and after treatment on the same slices.",
}
_PREFIX = "patient"
_TONES: dict[str, Tone] = {"pass": "pass", "fail": "fail"}


def patient_section(number: int, run: Path) -> Section:
    """Return a chapter with the figures of a run and the limits of its protocol, met or not.

    Parameters
    ----------
    number
        From 1; the files of the figures are named after it.
    run
        Folder of a finished run.

    Raises
    ------
    InputError
        If the folder holds no finished run with figures.
    """
    record, results = json_of_run(run / "run.json"), json_of_run(run / "results.json")
    if record.get("status") != "done":
        raise InputError("the run is not finished", where=run.name, remedy="finish `cantlie plan` first")
    blocks: list[Block] = []
    for name, caption in _CAPTIONS.items():
        file = run / "figures" / f"{name}.svg"
        if file.is_file():
            picture = f"{_PREFIX}-{number}-{name}"
            blocks.append(Figure(file.read_bytes(), caption, caption, picture))
    if not blocks:
        raise InputError("the run has no figures of a patient", where=run.name, remedy="name a run of `cantlie plan`")
    rows = results.get("constraints") or []
    if rows:
        blocks.append(_limits(rows))
    protocol = (results.get("protocol") or {}).get("title", "")
    return Section(f"Images of one patient ({number})" + (f": {protocol}" if protocol else ""), blocks, new_page=True)


def _limits(rows: list[Mapping[str, Any]]) -> Table:
    return Table(
        ["Structure", "Metric", Column("Limit", align="right"), Column("Achieved", align="right"), "Verdict"],
        [
            [
                row["structure"],
                row["metric"],
                f"{row['op']} {row['limit']:g} {row['unit']}",
                _achieved(row),
                Cell(row["verdict"], tone=_TONES.get(row["verdict"], "muted")),
            ]
            for row in rows
        ],
        caption="Dose constraints of the protocol in this patient",
        compact=True,
    )


def _achieved(row: Mapping[str, Any]) -> str | None:
    value = row["achieved"]
    return None if value is None else f"{judged_text(value, row['limit'], 1)} {row['unit']}"
