"""Variables of an analysis, one value for each patient, worked out from the tidy tables as a study's data say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from cantlie.cohort.liver_scores import liver_scores
from cantlie.cohort.schema import DERIVED_TABLES, TABLES
from cantlie.cohort.tables import Cohort
from cantlie.core.errors import CohortError

DAYS_PER_MONTH = 365.25 / 12

Aggregate = Literal["only", "first", "last", "max", "min", "sum", "mean", "count", "any", "best", "worst"]
_RESPONSE_ORDER = ("CR", "PR", "SD", "PD")
_NUMERIC = ("max", "min", "sum", "mean")


@dataclass(frozen=True, slots=True)
class Variable:
    """How one variable comes out of the tables.

    Parameters
    ----------
    name, label
        Identifier and name in tables.
    source
        ``table.column``, also of the derived table ``liver_scores``;
        in ``labs`` the column ``times_uln`` is value over the upper limit of normal.
    where
        Rows that count: column to value or list of values.
    aggregate
        How a patient's rows become one value: ``only`` (more than one is an error), ``first`` and ``last`` by date,
        ``max``, ``min``, ``mean``, ``sum`` (missing where one of the rows is), ``count`` (of rows, or of the column
        ``count``), ``any`` (yes or no),
        ``best`` and ``worst`` of CR, PR, SD, PD; NE only where a patient has nothing else.
    window_months
        Months from the start of treatment within which rows count, both ends included. A patient without a start has
        no value, nor the default.
    factor
        Multiplies numbers (0.1 turns mm into cm).
    cuts, closed
        Limits between the classes of a number; ``closed`` says to which class a limit belongs: ``left`` means
        [limit, ...), ``right`` means (..., limit].
    levels
        Names of the classes in their order; for text the levels in their order.
    mapping
        Text to level.
    default
        Value where a patient has no row (of the table patients: no value).
    """

    name: str
    source: str
    label: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    aggregate: Aggregate = "only"
    window_months: tuple[float, float] | None = None
    factor: float = 1.0
    cuts: tuple[float, ...] = ()
    closed: Literal["left", "right"] = "left"
    levels: tuple[str, ...] = ()
    mapping: Mapping[str, str] = field(default_factory=dict)
    default: Any = None

    @property
    def table(self) -> str:
        """Name of the table."""
        return self.source.partition(".")[0]

    @property
    def column(self) -> str:
        """Name of the column."""
        return self.source.partition(".")[2]


def evaluate(cohort: Cohort, variable: Variable) -> pd.Series:
    """Return a variable for every patient, indexed by ``patient_id``: classes as text, else the numbers or texts.

    Raises
    ------
    CohortError
        If the table or column does not exist, or a value has no class.
    """
    raw = raw_values(cohort, variable)
    return classify(raw, variable)


def evaluate_all(cohort: Cohort, variables: Iterable[Variable]) -> pd.DataFrame:
    """Return a frame of variables, one row for each patient and a column for each variable."""
    frame = pd.DataFrame(index=pd.Index(cohort.patients["patient_id"], name="patient_id"))
    for variable in variables:
        frame[variable.name] = evaluate(cohort, variable)
    return frame


def raw_values(cohort: Cohort, variable: Variable) -> pd.Series:
    """Return a variable before it is divided into classes."""
    if variable.table not in TABLES and variable.table not in DERIVED_TABLES:
        raise CohortError(
            f"no table is called {variable.table!r}",
            where=f"variable {variable.name}",
            remedy=f"tables: {', '.join((*TABLES, *DERIVED_TABLES))}",
        )
    rows = liver_scores(cohort) if variable.table in DERIVED_TABLES else cohort.table(variable.table)
    column = variable.column
    if column not in rows and variable.source != "labs.times_uln":
        raise CohortError(
            f"table {variable.table} has no column {column!r}",
            where=f"variable {variable.name}",
            remedy="add the column to the data or correct the study",
        )
    rows = _filter(rows, variable)
    rows = _within(rows, cohort, variable)
    if variable.source == "labs.times_uln":
        rows = _times_uln(rows, variable)
    ids = pd.Index(cohort.patients["patient_id"], name="patient_id")
    values = _aggregate(rows, variable).reindex(ids)
    if variable.factor != 1.0:
        values = _without_rounding(as_numbers(values, variable.name) * variable.factor)
    if variable.default is not None:
        known = np.ones(len(ids), dtype=bool)
        if variable.window_months is not None:
            known = cohort.patients["treatment_start"].notna().to_numpy()
        if variable.table != "patients":
            known = known & ~ids.isin(rows["patient_id"])
        values = values.astype(object).where(values.notna() | ~known, variable.default)
        if isinstance(variable.default, (int, float)) and not isinstance(variable.default, bool):
            numbers = pd.to_numeric(values, errors="coerce")
            values = numbers if numbers.isna().equals(values.isna()) else values
    return values.rename(variable.name)


def classify(raw: pd.Series, variable: Variable) -> pd.Series:
    """Divide numbers into classes by the cuts, or rename texts by the mapping."""
    if variable.cuts:
        names = variable.levels or tuple(str(i) for i in range(len(variable.cuts) + 1))
        if len(names) != len(variable.cuts) + 1:
            raise CohortError(
                f"{len(variable.cuts)} cuts make {len(variable.cuts) + 1} classes, not {len(names)}",
                where=f"variable {variable.name}",
                remedy="name as many levels as there are classes",
            )
        numbers = _without_rounding(as_numbers(raw, variable.name)).to_numpy(dtype=float)
        side: Literal["left", "right"] = "right" if variable.closed == "left" else "left"
        position = np.searchsorted(np.asarray(variable.cuts, dtype=float), numbers, side=side)
        values = [None if np.isnan(x) else names[i] for x, i in zip(numbers, position, strict=True)]
        return pd.Series(values, index=raw.index, name=variable.name, dtype=object)
    if variable.mapping:
        values = [None if _missing(x) else variable.mapping.get(_key(x), _key(x)) for x in raw]
        raw = pd.Series(values, index=raw.index, name=variable.name, dtype=object)
    elif variable.levels:
        raw = pd.Series([None if _missing(x) else _key(x) for x in raw], index=raw.index, name=raw.name, dtype=object)
    if variable.levels:
        unknown = sorted({str(x) for x in raw if x is not None and x not in variable.levels})
        if unknown:
            raise CohortError(
                f"{unknown[0]!r} is none of the levels",
                where=f"variable {variable.name} ({variable.source})",
                remedy=f"levels: {', '.join(variable.levels)}",
            )
    return raw


def as_numbers(values: pd.Series, variable: str) -> pd.Series:
    """Return a variable's values as numbers, NaN where missing.

    Raises
    ------
    CohortError
        Naming the first patient whose value is no number.
    """
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    wrong = np.flatnonzero((numbers.isna() & values.notna()).to_numpy() | np.isinf(numbers.to_numpy()))
    if wrong.size:
        first = int(wrong[0])
        raise CohortError(
            f"{values.iloc[first]!r} of patient {values.index[first]} is not a number",
            where=f"variable {variable}",
            remedy="write a plain number, or leave the cell empty when it is not known",
        )
    return numbers


def _without_rounding(numbers: pd.Series) -> pd.Series:
    """Return numbers to 12 digits: 24 mm times 0.1 is 2.4000000000000004 cm, which is not more than 2.4."""
    return numbers.map(lambda number: float(f"{number:.12g}")).astype(float)


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _key(value: object) -> str:
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _filter(rows: pd.DataFrame, variable: Variable) -> pd.DataFrame:
    for name, wanted in variable.where.items():
        if name not in rows:
            raise CohortError(
                f"table {variable.table} has no column {name!r}",
                where=f"variable {variable.name}",
                remedy="correct the study's 'where'",
            )
        rows = rows[rows[name].isin(wanted if isinstance(wanted, (list, tuple)) else [wanted])]
    return rows


def _within(rows: pd.DataFrame, cohort: Cohort, variable: Variable) -> pd.DataFrame:
    if variable.window_months is None:
        return rows
    if "date" not in rows:
        raise CohortError(
            f"table {variable.table} has no column 'date', so its rows lie in no window",
            where=f"variable {variable.name}",
            remedy="leave window_months out of the study file",
        )
    start = cohort.patients.drop_duplicates("patient_id").set_index("patient_id")["treatment_start"]
    months = (rows["date"] - pd.to_datetime(rows["patient_id"].map(start))).dt.days / DAYS_PER_MONTH
    low, high = variable.window_months
    return rows[(months >= low) & (months <= high)]


def _aggregate(rows: pd.DataFrame, variable: Variable) -> pd.Series:
    column, how = variable.column, variable.aggregate
    groups = rows.groupby("patient_id", sort=False)
    if how == "count":
        if "count" in rows:
            return rows["count"].fillna(1.0).groupby(rows["patient_id"], sort=False).sum()
        return groups.size().astype(float)
    if how == "any":
        return groups.size().map(lambda n: "yes" if n else "no").astype(object)
    filled = rows[rows[column].notna()]
    if how in _NUMERIC:
        by_patient = as_numbers(filled.set_index("patient_id")[column], variable.name)
        found = by_patient.groupby(level=0, sort=False).agg(how)
        if how != "sum":
            return found
        # the sum of the known ones only would be too small
        return found[~found.index.isin(rows.loc[rows[column].isna(), "patient_id"])]
    if how == "only":
        repeated = filled["patient_id"].duplicated()
        if repeated.any():
            raise CohortError(
                f"a patient has more than one row for {variable.source}",
                where=f"variable {variable.name}",
                remedy="say with 'aggregate' which of them counts",
            )
        return filled.set_index("patient_id")[column]
    if how in ("first", "last"):
        if "date" in filled:
            filled = filled.sort_values("date", kind="stable")
        return filled.drop_duplicates("patient_id", keep=how).set_index("patient_id")[column]
    order = _RESPONSE_ORDER if how == "best" else _RESPONSE_ORDER[::-1]
    rank = {response: i for i, response in enumerate((*order, "NE"))}
    strange = sorted(set(filled[column].astype(str)) - set(rank))
    if strange:
        raise CohortError(
            f"{strange[0]!r} is not a response",
            where=f"variable {variable.name}",
            remedy=f"'{how}' orders {', '.join(rank)} only",
        )
    ordered = filled.assign(rank=filled[column].map(rank)).sort_values("rank", kind="stable")
    return ordered.drop_duplicates("patient_id").set_index("patient_id")[column]


def _times_uln(rows: pd.DataFrame, variable: Variable) -> pd.DataFrame:
    """Return laboratory values over their upper limit of normal; one without a limit would count as normal."""
    unknown = rows[~(rows["uln"] > 0)]
    if len(unknown):
        raise CohortError(
            f"{len(unknown)} values have no upper limit of normal (first: {unknown['patient_id'].iloc[0]})",
            where=f"variable {variable.name} (labs.uln)",
            remedy="give the laboratory's limit in the column uln",
        )
    return rows.assign(times_uln=rows["value"] / rows["uln"])
