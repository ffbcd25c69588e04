"""Liver function scores: Child-Pugh, ALBI and its modified grades, MELD, MELD-Na and MELD 3.0."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cantlie.core.errors import CohortError

Ascites = Literal["none", "mild", "moderate"]
_ASCITES_POINTS = {"none": 1, "mild": 2, "moderate": 3}


@dataclass(frozen=True, slots=True)
class ChildPugh:
    """Points of the five parts, their sum (5 to 15) and the class."""

    bilirubin: int
    albumin: int
    inr: int
    ascites: int
    encephalopathy: int

    @property
    def score(self) -> int:
        """Sum of the points."""
        return self.bilirubin + self.albumin + self.inr + self.ascites + self.encephalopathy

    @property
    def grade(self) -> str:
        """Class A (5-6), B (7-9) or C (10-15)."""
        return child_pugh_class(self.score)


def child_pugh_class(score: float) -> str:
    """Return the class of a Child-Pugh score.

    Raises
    ------
    CohortError
        If the score is not 5 to 15.
    """
    if not 5 <= score <= 15:
        raise CohortError(f"{score:g} points", where="Child-Pugh", remedy="the score is 5 to 15")
    return "A" if score <= 6 else "B" if score <= 9 else "C"


def child_pugh(
    bilirubin_umol_l: float,
    albumin_g_l: float,
    inr: float,
    ascites: Ascites,
    encephalopathy_grade: int,
    *,
    albumin_lower_cut_g_l: float = 28.0,
) -> ChildPugh:
    """Return the Child-Pugh points.

    Parameters
    ----------
    albumin_lower_cut_g_l
        28 g/L as in Pugh's own table; some textbooks print 30.

    Notes
    -----
    Pugh 1973, doi:10.1002/bjs.1800600817: bilirubin < 34, 34-51, > 51 µmol/L (2 and 3 mg/dL); albumin > 35, 28-35,
    < 28 g/L; INR < 1.7, 1.7-2.3, > 2.3; ascites none, mild, moderate; encephalopathy none, 1-2, 3-4.
    """
    _positive("Child-Pugh", bilirubin=bilirubin_umol_l, albumin=albumin_g_l, inr=inr)
    if ascites not in _ASCITES_POINTS:
        raise CohortError(f"ascites {ascites!r}", where="Child-Pugh", remedy="give none, mild or moderate")
    if encephalopathy_grade not in range(5):
        raise CohortError(f"encephalopathy grade {encephalopathy_grade!r}", where="Child-Pugh", remedy="give 0 to 4")
    return ChildPugh(
        bilirubin=1 if bilirubin_umol_l < 34 else 2 if bilirubin_umol_l <= 51 else 3,
        albumin=1 if albumin_g_l > 35 else 2 if albumin_g_l >= albumin_lower_cut_g_l else 3,
        inr=1 if inr < 1.7 else 2 if inr <= 2.3 else 3,
        ascites=_ASCITES_POINTS[ascites],
        encephalopathy=1 if encephalopathy_grade == 0 else 2 if encephalopathy_grade <= 2 else 3,
    )


def albi(bilirubin_umol_l: float, albumin_g_l: float) -> float:
    """Return the albumin-bilirubin score (Johnson 2015, doi:10.1200/JCO.2014.57.9151).

    0.66 log10(bilirubin in µmol/L) - 0.085 albumin in g/L.
    """
    _positive("ALBI", bilirubin=bilirubin_umol_l, albumin=albumin_g_l)
    return 0.66 * math.log10(bilirubin_umol_l) - 0.085 * albumin_g_l


def albi_grade(score: float) -> int:
    """Return ALBI grade 1 (up to -2.60), 2 (up to -1.39) or 3."""
    return 1 if score <= -2.60 else 2 if score <= -1.39 else 3


def modified_albi_grade(score: float) -> str:
    """Return mALBI grade 1, 2a (up to -2.27), 2b or 3 (Hiraoka 2019, doi:10.1159/000490699)."""
    if score <= -2.60:
        return "1"
    return "2a" if score <= -2.27 else "2b" if score <= -1.39 else "3"


def meld(bilirubin_mg_dl: float, inr: float, creatinine_mg_dl: float, *, dialysis: bool = False) -> float:
    """Return MELD, unrounded (UNOS: values below 1 are set to 1, creatinine to at most 4, and to 4 on dialysis).

    10 (0.957 ln creatinine + 0.378 ln bilirubin + 1.120 ln INR + 0.643) (Kamath 2001, doi:10.1053/jhep.2001.22172).
    """
    _positive("MELD", bilirubin=bilirubin_mg_dl, inr=inr, creatinine=creatinine_mg_dl)
    creatinine = 4.0 if dialysis else min(max(creatinine_mg_dl, 1.0), 4.0)
    return 10 * (
        0.957 * math.log(creatinine)
        + 0.378 * math.log(max(bilirubin_mg_dl, 1.0))
        + 1.120 * math.log(max(inr, 1.0))
        + 0.643
    )


def meld_na(
    bilirubin_mg_dl: float, inr: float, creatinine_mg_dl: float, sodium_mmol_l: float, *, dialysis: bool = False
) -> int:
    """Return MELD-Na, rounded, 6 to 40 (OPTN policy 9.1 of 2016).

    The MELD is first rounded to a whole number (its sum of logarithms to one decimal, then times 10); sodium is taken
    within 125 to 137 mmol/L and corrects only a MELD above 11.
    """
    _positive("MELD-Na", sodium=sodium_mmol_l)
    score = _whole(meld(bilirubin_mg_dl, inr, creatinine_mg_dl, dialysis=dialysis))
    if score > 11:
        deficit = 137 - min(max(sodium_mmol_l, 125.0), 137.0)
        return min(max(_whole(score + 1.32 * deficit - 0.033 * score * deficit), 6), 40)
    return min(max(score, 6), 40)


def _whole(score: float) -> int:
    """Return a score rounded to the nearest whole number, a half up (not to even)."""
    return math.floor(score + 0.5 + 1e-9)


def meld_3(
    bilirubin_mg_dl: float,
    inr: float,
    creatinine_mg_dl: float,
    sodium_mmol_l: float,
    albumin_g_dl: float,
    *,
    female: bool,
    dialysis: bool = False,
) -> float:
    """Return MELD 3.0, unrounded (Kim 2021, doi:10.1053/j.gastro.2021.08.050).

    Creatinine 1 to 3 mg/dL, albumin 1.5 to 3.5 g/dL, sodium 125 to 137 mmol/L, bilirubin and INR at least 1.
    """
    _positive("MELD 3.0", bilirubin=bilirubin_mg_dl, inr=inr, creatinine=creatinine_mg_dl, albumin=albumin_g_dl)
    bilirubin = math.log(max(bilirubin_mg_dl, 1.0))
    creatinine = math.log(3.0 if dialysis else min(max(creatinine_mg_dl, 1.0), 3.0))
    deficit = 137 - min(max(sodium_mmol_l, 125.0), 137.0)
    albumin = 3.5 - min(max(albumin_g_dl, 1.5), 3.5)
    return (
        1.33 * female
        + 4.56 * bilirubin
        + 0.82 * deficit
        - 0.24 * deficit * bilirubin
        + 9.09 * math.log(max(inr, 1.0))
        + 11.14 * creatinine
        + 1.85 * albumin
        - 1.83 * albumin * creatinine
        + 6
    )


def _positive(score: str, **values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise CohortError(f"{name} is {value}", where=score, remedy="give a positive number")
