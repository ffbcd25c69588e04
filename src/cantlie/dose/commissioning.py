"""Commissioning: fit a beam model to measured depth doses, profiles and output factors.

Few numbers describe the beam: two for the spectrum, its focal spot, the extra-focal source, contaminating electrons,
softening, the jaws, and the fluence at some radii. They are found by bounded least squares in stages (depth doses,
then profiles, then output factors, then all together), each number held loosely near a typical value, so that what
the data do not tell stays typical.

The dose engine is too slow to be asked for every trial. A sum of pencils in closed form is asked instead
(:func:`cantlie.dose.tank.quick_dose`), multiplied at every point by the ratio of engine to pencils at the last model
that the engine has seen. Where this has settled the engine itself fits the data, however rough the pencils are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part, silent
from cantlie.dose.tank import TankPoints, quick_dose, tank_dose, tank_points
from cantlie.machine.beam_model import BeamModel, Calibration
from cantlie.machine.measured import MeasuredBeam, MeasuredCurve, OutputFactors

_MOST_PASSES = 5
_SETTLED = 0.0015
_FIT_FROM_MM = 4.0
_POINTS_OF_A_CURVE = 40.0
_NOISE = 0.005
_FLOOR = 0.0015
_POSITION_MM = 0.3
_OUTPUT_NOISE = 0.004
_RADII_MM = (0.0, 10.0, 25.0, 40.0, 50.0, 60.0, 75.0, 87.5, 100.0, 125.0, 150.0, 175.0, 200.0, 240.0, 280.0)
_KERNELS_END_MEV = 20.0
_SHIFT = 10.0

_TYPICAL = {1.25: "generic-co60", 6.0: "generic-6mv", 8.0: "generic-8mv", 10.0: "generic-10mv", 15.0: "generic-15mv"}
_COBALT_BELOW_MV = 2.0


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    typical: float
    low: float
    high: float
    spread: float
    stage: int


def _parameters(typical: BeamModel) -> tuple[_Parameter, ...]:
    """Return what is fitted beside the profile, held loosely near a typical beam of about that energy."""
    depth_mm, spot_mm = typical.electron_contamination_depth_mm, typical.focal_spot_sigma_mm
    transmission, wide_mm = typical.jaw_transmission, typical.extra_focal_sigma_mm
    return (
        _Parameter("spectrum_tilt", 0.0, -1.5, 1.5, 0.6, 1),
        _Parameter("spectrum_curve", 0.0, -0.8, 0.8, 0.3, 1),
        _Parameter("electron_contamination", typical.electron_contamination, 0.0, 0.8, 0.15, 1),
        _Parameter("electron_contamination_depth_mm", depth_mm, min(2.0, 0.5 * depth_mm), 2.5 * depth_mm, 2.0, 1),
        _Parameter("focal_spot_sigma_mm", spot_mm, 0.0, max(4.0, 2.0 * spot_mm), 1.0, 2),
        _Parameter("jaw_transmission", transmission, 0.0, 0.05, max(0.005, 0.5 * transmission), 2),
        _Parameter("softening", 1.0, 0.0, 2.5, 0.5, 2),
        _Parameter("extra_focal_fraction", typical.extra_focal_fraction, 0.0, 0.25, 0.04, 3),
        _Parameter("extra_focal_sigma_mm", wide_mm, 3.0, max(40.0, 2.0 * wide_mm), 0.5 * wide_mm, 3),
    )


_HORN = _Parameter("off_axis_fluence", 1.0, 0.2, 1.6, 0.3, 2)
_HORN_BEND = 0.015


@dataclass(frozen=True, slots=True, eq=False)
class Commissioned:
    """A beam model and what the dose engine makes of it where it was measured.

    Parameters
    ----------
    model
        The fitted beam model.
    curves
        For each measured curve the engine's dose (Gy per MU), in the order of the data.
    outputs
        For each set of output factors the engine's factors, relative to the same reference field.
    passes
        How often the engine was asked, and how far it was from what was expected of it at last (share of the maximum).
    notes
        What a careful reader must know.
    """

    model: BeamModel
    curves: tuple[NDArray[np.float64], ...]
    outputs: tuple[NDArray[np.float64], ...]
    passes: int
    last_change: float
    notes: tuple[Note, ...]


def commission(data: MeasuredBeam, name: str, *, sad_mm: float = 1000.0, progress: Progress = silent) -> Commissioned:
    """Fit a beam model to measured data.

    Parameters
    ----------
    data
        What was measured.
    name
        Name of the new beam model.
    sad_mm
        Source-axis distance of the machine.

    Returns
    -------
    Commissioned
        The model and the engine's dose of it at all measured points.
    """
    sets: list[MeasuredCurve | OutputFactors] = [*data.curves, *data.outputs]
    points = tank_points(sets, sad_mm)
    fit = _Fit(data, name, sets, points)
    vector = fit.typical
    for passes in range(1, _MOST_PASSES + 1):
        share = part(progress, (passes - 1) / _MOST_PASSES, passes / _MOST_PASSES)
        model = fit.model(vector)
        engine = tank_dose(model, points, share)
        expected = fit.correction * quick_dose(model, points)
        change = float((np.abs(engine - expected) / fit.highest(engine))[fit.fitted].max())
        if passes == _MOST_PASSES or (passes > 1 and change < _SETTLED):
            break
        fit.correct(model, engine)
        share(0.95, "fitting the beam model")
        if passes == 1:
            for stage in (1, 2, 3):
                vector = fit.solve(vector, stage)
        vector = fit.solve(vector, None)
    progress(1.0, "fitting the beam model")
    curves = tuple(engine[run] for run in points.runs[: len(data.curves)])
    outputs = tuple(
        engine[run] / engine[run][item.reference]
        for run, item in zip(points.runs[len(data.curves) :], data.outputs, strict=True)
    )
    notes = (*data.notes, *_notes(data, fit, vector, change))
    return Commissioned(model, curves, outputs, passes, change, notes)


def _notes(data: MeasuredBeam, fit: _Fit, vector: NDArray[np.float64], change: float) -> list[Note]:
    notes = []
    if fit.top_energy_mev > _KERNELS_END_MEV:
        notes.append(
            Note(
                f"the kernels of the engine reach 20 MeV; photons above, up to {fit.top_energy_mev:g} MeV, are treated "
                "as such of 20 MeV"
            )
        )
    if change > 3 * _SETTLED:
        notes.append(Note(f"the fit had not settled: the engine was still {100 * change:.1f} % off what was expected"))
    for parameter, value in zip(fit.parameters, vector, strict=True):
        span = parameter.high - parameter.low
        on_low = value < parameter.low + 1e-3 * span and parameter.low > 0
        if on_low or value > parameter.high - 1e-3 * span:
            notes.append(Note(f"{parameter.name} ended at its limit ({value:.4g}); look at the curves that ask for it"))
    if data.profiles and fit.reach_mm < 195.0:
        notes.append(
            Note(
                f"no profile reaches beyond {fit.reach_mm:.0f} mm off the axis; the fluence further out is taken as "
                "constant",
                level="info",
            )
        )
    return notes


class _Fit:
    """The least-squares problem: parameters, points, weights, and the engine's correction of the pencils."""

    def __init__(
        self, data: MeasuredBeam, name: str, sets: Sequence[MeasuredCurve | OutputFactors], points: TankPoints
    ) -> None:
        self.name = name
        self.energy_mv = data.energy_mv
        self.calibration: Calibration = data.calibration
        self.points = points
        self.sets = sets
        self.like = BeamModel.named(_TYPICAL[min(_TYPICAL, key=lambda mv: abs(np.log(mv / data.energy_mv)))])
        self.edges_mev, self.base_weights = _base_spectrum(self.like, data.energy_mv)
        self.top_energy_mev = float(self.edges_mev[1:][self.base_weights > 0].max())
        self.common = _parameters(self.like)
        self.reach_mm = _reach_mm(data, points.sad_mm)
        inner = [radius for radius in _RADII_MM if radius < self.reach_mm - 4.0]
        self.radii_mm = (*inner, float(self.reach_mm)) if self.reach_mm > 5.0 else ()
        self.parameters = (*self.common, *(_HORN for _ in self.radii_mm[1:]))
        self.low, self.high, self.spread, stages = np.array(
            [(p.low, p.high, p.spread, p.stage) for p in self.parameters]
        ).T
        self.stages = stages.astype(int)
        horns = self.like.relative_fluence(np.asarray(self.radii_mm)) if self.radii_mm else np.ones(1)
        self.typical = np.array([*(p.typical for p in self.common), *(horns[1:] / horns[0])])
        self.correction = np.ones(points.x_mm.size)
        self.sigma = np.ones(points.x_mm.size)
        self.fitted = points.depth_mm >= _FIT_FROM_MM
        self.kinds = [3 if isinstance(item, OutputFactors) else 1 if item.kind == "depth dose" else 2 for item in sets]

    def model(self, vector: NDArray[np.float64]) -> BeamModel:
        """Return the beam model of a vector of parameters."""
        values = dict(zip((p.name for p in self.common), vector.tolist(), strict=False))
        horns = vector[len(self.common) :].tolist()
        middle_mev = self.energy_mv if self.energy_mv < _COBALT_BELOW_MV else 0.25 * self.energy_mv
        bend = np.log(0.5 * (self.edges_mev[1:] + self.edges_mev[:-1]) / middle_mev)
        weights = self.base_weights * np.exp(values["spectrum_tilt"] * bend + values["spectrum_curve"] * bend**2)
        weights /= weights.sum()
        softening = 1.0 + values["softening"] * (np.asarray(self.like.off_axis_attenuation) - 1.0)
        radii = np.union1d(np.asarray(self.radii_mm), np.asarray(self.like.off_axis_radius_mm))
        fluence = np.interp(radii, self.radii_mm, [1.0, *horns]) if horns else self.like.relative_fluence(radii)
        return BeamModel(
            name=self.name,
            description=f"{self.energy_mv:g} MV photons, commissioned from measured data",
            spectrum_edges_mev=tuple(self.edges_mev.tolist()),
            spectrum_weights=tuple(float(f"{weight:.6g}") for weight in weights),
            focal_spot_sigma_mm=round(values["focal_spot_sigma_mm"], 4),
            collimator_distance_mm=self.like.collimator_distance_mm,
            extra_focal_fraction=round(values["extra_focal_fraction"], 6),
            extra_focal_sigma_mm=round(values["extra_focal_sigma_mm"], 4),
            extra_focal_distance_mm=self.like.extra_focal_distance_mm,
            jaw_transmission=round(values["jaw_transmission"], 7),
            off_axis_radius_mm=tuple(radii.tolist()),
            off_axis_fluence=tuple(round(value, 6) for value in fluence.tolist()),
            off_axis_attenuation=tuple(
                round(float(value), 6)
                for value in np.interp(radii, np.asarray(self.like.off_axis_radius_mm), softening)
            ),
            electron_contamination=round(values["electron_contamination"], 6),
            electron_contamination_depth_mm=round(values["electron_contamination_depth_mm"], 4),
            calibration=self.calibration,
        )

    def highest(self, dose: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return for each point the highest dose of its run."""
        result = np.zeros_like(dose)
        for run in self.points.runs:
            result[run] = dose[run].max()
        return result

    def correct(self, model: BeamModel, engine: NDArray[np.float64]) -> None:
        """Take the engine's dose of a model as the truth that the pencils are corrected to, and set the weights."""
        self.correction = engine / quick_dose(model, self.points)
        for run, item in zip(self.points.runs, self.sets, strict=True):
            dose = engine[run]
            if isinstance(item, OutputFactors):
                self.sigma[run] = _OUTPUT_NOISE
                continue
            slope = np.abs(np.gradient(dose, item.position_mm))
            if item.kind == "depth dose":
                slope[item.depth_mm > item.depth_mm[int(np.argmax(dose))]] = 0.0
            noise = np.sqrt((_NOISE * dose) ** 2 + (_FLOOR * dose.max()) ** 2 + (_POSITION_MM * slope) ** 2)
            many = max(1.0, float(np.sqrt(dose.size / _POINTS_OF_A_CURVE)))
            self.sigma[run] = many * noise / dose
        self.sigma[~self.fitted] = np.inf

    def residuals(self, vector: NDArray[np.float64], stage: int | None) -> NDArray[np.float64]:
        """Return deviations of the data over their standard deviation, each curve at its best scale."""
        dose = self.correction * quick_dose(self.model(vector), self.points)
        result = []
        for run, item, kind in zip(self.points.runs, self.sets, self.kinds, strict=True):
            if stage is not None and kind != stage:
                continue
            relative = item.value / dose[run]
            if isinstance(item, OutputFactors):
                # The reading in the reference field is as noisy as the others, so the scale is found like theirs.
                relative = relative / relative.mean()
            else:
                weight = (self.sigma[run] ** -2.0) * (dose[run] > 0)
                relative = relative / float((relative * weight).sum() / weight.sum())
            result.append((relative - 1.0) / self.sigma[run])
        return np.concatenate(result) if result else np.zeros(0)

    def _prior(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far parameters are from typical ones, and how sharply the profile of the fluence bends."""
        pull = (vector - self.typical) / self.spread
        count = len(self.radii_mm)
        if count < 3:
            return pull
        horns = np.concatenate([[1.0], vector[len(self.common) :]])
        radii = np.asarray(self.radii_mm)
        slope = np.diff(horns) / np.diff(radii)
        bend = np.diff(slope) * 0.5 * (radii[2:] - radii[:-2])
        return np.concatenate([pull, bend / _HORN_BEND])

    def solve(self, start: NDArray[np.float64], stage: int | None) -> NDArray[np.float64]:
        """Return the best parameters; those of one stage alone, or all of them."""
        free = np.ones(start.size, dtype=bool) if stage is None else self.stages == stage
        if stage is not None and stage not in self.kinds:
            return start

        # In units of the spread and shifted away from zero, so that a relative step is a fixed one.
        centre, unit = (self.typical - _SHIFT * self.spread)[free], self.spread[free]

        def of(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
            vector = start.copy()
            vector[free] = centre + unit * scaled
            return np.concatenate([self.residuals(vector, stage), self._prior(vector)])

        low, high = (self.low[free] - centre) / unit, (self.high[free] - centre) / unit
        found = least_squares(
            of,
            np.clip((start[free] - centre) / unit, low + 1e-6, high - 1e-6),
            bounds=(low, high),
            diff_step=np.full(unit.size, 1e-3),
            loss="soft_l1",
            f_scale=3.0,
            xtol=1e-5,
            ftol=1e-6,
            max_nfev=30,
        )
        result = start.copy()
        result[free] = centre + unit * found.x
        return result


def _base_spectrum(like: BeamModel, energy_mv: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return edges (MeV) and weights of a typical spectrum, stretched to a nominal energy; cobalt's lines stay."""
    edges, weights = like.spectrum_bins()
    if energy_mv < _COBALT_BELOW_MV:
        return edges, weights
    nominal = next(mv for mv, name in _TYPICAL.items() if name == like.name)
    return edges * (energy_mv / nominal), weights


def _reach_mm(data: MeasuredBeam, sad_mm: float) -> float:
    """Return the largest radius on the isocentre plane at which a profile lies well inside its field."""
    reach = 0.0
    for curve in data.profiles:
        scale = sad_mm / (curve.ssd_mm + curve.depth_mm)
        x, y = curve.x_mm * scale, curve.y_mm * scale
        inside = (np.abs(x) < 0.5 * curve.field_mm[0] - 5.0) & (np.abs(y) < 0.5 * curve.field_mm[1] - 5.0)
        if inside.any():
            reach = max(reach, float(np.hypot(x, y)[inside].max()))
    return reach
