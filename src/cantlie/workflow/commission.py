"""Commission a machine: measured beam data in, beam model, machine file and a report of residuals out."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from cantlie.core.errors import InputError
from cantlie.core.files import read_text, write_json, write_text
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.provenance import sha256_of_file
from cantlie.dose.commissioning import Commissioned, commission
from cantlie.dose.tank_residuals import TOLERANCE_SOURCE, CurveResiduals, Judged, curve_residuals, output_residuals
from cantlie.machine.beam_model_file import beam_model_toml
from cantlie.machine.machine import Machine, list_machines, load_machine, parse_machine
from cantlie.machine.measured import MeasuredBeam, MeasuredPart, measured_beam
from cantlie.machine.measured_csv import parse_csv
from cantlie.machine.measured_mcc import parse_mcc
from cantlie.machine.measured_w2cad import parse_w2cad
from cantlie.report.commission_report import CommissionPages, commission_document
from cantlie.report.writing import write_report
from cantlie.workflow.run_folder import RunFolder, key_of

STAGES = {"reading the data": 1.0, "fitting the beam model": 90.0, "report": 5.0}
_FORMATS = (".csv", ".asc", ".mcc")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,15}")
_CITATIONS = (
    "Ahnesjö 1989, doi:10.1118/1.596360 (collapsed cone)",
    "Ahnesjö 1992, Med Phys 19:263 (pencil kernels)",
    "Ahnesjö 1994, Med Phys 21:1227 (extra-focal radiation)",
    "Tailor 1998, Med Phys 25:662 (off-axis softening)",
    TOLERANCE_SOURCE,
)


@dataclass(frozen=True, slots=True)
class CommissionMachine:
    """What the user asks for; None stands for the default."""

    folder: Path
    out: Path
    name: str
    machine: str = "generic-6mv-120"
    energy_mv: float | None = None


def commission_machine(request: CommissionMachine, progress: Progress = silent) -> dict[str, Any]:
    """Fit a beam model to a folder of measured data, write it and its report; return what results.json holds.

    Raises
    ------
    CantlieError
        If the data or the machine cannot be used.
    """
    if not _NAME.fullmatch(request.name):
        raise InputError(
            f"{request.name!r} cannot be the name of a machine",
            where="--name",
            remedy="use up to 16 letters, digits, dots and dashes",
        )
    settings = {
        "name": "machine commission",
        "folder": str(request.folder),
        "machine": request.machine,
        "energy_mv": request.energy_mv,
    }
    with RunFolder(request.out, settings, STAGES, progress) as run:
        return _stages(run, request)


def read_measured_folder(folder: Path, energy_mv: float | None = None) -> tuple[MeasuredBeam, tuple[Path, ...]]:
    """Read all measured data of a folder (CSV, w2CAD .asc, PTW .mcc) and return them with the files used.

    Raises
    ------
    InputError
        If the folder has none, or something in a file is missing or wrong; names file and line.
    """
    if not folder.is_dir():
        raise InputError("the folder of measured data does not exist", where=str(folder))
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _FORMATS and path.is_file())
    if not files:
        raise InputError(
            "the folder has no measured data", where=str(folder), remedy=f"files must end in {', '.join(_FORMATS)}"
        )
    parts: list[MeasuredPart] = []
    notes: list[Note] = []
    for path in files:
        name = str(path.relative_to(folder))
        text = read_text(path, "measured data", or_latin_1=path.suffix.lower() != ".csv")
        if path.suffix.lower() == ".csv":
            parts += parse_csv(text, name)
            continue
        curves, remarks = (parse_w2cad if path.suffix.lower() == ".asc" else parse_mcc)(text, name)
        parts += curves
        notes += remarks
    return measured_beam(parts, energy_mv, notes), tuple(files)


def machine_toml(base: str, name: str, energy_mv: float, beam_model: str) -> str:
    """Return the TOML of a machine with the geometry of another one and a beam model of its own.

    Parameters
    ----------
    base
        Identifier or file of the machine whose geometry is taken.
    beam_model
        File name of the beam model, beside the machine file.
    """
    if base in list_machines():
        path = resources.files("cantlie.machine") / "data" / f"{base}.toml"
        text = path.read_text(encoding="utf-8")
    else:
        text = read_text(Path(base), "machine file")
    values: dict[str, str | float] = {
        "id": name,
        "name": name,
        "description": f"Geometry of {Path(base).stem}, beam model commissioned from measured data",
        "energy_mv": float(energy_mv),
        "beam_model": beam_model,
    }
    head, bracket, tables = text.partition("\n[")
    for key, value in values.items():
        line = f"{key} = {json.dumps(value, ensure_ascii=False)}"
        head, count = re.subn(rf"(?m)^{key}\s*=.*$", lambda _, line=line: line, head)  # type: ignore[misc]
        if count != 1:
            raise InputError(f"the machine file has no line of its own for {key}", where=base)
    # The energies that the other machine has beside are generic ones, not those of this linac.
    head, count = re.subn(r"(?m)^other_energies\s*=.*$", "other_energies = []", head)
    if not count:
        head = head.rstrip("\n") + "\nother_energies = []\n"
    return head + bracket + tables


def _stages(run: RunFolder, request: CommissionMachine) -> dict[str, Any]:
    run.clear("machine.toml", "beam.toml", "results.json", "residuals.csv", "report.html", "report.pdf", "figures")
    start = time.perf_counter()
    machine = load_machine(request.machine)
    data, files = run.stage(
        "reading the data",
        key_of(str(request.folder)),
        lambda _: read_measured_folder(request.folder, request.energy_mv),
        keep=False,
    )
    text = machine_toml(request.machine, request.name, data.energy_mv, "beam.toml")
    parse_machine(text.encode(), "machine.toml")
    fitted = run.stage(
        "fitting the beam model",
        key_of("fit"),
        lambda step: commission(data, request.name, sad_mm=machine.sad_mm, progress=step),
        keep=False,
    )
    if machine.cobalt is not None:
        day = machine.cobalt.reference_date
        message = (
            f"the dose rate belongs to reference_date = {day} of machine.toml; write the day of your calibration there"
        )
        fitted = replace(fitted, notes=(*fitted.notes, Note(message, request.name)))
    curves = [curve_residuals(c, dose, machine.sad_mm) for c, dose in zip(data.curves, fitted.curves, strict=True)]
    outputs = output_residuals(data.outputs, fitted.outputs)
    run.note(fitted.notes)
    run.cite(_CITATIONS)
    hashes = {str(path.relative_to(request.folder)): sha256_of_file(path) for path in files}
    run.add_provenance(measured_sha256=hashes, base_machine=machine.id, base_machine_sha256=machine.sha256)
    remark = f"Commissioned by Cantlie from the measured data in {request.folder.name}. Research use only."
    write_text(request.out / "beam.toml", beam_model_toml(fitted.model, remark))
    write_text(request.out / "machine.toml", f"# {remark}\n{text}")
    seconds = time.perf_counter() - start
    run.stage(
        "report",
        key_of("report"),
        lambda _: _write_report(run, request, machine, data, fitted, curves, outputs, seconds),
        keep=False,
    )
    results = _results(request, data, fitted, curves, outputs)
    write_json(request.out / "results.json", results)
    return results


def _write_report(
    run: RunFolder,
    request: CommissionMachine,
    machine: Machine,
    data: MeasuredBeam,
    fitted: Commissioned,
    curves: list[CurveResiduals],
    outputs: tuple[Judged, ...],
    seconds: float,
) -> None:
    provenance = run.record["provenance"]
    document = commission_document(
        CommissionPages(
            model=fitted.model,
            energy_mv=data.energy_mv,
            base_machine=machine.id,
            folder=str(request.folder),
            curves=curves,
            outputs=outputs,
            passes=fitted.passes,
            seconds=seconds,
            notes=fitted.notes,
            provenance=[
                ("Cantlie", provenance["cantlie"]),
                ("Made", datetime.fromisoformat(provenance["created_utc"])),
            ],
        )
    )
    write_report(document, request.out)
    write_text(request.out / "residuals.csv", _residuals_csv(curves))


def _residuals_csv(curves: list[CurveResiduals]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["curve", "file", "position_mm", "measured_percent", "calculated_percent", "difference_percent"])
    for item in curves:
        rows = zip(item.curve.position_mm, item.measured_percent, item.calculated_percent, strict=True)
        for position, measured, calculated in rows:
            writer.writerow(
                [
                    item.curve.label,
                    item.curve.where,
                    f"{position:.2f}",
                    f"{measured:.3f}",
                    f"{calculated:.3f}",
                    f"{calculated - measured:.3f}",
                ]
            )
    return stream.getvalue()


def _results(
    request: CommissionMachine,
    data: MeasuredBeam,
    fitted: Commissioned,
    curves: list[CurveResiduals],
    outputs: tuple[Judged, ...],
) -> dict[str, Any]:
    judged = [*(row for item in curves for row in item.judged), *outputs]
    rows = [{**asdict(row), "verdict": row.verdict} for row in judged]
    return {
        "machine": request.name,
        "machine_file": "machine.toml",
        "beam_model_file": "beam.toml",
        "energy_mv": data.energy_mv,
        "tolerances": TOLERANCE_SOURCE,
        "judged": rows,
        "failed": sum(row["verdict"] == "fail" for row in rows),
        "curves": [
            {
                "place": item.curve.label,
                "file": item.curve.where,
                "mean_percent": item.mean_percent,
                "penumbra_measured_mm": item.penumbra_mm[0] if item.penumbra_mm else None,
                "penumbra_calculated_mm": item.penumbra_mm[1] if item.penumbra_mm else None,
            }
            for item in curves
        ],
        "beam_model": fitted.model.model_dump(),
        "passes": fitted.passes,
        "warnings": [note.sentence() for note in fitted.notes],
    }
