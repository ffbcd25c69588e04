"""What part of the patient the pictures show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.volume import Volume
from cantlie.report.case_report import StructureView
from cantlie.report.slices import Slice

_MARGIN_MM = 6.0
_BEYOND_MM = 45.0


@dataclass(frozen=True, slots=True)
class View:
    """What part of the patient the pictures show, and the point in which the three slices meet."""

    point_mm: tuple[float, float, float]
    lower_mm: tuple[float, float, float]
    upper_mm: tuple[float, float, float]

    @property
    def slices(self) -> tuple[Slice, Slice, Slice]:
        """The axial, coronal and sagittal slice through the point."""
        x, y, z = self.point_mm
        return Slice("axial", z), Slice("coronal", y), Slice("sagittal", x)


def view_of(
    ct: Volume, structures: Sequence[StructureView], point_mm: tuple[float, float, float] | None = None
) -> View:
    """Choose a view: the whole body across, the targets with 45 mm above and below along the patient.

    Parameters
    ----------
    point_mm
        Where the slices meet; the centre of mass of the targets when not given, or of their largest part where that
        lies between several. It is moved to the nearest CT slice.
    """
    targets = [s for s in structures if s.role == "target"] or [s for s in structures if s.role != "body"]
    boxes = [box for s in targets if (box := _box_mm(s.fractions, 0.5)) is not None]
    bodies = [box for s in structures if s.role == "body" and (box := _box_mm(s.fractions, 0.5)) is not None]
    grid = ct.grid
    lower, upper = np.array(grid.lower_mm), np.array(grid.upper_mm)
    body = bodies[0] if bodies else _box_mm(Volume(grid, (ct.values > -400).astype(np.float32)), 0.5)
    if body is not None:
        lower[:2] = np.maximum(lower[:2], body[0][:2] - _MARGIN_MM)
        upper[:2] = np.minimum(upper[:2], body[1][:2] + _MARGIN_MM)
    if boxes:
        lower[2] = max(lower[2], min(box[0][2] for box in boxes) - _BEYOND_MM)
        upper[2] = min(upper[2], max(box[1][2] for box in boxes) + _BEYOND_MM)
    if point_mm is None:
        centres = [c for s in targets if (c := _centre_mm(s.fractions)) is not None]
        point = np.mean(centres, axis=0) if centres else 0.5 * (lower + upper)
        if centres and not any(_holds(s.fractions, point) for s in targets):
            point = _centre_of_largest_part_mm(targets, point)
    else:
        point = np.asarray(point_mm, dtype=np.float64)
    k = int(np.clip(round((point[2] - grid.origin_mm[2]) / grid.spacing_mm[2]), 0, grid.shape[0] - 1))
    point[2] = grid.origin_mm[2] + k * grid.spacing_mm[2]
    x, y, z = point
    return View((float(x), float(y), float(z)), _triple(lower), _triple(upper))


def _box_mm(mask: Volume, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    inside = np.asarray(mask.values) >= level
    spans = []
    for axis in (2, 1, 0):
        others = tuple(n for n in range(3) if n != axis)
        hits = np.flatnonzero(inside.any(axis=others))
        if not hits.size:
            return None
        spans.append((hits[0], hits[-1]))
    spacing, origin = np.asarray(mask.grid.spacing_mm), np.asarray(mask.grid.origin_mm)
    low = origin + spacing * (np.array([span[0] for span in spans]) - 0.5)
    high = origin + spacing * (np.array([span[1] for span in spans]) + 0.5)
    return low, high


def _centre_mm(mask: Volume) -> NDArray[np.float64] | None:
    values = np.asarray(mask.values, dtype=np.float64)
    total = values.sum()
    if total <= 0:
        return None
    grid = mask.grid
    return (
        np.array(
            [
                values.sum(axis=(0, 1)) @ grid.x_mm,
                values.sum(axis=(0, 2)) @ grid.y_mm,
                values.sum(axis=(1, 2)) @ grid.z_mm,
            ]
        )
        / total
    )


def _holds(mask: Volume, point_mm: NDArray[np.float64]) -> bool:
    """Say whether the voxel nearest to a point is at least half filled."""
    at = np.round(mask.grid.index_from_mm(point_mm)).astype(int)
    within = bool((at >= 0).all() and (at < mask.grid.shape).all())
    return within and bool(mask.values[tuple(at)] >= 0.5)


def _centre_of_largest_part_mm(
    targets: Sequence[StructureView], otherwise_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the centre of the largest connected part of all targets."""
    grid = targets[0].fractions.grid
    same = [np.asarray(s.fractions.values) >= 0.5 for s in targets if s.fractions.grid.is_close(grid)]
    inside = np.logical_or.reduce(same)
    boxes = ndimage.find_objects(inside.astype(np.int8))
    if not boxes:
        return otherwise_mm
    box = boxes[0]
    labels, count = ndimage.label(inside[box])
    if count < 2:
        return otherwise_mm
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    k, j, i = (float(at) + part.start for at, part in zip(ndimage.center_of_mass(labels == largest), box, strict=True))
    return np.asarray(grid.origin_mm) + np.asarray(grid.spacing_mm) * np.array([i, j, k])


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = values
    return float(x), float(y), float(z)
