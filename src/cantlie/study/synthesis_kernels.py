"""The two estimates that the search for survival times repeats many thousand times, compiled."""

from __future__ import annotations

from numba import njit


@njit(cache=True)
def rate_or_median(time, event, members, month):  # type: ignore[no-untyped-def]
    """Return the product-limit survival of members at a month, or their median when the month is negative.

    Parameters
    ----------
    time, event, members
        Months, event and membership, shape (n,).
    month
        Month of the rate (events at it included), or -1 for the median, which is infinite when not reached.
    """
    count = 0
    for i in range(time.size):
        if members[i]:
            count += 1
    t = time[members]
    e = event[members]
    order = t.argsort()
    survival = 1.0
    i = 0
    while i < count:
        now = t[order[i]]
        if month >= 0 and now > month + 1e-9:
            break
        deaths = 0
        j = i
        while j < count and t[order[j]] <= now + 1e-9:
            if e[order[j]]:
                deaths += 1
            j += 1
        if deaths:
            survival *= 1.0 - deaths / (count - i)
            if month < 0 and survival <= 0.5 + 1e-12:
                if survival >= 0.5 - 1e-12:  # the curve runs along one half: the middle of the step, as R has it
                    later = j
                    while later < count and not e[order[later]]:
                        later += 1
                    if later < count:
                        return (now + t[order[later]]) / 2
                return now
        i = j
    return survival if month >= 0 else 1e9


@njit(cache=True)
def log_rank_chi2(time, event, first, second):  # type: ignore[no-untyped-def]
    """Return the log-rank statistic (1 degree of freedom) of two groups given as masks, shape (n,)."""
    both = first | second
    t = time[both]
    e = event[both]
    a = first[both]
    order = t.argsort()
    n = t.size
    at_risk, in_a = float(n), 0.0
    for i in range(n):
        if a[i]:
            in_a += 1.0
    difference, variance = 0.0, 0.0
    i = 0
    while i < n:
        now = t[order[i]]
        deaths, deaths_a, gone, gone_a = 0.0, 0.0, 0.0, 0.0
        while i < n and t[order[i]] <= now + 1e-9:
            k = order[i]
            gone += 1.0
            if a[k]:
                gone_a += 1.0
            if e[k]:
                deaths += 1.0
                if a[k]:
                    deaths_a += 1.0
            i += 1
        if deaths > 0:
            share = in_a / at_risk
            difference += deaths_a - deaths * share
            if at_risk > 1:
                variance += deaths * share * (1 - share) * (at_risk - deaths) / (at_risk - 1)
        at_risk -= gone
        in_a -= gone_a
    return difference * difference / variance if variance > 0 else 0.0
