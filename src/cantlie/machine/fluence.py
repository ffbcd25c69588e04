"""From jaws and leaves to the photon fluence at the isocentre plane, exact to fractions of a pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.errors import MachineError
from cantlie.machine.aperture import Aperture, FluenceMap
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.block import Block, passing
from cantlie.machine.mlc import Mlc


def pixel_centres(lower_mm: float, upper_mm: float, pixel_mm: float) -> NDArray[np.float64]:
    """Return centres of pixels of one width, a multiple of it from the axis, that cover an interval."""
    first = int(np.floor(lower_mm / pixel_mm + 1e-9))
    last = max(int(np.ceil(upper_mm / pixel_mm - 1e-9)), first + 1)
    return np.asarray((np.arange(first, last) + 0.5) * pixel_mm, dtype=np.float64)


def aperture_fluence(
    aperture: Aperture,
    mu: float,
    mlc: Mlc | None,
    model: BeamModel,
    x_mm: NDArray[np.float64],
    y_mm: NDArray[np.float64],
    sad_mm: float = 1000.0,
) -> FluenceMap:
    """Return the fluence of ``mu`` monitor units through one aperture; see :func:`summed_fluence`."""
    return summed_fluence([aperture], [mu], mlc, model, x_mm, y_mm, sad_mm)


def summed_fluence(
    apertures: Sequence[Aperture],
    mu: Sequence[float],
    mlc: Mlc | None,
    model: BeamModel,
    x_mm: NDArray[np.float64],
    y_mm: NDArray[np.float64],
    sad_mm: float = 1000.0,
    blocks: Sequence[Block] = (),
) -> FluenceMap:
    """Return the summed fluence of apertures delivered from one direction.

    Every pixel holds the mean over its area, so that positions of jaws and leaves count to any fraction of a pixel.
    The geometric penumbra of the focal spot and the extra-focal radiation are Gaussian blurs of the opening, scaled
    from their source to the isocentre plane through the collimating edges (Ahnesjö 1994, Med Phys 21:1227).

    Parameters
    ----------
    apertures, mu
        The segments and their monitor units.
    mlc
        The leaves; None if the machine has none. An aperture without leaf positions is shaped by its jaws alone.
    model
        The beam model: source, transmission of the jaws, profile.
    x_mm, y_mm
        Evenly spaced pixel centres in the isocentre plane, shapes (nx,) and (ny,), at least two each.
    sad_mm
        Source-axis distance.
    blocks
        Blocks that stay in the field; their edges are blurred as those of jaws and leaves are.

    Raises
    ------
    MachineError
        If an aperture has leaves and the machine has none, or another number of them.
    """
    width_x = _pixel_width(x_mm)
    width_y = _pixel_width(y_mm)
    total = np.zeros((y_mm.size, x_mm.size))
    for aperture, units in zip(apertures, mu, strict=True):
        total += units * _opening(aperture, mlc, model.jaw_transmission, x_mm, y_mm, width_x, width_y)
    if blocks:
        total *= passing(blocks, x_mm, y_mm)
    total = _blur(total, model, width_x, width_y, sad_mm)
    if model.off_axis_fluence:
        total *= model.relative_fluence(np.hypot(x_mm[None, :], y_mm[:, None]))
    return FluenceMap(x_mm, y_mm, total)


def _pixel_width(centres_mm: NDArray[np.float64]) -> float:
    if centres_mm.size < 2:
        raise MachineError("a fluence map needs at least two pixels along each axis")
    return float(centres_mm[1] - centres_mm[0])


def _blur(
    values: NDArray[np.float64], model: BeamModel, width_x: float, width_y: float, sad_mm: float
) -> NDArray[np.float64]:
    gap = sad_mm - model.collimator_distance_mm
    focal = model.focal_spot_sigma_mm * gap / model.collimator_distance_mm
    sharp = ndimage.gaussian_filter(values, (focal / width_y, focal / width_x), mode="constant") if focal else values
    if not model.extra_focal_fraction:
        return sharp
    if model.extra_focal_distance_mm >= model.collimator_distance_mm:
        raise MachineError(
            "the extra-focal source lies below the collimating edges",
            where=model.name,
            remedy="give an extra_focal_distance_mm smaller than collimator_distance_mm",
        )
    wide = model.extra_focal_sigma_mm * gap / (model.collimator_distance_mm - model.extra_focal_distance_mm)
    blurred = ndimage.gaussian_filter(values, (wide / width_y, wide / width_x), mode="constant")
    return (1.0 - model.extra_focal_fraction) * sharp + model.extra_focal_fraction * blurred


def _opening(
    aperture: Aperture,
    mlc: Mlc | None,
    jaw_transmission: float,
    x_mm: NDArray[np.float64],
    y_mm: NDArray[np.float64],
    width_x: float,
    width_y: float,
) -> NDArray[np.float64]:
    jaws = (aperture.jaw_x_mm, aperture.jaw_y_mm)
    if aperture.leaf_lower_mm is None or aperture.leaf_upper_mm is None:
        everywhere = np.array([-1e6, 1e6])
        return _area_means(
            x_mm, y_mm, width_x, width_y, jaws[0], jaws[1], everywhere, everywhere[:1], everywhere[1:], 0.0,
            0.0, jaw_transmission,
        )  # fmt: skip
    if mlc is None:
        raise MachineError("an aperture has leaf positions, but the machine has no leaves")
    boundaries = np.asarray(mlc.leaf_boundaries_mm, dtype=np.float64)
    lower = np.asarray(aperture.leaf_lower_mm, dtype=np.float64)
    upper = np.asarray(aperture.leaf_upper_mm, dtype=np.float64)
    if lower.shape != (boundaries.size - 1,) or upper.shape != lower.shape:
        raise MachineError(
            f"an aperture has {lower.size} leaf pairs, but the machine has {boundaries.size - 1}",
            remedy="recalculate the plan on the machine that it was made for",
        )
    common = (boundaries, lower, upper, mlc.tip_offset_mm, mlc.transmission, jaw_transmission)
    if mlc.axis == "X":
        return _area_means(x_mm, y_mm, width_x, width_y, jaws[0], jaws[1], *common)
    return np.ascontiguousarray(_area_means(y_mm, x_mm, width_y, width_x, jaws[1], jaws[0], *common).T)


@numba.njit(cache=True)
def _overlap(low: float, high: float, first: float, last: float) -> float:
    return max(0.0, min(high, last) - max(low, first))


@numba.njit(cache=True)
def _area_means(  # type: ignore[no-untyped-def]
    along_mm, across_mm, width_along, width_across, jaw_along, jaw_across, boundaries, lower, upper, tip_mm,
    leaf_transmission, jaw_transmission,
):  # fmt: skip
    """Return the mean transmitted share of each pixel, leaves moving along the second axis; all lengths in mm."""
    result = np.zeros((across_mm.size, along_mm.size))
    for leaf in range(lower.size):
        tip_low = lower[leaf] - tip_mm
        tip_high = upper[leaf] + tip_mm
        is_closed = upper[leaf] <= lower[leaf]
        for row in range(across_mm.size):
            row_low = across_mm[row] - 0.5 * width_across
            row_high = row_low + width_across
            if leaf == 0:  # beyond the outermost leaves there is leaf all the same
                band_low = row_low
            else:
                band_low = max(row_low, boundaries[leaf])
            if leaf == lower.size - 1:
                band_high = row_high
            else:
                band_high = min(row_high, boundaries[leaf + 1])
            if band_high <= band_low:
                continue
            reach = _overlap(band_low, band_high, boundaries[leaf], boundaries[leaf + 1])
            covered = (band_high - band_low - reach) / width_across
            band = reach / width_across
            band_low = max(band_low, boundaries[leaf])
            band_high = min(band_high, boundaries[leaf + 1])
            between = _overlap(band_low, band_high, jaw_across[0], jaw_across[1]) / width_across
            for column in range(along_mm.size):
                low = along_mm[column] - 0.5 * width_along
                high = low + width_along
                jaw = _overlap(low, high, jaw_along[0], jaw_along[1]) / width_along
                if is_closed:
                    leaf_open = 0.0
                    both = 0.0
                else:
                    leaf_open = _overlap(low, high, tip_low, tip_high) / width_along
                    both = _overlap(max(low, tip_low), min(high, tip_high), jaw_along[0], jaw_along[1]) / width_along
                below = leaf_transmission + (1.0 - leaf_transmission) * leaf_open
                inside = leaf_transmission * jaw + (1.0 - leaf_transmission) * both
                result[row, column] += band * jaw_transmission * below
                result[row, column] += between * (1.0 - jaw_transmission) * inside
                result[row, column] += covered * leaf_transmission * jaw_transmission
    return result
