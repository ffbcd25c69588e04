"""Objectives on the dose of voxels: value, gradient and Hessian-vector product, with partial-volume weights.

Every objective sees a dose of shape (voxels,) in Gy. A voxel counts with the share of the structure's volume that it
stands for, so that what the optimiser sees is what the DVH on partial-volume masks shows. Values are relative: doses
are divided by ``scale_gy``, so that weights of different objectives compare.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import PlanningError
from cantlie.plan.products import dot

Array = NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class VoxelSet:
    """The voxels of a structure and the share of its volume that each stands for.

    Parameters
    ----------
    index
        Positions in the dose array, shape (n,).
    weight
        Shares, shape (n,); they add up to 1.
    """

    index: NDArray[np.int64]
    weight: NDArray[np.float64]

    @classmethod
    def of_volumes(cls, volumes: Array, name: str = "") -> VoxelSet:
        """Return the voxels that hold some of a structure, given its volume in each voxel (any unit), shape (voxels,).

        Raises
        ------
        PlanningError
            If none does.
        """
        index = np.flatnonzero(np.asarray(volumes) > 0)
        if index.size == 0:
            raise PlanningError("no voxel of the optimiser holds any of the structure", where=name)
        weight = np.asarray(volumes, dtype=np.float64)[index]
        return cls(index, weight / weight.sum())


class Objective(Protocol):
    """A function of the dose to be made small."""

    def add_gradient(self, dose_gy: Array, gradient: Array) -> float:
        """Return the value and add the gradient to an array of the shape of the dose."""
        ...

    def hessian_vector(self, dose_gy: Array, direction: Array) -> NDArray[np.float64]:
        """Return the Hessian times a direction, shape (voxels,)."""
        ...


def value(objective: Objective, dose_gy: Array) -> float:
    """Return the value of an objective."""
    return objective.add_gradient(dose_gy, np.zeros(len(dose_gy)))


class _PerVoxel(ABC):
    """Base of objectives that are a weighted mean of a function of each voxel's dose."""

    voxels: VoxelSet
    weight: float
    scale_gy: float

    @abstractmethod
    def _terms(self, excess: NDArray[np.float64]) -> tuple[Array, Array, Array]:
        """Return the function of the excess, its slope and its curvature."""

    @abstractmethod
    def _excess(self, dose: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far each voxel's dose is beyond its level."""

    def add_gradient(self, dose_gy: Array, gradient: Array) -> float:
        dose = np.asarray(dose_gy[self.voxels.index], dtype=np.float64)
        f, slope, _ = self._terms(self._excess(dose))
        share = self.weight * self.voxels.weight
        gradient[self.voxels.index] += share * slope / self.scale_gy
        return dot(share, f)

    def hessian_vector(self, dose_gy: Array, direction: Array) -> NDArray[np.float64]:
        dose = np.asarray(dose_gy[self.voxels.index], dtype=np.float64)
        _, _, curvature = self._terms(self._excess(dose))
        result = np.zeros(len(dose_gy))
        share = self.weight * self.voxels.weight
        result[self.voxels.index] = share * curvature / self.scale_gy**2 * direction[self.voxels.index]
        return result


def _hinge(excess: NDArray[np.float64]) -> tuple[Array, Array, Array]:
    over = np.maximum(excess, 0.0)
    return over**2, 2 * over, 2.0 * (excess > 0)


@dataclass(slots=True)
class SquaredOverdose(_PerVoxel):
    """Mean squared dose above a limit: a number, or one for each voxel of the set (as for a dose fall-off)."""

    voxels: VoxelSet
    limit_gy: float | NDArray[np.float64]
    weight: float = 1.0
    scale_gy: float = 1.0

    def _excess(self, dose: NDArray[np.float64]) -> NDArray[np.float64]:
        return (dose - self.limit_gy) / self.scale_gy

    def _terms(self, excess: NDArray[np.float64]) -> tuple[Array, Array, Array]:
        return _hinge(excess)


@dataclass(slots=True)
class SquaredUnderdose(_PerVoxel):
    """Mean squared dose below a limit."""

    voxels: VoxelSet
    limit_gy: float | NDArray[np.float64]
    weight: float = 1.0
    scale_gy: float = 1.0

    def _excess(self, dose: NDArray[np.float64]) -> NDArray[np.float64]:
        return (dose - self.limit_gy) / self.scale_gy

    def _terms(self, excess: NDArray[np.float64]) -> tuple[Array, Array, Array]:
        f, slope, curvature = _hinge(-excess)
        return f, -slope, curvature


@dataclass(slots=True)
class SquaredDeviation(_PerVoxel):
    """Mean squared distance from a dose: a number, or one for each voxel of the set."""

    voxels: VoxelSet
    dose_gy: float | NDArray[np.float64]
    weight: float = 1.0
    scale_gy: float = 1.0

    def _excess(self, dose: NDArray[np.float64]) -> NDArray[np.float64]:
        return (dose - self.dose_gy) / self.scale_gy

    def _terms(self, excess: NDArray[np.float64]) -> tuple[Array, Array, Array]:
        return excess**2, 2 * excess, np.full_like(excess, 2.0)


@dataclass(slots=True)
class MeanDose(_PerVoxel):
    """The mean dose itself."""

    voxels: VoxelSet
    weight: float = 1.0
    scale_gy: float = 1.0

    def _excess(self, dose: NDArray[np.float64]) -> NDArray[np.float64]:
        return dose / self.scale_gy

    def _terms(self, excess: NDArray[np.float64]) -> tuple[Array, Array, Array]:
        return excess, np.ones_like(excess), np.zeros_like(excess)


def dose_fall_off(
    voxels: VoxelSet,
    distance_mm: NDArray[np.float64],
    *,
    edge_gy: float,
    far_gy: float,
    half_distance_mm: float,
    weight: float = 1.0,
    scale_gy: float = 1.0,
) -> SquaredOverdose:
    """Return an overdose objective whose limit falls with the distance from the target.

    Parameters
    ----------
    distance_mm
        Distance of each voxel of the set from the surface of the target.
    edge_gy, far_gy, half_distance_mm
        Limit at the surface, limit far away, and the distance over which half of the difference is lost.
    """
    limit = far_gy + (edge_gy - far_gy) * 0.5 ** (distance_mm / half_distance_mm)
    return SquaredOverdose(voxels, limit, weight, scale_gy)


@dataclass(slots=True)
class MaxDvh:
    """Maximum DVH: at most a share of the volume above a dose.

    The hottest voxels, up to ``volume_share`` of the volume, are exempt; the rest pay their squared dose above
    ``dose_gy`` (Wu and Mohan 2000, doi:10.1118/1.1288681, equation 5).
    """

    voxels: VoxelSet
    dose_gy: float
    volume_share: float
    weight: float = 1.0
    scale_gy: float = 1.0

    def _paying(self, dose: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the excess of voxels that pay, 0 elsewhere."""
        excess = (dose - self.dose_gy) / self.scale_gy
        over = excess > 0
        if not over.any():
            return np.zeros_like(dose)
        hot = np.flatnonzero(over)
        order = hot[np.argsort(-dose[hot], kind="stable")]
        exempt = order[np.cumsum(self.voxels.weight[order]) <= self.volume_share]
        excess[exempt] = 0.0
        return np.maximum(excess, 0.0)

    def add_gradient(self, dose_gy: Array, gradient: Array) -> float:
        excess = self._paying(np.asarray(dose_gy[self.voxels.index], dtype=np.float64))
        share = self.weight * self.voxels.weight
        gradient[self.voxels.index] += 2 * share * excess / self.scale_gy
        return dot(share, excess**2)

    def hessian_vector(self, dose_gy: Array, direction: Array) -> NDArray[np.float64]:
        excess = self._paying(np.asarray(dose_gy[self.voxels.index], dtype=np.float64))
        result = np.zeros(len(dose_gy))
        index = self.voxels.index
        result[index] = 2 * self.weight * self.voxels.weight * (excess > 0) * direction[index] / self.scale_gy**2
        return result


@dataclass(slots=True)
class MinDvh:
    """Minimum DVH: at least a share of the volume at or above a dose.

    The coldest voxels, up to ``1 - volume_share`` of the volume, are exempt; the rest pay their squared dose below
    ``dose_gy`` (as `MaxDvh`).
    """

    voxels: VoxelSet
    dose_gy: float
    volume_share: float
    weight: float = 1.0
    scale_gy: float = 1.0

    def _paying(self, dose: NDArray[np.float64]) -> NDArray[np.float64]:
        lack = (self.dose_gy - dose) / self.scale_gy
        cold = np.flatnonzero(lack > 0)
        if cold.size == 0:
            return np.zeros_like(dose)
        order = cold[np.argsort(dose[cold], kind="stable")]
        exempt = order[np.cumsum(self.voxels.weight[order]) <= 1.0 - self.volume_share]
        lack[exempt] = 0.0
        return np.maximum(lack, 0.0)

    def add_gradient(self, dose_gy: Array, gradient: Array) -> float:
        lack = self._paying(np.asarray(dose_gy[self.voxels.index], dtype=np.float64))
        share = self.weight * self.voxels.weight
        gradient[self.voxels.index] -= 2 * share * lack / self.scale_gy
        return dot(share, lack**2)

    def hessian_vector(self, dose_gy: Array, direction: Array) -> NDArray[np.float64]:
        lack = self._paying(np.asarray(dose_gy[self.voxels.index], dtype=np.float64))
        result = np.zeros(len(dose_gy))
        index = self.voxels.index
        result[index] = 2 * self.weight * self.voxels.weight * (lack > 0) * direction[index] / self.scale_gy**2
        return result


@dataclass(slots=True)
class MeanDeviation:
    """Squared distance of the mean dose from an interval."""

    voxels: VoxelSet
    lower_gy: float
    upper_gy: float
    weight: float = 1.0
    scale_gy: float = 1.0

    def _excess(self, dose_gy: Array) -> float:
        mean = dot(self.voxels.weight, dose_gy[self.voxels.index])
        return (max(mean - self.upper_gy, 0.0) + min(mean - self.lower_gy, 0.0)) / self.scale_gy

    def add_gradient(self, dose_gy: Array, gradient: Array) -> float:
        excess = self._excess(dose_gy)
        gradient[self.voxels.index] += 2 * self.weight * excess / self.scale_gy * self.voxels.weight
        return self.weight * excess**2

    def hessian_vector(self, dose_gy: Array, direction: Array) -> NDArray[np.float64]:
        result = np.zeros(len(dose_gy))
        if self._excess(dose_gy) != 0.0:
            along = float(self.voxels.weight @ direction[self.voxels.index])
            result[self.voxels.index] = 2 * self.weight / self.scale_gy**2 * along * self.voxels.weight
        return result


@dataclass(slots=True)
class Uniformity:
    """Variance of the dose about its own mean."""

    voxels: VoxelSet
    weight: float = 1.0
    scale_gy: float = 1.0

    def add_gradient(self, dose_gy: Array, gradient: Array) -> float:
        dose = np.asarray(dose_gy[self.voxels.index], dtype=np.float64)
        deviation = (dose - dot(self.voxels.weight, dose)) / self.scale_gy
        gradient[self.voxels.index] += 2 * self.weight * self.voxels.weight * deviation / self.scale_gy
        return self.weight * dot(self.voxels.weight, deviation**2)

    def hessian_vector(self, dose_gy: Array, direction: Array) -> NDArray[np.float64]:
        along = np.asarray(direction[self.voxels.index], dtype=np.float64)
        result = np.zeros(len(dose_gy))
        share = 2 * self.weight * self.voxels.weight / self.scale_gy**2
        result[self.voxels.index] = share * (along - self.voxels.weight @ along)
        return result


@dataclass(slots=True)
class Geud:
    """Squared excess of the generalised equivalent uniform dose over a limit (below it, for a negative exponent).

    gEUD = (Σ v d^a)^(1/a) (Niemierko 1997, doi:10.1118/1.598063); a > 0 for organs, a < 0 for targets.
    """

    voxels: VoxelSet
    exponent: float
    limit_gy: float
    weight: float = 1.0
    scale_gy: float = 1.0

    def __post_init__(self) -> None:
        if self.exponent == 0:
            raise PlanningError("a gEUD needs an exponent other than 0")

    def geud_gy(self, dose_gy: Array) -> float:
        """Return the generalised equivalent uniform dose."""
        return self._parts(dose_gy)[0]

    def _parts(self, dose_gy: Array) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """Return gEUD, its gradient on the set, and the doses in Gy."""
        dose = np.maximum(np.asarray(dose_gy[self.voxels.index], dtype=np.float64), 1e-6)
        top = dose.max() if self.exponent > 0 else dose.min()
        relative = dose / top
        mean = dot(self.voxels.weight, relative**self.exponent)
        geud = top * mean ** (1 / self.exponent)
        slope = self.voxels.weight * (dose / geud) ** (self.exponent - 1)
        return geud, slope, dose

    def _excess(self, geud: float) -> float:
        excess = (geud - self.limit_gy) / self.scale_gy
        return max(excess, 0.0) if self.exponent > 0 else min(excess, 0.0)

    def add_gradient(self, dose_gy: Array, gradient: Array) -> float:
        geud, slope, _ = self._parts(dose_gy)
        excess = self._excess(geud)
        gradient[self.voxels.index] += 2 * self.weight * excess / self.scale_gy * slope
        return self.weight * excess**2

    def hessian_vector(self, dose_gy: Array, direction: Array) -> NDArray[np.float64]:
        geud, slope, dose = self._parts(dose_gy)
        excess = self._excess(geud)
        along = np.asarray(direction[self.voxels.index], dtype=np.float64)
        result = np.zeros(len(dose_gy))
        if excess != 0.0:
            projected = dot(slope, along)
            curved = (self.exponent - 1) * (slope * along / dose - slope * projected / geud)
            result[self.voxels.index] = (
                2 * self.weight / self.scale_gy * (slope * projected / self.scale_gy + excess * curved)
            )
        return result
