"""Finished runs of `cantlie plan`, `compare` and `evaluate`, read back as one patient's dose-volume metrics each."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import CohortError, ProtocolError
from cantlie.core.files import read_text
from cantlie.core.spreadsheet import read_sheet
from cantlie.protocol.metric import Metric

Key = tuple[str, str, str]
"""Structure, metric and unit of one number."""

_UNITS = {"Gy": "Gy", "%": "%", "cc": "cc"}


@dataclass(frozen=True, slots=True)
class WantedMetric:
    """A metric of a structure that a user asks for beside the usual ones."""

    structure: str
    metric: Metric

    @classmethod
    def parse(cls, text: str) -> WantedMetric:
        """Read ``STRUCTURE: METRIC``, such as ``Liver-GTV: V20Gy[%]``.

        Raises
        ------
        CohortError
            If it is not of that form or the metric cannot be read.
        """
        structure, colon, metric = text.rpartition(":")
        if not colon or not structure.strip():
            raise CohortError(
                f"{text!r} is not a metric of a structure", where="--metric", remedy='write "STRUCTURE: METRIC"'
            )
        try:
            found = Metric.parse(metric.strip())
        except ProtocolError as error:
            raise CohortError(error.what, where="--metric", remedy=error.remedy) from None
        if found.needs_prescription:
            raise CohortError(f"{found} is relative to a prescription", where="--metric", remedy="give the dose in Gy")
        return cls(structure.strip(), found)


@dataclass(frozen=True, slots=True, eq=False)
class DosimetryRun:
    """The numbers of one run.

    Attributes
    ----------
    run
        Name of the run's folder.
    patient_id
        Pseudonym: that of the arms file, else made from the hash of the case's files.
    values
        Structure, metric and unit to value.
    """

    run: str
    folder: Path
    patient_id: str
    arm: str
    protocol: str
    version: str
    values: Mapping[Key, float]
    start: str = ""
    course: Mapping[str, float] = field(default_factory=dict)


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the run folders among some folders and the folders directly below them.

    A comparison counts as its arms.

    Raises
    ------
    CohortError
        If a folder neither is a run nor holds any, or a run is named twice.
    """
    found: list[Path] = []
    for path in paths:
        here = [path] if _is_run(path) else sorted(p for p in _folders(path) if _is_run(p))
        if not here:  # a folder of comparisons
            here = sorted(p for folder in _folders(path) for p in _folders(folder) if _is_run(p))
        if not here:
            raise CohortError(
                "holds no finished run of `cantlie plan`, `compare` or `evaluate`",
                where=str(path),
                remedy="name a folder with results.json, or the folder above several",
            )
        found += here
    resolved = [path.resolve() for path in found]
    for number, path in enumerate(resolved):
        if path in resolved[:number]:
            raise CohortError("the run is named twice", where=path.name, remedy="name each run once")
    return found


def read_run(folder: Path, wanted: Sequence[WantedMetric] = ()) -> DosimetryRun:
    """Read a run's metrics: the rules of its protocol, its targets, indices, monitor units, EQD2 and risk.

    The arm is the protocol until an arms file says otherwise.

    Raises
    ------
    CohortError
        If the run is not finished, damaged, or lacks a structure that is asked for.
    """
    results, record = json_of_run(folder / "results.json"), json_of_run(folder / "run.json")
    if record.get("status") != "done":
        raise CohortError(
            f"the run is not finished ({record.get('status', 'unknown')})", where=folder.name, remedy="finish it first"
        )
    try:
        values = _rules(results) | _targets(results) | _indices(results) | _delivery(results) | _biology(results)
        provenance = record["provenance"]
        patient = f"case-{str(provenance['case_sha256'])[:8]}"
        protocol = str(results["protocol"]["id"])
        version = str(provenance["cantlie"])
        start, course = _course(results)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CohortError(
            "the results are not those of a planned or evaluated case", where=folder.name, remedy="run the case again"
        ) from error
    if wanted:
        curves = curves_of(folder)
        for one in wanted:
            values[one.structure, str(one.metric), _UNITS[one.metric.unit]] = _wanted(one, curves, results, folder)
    return DosimetryRun(folder.name, folder, patient, protocol, protocol, version, values, start, course)


def with_arms(runs: Sequence[DosimetryRun], file: Path) -> list[DosimetryRun]:
    """Return the runs with arm and patient of a CSV file with the columns ``run``, ``arm`` and perhaps ``patient_id``.

    ``run`` is the name of the run's folder, with as many folders above it as tell it apart (``case1/alternating``).
    Lines on other runs are passed over.

    Raises
    ------
    CohortError
        If the file cannot be used, or a run has no line or several.
    """
    sheet = read_sheet(read_text(file, "arms file"), file.name)
    columns = [name.lower() for name in sheet.header]
    if not {"run", "arm"} <= set(columns):
        raise CohortError("the columns run and arm are needed", where=file.name, remedy="add a header run,arm")
    lines = [dict(zip(columns, row, strict=True)) for row in sheet.rows]
    result = []
    for run in runs:
        parts = run.folder.resolve().parts
        fitting = [line for line in lines if line["run"] and _ends_with(parts, line["run"])]
        if len(fitting) != 1:
            raise CohortError(
                f"the run {run.run} has {'no line' if not fitting else f'{len(fitting)} lines'} in the arms file",
                where=file.name,
                remedy="give each run one line; put the folder above in front where names are the same",
            )
        arm, patient = fitting[0]["arm"], fitting[0].get("patient_id", "")
        if not arm:
            raise CohortError(f"the run {run.run} has no arm", where=file.name, remedy="fill the column arm")
        result.append(replace(run, arm=arm, patient_id=patient or run.patient_id))
    return result


def _ends_with(parts: Sequence[str], name: str) -> bool:
    wanted = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    return tuple(parts[-len(wanted) :]) == wanted


def _folders(path: Path) -> list[Path]:
    return [p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")] if path.is_dir() else []


def _is_run(path: Path) -> bool:
    if not (path / "results.json").is_file() or not (path / "run.json").is_file():
        return False
    results = json_of_run(path / "results.json")
    return "metrics" in results and "protocol" in results


def json_of_run(path: Path) -> dict[str, Any]:
    """Read results.json or run.json of a run.

    Raises
    ------
    CohortError
        If it is not a JSON object.
    InputError
        If it cannot be read.
    """
    try:
        found = json.loads(read_text(path, "result of a run"))
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise CohortError("the file is damaged", where=f"{path.parent.name}/{path.name}", remedy="run the case again")
    return found


def _rules(results: Mapping[str, Any]) -> dict[Key, float]:
    values: dict[Key, float] = {}
    for row in [*results["constraints"], *results.get("reference_limits", ())]:
        if row["achieved"] is not None:
            own = "" if row.get("scope", "course") == "course" else ", own plan"
            values[row["structure"], f"{row['metric']}{own}", row["unit"]] = float(row["achieved"])
    return values


def _targets(results: Mapping[str, Any]) -> dict[Key, float]:
    values: dict[Key, float] = {}
    for scope, structures in results["metrics"].items():
        if scope == "course":
            for name in ("Liver-GTV", "GTV_all"):
                if name in structures and not (name == "Liver-GTV" and "Liver - GTV*" in structures):
                    values[name, "Dmean", "Gy"] = float(structures[name]["Dmean_gy"])
        elif scope in structures:
            for metric in ("Dmean", "D2%", "D95%", "D98%"):
                values[scope, f"{metric}, own plan", "Gy"] = float(structures[scope][f"{metric}_gy"])
    return values


def _indices(results: Mapping[str, Any]) -> dict[Key, float]:
    values: dict[Key, float] = {}
    for scope, rows in results.get("indices", {}).items():
        for row in rows:
            if scope != row["target"]:
                continue
            for name, label in (("paddick_conformity", "Paddick conformity"), ("icru_homogeneity", "ICRU homogeneity")):
                if row.get(name) is not None:
                    values[scope, f"{label}, own plan", "1"] = float(row[name])
    return values


def _delivery(results: Mapping[str, Any]) -> dict[Key, float]:
    rows = results.get("delivery", ())
    values = {(row["target"], "MU per fraction", "1"): float(row["mu_per_fraction"]) for row in rows if row["target"]}
    if rows:
        values["course", "MU", "1"] = sum(float(row["mu_per_fraction"]) * float(row["fractions"]) for row in rows)
    return values


def _biology(results: Mapping[str, Any]) -> dict[Key, float]:
    values: dict[Key, float] = {}
    found = results.get("radiobiology") or {}
    for name, means in found.get("means", {}).items():
        for key, value in means.items():
            if key.startswith("mean_eqd2_alpha_beta_") and "repair" not in key:
                alpha_beta = key.removeprefix("mean_eqd2_alpha_beta_").removesuffix("_gy")
                values[name, f"mean EQD2 (α/β {alpha_beta} Gy)", "Gy"] = float(value)
    for name, row in (results.get("eqd2") or {}).items():
        label = f"mean EQD2 (α/β {row['alpha_beta_gy']:g} Gy)"
        values[name, label, "Gy"] = float(row["Dmean_eqd2_gy"])
    for row in found.get("ntcp", ()):
        if row["value"] is not None:
            values["Liver-GTV", f"NTCP {row.get('name', row['model'])}", "%"] = 100.0 * float(row["value"])
    return values


def _course(results: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """Return the first session and what the cohort's table of courses holds."""
    course = results.get("course") or {}
    sessions = course.get("sessions") or [{}]
    rows = results.get("delivery") or ()
    per_plan = [(float(row["prescription_gy"]), int(row["fractions"])) for row in rows if row.get("prescription_gy")]
    largest = max(per_plan, default=None)
    return str(sessions[0].get("start", ""))[:10], (
        {} if largest is None else {"dose_gy": largest[0], "fractions": float(largest[1])}
    )


Curves = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Structure to doses in Gy and the volume in cc that gets at least each."""


def curves_of(folder: Path) -> Curves:
    """Read the cumulative DVHs of a run's course."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for row in csv.DictReader(io.StringIO(read_text(folder / "dvh.csv", "DVHs of a run"))):
        rows.setdefault(row["structure"], []).append((float(row["dose_gy"]), float(row["volume_cc"])))
    return {name: (np.array([d for d, _ in r]), np.array([v for _, v in r])) for name, r in rows.items()}


def _wanted(one: WantedMetric, curves: Curves, results: Mapping[str, Any], folder: Path) -> float:
    """Return a metric of the course from its DVH, which has steps of 0.1 Gy; extremes and means from the results."""
    metric = one.metric
    if one.structure not in curves:
        raise CohortError(
            f"there is no DVH of {one.structure}",
            where=folder.name,
            remedy=f"its structures are {', '.join(sorted(curves))}",
        )
    known = results["metrics"]["course"].get(one.structure, {})
    direct = {"mean": "Dmean_gy", "max": "Dmax_gy", "min": "Dmin_gy"}.get(metric.kind)
    if direct is not None and direct in known:
        return float(known[direct])
    dose, volume = curves[one.structure]
    total = float(volume[0])
    if metric.kind == "mean":
        return float(np.trapezoid(volume, dose) / total)
    if metric.is_dose:
        cc = metric.argument if metric.argument_unit == "cc" else metric.argument / 100.0 * total
        if cc > total:
            raise CohortError(
                f"{one.structure} is smaller than {cc:g} cc", where=folder.name, remedy="ask for a smaller volume"
            )
        return float(np.interp(-cc, -volume, dose))
    above = float(np.interp(metric.argument, dose, volume, right=0.0))
    cc = total - above if metric.kind == "volume_below_dose" else above
    return 100.0 * cc / total if metric.unit == "%" else cc
