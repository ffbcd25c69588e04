"""Comparison of a number between groups: t, Welch, Mann–Whitney, Kruskal–Wallis, from data or printed summaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import inputs
from cantlie.statistics.hypothesis import HypothesisTest
from cantlie.statistics.wald import two_sided_p


@dataclass(frozen=True, slots=True)
class MeanTest(HypothesisTest):
    """A test of two means with their difference and its confidence interval."""

    difference: float = 0.0
    difference_ci: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class RankTest(HypothesisTest):
    """A rank-sum test; ``statistic`` is the first sample's U (R's W), ``u_smaller`` what SPSS prints."""

    u_first: float = 0.0
    u_smaller: float = 0.0
    z: float | None = None


def _check_summary(mean: float, sd: float, n: float, name: str) -> None:
    if not (np.isfinite(mean) and np.isfinite(sd)) or sd < 0:
        raise StatisticsError(f"a mean and a standard deviation of at least 0 are needed, not {mean}, {sd}", where=name)
    if n < 2 or n != int(n):
        raise StatisticsError(f"a t-test needs a whole number of at least 2 values, not {n}", where=name)


def is_constant(error: float, *means: float) -> bool:
    """Return whether a standard error is nothing but rounding beside the means (R's rule in t.test)."""
    return bool(error <= 10 * np.finfo(np.float64).eps * max(abs(mean) for mean in means))


def _mean_test(name: str, means: tuple[float, float], error: float, df: float, level: float) -> MeanTest:
    difference = means[0] - means[1]
    if is_constant(error, *means):
        raise StatisticsError("both groups are constant, so there is no spread to test against", where=name)
    t = difference / error
    half = float(stats.t.ppf(0.5 + inputs.level(level) / 2, df)) * error
    p_value = float(2 * stats.t.sf(abs(t), df))
    return MeanTest(name, t, df, p_value, (), difference, (difference - half, difference + half))


def t_test_from_summary(
    mean1: float, sd1: float, n1: int, mean2: float, sd2: float, n2: int, *, level: float = 0.95
) -> MeanTest:
    """Student's t-test (equal variances) from two printed means, standard deviations and numbers.

    Raises
    ------
    StatisticsError
        If a number of patients is below 2, or both standard deviations are zero.

    References
    ----------
    Student 1908, doi:10.2307/2331554.
    """
    _check_summary(mean1, sd1, n1, "first group")
    _check_summary(mean2, sd2, n2, "second group")
    df = n1 + n2 - 2
    pooled = ((n1 - 1) * sd1**2 + (n2 - 1) * sd2**2) / df
    error = float(np.sqrt(pooled * (1 / n1 + 1 / n2)))
    return _mean_test("Student's t-test", (mean1, mean2), error, df, level)


def welch_from_summary(
    mean1: float, sd1: float, n1: int, mean2: float, sd2: float, n2: int, *, level: float = 0.95
) -> MeanTest:
    """Welch's t-test (unequal variances, Satterthwaite's degrees of freedom) from printed summaries.

    References
    ----------
    Welch 1947, doi:10.1093/biomet/34.1-2.28.
    """
    _check_summary(mean1, sd1, n1, "first group")
    _check_summary(mean2, sd2, n2, "second group")
    v1, v2 = sd1**2 / n1, sd2**2 / n2
    if is_constant(float(np.sqrt(v1 + v2)), mean1, mean2):
        raise StatisticsError("both groups are constant, so there is no spread to test against", where="Welch's t-test")
    df = (v1 + v2) ** 2 / (v1**2 / (n1 - 1) + v2**2 / (n2 - 1))
    return _mean_test("Welch's t-test", (mean1, mean2), float(np.sqrt(v1 + v2)), df, level)


def _summary(values: NDArray[np.float64]) -> tuple[float, float, int]:
    return float(values.mean()), float(values.std(ddof=1)), values.size


def t_test(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> MeanTest:
    """Student's t-test of two samples, equal variances assumed."""
    x, y = inputs.sample(first, "first group", least=2), inputs.sample(second, "second group", least=2)
    return t_test_from_summary(*_summary(x), *_summary(y), level=level)


def welch(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> MeanTest:
    """Welch's t-test of two samples."""
    x, y = inputs.sample(first, "first group", least=2), inputs.sample(second, "second group", least=2)
    return welch_from_summary(*_summary(x), *_summary(y), level=level)


def mann_whitney(
    first: ArrayLike,
    second: ArrayLike,
    *,
    method: Literal["auto", "exact", "asymptotic"] = "auto",
    continuity: bool = True,
) -> RankTest:
    """Mann–Whitney U test (Wilcoxon rank-sum test), two-sided.

    Parameters
    ----------
    first, second
        The two samples.
    method
        ``exact`` (only without ties), ``asymptotic`` (normal approximation with the variance corrected for ties), or
        ``auto`` as R does: exact if both samples are smaller than 50 and there are no ties.
    continuity
        Correct the approximation by 1/2 (R's default); SPSS does not.

    References
    ----------
    Mann and Whitney 1947, doi:10.1214/aoms/1177730491.
    """
    x, y = inputs.sample(first, "first group"), inputs.sample(second, "second group")
    n, m = x.size, y.size
    ranks = stats.rankdata(np.concatenate([x, y]))
    u = float(ranks[:n].sum() - n * (n + 1) / 2)
    _, tied = np.unique(ranks, return_counts=True)
    ties = bool((tied > 1).any())
    if method == "exact" and ties:
        raise StatisticsError("the exact test knows no ties", where="Mann–Whitney", remedy="use the asymptotic method")
    smaller = min(u, n * m - u)
    if method == "exact" or (method == "auto" and n < 50 and m < 50 and not ties):
        p_value = float(stats.mannwhitneyu(x, y, method="exact").pvalue)
        return RankTest("Mann–Whitney U test, exact", u, None, min(1.0, p_value), (), u, smaller)
    total = n + m
    variance = n * m / 12 * (total + 1 - (tied**3 - tied).sum() / (total * (total - 1)))
    if variance <= 0:
        raise StatisticsError("all values are the same, so there is nothing to rank", where="Mann–Whitney")
    difference = u - n * m / 2
    shift = 0.5 * np.sign(difference) if continuity else 0.0
    z = float((difference - shift) / np.sqrt(variance))
    notes = (Note(f"{int(tied[tied > 1].sum())} values are tied", "Mann–Whitney", "info"),) if ties else ()
    name = f"Mann–Whitney U test, asymptotic, {'with' if continuity else 'without'} continuity correction"
    return RankTest(name, u, None, float(two_sided_p(z)), notes, u, smaller, z)


def kruskal_wallis(*samples: ArrayLike) -> HypothesisTest:
    """Kruskal–Wallis test of two or more samples, corrected for ties.

    References
    ----------
    Kruskal and Wallis 1952, doi:10.1080/01621459.1952.10483441.
    """
    if len(samples) < 2:
        raise StatisticsError("at least two groups are needed", where="Kruskal–Wallis")
    groups = [inputs.sample(values, f"group {i + 1}") for i, values in enumerate(samples)]
    pooled = np.concatenate(groups)
    if np.ptp(pooled) == 0:
        raise StatisticsError("all values are the same, so there is nothing to rank", where="Kruskal–Wallis")
    result = stats.kruskal(*groups)
    return HypothesisTest("Kruskal–Wallis test", float(result.statistic), len(groups) - 1, float(result.pvalue))


def one_way_anova(*samples: ArrayLike) -> HypothesisTest:
    """One-way analysis of variance (equal variances); ``df`` is that of the numerator."""
    if len(samples) < 2:
        raise StatisticsError("at least two groups are needed", where="analysis of variance")
    groups = [inputs.sample(values, f"group {i + 1}", least=2) for i, values in enumerate(samples)]
    if all(np.ptp(values) == 0 for values in groups):
        raise StatisticsError("all groups are constant, so there is no spread to test against", where="ANOVA")
    result = stats.f_oneway(*groups)
    return HypothesisTest(
        "one-way analysis of variance", float(result.statistic), len(groups) - 1, float(result.pvalue)
    )


def welch_anova(*samples: ArrayLike) -> HypothesisTest:
    """One-way analysis of variance without equal variances; ``df`` is that of the numerator.

    References
    ----------
    Welch 1951, doi:10.1093/biomet/38.3-4.330 (R's oneway.test).
    """
    if len(samples) < 2:
        raise StatisticsError("at least two groups are needed", where="analysis of variance")
    groups = [inputs.sample(values, f"group {i + 1}", least=2) for i, values in enumerate(samples)]
    n = np.array([values.size for values in groups], dtype=np.float64)
    variance = np.array([values.var(ddof=1) for values in groups])
    if any(np.ptp(values) == 0 for values in groups):
        raise StatisticsError("a group is constant, so its mean has no spread", where="Welch's analysis of variance")
    k = len(groups)
    w = n / variance
    means = np.array([values.mean() for values in groups])
    middle = float(w @ means / w.sum())
    lack = float((((1 - w / w.sum()) ** 2) / (n - 1)).sum() / (k * k - 1))
    statistic = float((w * (means - middle) ** 2).sum() / (k - 1) / (1 + 2 * (k - 2) * lack))
    p_value = float(stats.f.sf(statistic, k - 1, 1 / (3 * lack)))
    return HypothesisTest("Welch's analysis of variance", statistic, k - 1, p_value)


@dataclass(frozen=True, slots=True)
class Spread:
    """What a table prints of a number: how many, mean, SD, median, quartiles (type 7), range."""

    n: int
    mean: float
    sd: float
    median: float
    q1: float
    q3: float
    minimum: float
    maximum: float


def describe(values: ArrayLike) -> Spread:
    """Summarise a sample; quartiles interpolate as R's type 7 and NumPy do; SD is 0/0 = NaN for one value."""
    x = inputs.sample(values, "values")
    q1, median, q3 = np.quantile(x, [0.25, 0.5, 0.75])
    sd = float(x.std(ddof=1)) if x.size > 1 else float("nan")
    return Spread(x.size, float(x.mean()), sd, float(median), float(q1), float(q3), float(x.min()), float(x.max()))
