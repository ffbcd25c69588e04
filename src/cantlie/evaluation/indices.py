"""How well a dose fits a target: conformity, homogeneity, gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cantlie.evaluation.dvh import Dvh


@dataclass(frozen=True, slots=True)
class PlanIndices:
    """Indices of one dose and one target.

    Attributes
    ----------
    target
        Name of the target.
    prescription_gy, reference_gy
        The prescribed dose, and the isodose that the conformity is judged on.
    rtog_conformity
        Volume of the reference isodose over volume of the target; ideal 1, accepted 1 to 2. Shaw et al. 1993,
        doi:10.1016/0360-3016(93)90548-A.
    rtog_coverage
        Minimum dose in the target over the prescribed dose (RTOG quality of coverage), same source.
    rtog_homogeneity
        Maximum dose over the prescribed dose, same source.
    paddick_conformity
        TV_PIV² / (TV · PIV), ideal 1. Paddick 2000, doi:10.3171/jns.2000.93.supplement_3.0219.
    icru_homogeneity
        (D2% - D98%) / D50%, ideal 0. ICRU Report 83 (2010), section 3.7.1, doi:10.1093/jicru/ndq001.
    r50
        Volume of the 50 % isodose over volume of the target (RTOG 0813, RTOG 0915).
    gradient_index
        Volume of the isodose at half the reference dose over volume of the reference isodose. Paddick and Lippitz 2006,
        doi:10.3171/sup.2006.105.7.194.
    gradient_measure_cm
        Difference of the radii of spheres of those two volumes, in cm.
    """

    target: str
    prescription_gy: float
    reference_gy: float
    target_cc: float
    target_covered_cc: float
    reference_isodose_cc: float
    half_isodose_cc: float
    rtog_conformity: float
    rtog_coverage: float
    rtog_homogeneity: float
    paddick_conformity: float
    icru_homogeneity: float
    r50: float
    gradient_index: float
    gradient_measure_cm: float


def plan_indices(target: Dvh, body: Dvh, prescription_gy: float, reference_gy: float | None = None) -> PlanIndices:
    """Return conformity, homogeneity and gradient of a dose.

    Parameters
    ----------
    target, body
        DVHs of the target and of all tissue that the dose is calculated in, in the same dose. Isodose volumes are taken
        from ``body``, which must contain the target.
    prescription_gy
        The prescribed dose.
    reference_gy
        The isodose that the conformity is judged on; the prescribed dose when not given.

    Returns
    -------
    PlanIndices
        An index is NaN where it is not defined because nothing reaches the reference dose.
    """
    reference = prescription_gy if reference_gy is None else reference_gy
    isodose = float(body.volume_at_dose_cc(reference))
    half = float(body.volume_at_dose_cc(0.5 * reference))
    half_prescribed = float(body.volume_at_dose_cc(0.5 * prescription_gy))
    covered = float(target.volume_at_dose_cc(reference))
    d2, d50, d98 = (float(value) for value in target.dose_at_percent_gy(np.array([2.0, 50.0, 98.0])))
    nan = float("nan")
    return PlanIndices(
        target=target.name,
        prescription_gy=prescription_gy,
        reference_gy=reference,
        target_cc=target.volume_cc,
        target_covered_cc=covered,
        reference_isodose_cc=isodose,
        half_isodose_cc=half,
        rtog_conformity=isodose / target.volume_cc,
        rtog_coverage=target.min_gy / prescription_gy,
        rtog_homogeneity=target.max_gy / prescription_gy,
        paddick_conformity=covered**2 / (target.volume_cc * isodose) if isodose > 0 else nan,
        icru_homogeneity=(d2 - d98) / d50 if d50 > 0 else nan,
        r50=half_prescribed / target.volume_cc,
        gradient_index=half / isodose if isodose > 0 else nan,
        gradient_measure_cm=_radius_cm(half) - _radius_cm(isodose),
    )


def _radius_cm(volume_cc: float) -> float:
    """Radius of the sphere of a volume."""
    return float(np.cbrt(3.0 * volume_cc / (4.0 * np.pi)))
