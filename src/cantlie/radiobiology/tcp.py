"""Tumour control: Poisson, logistic in the equivalent uniform dose, and HyTEC for liver metastases."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from cantlie.core.errors import CantlieError
from cantlie.core.notes import Note
from cantlie.radiobiology.model import Estimate, ModelCard

POISSON = ModelCard(
    "tcp-poisson",
    "Poisson TCP",
    "TCP = exp(-N0 sum v_i exp(-alpha BED_i))",
    {"n0": 1e7, "alpha_per_gy": 0.3},
    "no surviving clonogen",
    "generic",
    "BED",
    "generic parameters; relative comparisons only",
    "Munro and Gilbert 1961, doi:10.1259/0007-1285-34-400-246",
    "from memory",
)
LOGISTIC = ModelCard(
    "tcp-logistic",
    "Logistic TCP",
    "TCP = 1 / (1 + (TCD50 / EUD)^(4 gamma50))",
    {},
    "local control",
    "as its parameters",
    "EQD2",
    "as its parameters",
    "Niemierko 1999 (abstract), Med Phys 26:1100",
    "secondary",
)
HYTEC_CONTROL = ModelCard(
    "hytec-metastases-control",
    "HyTEC 2-year local control of liver metastases",
    "LC = 1 / (1 + exp((16 - BED10) / 74))",
    {"offset_gy": 16.0, "slope_gy": 74.0},
    "local control at 2 years",
    "290 liver metastases after SBRT, 13 series",
    "BED",
    "SBRT of metastases in 1 to 6 fractions, BED10 of about 60 to 180 Gy",
    "Ohri 2021 (HyTEC), doi:10.1016/j.ijrobp.2017.12.288, equation 1, as quoted by a public implementation",
    "secondary",
)


def poisson_tcp(
    bed_gy: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    clonogens: float = 1e7,
    alpha_per_gy: float = 0.3,
    alpha_sd_per_gy: float = 0.0,
) -> float:
    """Return the Poisson TCP of a tumour from the BED of its voxels.

    Parameters
    ----------
    bed_gy
        BED per voxel for the tumour's alpha/beta.
    weights
        Volumes of the voxels; clonogens are spread evenly.
    alpha_sd_per_gy
        Spread of alpha between patients (normal, cut at 0); 0 for none.
    """
    bed = np.asarray(bed_gy, dtype=np.float64).ravel()
    parts = np.ones_like(bed) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    if parts.shape != bed.shape or parts.sum() <= 0 or alpha_per_gy <= 0 or clonogens <= 0:
        raise CantlieError("TCP needs at least one voxel with a volume, and positive alpha and clonogens")
    parts = parts / parts.sum()

    def control(alpha: float) -> float:
        return math.exp(-clonogens * float(parts @ np.exp(-alpha * bed)))

    if alpha_sd_per_gy == 0:
        return control(alpha_per_gy)
    alphas = alpha_per_gy + alpha_sd_per_gy * np.linspace(-4, 4, 161)
    weight = np.exp(-0.5 * ((alphas - alpha_per_gy) / alpha_sd_per_gy) ** 2) * (alphas > 0)
    return float(weight @ [control(alpha) for alpha in alphas] / weight.sum())


def logistic_tcp(eud_gy: float, tcd50_gy: float, gamma50: float) -> float:
    """Return the logistic TCP 1 / (1 + (TCD50 / EUD)^(4 gamma50))."""
    if tcd50_gy <= 0 or gamma50 <= 0:
        raise CantlieError("TCP needs a positive TCD50 and gamma50")
    # As a logistic of the logarithm, which no small EUD overflows.
    return 0.0 if eud_gy <= 0 else float(expit(4.0 * gamma50 * math.log(eud_gy / tcd50_gy)))


def hytec_local_control(bed10_gy: float, fractions: int) -> Estimate:
    """Return the HyTEC local control at 2 years of liver metastases, with its band over a slope of 74 +- 15 Gy."""

    def control(slope: float) -> float:
        return 1.0 / (1.0 + math.exp((16.0 - bed10_gy) / slope))

    notes = []
    if not 60.0 <= bed10_gy <= 180.0:
        notes.append(Note(f"a BED10 of {bed10_gy:.0f} Gy lies outside its data (60 to 180 Gy)", HYTEC_CONTROL.name))
    if not 1 <= fractions <= 6:
        notes.append(Note(f"{fractions} fractions are not SBRT (1 to 6), which the data are from", HYTEC_CONTROL.name))
    ends = sorted((control(59.0), control(89.0)))
    inputs = {"bed10_gy": bed10_gy, "fractions": float(fractions)}
    return Estimate(control(74.0), ends[0], ends[1], HYTEC_CONTROL, inputs, tuple(notes))
