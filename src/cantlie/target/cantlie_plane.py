"""Cantlie's plane: from the gallbladder fossa to the inferior vena cava, found from whatever is contoured.

Chain, the first that works counts: gallbladder and vena cava; gallbladder and cord; cord and liver with the usual share
of the right half; liver alone. The result says which one it was, why the ones before it were not, and how sure it is.
Every plane contains the line of the vena cava or a parallel to the body's axis (Cantlie 1897; Couinaud 1954).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import StructureError
from cantlie.patient.regions import Regions
from cantlie.target.landmarks import Cloud, Line, centre_line, distance_to_box_mm, slice_centres
from cantlie.target.plane import Plane

# The vena cava lies to the right of and in front of the cord. Mean and spread over adults at the level of the liver
# (offset of the centres; the spread goes into the uncertainty).
CAVA_FROM_CORD_MM = (-18.0, -65.0)
CAVA_FROM_CORD_SD_MM = 10.0
# From the vena cava to the gallbladder the plane runs forwards and to the right, by this angle in the axial plane.
USUAL_FACING_DEG = 45.0
FACING_SD_DEG = 10.0
PLAUSIBLE_RIGHT_FRACTION = (0.40, 0.85)
_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, slots=True)
class ChainStep:
    """One way to find the plane: whether it was used, and what came of it."""

    method: str
    used: bool
    outcome: str


@dataclass(frozen=True, slots=True)
class CantliePlane:
    """A plane that divides the liver, with the way it was found and how sure it is.

    Attributes
    ----------
    plane
        The plane, its normal to the left.
    method
        In words.
    uncertainty_mm
        By how much it may be displaced along its normal (one standard deviation).
    right_fraction
        Share of the liver on its right.
    right_fraction_range
        That share for all displacements and landmarks within the uncertainty.
    chain
        What was tried, in order.
    """

    plane: Plane
    method: str
    uncertainty_mm: float
    right_fraction: float
    right_fraction_range: tuple[float, float]
    chain: tuple[ChainStep, ...]


def find_cantlie_plane(
    regions: Regions,
    *,
    liver: str = "Liver",
    right_fraction_prior: float = 0.62,
    right_fraction_sd: float = 0.07,
) -> CantliePlane:
    """Find the plane that divides the liver into its anatomical halves.

    Parameters
    ----------
    regions
        Masks, among them the liver and, where contoured, ``Gallbladder``, ``V_Venacava_I``, ``SpinalCord`` or
        ``SpinalCanal``.
    right_fraction_prior, right_fraction_sd
        The usual share of the right half and its spread, used only where the gallbladder is missing (CT volumetry
        0.595 +- 0.135; Cantlie's and the middle hepatic vein's planes differ by 0.07 +- 0.06).

    Raises
    ------
    StructureError
        If there is no liver.
    """
    if liver not in regions or regions.volume_cc(liver) < 1.0:
        raise StructureError("there is no liver to divide", where=liver, remedy="contour the liver")
    finder = _Finder(regions, liver, right_fraction_prior, right_fraction_sd)
    steps: list[ChainStep] = []
    for method, attempt in (
        ("gallbladder and vena cava", finder.from_gallbladder_and_cava),
        ("gallbladder and cord", finder.from_gallbladder_and_cord),
        ("cord and liver, with the usual share of the right half", finder.from_cord_and_liver),
        ("liver alone, with the usual share of the right half", finder.from_liver_alone),
    ):
        found = attempt()
        if isinstance(found, str):
            steps.append(ChainStep(method, False, found))
            continue
        plane, alternatives, uncertainty_mm, outcome = found
        fraction = finder.right_fraction(plane)
        steps.append(ChainStep(method, True, outcome))
        shifted = [plane.shifted(-uncertainty_mm), plane.shifted(uncertainty_mm), *alternatives]
        fractions = [fraction, *(finder.right_fraction(other) for other in shifted)]
        span = (min(fractions), max(fractions))
        return CantliePlane(plane, method, uncertainty_mm, fraction, span, tuple(steps))
    raise StructureError("the liver cannot be divided", where=liver, remedy="give a plane in the protocol's [split]")


def plane_with_fraction(cloud: Cloud, plane: Plane, right_fraction: float) -> Plane:
    """Return a parallel plane with the given share of a region on its right."""
    distances = plane.distance_mm(cloud.points_mm)
    order = np.argsort(distances)
    cumulated = np.cumsum(cloud.weights[order])
    at = int(np.searchsorted(cumulated, right_fraction * cumulated[-1]))
    return plane.shifted(float(distances[order[min(at, len(order) - 1)]]))


Found = tuple[Plane, list[Plane], float, str]


class _Finder:
    """The masks of one patient and the ways to find the plane in them."""

    def __init__(self, regions: Regions, liver: str, prior: float, sd: float) -> None:
        self.regions = regions
        self.prior = prior
        self.sd = sd
        self.grid = regions.grid
        self.liver_mask = regions[liver]
        self.liver = Cloud.of(self.grid, self.liver_mask).thinned(100_000)
        self.liver_area = self.liver_mask.sum(axis=(1, 2), dtype=np.float64)

    def right_fraction(self, plane: Plane) -> float:
        return self.liver.share_below(plane.distance_mm(self.liver.points_mm))

    def _region(self, *names: str) -> tuple[str, Cloud] | None:
        for name in names:
            if name in self.regions:
                cloud = Cloud.of(self.grid, self.regions[name])
                if len(cloud):
                    return name, cloud
        return None

    def _gallbladder(self) -> Cloud | str:
        found = self._region("Gallbladder")
        if found is None:
            return "the gallbladder is not contoured"
        away = distance_to_box_mm(self.liver, found[1].centre_mm)
        if away > 30.0:
            return f"the gallbladder lies {away:.0f} mm away from the liver"
        return found[1]

    def _cava(self) -> Line | str:
        if self._region("V_Venacava_I") is None:
            return "the vena cava is not contoured"
        centres = slice_centres(self.grid, self.regions["V_Venacava_I"])
        area = np.interp(centres[:, 2], self.grid.z_mm, self.liver_area)
        # the lowest tenth of the liver is its thin tip, far from where the vena cava passes it
        cumulated = np.cumsum(self.liver_area) / self.liver_area.sum()
        lowest_mm = float(self.grid.z_mm[int(np.searchsorted(cumulated, 0.10))])
        near = (area > 0) & (centres[:, 2] >= lowest_mm)
        if near.sum() * self.grid.spacing_mm[2] < 10.0:
            return "the vena cava is contoured on less than 10 mm at the level of the liver"
        return centre_line(centres[near], area[near])

    def _line_from_cord(self) -> tuple[str, Line] | str:
        found = self._region("SpinalCord", "SpinalCanal", "SpinalCord_PRV")
        if found is None:
            return "neither cord nor spinal canal is contoured"
        centres = slice_centres(self.grid, self.regions[found[0]])
        area = np.interp(centres[:, 2], self.grid.z_mm, self.liver_area)
        if not (area > 0).any():
            return f"{found[0]} is not contoured at the level of the liver"
        point = np.average(centres[area > 0], axis=0, weights=area[area > 0])
        return found[0], Line(point + np.array([*CAVA_FROM_CORD_MM, 0.0]), _UP)

    def _through(self, line: Line, point_mm: NDArray[np.float64]) -> Plane | str:
        """Return the plane that contains a line and a point off it."""
        normal = np.cross(line.direction, point_mm - line.point_mm)
        # the gallbladder lies in front of the vena cava; how far off the line decides how sure the plane's turn is
        if np.linalg.norm(normal) < 15.0:
            return "the gallbladder lies less than 15 mm from the line of the vena cava"
        unit = normal / np.linalg.norm(normal)
        if abs(unit[0]) < 0.2:
            return "gallbladder and vena cava lie side by side, not one in front of the other"
        plane = Plane.facing_left(line.point_mm, normal)
        fraction = self.right_fraction(plane)
        low, high = PLAUSIBLE_RIGHT_FRACTION
        if not low <= fraction <= high:
            return f"that plane would leave {fraction:.0%} of the liver on the right, which is not plausible"
        return plane

    def from_gallbladder_and_cava(self) -> Found | str:
        gallbladder, cava = self._gallbladder(), self._cava()
        if isinstance(gallbladder, str):
            return gallbladder if not isinstance(cava, str) else f"{gallbladder}; {cava}"
        if isinstance(cava, str):
            return cava
        plane = self._through(cava, gallbladder.centre_mm)
        if isinstance(plane, str):
            return plane
        others = [
            self._through(cava, self._fundus_mm(gallbladder)),
            self._through(Line(cava.point_mm, _UP), gallbladder.centre_mm),
        ]
        alternatives = [other for other in others if isinstance(other, Plane)]
        return plane, alternatives, 5.0, "the plane contains the line of the vena cava and the gallbladder's centre"

    def from_gallbladder_and_cord(self) -> Found | str:
        gallbladder, cord = self._gallbladder(), self._line_from_cord()
        if isinstance(gallbladder, str):
            return gallbladder if not isinstance(cord, str) else f"{gallbladder}; {cord}"
        if isinstance(cord, str):
            return cord
        name, line = cord
        plane = self._through(line, gallbladder.centre_mm)
        if isinstance(plane, str):
            return plane
        alternatives = []
        for side in (-1.0, 1.0):
            moved = Line(line.point_mm + np.array([side * CAVA_FROM_CORD_SD_MM, 0.0, 0.0]), line.direction)
            other = self._through(moved, gallbladder.centre_mm)
            if isinstance(other, Plane):
                alternatives.append(other)
        right, front = -CAVA_FROM_CORD_MM[0], -CAVA_FROM_CORD_MM[1]
        place = f"the vena cava is taken {right:.0f} mm to the right of and {front:.0f} mm in front of {name}"
        return plane, alternatives, 8.0, place

    def from_cord_and_liver(self) -> Found | str:
        cord = self._line_from_cord()
        if isinstance(cord, str):
            return cord
        name, line = cord
        plane = self._likeliest(line, self.prior)
        alternatives = [self._likeliest(line, self.prior + side * self.sd) for side in (-1.0, 1.0)]
        beside = abs(float(plane.distance_mm(line.point_mm)))
        outcome = (
            f"an upright plane {beside:.0f} mm beside the vena cava expected from {name}, turned "
            f"{plane.facing_degrees():.0f}° to the right of straight forward: the likeliest for {self.prior:.0%} on "
            f"the right and a turn of {USUAL_FACING_DEG:.0f}°"
        )
        return plane, alternatives, self._displacement_mm(plane, self.sd), outcome

    def from_liver_alone(self) -> Found | str:
        angle = np.radians(USUAL_FACING_DEG)
        start = Plane.facing_left(self.liver.centre_mm, [np.cos(angle), -np.sin(angle), 0.0])
        plane = plane_with_fraction(self.liver, start, self.prior)
        wide = 1.5 * self.sd
        uncertainty = self._displacement_mm(plane, wide)
        outcome = (
            f"an upright plane turned {USUAL_FACING_DEG:.0f}° to the right that leaves {self.prior:.0%} on the right"
        )
        return plane, [], uncertainty, outcome

    def _fundus_mm(self, gallbladder: Cloud) -> NDArray[np.float64]:
        """Centre of the foremost fifth of the gallbladder."""
        front = gallbladder.points_mm[:, 1]
        part = front <= np.quantile(front, 0.2)
        centre: NDArray[np.float64] = np.average(gallbladder.points_mm[part], axis=0, weights=gallbladder.weights[part])
        return centre

    def _likeliest(self, line: Line, fraction: float) -> Plane:
        """Return the upright plane whose right share, turn and distance from a line are likeliest together."""
        shifts_mm = np.arange(-2.0, 2.01, 0.1) * CAVA_FROM_CORD_SD_MM
        best: tuple[float, Plane] | None = None
        for degrees in np.arange(USUAL_FACING_DEG - 30.0, USUAL_FACING_DEG + 30.1, 2.0):
            angle = np.radians(degrees)
            plane = Plane.facing_left(line.point_mm, [np.cos(angle), -np.sin(angle), 0.0])
            distances = plane.distance_mm(self.liver.points_mm)
            inside, edges = np.histogram(distances, bins=400, weights=self.liver.weights)
            shares = np.interp(shifts_mm, edges[1:], np.cumsum(inside) / inside.sum())
            unlikeliness = (
                ((shares - fraction) / self.sd) ** 2
                + ((degrees - USUAL_FACING_DEG) / FACING_SD_DEG) ** 2
                + (shifts_mm / CAVA_FROM_CORD_SD_MM) ** 2
            )
            at = int(np.argmin(unlikeliness))
            if best is None or unlikeliness[at] < best[0]:
                best = (float(unlikeliness[at]), plane.shifted(float(shifts_mm[at])))
        assert best is not None
        return best[1]

    def _displacement_mm(self, plane: Plane, fraction: float) -> float:
        """Return the displacement that changes the right share by a fraction."""
        here = self.right_fraction(plane)
        left = plane_with_fraction(self.liver, plane, min(here + fraction, 0.999))
        right = plane_with_fraction(self.liver, plane, max(here - fraction, 0.001))
        apart = np.asarray(left.point_mm) - np.asarray(right.point_mm)
        return 0.5 * float(np.linalg.norm(apart))
