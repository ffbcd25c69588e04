"""Preparation of the SlicerRT/Eclipse oracle: VTK files to stacks of contours, NRRD dose, Eclipse's DVH table.

Not a test: `tests/.../test_*__against_eclipse.py` use it.
"""

from __future__ import annotations

import base64
import csv
import gzip
import re
import tarfile
import xml.etree.ElementTree as ElementTree
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.patient.structures import Structure

_TYPES = {"Float32": "<f4", "Float64": "<f8", "Int64": "<i8", "Int32": "<i4", "UInt8": "<u1"}


@dataclass(frozen=True)
class EclipseDvh:
    """One column pair of Eclipse's table: cumulative DVH in Gy and per cent, volume in cc."""

    dose_gy: np.ndarray
    volume_percent: np.ndarray
    volume_cc: float


def unpack(oracles: Path, folder: Path) -> Path:
    """Unpack the archive of the oracle below a folder and return its folder."""
    target = folder / "slicerrt_eclipse"
    if not target.is_dir():
        with tarfile.open(oracles / "dvh" / "slicerrt_eclipse.tar.xz") as archive:
            archive.extractall(folder, filter="data")
    return target


def read_structures(folder: Path, plan: str) -> dict[str, Structure]:
    """Read all structures of a plan ("EclipseEnt" or "EclipseProstate"), under the names of Eclipse's table.

    The VTK files hold Eclipse's own closed planar contours as lines.
    """
    table = read_eclipse_table(folder / f"{plan}_DvhTable_Eclipse.csv")
    names = {name.casefold(): name for name in table}
    structures: dict[str, Structure] = {}
    for path in sorted((folder / f"{plan}_Structures.seg").glob("*.vtp")):
        structure = _read_vtp(path)
        name = names[re.sub(r"[^0-9a-z]", "", structure.name.casefold())]
        structures[name] = replace(structure, name=name)
    return structures


def _decoded(element, *, text: bool = False) -> np.ndarray:
    """Decode a binary, zlib-compressed VTK array: base64 header of block counts and sizes, then base64 blocks."""
    packed = "".join((element.text or "").split())
    count = int(np.frombuffer(base64.b64decode(packed[:8])[:4], "<u4")[0])
    if count == 0:
        return np.array([])
    header_bytes = 4 * (3 + count)
    header_chars = 4 * ((header_bytes + 2) // 3)
    sizes = np.frombuffer(base64.b64decode(packed[:header_chars])[:header_bytes], "<u4")[3:]
    blocks, data, start = base64.b64decode(packed[header_chars:]), [], 0
    for size in sizes:
        data.append(zlib.decompress(blocks[start : start + size]))
        start += int(size)
    raw = b"".join(data)
    return np.frombuffer(raw, "<u1" if text else _TYPES[element.get("type")])


def _read_vtp(path: Path) -> Structure:
    root = ElementTree.parse(path).getroot()
    name = ""
    for array in root.iter("Array"):
        if array.get("Name") == "Segment_Name":
            name = bytes(_decoded(array, text=True)).rstrip(b"\0").decode()
    piece = next(root.iter("Piece"))
    points = _decoded(piece.find("Points/DataArray")).astype(np.float64).reshape(-1, 3) * (-1, -1, 1)  # RAS to LPS
    arrays = {array.get("Name"): array for array in piece.findall("Lines/DataArray")}
    connectivity, offsets = (_decoded(arrays[key]).astype(int) for key in ("connectivity", "offsets"))
    contours = []
    for line in np.split(connectivity, offsets[:-1]):
        contour = points[line]
        contours.append(contour[:-1] if line[0] == line[-1] else contour)
    contours = [contour for contour in contours if len(contour)]
    return Structure(name, tuple(contours), slice_spacing_mm=2.5)


def read_dose(path: Path) -> Volume:
    """Read an NRRD dose (gzip, LPS, axis-aligned) as Gy."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(re.findall(r"^([^#:\n]+): *(.*)$", head.decode("ascii", "replace"), re.MULTILINE))
    ni, nj, nk = (int(n) for n in fields["sizes"].split())
    kind = {"float": "<f4", "double": "<f8", "short": "<i2", "unsigned short": "<u2", "int": "<i4"}[fields["type"]]
    raw = gzip.decompress(body) if fields["encoding"] in ("gzip", "gz") else body
    directions = np.array([float(v) for v in re.findall(r"[-\d.e+]+", fields["space directions"])]).reshape(3, 3)
    spacing = np.diag(directions)
    if not np.allclose(directions, np.diag(spacing)) or fields["space"] != "left-posterior-superior":
        raise ValueError(f"{path.name}: not axis-aligned LPS")
    origin = np.array([float(v) for v in re.findall(r"[-\d.e+]+", fields["space origin"])])
    values = np.frombuffer(raw, kind).reshape(nk, nj, ni).astype(np.float32)
    for axis in range(3):
        if spacing[2 - axis] < 0:
            values = np.flip(values, axis)
            origin[2 - axis] += spacing[2 - axis] * (values.shape[axis] - 1)
    dx, dy, dz = (float(s) for s in np.abs(spacing))
    grid = Grid((nk, nj, ni), (dx, dy, dz), (float(origin[0]), float(origin[1]), float(origin[2])))
    return Volume(grid, np.ascontiguousarray(values))


def read_eclipse_table(path: Path) -> dict[str, EclipseDvh]:
    """Read Eclipse's DVH table by structure name."""
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    table: dict[str, EclipseDvh] = {}
    for column in range(0, len(rows[0]) - 1, 2):
        name = rows[0][column].split("_DvhArray")[0].strip()
        found = re.search(r"% of ([\d.]+) cc", rows[0][column + 1])
        if not name or not found:
            continue
        pairs = [
            (float(r[column]), float(r[column + 1])) for r in rows[1:] if len(r) > column + 1 and r[column].strip()
        ]
        dose, volume = np.array(pairs).T
        table[name] = EclipseDvh(dose, volume, float(found[1]))
    return table
