"""From a table of covariates to a numeric design matrix: categories become indicators against their first level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import StatisticsError


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """A numeric design matrix.

    Parameters
    ----------
    matrix
        Shape (patients, columns).
    names
        Name of each column; indicators are called covariate + level, such as ``stageIV``.
    terms
        Index of the covariate that each column belongs to, shape (columns,).
    term_names
        Name of each covariate.
    """

    matrix: NDArray[np.float64]
    names: tuple[str, ...]
    terms: NDArray[np.intp]
    term_names: tuple[str, ...]


def design(covariates: pd.DataFrame | ArrayLike, names: tuple[str, ...] | list[str] | None = None) -> Design:
    """Return the design matrix of a table or array of covariates, one row per patient.

    Numeric and boolean columns enter as they are. Text and pandas categoricals become one indicator per level except
    the first (in sorted order, or the order of the categorical).

    Raises
    ------
    StatisticsError
        If a value is missing or infinite, or a category has one level only.
    """
    if isinstance(covariates, pd.Series):
        covariates = covariates.to_frame()
    if not isinstance(covariates, pd.DataFrame):
        array = np.asarray(covariates, dtype=np.float64)
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2:
            raise StatisticsError("covariates need rows (patients) and columns", where="covariates")
        labels = list(names) if names is not None else [f"x{i + 1}" for i in range(array.shape[1])]
        if len(labels) != array.shape[1]:
            raise StatisticsError(f"{len(labels)} names for {array.shape[1]} covariates", where="names")
        covariates = pd.DataFrame(array, columns=labels)
    numeric = [pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind) for kind in covariates.dtypes]
    if numeric and all(numeric):
        matrix = covariates.to_numpy(dtype=np.float64, na_value=np.nan)
        if np.isfinite(matrix.sum()):
            own = tuple(str(name) for name in covariates.columns)
            return Design(np.ascontiguousarray(matrix), own, np.arange(len(own), dtype=np.intp), own)
    columns: list[NDArray[np.float64]] = []
    called: list[str] = []
    terms: list[int] = []
    for index, name in enumerate(covariates.columns):
        column = covariates[name]
        missing = np.flatnonzero(column.isna().to_numpy())
        if missing.size:
            raise StatisticsError(
                f"{missing.size} values are missing, the first in row {missing[0]}",
                where=f"covariate {name}",
                remedy="leave these patients out or impute them, and say so",
            )
        if isinstance(column.dtype, pd.CategoricalDtype) or not (
            pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)
        ):
            category = column.astype("category") if not isinstance(column.dtype, pd.CategoricalDtype) else column
            category = category.cat.remove_unused_categories()
            levels = list(category.cat.categories)
            if len(levels) < 2:
                raise StatisticsError(
                    f"has one level only ({levels[0] if levels else 'none'})",
                    where=f"covariate {name}",
                    remedy="leave it out of the model",
                )
            codes = category.cat.codes.to_numpy()
            for code, level in enumerate(levels[1:], start=1):
                columns.append((codes == code).astype(np.float64))
                called.append(f"{name}{level}")
                terms.append(index)
        else:
            values = column.to_numpy(dtype=np.float64)
            if not np.isfinite(values).all():
                raise StatisticsError("has infinite values", where=f"covariate {name}")
            columns.append(values)
            called.append(str(name))
            terms.append(index)
    matrix = np.column_stack(columns) if columns else np.empty((len(covariates), 0))
    return Design(
        matrix, tuple(called), np.asarray(terms, dtype=np.intp), tuple(str(name) for name in covariates.columns)
    )


def check_varies(plan: Design) -> None:
    """Insist that every column varies and none is a combination of the others.

    Raises
    ------
    StatisticsError
        Naming the first column that is constant or linearly dependent.
    """
    constant = np.flatnonzero((plan.matrix == plan.matrix[0]).all(axis=0))
    if constant.size:
        raise StatisticsError(
            "is the same for all patients", where=f"covariate {plan.names[constant[0]]}", remedy="leave it out"
        )
    centred = plan.matrix - np.ones(len(plan.matrix)) @ plan.matrix / len(plan.matrix)
    gram = centred.T @ centred
    size = np.sqrt(np.diag(gram))
    gram = gram / np.outer(size, size)
    for column in range(1, gram.shape[0]):
        block = gram[:column, :column]
        rest = 1.0 - float(gram[column, :column] @ np.linalg.lstsq(block, gram[:column, column], rcond=None)[0])
        if rest < 1e-10:
            raise StatisticsError(
                "is a combination of the covariates before it",
                where=f"covariate {plan.names[column]}",
                remedy="leave one of them out",
            )
