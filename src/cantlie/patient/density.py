"""Hounsfield units to mass density, and the density volume that a dose is calculated on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import CantlieError
from cantlie.core.spreadsheet import SheetError, number_of, read_sheet
from cantlie.core.volume import Volume

AIR_G_CM3 = 0.0012

# Mass densities of the inserts of a CIRS 062 electron density phantom (manufacturer's data sheet) at HU that are usual
# for 120 kVp, from air to dense bone; beyond it a straight line to aluminium, where every scanner differs.
_DEFAULT_POINTS = (
    (-1000.0, AIR_G_CM3),
    (-800.0, 0.205),
    (-500.0, 0.507),
    (-95.0, 0.96),
    (0.0, 1.0),
    (45.0, 1.06),
    (60.0, 1.07),
    (240.0, 1.16),
    (910.0, 1.61),
    (3000.0, 2.7),
)


class DensityCurveError(CantlieError):
    """A HU to density table that cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class DensityCurve:
    """Mass density as a function of HU, straight between points and constant beyond the ends.

    Parameters
    ----------
    hu
        Hounsfield units, strictly growing, shape (n,), at least two.
    density_g_cm3
        Mass densities in g/cm³, not negative, shape (n,).
    name
        Where the curve comes from, for the report.

    Raises
    ------
    DensityCurveError
        If HU do not grow, or a value is missing, negative or beyond 25 g/cm³.
    """

    hu: NDArray[np.float64]
    density_g_cm3: NDArray[np.float64]
    name: str = "default"

    def __post_init__(self) -> None:
        remedy = "give lines of HU and g/cm³, HU growing from line to line"
        if self.hu.ndim != 1 or self.hu.shape != self.density_g_cm3.shape or self.hu.size < 2:
            raise DensityCurveError("a density curve needs at least two points", where=self.name, remedy=remedy)
        if not (np.isfinite(self.hu).all() and np.isfinite(self.density_g_cm3).all()):
            raise DensityCurveError("a point of the density curve is not a number", where=self.name, remedy=remedy)
        falling = np.flatnonzero(np.diff(self.hu) <= 0)
        if falling.size:
            n = int(falling[0])
            raise DensityCurveError(
                f"HU of the density curve do not grow: {self.hu[n + 1]:g} follows {self.hu[n]:g}",
                where=f"{self.name}, point {n + 2}",
                remedy=remedy,
            )
        if (self.density_g_cm3 < 0).any() or (self.density_g_cm3 > 25).any():
            n = int(np.flatnonzero((self.density_g_cm3 < 0) | (self.density_g_cm3 > 25))[0])
            raise DensityCurveError(
                f"a density of {self.density_g_cm3[n]:g} g/cm³ is not possible",
                where=f"{self.name}, point {n + 1}",
                remedy="give mass densities in g/cm³",
            )

    @classmethod
    def from_csv_text(cls, text: str, name: str = "density curve") -> DensityCurve:
        """Read a curve from CSV text: a header line, then HU and g/cm³ (comma, semicolon or tab) on each line.

        Raises
        ------
        DensityCurveError
            With the line that is wrong.
        """
        lines = ["" if line.lstrip().startswith("#") else line for line in text.removeprefix("\ufeff").splitlines()]
        remedy = "write HU and g/cm³ on each line, below one header line"
        try:
            sheet = read_sheet("\n".join(lines), name)
        except SheetError as error:
            raise DensityCurveError(error.what, where=error.where, remedy=remedy) from error
        if "electron" in " ".join(sheet.header).lower():
            raise DensityCurveError(
                "this is a curve of electron density, not of mass density",
                where=name,
                remedy="give mass densities in g/cm³ of the same inserts",
            )
        first = next(n for n, line in enumerate(lines, start=1) if line.strip())
        points: list[tuple[float, float]] = []
        for number, cells in zip((first, *sheet.lines), (sheet.header, *sheet.rows), strict=True):
            try:
                points.append((number_of(cells[0], sheet.decimal_comma), number_of(cells[1], sheet.decimal_comma)))
            except (ValueError, IndexError):
                if cells is sheet.header:
                    continue
                raise DensityCurveError(
                    "a line of the density curve is not two numbers", where=f"{name}, line {number}", remedy=remedy
                ) from None
        table = np.array(points, dtype=np.float64).reshape(-1, 2)
        return cls(table[:, 0].copy(), table[:, 1].copy(), name)

    def __call__(self, hu: ArrayLike) -> NDArray[np.float32]:
        """Return mass densities in g/cm³ of HU, of the same shape."""
        return np.interp(np.asarray(hu), self.hu, self.density_g_cm3).astype(np.float32)


def default_density_curve() -> DensityCurve:
    """Return the curve used when the user gives none: a usual scanner at 120 kVp (CIRS 062 inserts).

    Soft tissue differs by less than 1 % between scanners at 120 kVp, bone by several per cent: for absolute dose give
    the curve of the scanner.
    """
    table = np.array(_DEFAULT_POINTS)
    return DensityCurve(table[:, 0].copy(), table[:, 1].copy(), "Cantlie default (CIRS 062 inserts, 120 kVp)")


def density_volume(ct: Volume, body_fractions: NDArray[np.float32], curve: DensityCurve) -> Volume:
    """Return mass density in g/cm³ on the CT grid; outside the body is air.

    Couch, clothing and immobilisation outside BODY are replaced by air (0.0012 g/cm³). A voxel that BODY fills in part
    mixes its own density and air in proportion.

    Parameters
    ----------
    ct
        HU.
    body_fractions
        Share of each voxel inside BODY, shape ``ct.grid.shape``.
    curve
        HU to g/cm³.

    Returns
    -------
    Volume
        float32.
    """
    density = curve(ct.values)
    density -= np.float32(AIR_G_CM3)
    density *= body_fractions
    density += np.float32(AIR_G_CM3)
    return Volume(ct.grid, density)
