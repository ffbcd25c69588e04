"""The liver divided into its right and left half: by Cantlie's plane, by segments, by volume or by a given plane."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import StructureError
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.patient.names import BODY
from cantlie.patient.regions import Regions, union
from cantlie.protocol.sections import Split
from cantlie.target.cantlie_plane import CantliePlane, ChainStep, find_cantlie_plane, plane_with_fraction
from cantlie.target.landmarks import Cloud
from cantlie.target.plane import Plane

Fractions = NDArray[np.float32]
CAUDATE = "Liver_S1"
_ON_THE_LEFT_MM = 15.0
RIGHT_SEGMENTS = ("Liver_S5", "Liver_S6", "Liver_S7", "Liver_S8")
LEFT_SEGMENTS = ("Liver_S2", "Liver_S3", "Liver_S4", "Liver_S4a", "Liver_S4b")
SOURCE = "Cantlie 1897; Couinaud 1954; CT volumetry right 59.5 +- 13.5 % in 63 patients (IMPRS 22699)"


@dataclass(frozen=True, slots=True)
class LesionSide:
    """On which side of the division a lesion lies."""

    name: str
    volume_cc: float
    right_share: float
    crosses: bool


@dataclass(frozen=True, slots=True, eq=False)
class HalfLivers:
    """The two halves of a liver.

    The right half is the first semi-liver (CTV1, PTV1), the left half the second (CTV2, PTV2).

    Attributes
    ----------
    right, left
        Shares of the voxels; together they are the liver, voxel by voxel.
    plane
        The dividing plane, its normal to the left. With segments it is the plane that fits their border best.
    method
        How the plane was found, in words.
    uncertainty_mm, right_fraction_range
        How sure that is: displacement along the normal, and the right share within it.
    chain
        What was tried, in order.
    caudate_cc, caudate_right_share
        Volume of the caudate lobe and its share in the right half, where it is contoured.
    lesions
        Every lesion with its side.
    """

    right: Fractions
    left: Fractions
    plane: Plane
    method: str
    uncertainty_mm: float
    right_fraction: float
    right_fraction_range: tuple[float, float]
    right_cc: float
    left_cc: float
    chain: tuple[ChainStep, ...]
    caudate_cc: float | None
    caudate_right_share: float | None
    lesions: tuple[LesionSide, ...]
    notes: tuple[Note, ...]


def divide_liver(regions: Regions, split: Split, *, lesions: Iterable[str] = (), liver: str = "Liver") -> HalfLivers:
    """Divide the liver as a protocol asks.

    Parameters
    ----------
    regions
        Masks; the liver and, where contoured, gallbladder, vena cava, cord and Couinaud's segments (``Liver_S1`` ...).
    split
        The method ``anatomy`` (segments where they are contoured, else Cantlie's plane from landmarks), ``couinaud``,
        ``volume_equal`` (parallel to Cantlie's plane, half of the liver on each side), ``lesion_aware`` (Cantlie's
        plane moved along its normal, no further than ``lesion_shift_mm``, to where it cuts the least lesion volume) or
        ``plane`` (given).
    lesions
        Names of the lesions whose side is reported.

    Raises
    ------
    StructureError
        If there is no liver, the segments that were asked for are missing, or a given plane misses the liver.
    """
    if liver not in regions or regions.volume_cc(liver) < 1.0:
        raise StructureError("there is no liver to divide", where=liver, remedy="contour the liver")
    lesions = tuple(lesions)
    whole = regions[liver]
    notes = [*_notes_on_imaging(whole, liver), *_notes_on_side(regions, liver)]
    if split.method == "plane":
        found = _given_plane(regions, split, liver)
    elif split.method == "couinaud" or (split.method == "anatomy" and _has_segments(regions)):
        found = _plane_of_segments(regions, liver)
    else:
        found = find_cantlie_plane(
            regions,
            liver=liver,
            right_fraction_prior=split.right_fraction_prior,
            right_fraction_sd=split.right_fraction_sd,
        )
        if split.method == "volume_equal":
            found = _moved_to_equal_volumes(regions, found, liver)
        elif split.method == "lesion_aware":
            found = _moved_beside_lesions(regions, found, liver, lesions, split.lesion_shift_mm)
        elif "usual share" in found.method:
            notes.append(
                Note(
                    f"the halves do not follow this patient's own anatomy: {found.method} "
                    f"({found.right_fraction_range[0]:.0%} to {found.right_fraction_range[1]:.0%}); "
                    "contour gallbladder and vena cava, or give a plane",
                    liver,
                )
            )
    share = right_share_within(regions.grid, found.plane, whole)
    if split.method == "couinaud" or (split.method == "anatomy" and _has_segments(regions)):
        right = _right_of_segments(regions, whole, share)
    else:
        right = whole * share
    caudate_cc = caudate_share = None
    if CAUDATE in regions:
        caudate = np.minimum(regions[CAUDATE], whole)
        caudate_cc = float(caudate.sum(dtype=np.float64)) * regions.grid.voxel_cc
        if split.caudate != "by_plane":
            aim = caudate if split.caudate == "right" else np.float32(0)
            right = np.clip(right * (whole - caudate) / np.maximum(whole, 1e-6) + aim, 0, whole)
            caudate_share = 1.0 if split.caudate == "right" else 0.0
        elif caudate_cc > 0:
            caudate_share = _share_inside(caudate, right, whole)
    elif split.caudate != "by_plane":
        notes.append(Note(f"the caudate lobe ({CAUDATE}) is not contoured, so the plane divides it", liver))
    right = right.astype(np.float32)
    left = (whole - right).astype(np.float32)
    voxel_cc = regions.grid.voxel_cc
    right_cc, left_cc = (float(half.sum(dtype=np.float64)) * voxel_cc for half in (right, left))
    sides = tuple(_lesion_side(regions, name, right, whole) for name in lesions)
    crossing = [side.name for side in sides if side.crosses]
    if crossing:
        notes.append(
            Note(f"{len(crossing)} lesion(s) cross the plane between the halves: {', '.join(crossing)}", liver, "info")
        )
    return HalfLivers(
        right,
        left,
        found.plane,
        found.method,
        found.uncertainty_mm,
        right_cc / (right_cc + left_cc),
        found.right_fraction_range,
        right_cc,
        left_cc,
        found.chain,
        caudate_cc,
        caudate_share,
        sides,
        tuple(notes),
    )


def right_share_within(grid: Grid, plane: Plane, region: Fractions) -> Fractions:
    """Return the exact share of each voxel on the right side of a plane, where a region has any voxels; else 0."""
    share = np.zeros(grid.shape, np.float32)
    inside = np.nonzero(region > 0)
    if len(inside[0]):
        k, j, i = (slice(int(n.min()), int(n.max()) + 1) for n in inside)
        x, y, z = grid.mm_from_index([k.start, j.start, i.start])
        part = Grid(
            (k.stop - k.start, j.stop - j.start, i.stop - i.start), grid.spacing_mm, (float(x), float(y), float(z))
        )
        share[k, j, i] = plane.right_share(part)
    return share


def _notes_on_imaging(whole: Fractions, liver: str) -> list[Note]:
    areas = whole.sum(axis=(1, 2), dtype=np.float64)
    ends = [name for name, area in (("lowest", areas[0]), ("highest", areas[-1])) if area > 0.01 * areas.max()]
    if not ends:
        return []
    slices = " and ".join(ends)
    return [
        Note(f"the liver reaches the {slices} slice of the CT: halves and volumes are those of the imaged part", liver)
    ]


def _notes_on_side(regions: Regions, liver: str) -> list[Note]:
    """Say where the liver lies on the patient's left: situs inversus, or images that were mirrored."""
    middle = next((name for name in ("SpinalCord", "SpinalCanal", BODY) if name in regions and regions[name].any()), "")
    if not middle:
        return []

    def centre_x_mm(name: str) -> float:
        along = regions[name].sum(axis=(0, 1), dtype=np.float64)
        return float(along @ regions.grid.x_mm / along.sum())

    left_mm = centre_x_mm(liver) - centre_x_mm(middle)
    if left_mm < _ON_THE_LEFT_MM:
        return []
    message = (
        f"the liver lies on the patient's left, {left_mm:.0f} mm from the middle of {middle} (situs inversus, or "
        "mirrored images); it was divided as if it lay on the right: check the images, and give a plane"
    )
    return [Note(message, liver)]


def _given_plane(regions: Regions, split: Split, liver: str) -> CantliePlane:
    plane = Plane.facing_left(split.plane_point_mm or (0, 0, 0), split.plane_normal or (1, 0, 0))
    cloud = Cloud.of(regions.grid, regions[liver])
    fraction = cloud.share_below(plane.distance_mm(cloud.points_mm))
    if not 0.02 < fraction < 0.98:
        raise StructureError(
            f"the given plane leaves {fraction:.0%} of the liver on the right",
            where="split.plane_point_mm",
            remedy="give a point (x, y, z) in DICOM coordinates inside the liver",
        )
    step = ChainStep("given plane", True, "as the protocol says")
    return CantliePlane(plane, "given plane", 0.0, fraction, (fraction, fraction), (step,))


def _moved_to_equal_volumes(regions: Regions, found: CantliePlane, liver: str) -> CantliePlane:
    cloud = Cloud.of(regions.grid, regions[liver])
    plane = plane_with_fraction(cloud, found.plane, 0.5)
    step = ChainStep("equal volumes", True, "moved along its normal until both halves have the same volume")
    method = f"equal volumes, parallel to the plane from {found.method}"
    return CantliePlane(plane, method, 0.0, 0.5, (0.5, 0.5), (*found.chain, step))


def _moved_beside_lesions(
    regions: Regions, found: CantliePlane, liver: str, lesions: tuple[str, ...], largest_shift_mm: float
) -> CantliePlane:
    """Move the plane to where it cuts the least lesion volume; of equal places the nearest counts."""
    clouds = [Cloud.of(regions.grid, regions[name]) for name in lesions]
    clouds = [cloud for cloud in clouds if len(cloud)]
    distances = [found.plane.distance_mm(cloud.points_mm) for cloud in clouds]
    width_mm = float(np.abs(found.plane.normal) @ np.asarray(regions.grid.spacing_mm))

    def cut_cc(shift_mm: float) -> float:
        total = 0.0
        for cloud, distance in zip(clouds, distances, strict=True):
            shares = np.clip(0.5 - (distance - shift_mm) / width_mm, 0.0, 1.0)
            right = float(cloud.weights @ shares / cloud.weights.sum())
            total += min(right, 1.0 - right) * float(cloud.weights.sum()) * regions.grid.voxel_cc
        return total

    shifts = sorted(np.arange(-largest_shift_mm, largest_shift_mm + 0.5, 1.0), key=abs)
    best = min(shifts, key=lambda shift: (round(cut_cc(shift), 2), abs(shift)))
    plane = found.plane.shifted(float(best))
    cloud = Cloud.of(regions.grid, regions[liver])
    fraction = cloud.share_below(plane.distance_mm(cloud.points_mm))
    low, high = found.right_fraction_range
    before, after = cut_cc(0.0), cut_cc(best)
    outcome = f"moved {best:+.0f} mm (+ to the left): it cuts {after:.1f} cc off lesions instead of {before:.1f} cc"
    step = ChainStep("beside lesions", True, outcome)
    method = f"beside lesions, parallel to the plane from {found.method}"
    span = (min(low, fraction), max(high, fraction))
    return CantliePlane(plane, method, found.uncertainty_mm, fraction, span, (*found.chain, step))


def _has_segments(regions: Regions) -> bool:
    return any(name in regions for name in RIGHT_SEGMENTS) and any(name in regions for name in LEFT_SEGMENTS)


def _plane_of_segments(regions: Regions, liver: str) -> CantliePlane:
    """Return the plane that separates the right from the left segments best (least squares on their voxels)."""
    if not _has_segments(regions):
        raise StructureError(
            "the liver's segments are not contoured",
            where=liver,
            remedy=f"contour {', '.join(LEFT_SEGMENTS[:3] + RIGHT_SEGMENTS)} or choose another method in [split]",
        )
    right = Cloud.of(regions.grid, union(*(regions[name] for name in RIGHT_SEGMENTS if name in regions)))
    left = Cloud.of(regions.grid, union(*(regions[name] for name in LEFT_SEGMENTS if name in regions)))
    points = np.concatenate([right.points_mm, left.points_mm])
    side = np.concatenate([-np.ones(len(right)), np.ones(len(left))])
    weights = np.concatenate([right.weights / right.weights.sum(), left.weights / left.weights.sum()])
    centre = np.average(points, axis=0, weights=weights)
    # a few rounds of refitting with weight near the border turn the discriminant into the border's own plane
    plane = Plane.facing_left(centre, left.centre_mm - right.centre_mm)
    for reach_mm in (np.inf, 30.0, 20.0, 15.0):
        near = weights * np.exp(-0.5 * (plane.distance_mm(points) / reach_mm) ** 2)
        design = np.column_stack([points - centre, np.ones(len(points))])
        coefficients, *_ = np.linalg.lstsq(design * np.sqrt(near)[:, None], side * np.sqrt(near), rcond=None)
        normal, constant = coefficients[:3], coefficients[3]
        if np.linalg.norm(normal) < 1e-9:
            break
        plane = Plane.facing_left(centre - constant * normal / (normal @ normal), normal)
    distance = plane.distance_mm(points)
    wrong = float(weights[np.sign(distance) != side].sum() / weights.sum())
    border = np.abs(distance)[np.sign(distance) != side]
    uncertainty = float(np.quantile(border, 0.68)) if border.size else 0.0
    cloud = Cloud.of(regions.grid, regions[liver])
    fraction = cloud.share_below(plane.distance_mm(cloud.points_mm))
    ends = [cloud.share_below(plane.shifted(s * uncertainty).distance_mm(cloud.points_mm)) for s in (-1, 1)]
    outcome = f"segments 5 to 8 are the right half; the plane drawn fits their border but for {wrong:.0%} of the voxels"
    step = ChainStep("Couinaud's segments", True, outcome)
    return CantliePlane(plane, "Couinaud's segments", uncertainty, fraction, (min(ends), max(ends)), (step,))


def _right_of_segments(regions: Regions, whole: Fractions, share: Fractions) -> Fractions:
    """Return the right half: segments 5 to 8, and by the plane whatever belongs to no segment or the caudate lobe."""
    right = union(*(regions[name] for name in RIGHT_SEGMENTS if name in regions))
    left = union(*(regions[name] for name in LEFT_SEGMENTS if name in regions))
    right = np.minimum(right, whole)
    left = np.minimum(left, whole - right)
    rest = whole - right - left
    return right + rest * share


def _share_inside(part: Fractions, right: Fractions, whole: Fractions) -> float:
    inside = part * np.clip(right / np.maximum(whole, 1e-6), 0, 1)
    return float(inside.sum(dtype=np.float64) / part.sum(dtype=np.float64))


def _lesion_side(regions: Regions, name: str, right: Fractions, whole: Fractions) -> LesionSide:
    lesion = regions[name]
    at = np.nonzero(lesion > 0)
    within = np.minimum(lesion[at], whole[at])
    volume = regions.volume_cc(name)
    if within.sum() <= 0:
        return LesionSide(name, volume, float("nan"), False)
    share = _share_inside(within, right[at], whole[at])
    smaller_cc = min(share, 1 - share) * float(within.sum(dtype=np.float64)) * regions.grid.voxel_cc
    return LesionSide(name, volume, share, min(share, 1 - share) > 0.02 and smaller_cc > 0.02)
