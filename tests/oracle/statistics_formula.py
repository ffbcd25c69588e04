"""R formulas of the oracles read into columns: Surv(), factor(), log(), comparisons, products, strata(), cluster()."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


def r_name(value: Any) -> str:
    """Write a label as R does: whole numbers without decimals."""
    if isinstance(value, bool | np.bool_):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def split_outside(text: str, signs: str) -> list[str]:
    """Split at signs that stand outside brackets."""
    parts, depth, now = [], 0, ""
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter in signs and depth == 0:
            parts.append(now)
            now = ""
        else:
            now += letter
    return [part.strip() for part in [*parts, now] if part.strip()]


def evaluate(expression: str, data: pd.DataFrame) -> pd.Series:
    """Evaluate an R expression over columns (names may contain dots)."""
    expression = expression.strip()
    if expression in data.columns:
        return data[expression]
    names = {f"column_{i}": column for i, column in enumerate(data.columns)}
    text = expression
    tokens = re.findall(r"'[^']*'|\"[^\"]*\"|[A-Za-z.][\w.]*|.", text, flags=re.S)
    lookup = {column: key for key, column in names.items()}
    translated = "".join(lookup.get(token, token) for token in tokens)
    translated = translated.replace("^", "**").replace("as.numeric", "number").replace("I(", "(")
    scope = {key: data[column] for key, column in names.items()}
    scope |= {"log": np.log, "sqrt": np.sqrt, "exp": np.exp, "log2": np.log2, "log10": np.log10}
    scope |= {"number": lambda value: value.astype(float)}
    return pd.Series(eval(translated, {"__builtins__": {}}, scope), index=data.index)


def event_indicator(values: pd.Series) -> pd.Series:
    """Read an event as Surv does: logical, 0/1, or 1/2 with 2 the event."""
    known = values.dropna().astype(float)
    return (values.astype(float) - 1) if len(known) and known.max() == 2 else values.astype(float)


def term(expression: str, data: pd.DataFrame) -> pd.Series:
    """Return one covariate: factors as categoricals with R's level names."""
    inner = re.fullmatch(r"(?:as\.)?factor\((.*)\)", expression)
    values = evaluate(inner.group(1) if inner else expression, data)
    if not inner and (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values)):
        if pd.api.types.is_bool_dtype(values):
            return values.map({True: "TRUE", False: "FALSE"}).astype("category")
        return values
    levels = sorted(values.dropna().unique())
    return pd.Series(
        pd.Categorical(values.map(r_name, na_action="ignore"), categories=[r_name(level) for level in levels]),
        index=data.index,
    )


def _columns(name: str, values: pd.Series) -> dict[str, pd.Series]:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return {
            f"{name}{level}": (values == level).astype(float).where(values.notna())
            for level in values.cat.categories[1:]
        }
    return {name: values.astype(float)}


def covariates(formula: str, data: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the covariates of a formula's right side, and what stands in strata() and cluster()."""
    special: dict[str, str] = {}
    frame: dict[str, pd.Series] = {}
    main: list[str] = []
    products: list[list[str]] = []
    for part in split_outside(formula, "+"):
        found = re.fullmatch(r"(strata|cluster)\((.*)\)", part)
        if found:
            special[found.group(1)] = found.group(2)
            continue
        factors = split_outside(part, "*")
        if len(factors) > 1:
            main += [factor for factor in factors if factor not in main]
            products.append(factors)
        elif len(split_outside(part, ":")) > 1:
            products.append(split_outside(part, ":"))
        elif part not in main and part != "1":
            main.append(part)
    for name in main:
        frame[name] = term(name, data)
    for factors in products:
        combined = {"": pd.Series(1.0, index=data.index)}
        for factor in factors:
            combined = {
                (f"{left}:{right}" if left else right): values * own
                for right, own in _columns(factor, term(factor, data)).items()
                for left, values in combined.items()
            }
        frame |= combined
    return pd.DataFrame(frame, index=data.index), special


@dataclass(frozen=True)
class SurvivalModel:
    """A survival formula with complete cases only."""

    data: pd.DataFrame
    time: pd.Series
    event: pd.Series
    entry: pd.Series | None
    x: pd.DataFrame
    strata: pd.Series | None
    cluster: pd.Series | None


def survival_model(formula: str, data: pd.DataFrame, cluster: str | None = None) -> SurvivalModel:
    """Read ``Surv(...) ~ ...`` over a table and drop incomplete rows, as R does."""
    left, right = formula.split("~")
    inside = split_outside(left.strip()[5:-1], ",")
    entry = evaluate(inside[0], data) if len(inside) == 3 else None
    time, event = evaluate(inside[-2], data), event_indicator(evaluate(inside[-1], data))
    x, special = covariates(right, data)
    cluster = cluster or special.get("cluster")
    groups = evaluate(cluster, data) if cluster else None
    strata = evaluate(special["strata"], data) if "strata" in special else None
    every = [time, event, x, *(part for part in (entry, groups, strata) if part is not None)]
    kept = pd.concat(every, axis=1).notna().all(axis=1)
    return SurvivalModel(
        data[kept], time[kept], event[kept], None if entry is None else entry[kept], x[kept],
        None if strata is None else strata[kept], None if groups is None else groups[kept],
    )  # fmt: skip
