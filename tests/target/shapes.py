"""Spheres, boxes and half spaces as exact or finely sampled partial-volume masks."""

import numpy as np

from cantlie.core.grid import Grid


def grid_around(spacing_mm, half_mm, offset_mm=(0.3, -0.4, 0.7)):
    counts = [int(np.ceil(2 * half_mm / spacing)) for spacing in spacing_mm]
    origin = tuple(-half_mm + offset for offset in offset_mm)
    return Grid((counts[2], counts[1], counts[0]), tuple(map(float, spacing_mm)), origin)


def sphere(grid, centre_mm, radius_mm, samples=8):
    """Share of each voxel inside a sphere by samples per axis, on the part of the grid that it touches."""
    offsets = (np.arange(samples) + 0.5) / samples - 0.5
    axes = [
        (axis[:, None] + offsets * spacing - centre).ravel() ** 2
        for axis, spacing, centre in zip(
            (grid.z_mm, grid.y_mm, grid.x_mm), grid.spacing_mm[::-1], centre_mm[::-1], strict=True
        )
    ]
    share = np.zeros(grid.shape, np.float32)
    plane = axes[1][:, None] + axes[2][None, :]
    for row, z2 in enumerate(axes[0]):
        if z2 > radius_mm**2:
            continue
        inside = plane <= radius_mm**2 - z2
        counts = inside.reshape(grid.shape[1], samples, grid.shape[2], samples).sum(axis=(1, 3))
        share[row // samples] += counts
    return share / samples**3


def box(grid, lower_mm, upper_mm):
    """Exact share of each voxel inside a box."""
    shares = []
    for axis, spacing, low, high in zip(
        (grid.z_mm, grid.y_mm, grid.x_mm), grid.spacing_mm[::-1], lower_mm[::-1], upper_mm[::-1], strict=True
    ):
        covered = np.minimum(axis + spacing / 2, high) - np.maximum(axis - spacing / 2, low)
        shares.append(np.clip(covered, 0, None) / spacing)
    return (shares[0][:, None, None] * shares[1][None, :, None] * shares[2][None, None, :]).astype(np.float32)


def volume_mm3(grid, share):
    return float(share.sum(dtype=np.float64)) * grid.voxel_cc * 1000
