"""Performance status: ECOG, WHO and Karnofsky, and the table between them."""

from __future__ import annotations

from cantlie.core.errors import CohortError

_ECOG_FROM_KPS = {100: 0, 90: 0, 80: 1, 70: 1, 60: 2, 50: 2, 40: 3, 30: 3, 20: 4, 10: 4, 0: 5}
_KPS_RANGE_FROM_ECOG = {0: (90, 100), 1: (70, 80), 2: (50, 60), 3: (30, 40), 4: (10, 20), 5: (0, 0)}


def ecog_from_kps(kps: int) -> int:
    """Return the ECOG status of a Karnofsky status (Oken 1982, doi:10.1097/00000421-198212000-00014).

    Raises
    ------
    CohortError
        If the Karnofsky status is not 0, 10, ..., 100.
    """
    if kps not in _ECOG_FROM_KPS:
        raise CohortError(f"{kps} is no Karnofsky status", where="kps", remedy="give 0, 10, ..., 100")
    return _ECOG_FROM_KPS[kps]


def kps_range_from_ecog(ecog: int) -> tuple[int, int]:
    """Return the Karnofsky range that an ECOG status stands for; the way back is not one value.

    Raises
    ------
    CohortError
        If the status is not 0 to 5.
    """
    if ecog not in _KPS_RANGE_FROM_ECOG:
        raise CohortError(f"{ecog} is no ECOG status", where="ecog", remedy="give 0 to 5")
    return _KPS_RANGE_FROM_ECOG[ecog]


def who_from_ecog(ecog: int) -> int:
    """Return the WHO status, which has the same six steps as ECOG's."""
    kps_range_from_ecog(ecog)
    return ecog
