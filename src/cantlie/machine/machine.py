"""Treatment machines as data: geometry, limits and beam model of a linac, read from TOML."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, replace
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from cantlie.core.errors import MachineError
from cantlie.core.files import read_text
from cantlie.core.provenance import sha256_of_bytes
from cantlie.core.toml_lines import KeyPath, line_numbers, line_of
from cantlie.machine.aperture import Aperture
from cantlie.machine.cobalt import HALF_LIFE_DAYS, CobaltSource
from cantlie.machine.mlc import JawPair, Mlc

SAME_ENERGY_MV = 0.1
"""Nominal energies nearer than this are the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Machine:
    """A treatment machine: what it can form and deliver, and which beam model describes its dose.

    What is called monitor units (``mu``) everywhere is the meterset: for a cobalt machine minutes of the timer.

    Parameters
    ----------
    id, name, description
        Identifier, the name that a treatment unit has in RTPLAN, and what it stands for.
    energy_mv
        Nominal photon energy.
    cobalt
        The source of a cobalt machine; None for a linac.
    other_energies
        Machines (identifiers or files) that are the same linac at other energies; it may be named itself.
    beam_model
        Identifier of the beam model (`machine/beam_model.py`).
    sad_mm
        Distance from source to isocentre.
    jaw_x, jaw_y
        The jaws; for a machine without jaws along an axis, what bounds the field there.
    mlc
        The multileaf collimator, or None.
    min_segment_mu, mu_resolution
        Least monitor units of a step-and-shoot segment and the step in which monitor units can be set.
    max_dose_rate_mu_min
        Nominal dose rate.
    segment_overhead_s
        Time between two segments of a static field beyond the movement of the leaves.
    gantry_speed_deg_s, couch_speed_deg_s
        Speeds of rotation.
    couch_range_deg
        Couch angles (IEC 61217) that are mechanically possible.
    arcs
        Whether the gantry may move while the beam is on.
    min_mu_per_deg, max_mu_per_deg
        Monitor units for each degree of the gantry between which an arc can be delivered.
    head_distance_mm, head_radius_mm
        Distance from the isocentre to the face of the treatment head, and the head's radius, for the estimate of
        collisions (`plan/clearance.py`).
    sources
        Where each value comes from.
    sha256
        Of the file that it was read from.
    """

    id: str
    name: str
    description: str
    energy_mv: float
    beam_model: str
    sad_mm: float
    jaw_x: JawPair
    jaw_y: JawPair
    mlc: Mlc | None
    min_segment_mu: float
    mu_resolution: float
    max_dose_rate_mu_min: float
    segment_overhead_s: float
    gantry_speed_deg_s: float
    couch_speed_deg_s: float
    couch_range_deg: tuple[float, float]
    arcs: bool
    min_mu_per_deg: float = 0.1
    max_mu_per_deg: float = 20.0
    head_distance_mm: float = 410.0
    head_radius_mm: float = 390.0
    cobalt: CobaltSource | None = None
    other_energies: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    sha256: str = ""

    @property
    def dosimeter_unit(self) -> str:
        """What the meterset counts, in DICOM's words: ``MU``, or ``MINUTE`` of a timer."""
        return "MU" if self.cobalt is None else "MINUTE"

    @property
    def meterset_unit(self) -> str:
        """What the meterset counts, as people write it."""
        return "MU" if self.cobalt is None else "min"

    def on(self, day: date) -> Machine:
        """Return the machine on a day of treatment: a cobalt source decays until then, a linac stays as it is."""
        if self.cobalt is None:
            return self
        source = replace(self.cobalt, treatment_date=day)
        return replace(self, cobalt=source, sha256=sha256_of_bytes(self.sha256.encode(), day.isoformat().encode()))

    @property
    def max_field_mm(self) -> tuple[float, float]:
        """Largest rectangular field (width along x, along y) at the isocentre plane."""
        x, y = 2 * self.jaw_x.retraction_mm, 2 * self.jaw_y.retraction_mm
        if self.mlc is not None:
            along, across = 2 * self.mlc.retraction_mm, float(np.ptp(self.mlc.leaf_boundaries_mm))
            limits = (along, across) if self.mlc.axis == "X" else (across, along)
            x, y = min(x, limits[0]), min(y, limits[1])
        return x, y

    def broken_rules(self, aperture: Aperture) -> list[str]:
        """Return one clause for each limit of the machine that an aperture breaks; empty when it can be formed."""
        rules = self.jaw_x.broken_rules(aperture.jaw_x_mm, "X") + self.jaw_y.broken_rules(aperture.jaw_y_mm, "Y")
        if aperture.leaf_lower_mm is not None and aperture.leaf_upper_mm is not None:
            if self.mlc is None:
                rules.append("leaf positions given for a machine without leaves")
            else:
                rules += self.mlc.broken_rules(aperture.leaf_lower_mm, aperture.leaf_upper_mm)
        return rules

    def check(self, aperture: Aperture, where: str = "") -> None:
        """Accept an aperture that the machine can form.

        Raises
        ------
        MachineError
            If it breaks a limit.
        """
        rules = self.broken_rules(aperture)
        if rules:
            raise MachineError(f"{self.id} cannot form this aperture: {'; '.join(rules)}", where=where)


def machine_at_energy(machine: Machine, energy_mv: float) -> Machine | None:
    """Return the same linac at another nominal energy (MV); None where it has no such beam.

    Raises
    ------
    MachineError
        If a machine that it names cannot be read.
    """
    if abs(machine.energy_mv - energy_mv) < SAME_ENERGY_MV:
        return machine
    others = (load_machine(name) for name in machine.other_energies)
    return next((one for one in others if abs(one.energy_mv - energy_mv) < SAME_ENERGY_MV), None)


def list_machines() -> tuple[str, ...]:
    """Return the identifiers of the built-in machines."""
    folder = resources.files("cantlie.machine") / "data"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_machine(id_or_path: str | Path) -> Machine:
    """Return a built-in machine by its identifier, or one from a TOML file.

    Raises
    ------
    MachineError
        If no such machine or file exists, or the file is wrong, with the line and the reason.
    """
    text_id = str(id_or_path)
    if text_id in list_machines():
        content = (resources.files("cantlie.machine") / "data" / f"{text_id}.toml").read_bytes()
        return parse_machine(content, text_id)
    path = Path(id_or_path)
    if path.suffix != ".toml" and not path.exists():
        raise MachineError(
            f"no machine is called {text_id!r}",
            remedy=f"choose one of {', '.join(list_machines())}, or give the path of a TOML file",
        )
    try:
        machine = parse_machine(path.read_bytes(), str(path))
    except OSError as error:
        raise MachineError(f"the machine file cannot be read: {error.strerror or error}", where=str(path)) from error
    folder = path.resolve().parent
    others = tuple(str(folder / name) if name.endswith(".toml") else name for name in machine.other_energies)
    machine = replace(machine, other_energies=others)
    if machine.beam_model.endswith(".toml"):  # a beam model of one's own lies beside its machine
        beam = folder / machine.beam_model
        content = read_text(beam, "beam model").encode("utf-8")
        machine = replace(machine, beam_model=str(beam), sha256=sha256_of_bytes(machine.sha256.encode(), content))
    return machine


def parse_machine(content: bytes, where: str) -> Machine:
    """Read a machine from the bytes of a TOML file.

    With ``like = "ID"`` all that the file does not say is that of a built-in machine.

    Raises
    ------
    MachineError
        If the text is not TOML or a value is missing, unknown or impossible; names the line.
    """
    try:
        text = content.decode("utf-8")
        table = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MachineError(f"the machine file is not readable as TOML: {error}", where=where) from error
    root = _Table(table, where, dict(line_numbers(text)))
    base = root.text("like") if "like" in table else ""
    if base and base not in list_machines():
        raise root.error("like", f"names no built-in machine: {base!r}")
    if base:
        model = (resources.files("cantlie.machine") / "data" / f"{base}.toml").read_bytes()
        content = model + content
        root.values = _merged(tomllib.loads(model.decode("utf-8")), table)
        if "like" in tomllib.loads(model.decode("utf-8")):
            raise root.error("like", f"names {base!r}, which is itself like another machine")
    mlc_table = root.table("mlc", required=False)
    cobalt_table = root.table("cobalt", required=False)
    machine = Machine(
        id=root.text("id"),
        name=root.text("name", 16),
        description=root.text("description"),
        energy_mv=root.number("energy_mv", 0.1, 50),
        beam_model=root.text("beam_model"),
        sad_mm=root.number("sad_mm", 500, 2000),
        jaw_x=_jaws(root.table("jaw_x")),
        jaw_y=_jaws(root.table("jaw_y")),
        mlc=_mlc(mlc_table) if mlc_table is not None else None,
        min_segment_mu=root.number("min_segment_mu", 0, 50),
        mu_resolution=root.number("mu_resolution", 1e-6, 10),
        max_dose_rate_mu_min=root.number("max_dose_rate_mu_min", 1, 5000),
        segment_overhead_s=root.number("segment_overhead_s", 0, 60),
        gantry_speed_deg_s=root.number("gantry_speed_deg_s", 0.1, 60),
        couch_speed_deg_s=root.number("couch_speed_deg_s", 0.1, 60),
        couch_range_deg=root.pair("couch_range_deg", -180, 180),
        arcs=root.flag("arcs"),
        min_mu_per_deg=root.number("min_mu_per_deg", 0, 10, default=0.1),
        max_mu_per_deg=root.number("max_mu_per_deg", 0.1, 1000, default=20.0),
        head_distance_mm=root.number("head_distance_mm", 100, 1000, default=410.0),
        head_radius_mm=root.number("head_radius_mm", 50, 1000, default=390.0),
        cobalt=_cobalt(cobalt_table) if cobalt_table is not None else None,
        other_energies=root.texts("other_energies") if "other_energies" in root.values else (),
        sources=root.texts("sources"),
        sha256=sha256_of_bytes(content),
    )
    root.refuse_unknown()
    return machine


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return the values of one table overlaid by those of another, tables within them too."""
    result = dict(base)
    for key, value in own.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def _cobalt(table: _Table) -> CobaltSource:
    source = CobaltSource(table.date("reference_date"), table.number("half_life_days", 1, 1e5, default=HALF_LIFE_DAYS))
    table.refuse_unknown()
    return source


def _jaws(table: _Table | None) -> JawPair:
    assert table is not None
    jaws = JawPair(
        retraction_mm=table.number("retraction_mm", 1, 500),
        over_travel_mm=table.number("over_travel_mm", -500, 500),
        independent=table.flag("independent"),
        min_gap_mm=table.number("min_gap_mm", 0, 100),
        speed_mm_s=table.number("speed_mm_s", 0.1, 500),
    )
    table.refuse_unknown()
    return jaws


def _mlc(table: _Table) -> Mlc:
    axis = table.text("axis")
    if axis not in ("X", "Y"):
        raise table.error("axis", f"must be 'X' or 'Y', not {axis!r}")
    boundaries = table.numbers("leaf_boundaries_mm") if "leaf_boundaries_mm" in table.values else _banks(table)
    if len(boundaries) < 2 or (np.diff(boundaries) <= 0).any():
        raise table.error("leaf_boundaries_mm", "must hold at least two increasing numbers")
    interdigitation = table.flag("interdigitation")
    mlc = Mlc(
        axis="X" if axis == "X" else "Y",
        leaf_boundaries_mm=boundaries,
        retraction_mm=table.number("retraction_mm", 1, 500),
        over_travel_mm=table.number("over_travel_mm", -500, 500),
        max_spread_mm=table.number("max_spread_mm", 1, 1000),
        min_gap_mm=table.number("min_gap_mm", 0, 100),
        min_adjacent_gap_mm=None if interdigitation else table.number("min_adjacent_gap_mm", 0, 100),
        transmission=table.number("transmission", 0, 0.5),
        tip_offset_mm=table.number("tip_offset_mm", -5, 5),
        tongue_and_groove_mm=table.number("tongue_and_groove_mm", 0, 5),
        leaf_speed_mm_s=table.number("leaf_speed_mm_s", 0.1, 500),
    )
    table.refuse_unknown()
    return mlc


def _banks(table: _Table) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return leaf boundaries from the leaf widths of a bank, which stands centred on the axis."""
    widths: list[float] = []
    for n, entry in enumerate(table.list("leaf_widths_mm")):
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], int) and 0 < entry[0] < 500):
            raise table.error("leaf_widths_mm", f"entry {n + 1} must be [number of pairs, width in mm]")
        if not (isinstance(entry[1], (int, float)) and 0 < entry[1] < 100):
            raise table.error("leaf_widths_mm", f"entry {n + 1} has no possible width")
        widths += [float(entry[1])] * entry[0]
    edges = np.concatenate([[0.0], np.cumsum(widths)])
    return np.asarray(edges - 0.5 * edges[-1], dtype=np.float64)


class _Table:
    """A TOML table that names file, key and line in its refusals and notices keys that nobody asked for."""

    def __init__(self, values: dict[str, Any], where: str, lines: dict[KeyPath, int], path: KeyPath = ()) -> None:
        self.values = values
        self.where = where
        self.lines = lines
        self.path = path
        self.asked: set[str] = set()

    def error(self, key: str, reason: str) -> MachineError:
        path = (*self.path, key)
        name = ".".join(str(part) for part in path)
        return MachineError(f"{name} {reason}", where=f"{self.where}, line {line_of(self.lines, path)}")

    def _get(self, key: str) -> Any:
        self.asked.add(key)
        if key not in self.values:
            raise self.error(key, "is missing")
        return self.values[key]

    def table(self, key: str, *, required: bool = True) -> _Table | None:
        if not required and key not in self.values:
            self.asked.add(key)
            return None
        value = self._get(key)
        if not isinstance(value, dict):
            raise self.error(key, "must be a table")
        return _Table(value, self.where, self.lines, (*self.path, key))

    def list(self, key: str) -> list[Any]:
        value = self._get(key)
        if not isinstance(value, list):
            raise self.error(key, "must be a list")
        return value

    def text(self, key: str, max_length: int = 1000) -> str:
        value = self._get(key)
        if not isinstance(value, str) or not 0 < len(value) <= max_length:
            raise self.error(key, f"must be a text of 1 to {max_length} characters")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.list(key)
        if not all(isinstance(item, str) for item in value):
            raise self.error(key, "must hold only texts")
        return tuple(value)

    def flag(self, key: str) -> bool:
        value = self._get(key)
        if not isinstance(value, bool):
            raise self.error(key, "must be true or false")
        return value

    def _is_number(self, value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        if default is not None and key not in self.values:
            self.asked.add(key)
            return default
        value = self._get(key)
        if not self._is_number(value) or not low <= value <= high:
            raise self.error(key, f"must be a number from {low:g} to {high:g}, not {value!r}")
        return float(value)

    def numbers(self, key: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        value = self.list(key)
        if not all(self._is_number(item) for item in value):
            raise self.error(key, "must hold only numbers")
        return np.asarray(value, dtype=np.float64)

    def date(self, key: str) -> date:
        value = self._get(key)
        if type(value) is not date:
            raise self.error(key, f"must be a date such as 2026-01-31, not {value!r}")
        return value

    def pair(self, key: str, low: float, high: float) -> tuple[float, float]:
        value = self.numbers(key)
        if len(value) != 2 or not low <= value[0] <= value[1] <= high:
            raise self.error(key, f"must be two numbers in order from {low:g} to {high:g}")
        return float(value[0]), float(value[1])

    def refuse_unknown(self) -> None:
        unknown = sorted(set(self.values) - self.asked)
        if unknown:
            raise self.error(unknown[0], "is not a value of a machine")
