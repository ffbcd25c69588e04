"""The beam model: what leaves the head of a linac, as numbers that fit in a TOML file."""

from __future__ import annotations

import csv
import tomllib
from functools import lru_cache
from importlib import resources
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cantlie.core.errors import MachineError

_DATA = resources.files("cantlie.machine") / "data"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class Calibration(BaseModel):
    """The dose of one monitor unit at a point of a water phantom.

    The point lies on the axis of a square field ``field_mm`` wide at the isocentre plane (at the source-axis distance
    of the beam), ``depth_mm`` deep in a wide flat phantom whose surface is ``ssd_mm`` from the source.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gy_per_mu: Positive = 0.01
    depth_mm: Positive = 100.0
    ssd_mm: Positive = 900.0
    field_mm: Positive = 100.0


class BeamModel(BaseModel):
    """A photon beam: spectrum, source, profile, contamination and calibration.

    With nothing but a name it is an ideal point source of the packaged spectrum ``mohan6`` (Mohan 1985, Med Phys
    12:592): no focal spot, head scatter, horns, softening or contamination.

    Parameters
    ----------
    spectrum
        Name of a packaged photon spectrum; used when ``spectrum_edges_mev`` is empty.
    spectrum_edges_mev, spectrum_weights
        A spectrum of one's own: n + 1 ascending bin edges and n relative numbers of photons, on the axis in air.
    focal_spot_sigma_mm
        Standard deviation of the Gaussian focal spot at the source.
    collimator_distance_mm
        Distance from the source to the collimating edges; with the focal spot it makes the geometric penumbra.
    extra_focal_fraction, extra_focal_sigma_mm, extra_focal_distance_mm
        Share of the photons of a wide open field that come from a second Gaussian source (the flattening filter), its
        standard deviation and its distance from the target.
    jaw_transmission
        Share of the fluence that passes a closed jaw.
    off_axis_radius_mm, off_axis_fluence, off_axis_attenuation
        At each radius in the isocentre plane the fluence and the attenuation coefficient relative to the axis.
    electron_contamination, electron_contamination_depth_mm
        Dose of contaminating electrons at the surface, as a share of the dose at the calibration point in the same
        open field, and the depth in water (mm) over which it falls by a factor e.
    calibration
        Absolute dose per monitor unit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str = ""
    spectrum: str = "mohan6"
    spectrum_edges_mev: tuple[NotNegative, ...] = ()
    spectrum_weights: tuple[NotNegative, ...] = ()
    focal_spot_sigma_mm: NotNegative = 0.0
    collimator_distance_mm: Positive = 400.0
    extra_focal_fraction: Fraction = 0.0
    extra_focal_sigma_mm: NotNegative = 0.0
    extra_focal_distance_mm: Positive = 130.0
    jaw_transmission: Fraction = 0.0
    off_axis_radius_mm: tuple[NotNegative, ...] = ()
    off_axis_fluence: tuple[Positive, ...] = ()
    off_axis_attenuation: tuple[Positive, ...] = ()
    electron_contamination: NotNegative = 0.0
    electron_contamination_depth_mm: Positive = 6.0
    calibration: Calibration = Calibration()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.spectrum_edges_mev:
            if len(self.spectrum_edges_mev) != len(self.spectrum_weights) + 1:
                raise ValueError("spectrum_edges_mev needs one value more than spectrum_weights")
            if (np.diff(self.spectrum_edges_mev) <= 0).any() or sum(self.spectrum_weights) <= 0:
                raise ValueError("spectrum_edges_mev must ascend and spectrum_weights must not all be zero")
        elif self.spectrum not in packaged_spectra():
            raise ValueError(f"spectrum {self.spectrum!r} is unknown; packaged are {', '.join(packaged_spectra())}")
        radius = self.off_axis_radius_mm
        for label in ("off_axis_fluence", "off_axis_attenuation"):
            values = getattr(self, label)
            if values and len(values) != len(radius):
                raise ValueError(f"{label} needs one value for each off_axis_radius_mm")
        if radius and (radius[0] != 0 or (np.diff(radius) <= 0).any()):
            raise ValueError("off_axis_radius_mm must start at 0 and ascend")
        return self

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "") -> BeamModel:
        """Build a model from plain values, as read from TOML.

        Raises
        ------
        MachineError
            If a value is missing, unknown or out of its range.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise MachineError(
                f"the beam model is wrong: {first['msg'].removeprefix('Value error, ')}",
                where=" ".join(part for part in (where, place) if part),
                remedy="correct the value",
            ) from error

    @classmethod
    def named(cls, name: str) -> BeamModel:
        """Return a packaged beam model.

        Raises
        ------
        MachineError
            If there is none of that name.
        """
        path = _DATA / "beams" / f"{name}.toml"
        if name not in packaged_beam_models():
            raise MachineError(
                f"no packaged beam model is called {name!r}", remedy=f"choose {' or '.join(packaged_beam_models())}"
            )
        return cls.from_dict(tomllib.loads(path.read_text(encoding="utf-8")), where=name)

    def spectrum_bins(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the edges (MeV) of the spectrum's bins, shape (n + 1,), and the share of the photons in each, (n,)."""
        if self.spectrum_edges_mev:
            edges = np.asarray(self.spectrum_edges_mev)
            weights = np.asarray(self.spectrum_weights)
        else:
            edges, weights = _packaged_spectrum(self.spectrum)
        return edges, weights / weights.sum()

    def photons(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the middle energies (MeV) of the spectrum's bins and the share of the photons in each, shape (n,)."""
        edges, weights = self.spectrum_bins()
        return 0.5 * (edges[1:] + edges[:-1]), weights

    def relative_fluence(self, radius_mm: ArrayLike) -> NDArray[np.float64]:
        """Return the open-beam fluence relative to the axis at radii in the isocentre plane."""
        return _profile(radius_mm, self.off_axis_radius_mm, self.off_axis_fluence)

    def relative_attenuation(self, radius_mm: ArrayLike) -> NDArray[np.float64]:
        """Return the attenuation coefficient relative to the axis at radii in the isocentre plane."""
        return _profile(radius_mm, self.off_axis_radius_mm, self.off_axis_attenuation)


def packaged_beam_models() -> tuple[str, ...]:
    """Return the names of the packaged beam models."""
    return _names("beams", ".toml")


def packaged_spectra() -> tuple[str, ...]:
    """Return the names of the packaged photon spectra."""
    return _names("spectra", ".csv")


@lru_cache
def _names(folder: str, suffix: str) -> tuple[str, ...]:
    files = (entry.name for entry in (_DATA / folder).iterdir())
    return tuple(sorted(name.removesuffix(suffix) for name in files if name.endswith(suffix)))


@lru_cache
def _packaged_spectrum(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows = list(csv.reader((_DATA / "spectra" / f"{name}.csv").read_text(encoding="utf-8").splitlines()))[1:]
    values = np.array(rows, dtype=np.float64)
    return np.append(values[:, 0], values[-1, 1]), values[:, 2]


def _profile(radius_mm: ArrayLike, table_mm: tuple[float, ...], table_values: tuple[float, ...]) -> NDArray[np.float64]:
    radius = np.asarray(radius_mm, dtype=np.float64)
    if not table_values:
        return np.ones_like(radius)
    return np.interp(radius, table_mm, table_values)
