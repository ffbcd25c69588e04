"""Volumes against diameters: no body of longest diameter d is larger than the ball of that diameter."""

from __future__ import annotations

import math
from collections.abc import Iterator

from cantlie.study.audit.claims import Size
from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.printed import Printed, rounded
from cantlie.study.audit.verdict import Finding, judged

SOURCE = "isodiametric inequality (Bieberbach 1915)"


def ball_cc(diameter_cm: float) -> float:
    """Return the volume in cc of a ball with a diameter in cm."""
    return math.pi / 6 * diameter_cm**3


def check_sizes(loaded: LoadedClaims) -> Iterator[Finding]:
    """Hold printed volumes against printed longest diameters."""
    for index, claim in enumerate(loaded.claims.size):
        line = loaded.line("size", index)
        if claim.diameter_cm is not None and claim.volume_cc is not None:
            yield _judge(claim, "smallest", claim.diameter_cm[0], claim.volume_cc[0], line)
            yield _judge(claim, "largest", claim.diameter_cm[1], claim.volume_cc[1], line)
        if claim.diameter_median_cm is not None and claim.volume_median_cc is not None:
            yield _judge(claim, "median", claim.diameter_median_cm, claim.volume_median_cc, line)


def _judge(claim: Size, name: str, diameter: Printed, volume: Printed, line: int) -> Finding:
    most = ball_cc(diameter.high)
    fits = volume.low <= most
    return judged(
        "geometry",
        claim.place,
        f"{claim.what or 'lesions'}: {name} volume against {name} diameter",
        f"{volume.text} cc; {diameter.text} cm",
        f"at most {rounded(ball_cc(diameter.value))} cc",
        "π/6·d³ of the longest diameter",
        fits,
        severity="warning",
        remark="" if fits else "possible only if the volume sums several lesions or includes a margin",
        source=SOURCE,
        line=line,
    )
