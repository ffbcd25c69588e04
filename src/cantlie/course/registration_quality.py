"""How good a registration is, in the figures of AAPM TG-132: landmarks, Jacobian, Dice of propagated structures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import GeometryError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.course.registration_field import DisplacementField

TG132 = "Brock et al. 2017 (AAPM TG-132), doi:10.1002/mp.12256, table V"
LIMIT_TRE_MM = 3.0
LIMIT_DICE = 0.8


@dataclass(frozen=True, slots=True)
class JacobianFigures:
    """Local change of volume inside a mask: the share that folds (determinant at most 0), and the spread."""

    folded_fraction: float
    minimum: float
    percentile_1: float
    mean: float
    percentile_99: float
    maximum: float


@dataclass(frozen=True, slots=True)
class RegistrationQuality:
    """Figures of TG-132 for one registration.

    Parameters
    ----------
    target_registration_error_mm
        Error at each pair of landmarks; empty when none were given.
    dice
        Structure to the overlap of the propagated and the drawn one.
    surface_distance_mm
        Structure to the mean distance between the surface of the propagated and of the drawn one.
    """

    target_registration_error_mm: tuple[float, ...]
    jacobian: JacobianFigures
    dice: Mapping[str, float]
    surface_distance_mm: Mapping[str, float] = field(default_factory=dict)

    @property
    def mean_error_mm(self) -> float:
        """Mean target registration error, NaN without landmarks."""
        errors = self.target_registration_error_mm
        return float(np.mean(errors)) if errors else float("nan")

    @property
    def percentile_95_error_mm(self) -> float:
        """95th percentile of the target registration error, NaN without landmarks."""
        errors = self.target_registration_error_mm
        return float(np.percentile(errors, 95)) if errors else float("nan")


def target_registration_errors_mm(
    field: DisplacementField, reference_mm: ArrayLike, moving_mm: ArrayLike
) -> NDArray[np.float64]:
    """Return the distance between where the field takes reference landmarks and the moving landmarks, mm.

    Raises
    ------
    GeometryError
        If the landmarks are not pairs of (x, y, z).
    """
    reference, moving = np.asarray(reference_mm, np.float64), np.asarray(moving_mm, np.float64)
    if reference.shape != moving.shape or reference.ndim != 2 or reference.shape[1] != 3:
        raise GeometryError("landmarks must be pairs of points (x, y, z)", where="target registration error")
    return np.linalg.norm(field.moving_points_mm(reference) - moving, axis=1)


def jacobian_figures(field: DisplacementField, mask: NDArray[np.bool_] | None = None) -> JacobianFigures:
    """Return statistics of the Jacobian determinant, inside a mask on the field's grid if one is given."""
    values = field.jacobian()
    chosen = values[mask] if mask is not None else values.reshape(-1)
    if not chosen.size:
        raise GeometryError("the mask is empty", where="Jacobian")
    low, high = np.percentile(chosen, (1, 99))
    return JacobianFigures(
        float((chosen <= 0).mean()),
        float(chosen.min()),
        float(low),
        float(chosen.mean()),
        float(high),
        float(chosen.max()),
    )


def dice(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Return the Dice overlap of two partial-volume masks: 2 Σ min(a, b) / (Σ a + Σ b); NaN when both are empty."""
    total = float(a.sum(dtype=np.float64) + b.sum(dtype=np.float64))
    return 2.0 * float(np.minimum(a, b).sum(dtype=np.float64)) / total if total > 0 else float("nan")


def mean_surface_distance_mm(a: NDArray[np.floating], b: NDArray[np.floating], grid: Grid) -> float:
    """Return the mean distance to agreement of two surfaces in mm, both ways; NaN when one is empty.

    Surfaces are the voxels at the edge of the half-full region. TG-132 (table V) expects 2 to 3 mm at most.

    Parameters
    ----------
    a, b
        Partial-volume masks on ``grid``.
    """
    from scipy import ndimage

    inside = [np.asarray(mask) >= 0.5 for mask in (a, b)]
    if not (inside[0].any() and inside[1].any()):
        return float("nan")
    low = np.argwhere(inside[0] | inside[1])
    box = tuple(slice(max(first - 2, 0), last + 3) for first, last in zip(low.min(0), low.max(0), strict=True))
    edges = [one[box] & ~ndimage.binary_erosion(one[box]) for one in inside]
    step = grid.spacing_mm[::-1]
    away = [ndimage.distance_transform_edt(~edge, sampling=step) for edge in edges]
    return 0.5 * float(away[1][edges[0]].mean() + away[0][edges[1]].mean())


def registration_quality(
    displacement: DisplacementField,
    *,
    landmarks_mm: tuple[ArrayLike, ArrayLike] | None = None,
    reference_structures: Mapping[str, Volume] | None = None,
    moving_structures: Mapping[str, Volume] | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> RegistrationQuality:
    """Return the figures of TG-132 for a field.

    Parameters
    ----------
    landmarks_mm
        Points of the reference and the same anatomical points in the moving image.
    reference_structures, moving_structures
        Partial-volume masks by name; those drawn on both images are compared on the reference.
    mask
        Where the Jacobian counts, on the field's grid.
    """
    errors = () if landmarks_mm is None else tuple(target_registration_errors_mm(displacement, *landmarks_mm).tolist())
    drawn, other = reference_structures or {}, moving_structures or {}
    overlaps, distances = {}, {}
    for name, one in drawn.items():
        if name in other:
            propagated = np.asarray(displacement.pull(other[name], one.grid).values)
            overlaps[name] = dice(np.asarray(one.values), propagated)
            distances[name] = mean_surface_distance_mm(np.asarray(one.values), propagated, one.grid)
    return RegistrationQuality(errors, jacobian_figures(displacement, mask), overlaps, distances)
