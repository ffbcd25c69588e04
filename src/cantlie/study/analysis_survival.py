"""Survival of a study in two conventions: medians, rates, log-rank tests, Cox regressions and curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics.cox import CoxModel, cox
from cantlie.statistics.cox_diagnostics import proportional_hazards_test
from cantlie.statistics.hypothesis import format_p
from cantlie.statistics.logrank import LogRankTest, log_rank
from cantlie.statistics.survival import Quantile, SurvivalCurve, follow_up, kaplan_meier
from cantlie.study.analysis_groups import Analysed
from cantlie.study.analysis_tests import p_cell
from cantlie.study.definition import CoxTerm, FigureSpec, SurvivalRow
from cantlie.study.results import CurveGroup, StudyCell, StudyFigure, StudyTable

_EMPTY = StudyCell("")
_FEW_EVENTS = 10
_INFINITE_SE = 50.0  # of a log hazard ratio: a level without events


def survival_table(data: Analysed) -> StudyTable | None:
    """Return medians and rates of all groups of the study: as its software gives them, and with log-log intervals."""
    rows: list[tuple[StudyCell, ...]] = []
    for spec in data.study.survival:
        time, status, patients = data.times(spec.endpoint, data.members(spec.set, spec.group, spec.where))
        if not len(time):
            continue
        clustered = patients.astype(str) if data.study.endpoint(spec.endpoint).level == "lesion" else None
        plain = kaplan_meier(time, status == 1, confidence_type="plain").curves[0]
        loglog = kaplan_meier(time, status == 1, confidence_type="log-log", cluster=clustered).curves[0]
        rows += _survival_rows(data, spec, plain, loglog)
    if not rows:
        return None
    notes = (
        "as published: plain (Wald) intervals of rates and SPSS's symmetric interval of the median; "
        "recommended: log-log intervals, median by Brookmeyer and Crowley; per lesion with errors clustered by patient",
        *(f"{e.name}: {data.study.endpoint(e.name).describe()}" for e in data.study.endpoints),
    )
    columns = ("Endpoint", "Group", "n (events)", "Quantity", "As published", "Recommended")
    return StudyTable("survival", "Survival", columns, tuple(rows), notes)


def _survival_rows(
    data: Analysed, spec: SurvivalRow, plain: SurvivalCurve, loglog: SurvivalCurve
) -> list[tuple[StudyCell, ...]]:
    group = spec.label or _group_name(data, spec.group)
    who = group if spec.set == "all" else f"{group}, {spec.set}"
    events = StudyCell(f"{plain.n} ({plain.events})")
    if spec.events is not None:
        events = StudyCell(f"{plain.n} ({plain.events})", f"({spec.events})", plain.events == spec.events)
    symmetric, usual = plain.median_symmetric(), loglog.median
    text = _quantile_text(symmetric if np.isfinite(symmetric.time) else plain.median)
    rows: list[tuple[StudyCell, ...]] = [
        (
            StudyCell(spec.endpoint),
            StudyCell(who),
            events,
            StudyCell("median, months (95% CI)"),
            _median_cell(text, symmetric.time if np.isfinite(symmetric.time) else plain.median.time, spec),
            StudyCell(_quantile_text(usual)),
        )
    ]
    limits = {float(month): ci for month, ci in spec.at_ci.items()}
    for month, value in _months(data, spec).items():
        first, second = (curve.rates([month]).iloc[0] for curve in (plain, loglog))
        printed = None
        agrees = None
        rate = 100 * float(first["survival"])
        if value is not None:
            printed = f"{value:g}%" + (f" ({limits[month][0]:g}-{limits[month][1]:g})" if month in limits else "")
            agrees = bool(abs(rate - value) <= (0.5 if value == int(value) else 0.05) + 1e-6)
        rows.append(
            (
                _EMPTY,
                _EMPTY,
                _EMPTY,
                StudyCell(f"at {month:g} months"),
                StudyCell(rate_text(first), printed, agrees),
                StudyCell(rate_text(second)),
            )
        )
    return rows


def _months(data: Analysed, spec: SurvivalRow) -> dict[float, float | None]:
    months: dict[float, float | None] = {float(m): v for m, v in spec.at.items()}
    if not months and not spec.where:
        months = dict.fromkeys((12.0, 24.0))
    return dict(sorted(months.items()))


def _group_name(data: Analysed, group: str) -> str:
    if group == "all":
        return "All patients"
    return next((g.name for g in data.study.groups if g.id == group), group)


def _quantile_text(q: Quantile) -> str:
    if not np.isfinite(q.time):
        return "not reached"
    if not np.isfinite(q.lower) and not np.isfinite(q.upper):
        return f"{q.time:.1f}"
    low = f"{q.lower:.1f}" if np.isfinite(q.lower) else "–"
    return f"{q.time:.1f} ({low}-{q.upper:.1f})" if np.isfinite(q.upper) else f"{q.time:.1f} ({low}-not reached)"


def _median_cell(text: str, median: float, spec: SurvivalRow) -> StudyCell:
    if spec.median is None:
        return StudyCell(text)
    printed = f"{spec.median:g}"
    if spec.median_ci is not None:
        printed += f" ({spec.median_ci[0]:g}-{spec.median_ci[1]:g})"
    tolerance = 0.5 if spec.median == int(spec.median) else 0.05
    return StudyCell(text, printed, bool(np.isfinite(median) and abs(median - spec.median) <= tolerance + 0.001))


def rate_text(row: pd.Series) -> str:
    """Return survival at a time with its interval, in per cent; without the interval where it cannot be estimated."""
    if not np.isfinite(float(row["survival"])):
        return "beyond follow-up"
    low, high = float(row["lower"]), float(row["upper"])
    if float(row["std_err"]) == 0:  # no event yet: an interval of no width would look like certainty
        low = high = np.nan
    band = f" ({100 * low:.1f}-{100 * high:.1f})" if np.isfinite(low) and np.isfinite(high) else ""
    return f"{100 * float(row['survival']):.1f}%{band}"


def comparison_table(data: Analysed) -> StudyTable | None:
    """Return the log-rank comparisons of the study."""
    rows = []
    for spec in data.study.compare:
        members = data.members(spec.set, "all", spec.where)
        time, status, patients = data.times(spec.endpoint, members)
        groups = data.variable(spec.by).reindex(patients)
        known = groups.notna().to_numpy()
        label = spec.label or f"{spec.endpoint} by {spec.by}"
        if spec.set != "all":
            label += f", {spec.set}"
        cells: list[StudyCell]
        test = compared_curves(time[known], status[known] == 1, groups[known].to_numpy(dtype=str))
        if test is None:
            cells = [StudyCell("–"), p_cell(None, spec.p), StudyCell("nothing to compare")]
        else:
            counts = ", ".join(f"{g}: {int(o)}/{n}" for g, n, o in zip(test.groups, test.n, test.observed, strict=True))
            remarks = []
            if int((status[known] == 1).sum()) < _FEW_EVENTS:
                remarks.append("fewer than 10 events: not to be relied on")
            if data.study.endpoint(spec.endpoint).level == "lesion":
                remarks.append("takes the lesions of a patient as independent: p too small")
            words = f"{test.method} ({'; '.join(remarks)})" if remarks else test.method
            cells = [StudyCell(counts), p_cell(test, spec.p), StudyCell(words)]
        rows.append((StudyCell(spec.endpoint), StudyCell(label), *cells))
    if not rows:
        return None
    return StudyTable(
        "logrank", "Comparisons of survival", ("Endpoint", "Comparison", "Events / n", "p", "Test"), tuple(rows)
    )


def compared_curves(time: NDArray[np.float64], event: NDArray[np.bool_], group: NDArray[np.str_]) -> LogRankTest | None:
    """Return the log-rank test; None without two groups at risk when an event happens."""
    try:
        return log_rank(time, event, group)
    except StatisticsError:
        return None


def follow_up_table(data: Analysed) -> StudyTable | None:
    """Return the length of follow-up by its three usual definitions."""
    if "OS" not in {e.name for e in data.study.endpoints}:
        return None
    rows = []
    groups = ["all", *(g.id for g in data.study.groups if g.id != "all")]
    for group in groups:
        time, status, _ = data.times("OS", data.members("all", group))
        if not len(time):
            continue
        found = follow_up(time, status == 1)
        reverse = found.reverse_kaplan_meier
        rows.append(
            (
                StudyCell(_group_name(data, group)),
                StudyCell(_quantile_text(reverse)),
                StudyCell(f"{found.median_all:.1f} ({found.minimum:.1f}-{found.maximum:.1f})"),
                StudyCell(f"{found.median_survivors:.1f}" if np.isfinite(found.median_survivors) else "–"),
            )
        )
    columns = ("Group", "Reverse Kaplan-Meier (95% CI)", "Median of all (range)", "Median of survivors")
    return StudyTable("follow_up", "Follow-up, months", columns, tuple(rows), in_paper=False)


def _tuple(level: str | tuple[str, ...]) -> tuple[str, ...]:
    return ((level,) if level else ()) if isinstance(level, str) else tuple(level)


def _indicator(data: Analysed, term: CoxTerm, terms: list[CoxTerm]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return 1 for the level of a term and 0 else, and who takes part.

    Where the terms of a variable name their references, these are the patients of the named levels and references only:
    a third level must not count as the reference.
    """
    if not term.level:
        numbers = data.numbers(term.variable).to_numpy(dtype=float)
        return numbers, ~np.isnan(numbers)
    values = data.variable(term.variable)
    siblings = [other for other in terms if other.variable == term.variable and other.level]
    known = values.notna()
    if all(other.reference for other in siblings):
        known = values.isin({level for other in siblings for level in _tuple(other.level) + _tuple(other.reference)})
    return np.asarray(values.isin(_tuple(term.level)), dtype=np.float64), np.asarray(known, dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Cox models with Breslow's and Efron's ties of the same terms, or why there are none, and who took part."""

    breslow: CoxModel | None
    efron: CoxModel | None
    reason: str
    asked: int

    def remark(self, label: str) -> str:
        """Return who takes part where not everybody does, or why there is no model."""
        if self.efron is None:
            return f"{label}: cannot be fitted, {self.reason}"
        n = self.efron.n
        if n == self.asked:
            return ""
        what = f"{label}: {n} of {self.asked} rows ({self.efron.n_events} events)"
        return f"{what}; the others lack a value or have a level that is not compared"


def cox_table(data: Analysed) -> tuple[StudyTable | None, tuple[Mapping[str, object], ...], tuple[Note, ...]]:
    """Return the Cox regressions with Breslow's ties (SPSS) and Efron's, points for a forest plot, and notes."""
    spec = data.study.cox
    if spec is None:
        return None, (), ()
    rows, points, notes = [], [], []
    multi = [term for term in spec.terms if term.multivariable or term.multi_hr is not None]
    both = _fit(data, multi, spec.endpoint, spec.set) if multi else None
    proportional = _proportional(None if both is None else both.efron)
    remarks = [] if both is None else [both.remark("multivariable")]
    for variable in dict.fromkeys(term.variable for term in spec.terms):
        terms = [term for term in spec.terms if term.variable == variable]
        fitted = _fit(data, terms, spec.endpoint, spec.set)
        breslow, efron = fitted.breslow, fitted.efron
        remarks.append(fitted.remark(", ".join(term.label for term in terms)))
        if len(terms) > 1 and efron is not None:
            overall = format_p(efron.wald_test.p_value)
            remarks.append(f"{', '.join(term.label for term in terms)}: p {overall} of all together (Wald)")
        for number, term in enumerate(terms):
            printed = _printed_hr(term.hr, term.ci, term.p)
            line = [
                StudyCell(term.label),
                StudyCell(_hr_text(breslow, number), printed, _same_hr(breslow, number, term.hr)),
                StudyCell(_hr_text(efron, number)),
            ]
            if both is not None:
                if term in multi:
                    place = multi.index(term)
                    shown = _printed_hr(term.multi_hr, term.multi_ci, term.multi_p)
                    line += [
                        StudyCell(_hr_text(both.breslow, place), shown, _same_hr(both.breslow, place, term.multi_hr)),
                        StudyCell(_hr_text(both.efron, place)),
                        StudyCell(format_p(proportional[place]) if proportional is not None else "–"),
                    ]
                else:
                    line += [_EMPTY, _EMPTY, _EMPTY]
            rows.append(tuple(line))
            if efron is not None:
                low, high = efron.interval[number]
                points.append(
                    {"label": term.label, "value": float(efron.hazard_ratio[number]), "lower": low, "upper": high}
                )
    if proportional is not None and min(proportional) < 0.05:
        notes.append(Note("the hazards are not proportional (Schoenfeld score test p < .05)", "Cox regression"))
    columns = ["Factor", "Univariable, as published (Breslow)", "Univariable, recommended (Efron)"]
    if both is not None:
        columns += ["Multivariable, as published", "Multivariable, recommended", "p of proportionality"]
    clustered = data.study.endpoint(spec.endpoint).level == "lesion"
    how = "hazard ratio (95% CI), Wald p" + ("; recommended: errors clustered by patient" if clustered else "")
    foot = (how, *(remark for remark in remarks if remark))
    table = StudyTable("cox", f"Cox regressions of {spec.endpoint}", tuple(columns), tuple(rows), foot)
    return table, tuple(points), tuple(notes)


def _fit(data: Analysed, terms: list[CoxTerm], endpoint: str, set_name: str) -> _Fitted:
    """Fit the terms together; rows of lesions get errors clustered by patient as recommended."""
    columns, known = [], np.ones(len(data.ids), dtype=bool)
    for term in terms:
        values, own = _indicator(data, term, terms)
        columns.append(values)
        known &= own
    inside = data.members(set_name)
    asked = len(data.times(endpoint, inside)[0])
    time, status, patients = data.times(endpoint, inside & known)
    if not len(time):
        return _Fitted(None, None, "no patient has all values", asked)
    x = np.column_stack(columns)[data.ids.get_indexer(pd.Index(patients))]
    names = [term.label for term in terms]
    cluster = patients.astype(str) if data.study.endpoint(endpoint).level == "lesion" else None
    try:
        breslow = cox(time, status == 1, x, ties="breslow", names=names)
        efron = cox(time, status == 1, x, ties="efron", names=names, cluster=cluster)
    except StatisticsError as error:
        return _Fitted(None, None, f"{error.where}: {error.what}", asked)
    if float(np.max(efron.naive_se)) >= _INFINITE_SE:
        return _Fitted(None, None, "a level has no events, or all", asked)
    return _Fitted(breslow, efron, "", asked)


def _proportional(model: CoxModel | None) -> list[float] | None:
    if model is None:
        return None
    try:
        return [float(p) for p in proportional_hazards_test(model).p_value]
    except StatisticsError:
        return None


def _hr_text(model: CoxModel | None, number: int) -> str:
    if model is None:
        return "cannot be fitted"
    low, high = model.interval[number]
    return f"{model.hazard_ratio[number]:.3f} ({low:.3f}-{high:.3f}), p {format_p(float(model.p_value[number]))}"


def _printed_hr(hr: float | None, ci: tuple[float, float] | None, p: float | str | None) -> str | None:
    if hr is None:
        return None
    text = f"{hr:.3f}"
    if ci is not None:
        text += f" ({ci[0]:.3f}-{ci[1]:.3f})"
    return text if p is None else f"{text}, p {p if isinstance(p, str) else f'{p:.3f}'}"


def _same_hr(model: CoxModel | None, number: int, hr: float | None) -> bool | None:
    if hr is None or model is None:
        return None
    return bool(abs(float(model.hazard_ratio[number]) - hr) < 0.0005 + 1e-9)


def km_figure(data: Analysed, spec: FigureSpec) -> StudyFigure | None:
    """Return the Kaplan-Meier curves of a figure with log-log bands, censor marks, numbers at risk and the test."""
    members = data.members(spec.set, "all", spec.where)
    time, status, patients = data.times(spec.endpoint, members)
    if not len(time):
        return None
    name, order = data.curve_names(spec.by, patients)
    risk_time = risk_axis(float(time.max()))
    curves = []
    clustered = patients.astype(str) if data.study.endpoint(spec.endpoint).level == "lesion" else None
    if not order:
        return None
    for label in order:
        own = name == label
        cluster = None if clustered is None else clustered[own]
        curve = kaplan_meier(time[own], status[own] == 1, confidence_type="log-log", cluster=cluster).curves[0]
        curves.append(_curve_group(label, curve, risk_time))
    text = ""
    known = name != ""
    test = compared_curves(time[known], status[known] == 1, name[known])
    if test is not None:
        text = f"log-rank p = {format_p(test.p_value)}".replace("= <", "< ")
    return StudyFigure(spec, tuple(curves), text, in_paper="not in the paper" not in spec.title)


def risk_axis(longest: float) -> NDArray[np.float64]:
    """Return the months at which numbers at risk are shown, at most nine."""
    step = next((s for s in (3.0, 6.0, 12.0, 24.0, 36.0, 60.0) if longest / s <= 8), 120.0)
    return np.arange(0.0, longest + 1e-9, step)


def _curve_group(label: str, curve: SurvivalCurve, risk_time: NDArray[np.float64]) -> CurveGroup:
    start = np.array([0.0])
    censored = curve.n_censored > 0
    return CurveGroup(
        label,
        curve.n,
        curve.events,
        np.concatenate([start, curve.time]),
        np.concatenate([[1.0], curve.survival]),
        np.concatenate([[1.0], curve.lower]),
        np.concatenate([[1.0], curve.upper]),
        curve.time[censored],
        curve.survival[censored],
        risk_time,
        curve.at_risk(risk_time),
    )
