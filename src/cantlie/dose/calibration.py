"""Calibration: how much primary fluence one monitor unit is, from the dose at a point of a water phantom."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

from cantlie.dose.attenuation import terma
from cantlie.dose.kernel import Cones, cones
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import aperture_fluence, pixel_centres


@lru_cache(maxsize=16)
def fluence_per_mu(model: BeamModel, sad_mm: float = 1000.0) -> float:
    """Return the primary photon fluence (per cm², on the axis at the isocentre, wide open beam) of one monitor unit.

    The dose of unit fluence at the calibration point is the integral of the collapsed-cone kernels along every cone
    that ends there: the same superposition as :func:`cantlie.dose.collapsed_cone.collapsed_cone_dose`, without a grid.
    """
    calibration = model.calibration
    dose = point_dose_in_water(
        model,
        field_mm=(calibration.field_mm, calibration.field_mm),
        ssd_mm=calibration.ssd_mm,
        depth_mm=calibration.depth_mm,
        sad_mm=sad_mm,
    )
    # Contaminating electrons are stated as a share of this very dose.
    fade = np.exp(-calibration.depth_mm / model.electron_contamination_depth_mm)
    return calibration.gy_per_mu / (dose * (1.0 + model.electron_contamination * float(fade)))


def point_dose_in_water(
    model: BeamModel,
    *,
    field_mm: tuple[float, float],
    ssd_mm: float,
    depth_mm: float,
    sad_mm: float = 1000.0,
    off_axis_mm: tuple[float, float] = (0.0, 0.0),
) -> float:
    """Return the photon dose (Gy) of unit fluence at a point below the flat surface of wide and deep water.

    Parameters
    ----------
    field_mm
        Width of the field along x and y at the isocentre plane.
    ssd_mm, depth_mm
        Distance from the source to the surface, and depth of the point, along the axis.
    off_axis_mm
        Position of the point across the axis (in its own plane).
    """
    half_x, half_y = 0.5 * field_mm[0], 0.5 * field_mm[1]
    pixel = 1.0
    x_mm = pixel_centres(-half_x - 40.0, half_x + 40.0, pixel)
    y_mm = pixel_centres(-half_y - 40.0, half_y + 40.0, pixel)
    aperture = Aperture((-half_x, half_x), (-half_y, half_y))
    fluence = aperture_fluence(aperture, 1.0, None, model, x_mm, y_mm, sad_mm).values_mu
    table = terma(model)
    point = np.array([*off_axis_mm, ssd_mm + depth_mm])
    total = 0.0

    def along(set_of_cones: Cones, s_edges: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        s = 0.5 * (s_edges[1:] + s_edges[:-1])
        places = point - s[None, :, None] * set_of_cones.directions[:, None, :]
        deep_mm = places[..., 2] - ssd_mm
        scale = sad_mm / places[..., 2]
        x, y = places[..., 0] * scale, places[..., 1] * scale
        at = [(y - y_mm[0]) / pixel, (x - x_mm[0]) / pixel]
        distance = np.linalg.norm(places, axis=-1)
        arriving = ndimage.map_coordinates(fluence, at, order=1) * (sad_mm / distance) ** 2 * (deep_mm > 0)
        slant = np.maximum(deep_mm, 0.0) * distance / places[..., 2]
        slant *= model.relative_attenuation(np.hypot(x, y))
        released = arriving * np.interp(slant, table.depth_mm, table.gy_per_fluence)
        mixed = np.interp(slant, table.depth_mm, table.hardening)
        rates = set_of_cones.rate_per_mm
        left = np.exp(-rates[:, None, :] * s_edges[None, :, None])
        here = left[:, :-1] - left[:, 1:]  # share of each exponential deposited at the point, per cell of the cone
        near, far = set_of_cones.fraction[:, 0], set_of_cones.fraction[:, 1]
        azimuth = set_of_cones.azimuth_rad[:, None]
        outward = (places[..., 0] * np.cos(azimuth) + places[..., 1] * np.sin(azimuth)) / places[..., 2]
        released = released * np.maximum(1.0 + set_of_cones.tilt[:, None] * outward, 0.0)
        share = near[:, None, :] * (1 - mixed[..., None]) + far[:, None, :] * mixed[..., None]
        return float((released[..., None] * share * here).sum())

    primary, scatter = cones(model)
    total += along(primary, np.concatenate([np.arange(0.0, 40.0, 0.25), np.arange(40.0, 80.5, 1.0)]))
    total += along(scatter, np.concatenate([np.arange(0.0, 50.0, 0.5), np.arange(50.0, 600.5, 2.0)]))
    return total
