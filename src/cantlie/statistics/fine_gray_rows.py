"""Fine and Gray's risk sets written out as weighted start–stop rows, for any Cox software."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cantlie.core.errors import StatisticsError
from cantlie.statistics import inputs
from cantlie.statistics.competing import causes


def fine_gray_rows(time: ArrayLike, event: ArrayLike, *, cause: int = 1) -> pd.DataFrame:
    """Return the rows with which a weighted Cox model becomes a subdistribution hazard model.

    A patient with another event stays at risk after it, with a weight G(t−)/G(X−) that falls wherever someone is
    censored; one row for each stretch of equal weight in which an event of interest happens. Censoring at the time of
    an event is taken to follow it (as R's survival::finegray).

    Parameters
    ----------
    time, event
        Follow-up and event code per patient: 0 censored, else the cause.
    cause
        The cause of interest.

    Returns
    -------
    pandas.DataFrame
        Columns ``row`` (index of the patient), ``start``, ``stop``, ``event``, ``weight``. Cluster by ``row`` for
        honest standard errors.

    Raises
    ------
    StatisticsError
        If there is no event of this cause.

    References
    ----------
    Geskus 2011, doi:10.1111/j.1541-0420.2010.01420.x.
    """
    t = inputs.times(time)
    code = causes(event, length=t.size)
    if not (code == cause).any():
        raise StatisticsError(f"nobody had the event {cause}", where="event")
    (t,) = inputs.merge_tied(t)
    other = np.flatnonzero((code > 0) & (code != cause))
    steps, index = np.unique(t, return_inverse=True)
    lost = inputs.sums(index, (code == 0).astype(np.float64), steps.size)
    ended = inputs.sums(index, (code > 0).astype(np.float64), steps.size)
    n = np.cumsum((lost + ended)[::-1])[::-1] - ended
    cuts = steps[lost > 0]
    free = np.concatenate([[1.0], np.cumprod(1 - lost[lost > 0] / n[lost > 0])])
    block_events = np.bincount(np.searchsorted(cuts, t[code == cause], side="left"), minlength=free.size)
    end = np.concatenate([cuts, [max(float(t.max()), float(cuts[-1]) if cuts.size else 0.0) + 1.0]])
    useful = np.flatnonzero((block_events > 0) & (free > 0))
    block = np.searchsorted(cuts, t[other], side="left")
    plain = np.setdiff1d(np.arange(t.size), other)
    rows = [
        pd.DataFrame(
            {"row": plain, "start": 0.0, "stop": t[plain], "event": (code[plain] == cause).astype(int), "weight": 1.0}
        ),
        pd.DataFrame({"row": other, "start": 0.0, "stop": end[block], "event": 0, "weight": 1.0}),
    ]
    later = [useful[useful > own] for own in block]
    count = np.array([blocks.size for blocks in later], dtype=np.intp)
    if count.sum():
        which = np.concatenate(later)
        rows.append(
            pd.DataFrame(
                {
                    "row": np.repeat(other, count),
                    "start": cuts[which - 1],
                    "stop": end[which],
                    "event": 0,
                    "weight": free[which] / np.repeat(free[block], count),
                }
            )
        )
    return pd.concat(rows, ignore_index=True).sort_values(["row", "start"], kind="stable", ignore_index=True)
