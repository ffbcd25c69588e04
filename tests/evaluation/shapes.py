"""Analytic shapes as contours, and their exact dose-volume numbers in a linear dose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.patient.structures import Structure

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Solid:
    """A body of revolution around z: radius in mm by height above its lowest point, over a height."""

    height_mm: float
    radius_at: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    centre: Point

    @property
    def base_mm(self) -> float:
        return self.centre[2] - 0.5 * self.height_mm

    def structure(self, slice_mm: float, corners: int = 512) -> Structure:
        """Contours at the middle of slices whose edges start at the lowest point."""
        turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        # The polygon has the area of the circle, not of the polygon inscribed in it.
        swell = np.sqrt(2 * np.pi / corners / np.sin(2 * np.pi / corners))
        contours = []
        for n in range(round(self.height_mm / slice_mm)):
            height = (n + 0.5) * slice_mm
            radius = float(self.radius_at(np.array([height]))[0]) * swell
            x, y = self.centre[0] + radius * np.cos(turn), self.centre[1] + radius * np.sin(turn)
            contours.append(np.stack([x, y, np.full(corners, self.base_mm + height)], axis=1))
        return Structure("solid", tuple(contours))

    def exact(
        self, level_gy: float, slope: Point, count: int = 400
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """Return the volume in cc and samples (dose, weight) of the exact dose distribution."""
        heights = (np.arange(count) + 0.5) * self.height_mm / count
        radii = self.radius_at(heights)
        across = float(np.hypot(slope[0], slope[1]))
        # Dose varies along one direction of each disc; chords weigh it.
        u = -np.cos((np.arange(count) + 0.5) * np.pi / count)
        chord = (1 - u**2) / count * np.pi * 2
        dose = (
            level_gy
            + slope[0] * self.centre[0]
            + slope[1] * self.centre[1]
            + slope[2] * (self.base_mm + heights[:, None])
            + across * radii[:, None] * u[None]
        )
        weight = radii[:, None] ** 2 * chord[None] * self.height_mm / count / 1000.0
        return float(weight.sum()), dose.ravel(), weight.ravel()


def sphere(radius_mm: float, centre: Point) -> Solid:
    return Solid(2 * radius_mm, lambda h: np.sqrt(np.maximum(radius_mm**2 - (h - radius_mm) ** 2, 0.0)), centre)


def cylinder(radius_mm: float, height_mm: float, centre: Point) -> Solid:
    return Solid(height_mm, lambda h: np.full(h.shape, radius_mm), centre)


def cone(radius_mm: float, height_mm: float, centre: Point) -> Solid:
    return Solid(height_mm, lambda h: radius_mm * (1 - h / height_mm), centre)


def linear_dose(level_gy: float, slope: Point, spacing_mm: float, offset_mm: Point) -> Volume:
    """A dose that rises evenly along ``slope`` (Gy per mm), on a grid of its own."""
    count = int(160 / spacing_mm)
    grid = Grid((count, count, count), (spacing_mm,) * 3, tuple(o - 80.0 for o in offset_mm))  # type: ignore[arg-type]
    return Volume(grid, (level_gy + grid.points_mm() @ np.asarray(slope)).astype(np.float32))
