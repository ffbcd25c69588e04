"""Checks of what comes into a statistical function: lengths, missing values, signs; each with one clear sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import StatisticsError


def numbers(values: ArrayLike, name: str, *, length: int | None = None) -> NDArray[np.float64]:
    """Return finite numbers as a one-dimensional array.

    Raises
    ------
    StatisticsError
        If the values are not numbers, not finite, not one-dimensional or not of the given length.
    """
    try:
        result = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StatisticsError(f"{name} must be numbers", where=name, remedy="give one number per patient") from error
    if result.ndim != 1:
        raise StatisticsError(f"{name} must have one dimension, not {result.ndim}", where=name)
    if length is not None and result.size != length:
        raise StatisticsError(
            f"{name} has {result.size} values where {length} are needed",
            where=name,
            remedy="give every column the same patients",
        )
    bad = np.flatnonzero(~np.isfinite(result))
    if bad.size:
        raise StatisticsError(
            f"{name} has {bad.size} missing or infinite values, the first in row {bad[0]}",
            where=name,
            remedy="leave these patients out or impute them, and say so",
        )
    return result


def sample(values: ArrayLike, name: str, *, least: int = 1) -> NDArray[np.float64]:
    """Return finite numbers and insist on at least ``least`` of them."""
    result = numbers(values, name)
    if result.size < least:
        raise StatisticsError(f"{name} needs at least {least} values, not {result.size}", where=name)
    return result


def times(values: ArrayLike, name: str = "time", *, length: int | None = None) -> NDArray[np.float64]:
    """Return times that are finite and not negative.

    Raises
    ------
    StatisticsError
        If there are none, or one is negative.
    """
    result = numbers(values, name, length=length)
    if result.size == 0:
        raise StatisticsError("there are no patients to analyse", where=name)
    bad = np.flatnonzero(result < 0)
    if bad.size:
        raise StatisticsError(
            f"{bad.size} times are negative, the first ({result[bad[0]]:g}) in row {bad[0]}",
            where=name,
            remedy="check that the event or the last contact does not come before the start",
        )
    return result


def events(values: ArrayLike, name: str = "event", *, length: int | None = None) -> NDArray[np.bool_]:
    """Return an event indicator (1 or True: the event, 0 or False: censored) as booleans.

    Raises
    ------
    StatisticsError
        If something else than 0 and 1 stands in it.
    """
    result = numbers(values, name, length=length)
    if not np.isin(result, (0.0, 1.0)).all():
        found = ", ".join(f"{value:g}" for value in np.unique(result)[:6])
        raise StatisticsError(
            f"an event indicator knows 0 (censored) and 1 (event), not {found}",
            where=name,
            remedy="code it as 0 and 1",
        )
    return result == 1.0


def labels(values: ArrayLike, name: str = "group", *, length: int | None = None) -> tuple[NDArray[np.intp], list[Any]]:
    """Return group codes 0, 1, ... and the sorted group names (or the order of a pandas categorical).

    Raises
    ------
    StatisticsError
        If a group is missing or the length is wrong.
    """
    series = pd.Series(values) if not isinstance(values, pd.Series) else values
    if length is not None and len(series) != length:
        raise StatisticsError(f"{name} has {len(series)} values where {length} are needed", where=name)
    if isinstance(series.dtype, pd.CategoricalDtype):
        used = series.cat.remove_unused_categories()
        codes, names = used.cat.codes.to_numpy(), list(used.cat.categories)
    else:
        codes, uniques = pd.factorize(series, sort=True)
        names = list(uniques)
    bad = np.flatnonzero(codes < 0)
    if bad.size:
        raise StatisticsError(
            f"{bad.size} values are missing, the first in row {bad[0]}",
            where=name,
            remedy="leave these patients out, or give them a group of their own",
        )
    return codes.astype(np.intp), names


def weights(values: ArrayLike | None, length: int, name: str = "weights") -> NDArray[np.float64]:
    """Return case weights, ones where none are given; none may be negative.

    Raises
    ------
    StatisticsError
        If a weight is negative or all are zero.
    """
    if values is None:
        return np.ones(length)
    result = numbers(values, name, length=length)
    if (result < 0).any() or not result.any():
        raise StatisticsError("weights must not be negative, nor all zero", where=name)
    return result


def level(value: float) -> float:
    """Return a confidence level after checking that it lies between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise StatisticsError(
            f"a confidence level lies between 0 and 1, not {value:g}", where="level", remedy="give 0.95 for 95 %"
        )
    return value


def merge_tied(*columns: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return times in which values that differ by rounding only (a relative 1.5e-8) have become equal.

    Months computed from days may differ in the last bit; without this, deaths on one day would not be tied. All columns
    (entry and exit times) are mended together. The rule is that of R's survival (timefix).
    """
    distinct = np.unique(np.concatenate(columns))
    if distinct.size < 2:
        return list(columns)
    tolerance = float(np.sqrt(np.finfo(np.float64).eps))
    gap = np.diff(distinct)
    near = (gap <= tolerance) | (gap <= tolerance * np.abs(distinct).mean())
    if not near.any():
        return list(columns)
    leader = np.maximum.accumulate(np.where(np.concatenate([[True], ~near]), np.arange(distinct.size), 0))
    mended = distinct[leader]
    return [mended[np.searchsorted(distinct, column)] for column in columns]


def sums(index: NDArray[np.intp], values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the sums of values that share an index, shape (size,)."""
    return np.asarray(np.bincount(index, weights=values, minlength=size), dtype=np.float64)


def label_text(label: Any) -> str:
    """Return a label as it is printed: whole numbers without decimals."""
    if isinstance(label, float | np.floating) and float(label).is_integer():
        return str(int(label))
    return str(label)
