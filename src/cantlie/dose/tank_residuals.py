"""Residuals of a beam model in the tank: calculated minus measured, per curve, against the tolerances of MPPG 5.b."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.machine.measured import MeasuredCurve, OutputFactors

TOLERANCE_SOURCE = "AAPM MPPG 5.b, Geurts 2022, doi:10.1002/acm2.13641 (tests 5.3 to 5.7)"
HIGH_DOSE_PERCENT = 2.0
STEEP_MM = 2.0
TAIL_PERCENT = 3.0
_TAIL_REACH_MM = 50.0
_FROM_DEPTH_MM = 4.0
_INNER = 0.8
_LEVELS = (0.8, 0.5, 0.2)


@dataclass(frozen=True, slots=True)
class Judged:
    """One figure of a curve beside its tolerance."""

    place: str
    metric: str
    unit: Literal["%", "mm"]
    achieved: float
    limit: float

    @property
    def verdict(self) -> Literal["pass", "fail"]:
        """Whether the figure is within the tolerance."""
        return "pass" if abs(self.achieved) <= self.limit else "fail"


@dataclass(frozen=True, slots=True, eq=False)
class CurveResiduals:
    """A measured curve and the calculated one at the same scale.

    Parameters
    ----------
    curve
        What was measured.
    measured_percent, calculated_percent
        Both in per cent of the calculated maximum of the curve, shape (n,).
    judged
        The figures with tolerances.
    mean_percent
        Mean absolute local difference where the dose is high and flat.
    penumbra_mm
        Mean width from 80 % to 20 %, measured and calculated; None where it cannot be read.
    """

    curve: MeasuredCurve
    measured_percent: NDArray[np.float64]
    calculated_percent: NDArray[np.float64]
    judged: tuple[Judged, ...]
    mean_percent: float
    penumbra_mm: tuple[float, float] | None = None


def curve_residuals(curve: MeasuredCurve, dose: NDArray[np.float64], sad_mm: float = 1000.0) -> CurveResiduals:
    """Compare a measured curve with the calculated dose (Gy per MU) at its points, at the best common scale."""
    calculated = 100.0 * dose / dose.max()
    flat = _flat(curve, calculated, sad_mm)
    measured = curve.value * float(np.median(calculated[flat] / curve.value[flat]))
    local = 100.0 * (calculated[flat] / measured[flat] - 1.0)
    judged = [_row(curve, "high dose, worst local difference", "%", _worst(local), HIGH_DOSE_PERCENT)]
    penumbra = None
    if curve.kind == "depth dose":
        shift = _build_up_shift_mm(curve.depth_mm, measured, calculated)
        if shift is not None:
            judged.append(_row(curve, "build-up, shift in depth", "mm", shift, STEEP_MM))
    else:
        edges, penumbra = _edges(curve, measured, calculated, sad_mm)
        if edges.size:
            judged.append(_row(curve, "penumbra, worst shift of 80, 50 or 20 %", "mm", _worst(edges), STEEP_MM))
        tail = _tail(curve, sad_mm)
        if tail.any():
            axis = calculated[flat].max()
            difference = 100.0 * (calculated[tail] - measured[tail]) / axis
            judged.append(_row(curve, "tail, worst difference of the maximum", "%", _worst(difference), TAIL_PERCENT))
    return CurveResiduals(curve, measured, calculated, tuple(judged), float(np.abs(local).mean()), penumbra)


def output_residuals(outputs: Sequence[OutputFactors], factors: Sequence[NDArray[np.float64]]) -> tuple[Judged, ...]:
    """Compare output factors, both relative to the reference field of their set."""
    rows = []
    for item, calculated in zip(outputs, factors, strict=True):
        measured = item.value / item.value[item.reference]
        for (x, y), was, became in zip(item.field_mm, measured, calculated, strict=True):
            place = f"{x:g}×{y:g} mm, SSD {item.ssd_mm:g} mm, depth {item.depth_mm:g} mm"
            rows.append(Judged(place, "output factor", "%", float(100.0 * (became / was - 1.0)), HIGH_DOSE_PERCENT))
    return tuple(rows)


def _row(curve: MeasuredCurve, metric: str, unit: Literal["%", "mm"], achieved: float, limit: float) -> Judged:
    return Judged(curve.label, metric, unit, achieved, limit)


def _worst(values: NDArray[np.float64]) -> float:
    return float(values[np.argmax(np.abs(values))])


def _edge_mm(curve: MeasuredCurve, sad_mm: float) -> NDArray[np.float64]:
    """Return where the geometric edge of the field lies along a profile, at each point's depth, shape (n,)."""
    half = {
        "x": 0.5 * curve.field_mm[0],
        "y": 0.5 * curve.field_mm[1],
        "diagonal": 0.5 * min(curve.field_mm) * float(np.sqrt(2.0)),
    }[curve.axis]
    return np.asarray(half * (curve.ssd_mm + curve.depth_mm) / sad_mm)


def _flat(curve: MeasuredCurve, calculated: NDArray[np.float64], sad_mm: float) -> NDArray[np.bool_]:
    if curve.kind == "depth dose":
        return np.asarray(curve.depth_mm >= curve.depth_mm[int(np.argmax(calculated))])
    position = np.abs(curve.position_mm)
    inside = position <= _INNER * _edge_mm(curve, sad_mm)
    return inside if inside.any() else np.asarray(position == position.min())


def _tail(curve: MeasuredCurve, sad_mm: float) -> NDArray[np.bool_]:
    outside = np.abs(curve.position_mm) - _edge_mm(curve, sad_mm)
    return np.asarray((outside > 12.0) & (outside <= _TAIL_REACH_MM))


def _build_up_shift_mm(
    depth_mm: NDArray[np.float64], measured: NDArray[np.float64], calculated: NDArray[np.float64]
) -> float | None:
    """Return calculated minus measured depth of the dose midway between that at 4 mm and the maximum."""
    top = int(np.argmax(calculated))
    rising = slice(int(np.searchsorted(depth_mm, _FROM_DEPTH_MM)), top + 1)
    if top + 1 - rising.start < 3:
        return None
    depth, was, became = depth_mm[rising], measured[rising], calculated[rising]
    level = 0.5 * (max(was[0], became[0]) + min(was.max(), became.max()))
    found = [_crossing(depth[::-1], values[::-1], level) for values in (was, became)]
    if found[0] is None or found[1] is None:
        return None
    return found[1] - found[0]


def _edges(
    curve: MeasuredCurve, measured: NDArray[np.float64], calculated: NDArray[np.float64], sad_mm: float
) -> tuple[NDArray[np.float64], tuple[float, float] | None]:
    """Return shifts (mm) of the levels of both edges and the mean widths from 80 % to 20 %."""
    edge = _edge_mm(curve, sad_mm)
    shifts: list[float] = []
    widths: list[tuple[float, float]] = []
    for side in (-1.0, 1.0):
        position = side * curve.position_mm
        order = np.flatnonzero(position >= _INNER * edge)
        order = order[np.argsort(position[order])]
        if order.size < 4:
            continue
        inner = calculated[order[0]]
        crossings = [
            [_crossing(position[order], values[order], level * inner) for values in (measured, calculated)]
            for level in _LEVELS
        ]
        shifts += [became - was for was, became in crossings if was is not None and became is not None]
        (high_was, high_became), (low_was, low_became) = crossings[0], crossings[-1]
        if None not in (high_was, high_became, low_was, low_became):
            assert high_was is not None and low_was is not None and high_became is not None and low_became is not None
            widths.append((low_was - high_was, low_became - high_became))
    mean = tuple(float(value) for value in np.mean(widths, axis=0)) if widths else None
    return np.array(shifts), None if mean is None else (mean[0], mean[1])


def _crossing(position: NDArray[np.float64], values: NDArray[np.float64], level: float) -> float | None:
    """Return where values first fall below a level, by linear interpolation."""
    below = np.flatnonzero(values < level)
    if below.size == 0 or below[0] == 0:
        return None
    n = int(below[0])
    share = (values[n - 1] - level) / (values[n - 1] - values[n])
    return float(position[n - 1] + share * (position[n] - position[n - 1]))
