"""Measured beam data in Cantlie's own CSV form, described in docs/reference/measured-data.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import InputError
from cantlie.machine.beam_model import Calibration
from cantlie.machine.measured import (
    CurveKind,
    MeasuredCalibration,
    MeasuredCurve,
    MeasuredPart,
    OutputFactors,
    ScanAxis,
)

_UNITS = {"mm": 1.0, "cm": 10.0}
_QUANTITIES = ("depth dose", "profile", "output factors", "calibration")
_LENGTHS = ("ssd", "field", "field_x", "field_y", "depth", "position", "x", "y")
_VALUES = ("dose", "dose_percent", "dose_gy", "reading", "output_factor")
_PAIR = re.compile(r"^#\s*([A-Za-z][\w ]*?)\s*[:=]\s*(.*?)\s*$")


@dataclass
class _Block:
    """One quantity of a file: its header and its table, with the line of each entry."""

    name: str
    line: int
    header: dict[str, tuple[str, int]] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    columns_line: int = 0
    rows: list[tuple[int, list[float]]] = field(default_factory=list)

    def where(self, line: int | None = None) -> str:
        return f"{self.name}, line {self.line if line is None else line}"

    def text(self, key: str) -> str:
        if key not in self.header:
            raise InputError(f"the header has no {key!r}", where=self.where(), remedy=f"add a line '# {key}: ...'")
        return self.header[key][0]

    def number(self, key: str) -> float:
        text, line = self.text(key), self.header[key][1]
        value = _number(text)
        if value is None or value <= 0:
            raise InputError(f"{key} is {text!r}, not a positive number", where=self.where(line))
        return value

    def length(self, key: str) -> float:
        """Return a length of the header in mm."""
        for unit, factor in _UNITS.items():
            if f"{key}_{unit}" in self.header:
                return self.number(f"{key}_{unit}") * factor
        if key in self.header:
            line = self.header[key][1]
            raise InputError(f"{key} has no unit", where=self.where(line), remedy=f"write {key}_mm or {key}_cm")
        raise InputError(f"the header has no {key}_mm", where=self.where(), remedy=f"add a line '# {key}_mm: ...'")

    def has_length(self, key: str) -> bool:
        return any(name in self.header for name in (key, *(f"{key}_{unit}" for unit in _UNITS)))

    def field_mm(self) -> tuple[float, float]:
        if self.has_length("field"):
            side = self.length("field")
            return side, side
        if not (self.has_length("field_x") or self.has_length("field_y")):
            raise InputError(
                "the field size is missing", where=self.where(), remedy="add field_mm, or field_x_mm and field_y_mm"
            )
        return self.length("field_x"), self.length("field_y")

    def energy(self) -> float | None:
        if "energy_mv" in self.header:
            return self.number("energy_mv")
        if "energy" in self.header:
            raise InputError("energy has no unit", where=self.where(self.header["energy"][1]), remedy="write energy_mv")
        return None

    def column(self, *names: str) -> NDArray[np.float64]:
        """Return the first column found of lengths in mm (``depth`` stands for depth_mm or depth_cm), or of values."""
        for name in names:
            if name in self.columns and name in _VALUES:
                return self._values(name)
            for unit, factor in _UNITS.items():
                if f"{name}_{unit}" in self.columns:
                    return factor * self._values(f"{name}_{unit}")
            if name in self.columns and name in _LENGTHS:
                raise InputError(
                    f"the column {name!r} has no unit",
                    where=self.where(self.columns_line),
                    remedy=f"call it {name}_mm or {name}_cm",
                )
        wanted = " or ".join(f"{name}_mm" if name in _LENGTHS else name for name in names)
        raise InputError(f"the table has no column {wanted}", where=self.where(self.columns_line or self.line))

    def _values(self, name: str) -> NDArray[np.float64]:
        place = self.columns.index(name)
        return np.array([row[place] for _, row in self.rows])


def parse_csv(text: str, name: str) -> list[MeasuredPart]:
    """Read the quantities of a file.

    Parameters
    ----------
    text
        The content of the file.
    name
        Its name, for messages.

    Raises
    ------
    InputError
        If something is missing or wrong; names the line.
    """
    readers: dict[str, Callable[[_Block], MeasuredPart]] = {
        "depth dose": _depth_dose,
        "profile": _profile,
        "output factors": _output_factors,
        "calibration": _calibration,
    }
    blocks = _blocks(text, name)
    if not blocks:
        raise InputError(
            "the file does not say what it holds",
            where=f"{name}, line 1",
            remedy=f"begin with a line '# quantity: ...' ({', '.join(_QUANTITIES)})",
        )
    result = []
    for block in blocks:
        quantity = block.text("quantity").lower()
        if quantity not in readers:
            raise InputError(
                f"the quantity {quantity!r} is unknown",
                where=block.where(),
                remedy=f"use one of {', '.join(_QUANTITIES)}",
            )
        if quantity != "calibration" and not block.rows:
            raise InputError("there is no table below the header", where=block.where())
        result.append(readers[quantity](block))
    return result


def _blocks(text: str, name: str) -> list[_Block]:
    blocks: list[_Block] = []
    separator = ","
    for line, raw in enumerate(text.splitlines(), start=1):
        content = raw.strip().strip("\ufeff")
        if not content.strip(",;"):
            continue
        if content.startswith("#"):
            pair = _PAIR.match(content.rstrip(",;"))
            if pair is None:
                continue
            key = pair[1].strip().lower().replace(" ", "_")
            if key == "quantity":
                blocks.append(_Block(name, line))
            if blocks:
                if key in blocks[-1].header:
                    raise InputError(f"{key} is given twice", where=f"{name}, line {line}")
                blocks[-1].header[key] = (pair[2], line)
            continue
        if not blocks:
            raise InputError(
                "the file does not say what it holds",
                where=f"{name}, line {line}",
                remedy=f"begin with a line '# quantity: ...' ({', '.join(_QUANTITIES)})",
            )
        block = blocks[-1]
        if not block.columns:
            separator = ";" if ";" in content else "\t" if "\t" in content else ","
            block.columns = [cell.strip().strip('"').lower().replace(" ", "_") for cell in content.split(separator)]
            block.columns_line = line
            continue
        cells = [_number(cell, decimal_comma=separator == ";") for cell in content.split(separator)]
        numbers = [cell for cell in cells if cell is not None]
        if len(cells) != len(block.columns) or len(numbers) != len(cells):
            raise InputError(
                f"the row is not {len(block.columns)} numbers ({content[:60]!r})", where=f"{name}, line {line}"
            )
        block.rows.append((line, numbers))
    return blocks


def _number(text: str, *, decimal_comma: bool = False) -> float | None:
    text = text.strip().strip('"')
    try:
        value = float(text.replace(",", ".") if decimal_comma else text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _depth_dose(block: _Block) -> MeasuredCurve:
    return _curve(block, "depth dose", "depth", block.column("depth"))


def _profile(block: _Block) -> MeasuredCurve:
    axis = block.text("axis").lower()
    names: dict[str, ScanAxis] = {
        "x": "x", "crossline": "x", "crossplane": "x",
        "y": "y", "inline": "y", "inplane": "y",
        "diagonal": "diagonal",
    }  # fmt: skip
    if axis not in names:
        raise InputError(
            f"the axis {axis!r} is unknown",
            where=block.where(block.header["axis"][1]),
            remedy="use x (crossplane), y (inplane) or diagonal",
        )
    return _curve(block, "profile", names[axis], block.column("position", "x", "y"))


def _curve(block: _Block, kind: CurveKind, axis: ScanAxis, position: NDArray[np.float64]) -> MeasuredCurve:
    zero = np.zeros_like(position)
    x = position if axis == "x" else position * np.sqrt(0.5) if axis == "diagonal" else zero
    y = position if axis == "y" else x if axis == "diagonal" else zero
    return MeasuredCurve(
        kind=kind,
        axis=axis,
        field_mm=block.field_mm(),
        ssd_mm=block.length("ssd"),
        x_mm=x,
        y_mm=y,
        depth_mm=position if axis == "depth" else np.full_like(position, block.length("depth")),
        value=block.column("dose_percent", "dose", "dose_gy", "reading"),
        energy_mv=block.energy(),
        where=block.where(),
    )


def _output_factors(block: _Block) -> OutputFactors:
    if any(name.rsplit("_", 1)[0] == "field" or name == "field" for name in block.columns):
        x = y = block.column("field")
    else:
        x, y = block.column("field_x"), block.column("field_y")
    value = block.column("output_factor")
    for (line, _), width_x, width_y, factor in zip(block.rows, x, y, value, strict=True):
        if min(width_x, width_y, factor) <= 0:
            raise InputError("field sizes and output factors must be positive", where=block.where(line))
    return OutputFactors(
        block.length("ssd"), block.length("depth"), np.stack([x, y], axis=1), value, block.energy(), block.where()
    )


def _calibration(block: _Block) -> MeasuredCalibration:
    width, height = block.field_mm()
    if width != height:
        raise InputError("the calibration field must be square", where=block.where())
    calibration = Calibration(
        gy_per_mu=block.number("gy_per_mu"),
        depth_mm=block.length("depth"),
        ssd_mm=block.length("ssd"),
        field_mm=width,
    )
    return MeasuredCalibration(calibration, block.energy(), block.where())
