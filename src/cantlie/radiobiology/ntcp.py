"""Complications of the liver: LKB for radiation-induced liver disease, HyTEC, critical volume, parallel model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from cantlie.core.errors import CantlieError
from cantlie.core.notes import Note
from cantlie.radiobiology.model import Estimate, ModelCard, memory_note
from cantlie.radiobiology.volume_effect import geud_gy, mean_dose_gy

_DAWSON = "Dawson 2002, Int J Radiat Oncol Biol Phys 53:810, doi:10.1016/S0360-3016(02)02846-8"
_MIFTEN = "Miften 2021 (HyTEC), doi:10.1016/j.ijrobp.2017.12.290, as quoted by a public implementation"
_QUANTEC = "QUANTEC, Marks 2010, Table 1, doi:10.1016/j.ijrobp.2009.07.1754"


@dataclass(frozen=True, slots=True)
class Lkb:
    """The Lyman-Kutcher-Burman model: NTCP = Phi((gEUD - TD50) / (m TD50)), gEUD with a = 1/n.

    References
    ----------
    Lyman 1985, Radiat Res 104:S13; Kutcher and Burman 1989, doi:10.1016/0360-3016(89)90972-3.
    """

    card: ModelCard
    n: float
    m: float
    td50_gy: float
    td50_range_gy: tuple[float, float]
    alpha_beta_gy: float | None
    """The dose must be EQD2 for this alpha/beta; None for physical dose in the fractionation of the fit."""

    def probability(self, geud: ArrayLike, td50_gy: float | None = None) -> np.ndarray:
        """Return the NTCP of one or several gEUD in Gy."""
        td50 = self.td50_gy if td50_gy is None else td50_gy
        result: np.ndarray = ndtr((np.asarray(geud, dtype=np.float64) - td50) / (self.m * td50))
        return result

    def dose_for(self, z: float) -> float:
        """Return the gEUD in Gy at a number of standard deviations of the probit (-1.645 for 5 %)."""
        return self.td50_gy * (1.0 + z * self.m)

    def td5_gy(self) -> float:
        """Return the gEUD in Gy with a risk of 5 %."""
        return self.dose_for(-1.6448536269514722)

    def estimate(
        self,
        doses_gy: ArrayLike,
        weights: ArrayLike | None = None,
        *,
        largest_dose_per_fraction_gy: float | None = None,
    ) -> Estimate:
        """Return the NTCP of an organ, with its band over TD50.

        Parameters
        ----------
        doses_gy
            Doses of the voxels or DVH bins of liver without lesions, in the model's dose basis.
        weights
            Their volumes.
        largest_dose_per_fraction_gy
            Where known, to say when it lies outside the fractionation of the fit.
        """
        dose = geud_gy(doses_gy, 1.0 / self.n, weights)
        notes = list(memory_note(self.card))
        if largest_dose_per_fraction_gy is not None and largest_dose_per_fraction_gy > 4.5:
            message = (
                f"{largest_dose_per_fraction_gy:.1f} Gy per fraction lies outside the fit (1.5 Gy twice daily, EQD2 "
                "conversion used to about 4 Gy)"
            )
            notes.append(Note(message, self.card.name))
        low, high = (float(self.probability(dose, td50)) for td50 in reversed(self.td50_range_gy))
        mean = mean_dose_gy(doses_gy, weights)
        inputs = {"geud_gy": dose, "mean_dose_gy": mean, "td50_gy": self.td50_gy}
        return Estimate(float(self.probability(dose)), low, high, self.card, inputs, tuple(notes))


def _lkb(
    model_id: str,
    name: str,
    population: str,
    td50: float,
    low: float,
    high: float,
    alpha_beta: float | None,
    valid: str,
) -> Lkb:
    # 39.8 and 45.8 Gy at 1.5 Gy per fraction are 35.4 and 40.7 Gy in 2 Gy fractions for alpha/beta 2.5 Gy
    factor = (1.5 + alpha_beta) / (2.0 + alpha_beta) if alpha_beta else 1.0
    card = ModelCard(
        model_id,
        name,
        "NTCP = Phi((gEUD - TD50) / (m TD50)); gEUD = (sum v_i D_i^(1/n))^n",
        {"n": 0.97, "m": 0.12, "td50_gy": td50 * factor, "alpha_beta_gy": alpha_beta or float("nan")},
        "classic radiation-induced liver disease",
        population,
        "EQD2" if alpha_beta else "physical",
        valid,
        _DAWSON,
        "secondary",
    )
    return Lkb(card, 0.97, 0.12, td50 * factor, (low * factor, high * factor), alpha_beta)


_EQD2_VALID = "liver without lesions, Child-Pugh A, EQD2 per voxel with alpha/beta 2.5 Gy, fractions up to about 4 Gy"
_PHYSICAL_VALID = "liver without lesions, Child-Pugh A, physical dose in 1.5 Gy fractions twice daily"
# The band over TD50 is +- 10 %, near the spread between published fits, not a confidence interval of the publication.
RILD_METASTASES = _lkb(
    "rild-metastases-eqd2", "RILD, metastases (EQD2)", "liver metastases", 45.8, 41.2, 50.4, 2.5, _EQD2_VALID
)
RILD_PRIMARY = _lkb(
    "rild-primary-eqd2", "RILD, primary liver cancer (EQD2)", "primary liver cancer", 39.8, 35.8, 43.8, 2.5, _EQD2_VALID
)
RILD_METASTASES_1_5_GY = _lkb(
    "rild-metastases-1.5gy", "RILD, metastases (1.5 Gy)", "liver metastases", 45.8, 41.2, 50.4, None, _PHYSICAL_VALID
)
RILD_PRIMARY_1_5_GY = _lkb(
    "rild-primary-1.5gy", "RILD, primary (1.5 Gy)", "primary liver cancer", 39.8, 35.8, 43.8, None, _PHYSICAL_VALID
)
BURMAN_CARD = ModelCard(
    "liver-failure-burman",
    "Liver failure (Burman, historical)",
    "NTCP = Phi((gEUD - TD50) / (m TD50)); gEUD = (sum v_i D_i^(1/n))^n",
    {"n": 0.32, "m": 0.15, "td50_gy": 40.0},
    "liver failure",
    "whole and partial liver, estimates of experts",
    "physical",
    "1.8 to 2 Gy per fraction; historical, superseded by the Michigan fits",
    "Burman 1991, doi:10.1016/0360-3016(91)90172-Z",
    "from memory",
)
BURMAN = Lkb(BURMAN_CARD, 0.32, 0.15, 40.0, (36.0, 44.0), None)
LKB_MODELS = (RILD_METASTASES, RILD_PRIMARY, RILD_METASTASES_1_5_GY, RILD_PRIMARY_1_5_GY, BURMAN)


def rild(
    eqd2_gy: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    liver_disease: str = "metastases",
    largest_dose_per_fraction_gy: float | None = None,
) -> Estimate:
    """Return the risk of classic RILD from the EQD2 of liver without lesions (alpha/beta 2.5 Gy, summed per session).

    Parameters
    ----------
    liver_disease
        ``metastases`` or ``primary``.

    Raises
    ------
    CantlieError
        If the liver disease is neither.
    """
    models = {"metastases": RILD_METASTASES, "primary": RILD_PRIMARY}
    if liver_disease not in models:
        raise CantlieError(f"liver disease {liver_disease!r} is not known", remedy="write metastases or primary")
    model = models[liver_disease]
    return model.estimate(eqd2_gy, weights, largest_dose_per_fraction_gy=largest_dose_per_fraction_gy)


HYTEC_ENZYMES = ModelCard(
    "hytec-liver-enzymes",
    "HyTEC liver enzymes of grade 3 or more",
    "NTCP = Phi(sqrt(2 pi) gamma50 (MLD / D50 - 1))",
    {"d50_gy": 40.8, "gamma50": 0.95},
    "liver enzymes of grade 3 or more",
    "SBRT of primary and metastatic liver tumours, 288 patients, 17 events",
    "physical",
    "mean dose to liver without lesions, 3 to 6 fractions; the fit was not significant (P = 0.10)",
    _MIFTEN,
    "secondary",
)


def hytec_enzyme_risk(mean_liver_dose_gy: float, fractions: int) -> Estimate:
    """Return the HyTEC risk of liver enzymes of grade 3 or more after SBRT, with its band over gamma50 (0.58-1.44)."""

    def risk(gamma50: float) -> float:
        return float(ndtr(math.sqrt(2.0 * math.pi) * gamma50 * (mean_liver_dose_gy / 40.8 - 1.0)))

    notes = [Note("the fit behind this model was not significant (P = 0.10)", HYTEC_ENZYMES.name, "info")]
    if not 3 <= fractions <= 6:
        notes.append(Note(f"{fractions} fractions lie outside its range of 3 to 6", HYTEC_ENZYMES.name))
    if mean_liver_dose_gy > 25.0:
        notes.append(
            Note(f"a mean dose of {mean_liver_dose_gy:.1f} Gy lies above the data (about 20 Gy)", HYTEC_ENZYMES.name)
        )
    ends = sorted((risk(0.58), risk(1.44)))
    inputs = {"mean_dose_gy": mean_liver_dose_gy, "fractions": float(fractions)}
    return Estimate(risk(0.95), ends[0], ends[1], HYTEC_ENZYMES, inputs, tuple(notes))


CRITICAL_VOLUME = ModelCard(
    "critical-volume-700cc",
    "Critical volume",
    "spared = volume of normal liver below the dose; spared >= 700 cc",
    {"volume_cc": 700.0, "dose_gy": 15.0},
    "liver failure",
    "SBRT in 3 to 5 fractions",
    "physical",
    "3 to 5 fractions; observational, no fitted model",
    _QUANTEC,
    "secondary",
)


def spared_volume_cc(doses_gy: ArrayLike, volumes_cc: ArrayLike, below_gy: float = 15.0) -> float:
    """Return the volume of normal liver that gets less than a dose, in cm³ (at least 700 below 15 Gy is the rule)."""
    doses, volumes = np.asarray(doses_gy, dtype=np.float64), np.asarray(volumes_cc, dtype=np.float64)
    return float(volumes[doses < below_gy].sum())


PARALLEL = ModelCard(
    "parallel-jackson",
    "Parallel model of the liver",
    "f = sum v_i / (1 + (D50 / D_i)^k); NTCP = Phi((f - nu50) / sigma)",
    {"d50_gy": 42.0, "k": 2.25, "nu50": 0.5, "sigma": 0.08},
    "radiation hepatitis",
    "Michigan patients, 1.5 Gy twice daily",
    "physical",
    "1.5 Gy twice daily; parameters weak",
    "Jackson 1995, Int J Radiat Oncol Biol Phys 31:883",
    "from memory",
)


def destroyed_fraction(
    doses_gy: ArrayLike, weights: ArrayLike | None = None, *, d50_gy: float = 42.0, k: float = 2.25
) -> float:
    """Return the part of the functional subunits that is lost: the mean of 1 / (1 + (D50 / D)^k)."""
    doses = np.asarray(doses_gy, dtype=np.float64).ravel()
    scaled = (np.maximum(doses, 0.0) / d50_gy) ** k
    return mean_dose_gy(scaled / (1.0 + scaled), weights)


def parallel_risk(doses_gy: ArrayLike, weights: ArrayLike | None = None) -> Estimate:
    """Return the risk of the parallel model, with its band over D50 (+- 10 %) and k (2 to 2.5)."""

    def risk(d50: float, k: float) -> float:
        return float(ndtr((destroyed_fraction(doses_gy, weights, d50_gy=d50, k=k) - 0.5) / 0.08))

    corners = [risk(d50, k) for d50 in (37.8, 42.0, 46.2) for k in (2.0, 2.25, 2.5)]
    inputs = {"destroyed_fraction": destroyed_fraction(doses_gy, weights)}
    return Estimate(risk(42.0, 2.25), min(corners), max(corners), PARALLEL, inputs, memory_note(PARALLEL))
