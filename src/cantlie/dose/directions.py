"""Directions: fields that come from nearly the same direction, as those of an arc, share one superposition.

What each field releases is always computed with its own source, rays and fluence. Only what happens after, the paths of
electrons and scattered photons, is followed for a group of fields at once, around the mean direction of the group.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cantlie.dose.field import Field

SPAN_DEG = 6.0
"""Widest angle between the fields of a group; what it costs in accuracy stands in docs/explanation/dose.md."""


def groups_of(fields: Sequence[Field], span_deg: float = SPAN_DEG) -> list[list[Field]]:
    """Return fields in groups whose directions differ by at most an angle.

    A field joins the first group that it fits into: the same isocentre and distance, and near enough to every member.
    """
    limit = np.cos(np.radians(span_deg))
    groups: list[list[Field]] = []
    axes: list[list[NDArray[np.float64]]] = []
    for field in fields:
        axis = field.geometry.axes[2]
        for group, known in zip(groups, axes, strict=True):
            one = group[0].geometry
            if (
                one.sad_mm == field.geometry.sad_mm
                and np.abs(np.subtract(one.isocentre_mm, field.geometry.isocentre_mm)).max() < 0.5
                and all(float(axis @ other) >= limit - 1e-12 for other in known)
            ):
                group.append(field)
                known.append(axis)
                break
        else:
            groups.append([field])
            axes.append([axis])
    return groups


def mean_frame(fields: Sequence[Field]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the frame of the photons and the source of a group, weighted by fluence.

    Returns
    -------
    axes
        Unit vectors x, y and z (the rows), z along the photons, shape (3, 3).
    source_mm
        Where they come from (x, y, z).
    """
    if len(fields) == 1:
        axes = fields[0].geometry.axes
        return np.stack([axes[0], axes[1], -axes[2]]), fields[0].geometry.source_mm
    weights = np.array([max(float(np.sum(field.fluence.values_mu)), 0.0) for field in fields])
    if weights.sum() <= 0:
        weights = np.ones(len(fields))
    first = fields[0].geometry
    towards = np.average([field.geometry.axes[2] for field in fields], axis=0, weights=weights)
    towards /= np.linalg.norm(towards)
    x = first.axes[0] - (first.axes[0] @ towards) * towards
    x /= np.linalg.norm(x)
    source = np.asarray(first.isocentre_mm) + first.sad_mm * towards
    return np.stack([x, np.cross(towards, x), -towards]), source
