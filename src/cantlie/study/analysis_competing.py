"""Competing risks of a study: cumulative incidence beside the naive one minus Kaplan-Meier, and Gray's test."""

from __future__ import annotations

import numpy as np

from cantlie.statistics.competing import IncidenceCurve, cumulative_incidence, gray_test
from cantlie.statistics.hypothesis import format_p
from cantlie.study.analysis_groups import Analysed
from cantlie.study.analysis_survival import risk_axis
from cantlie.study.definition import FigureSpec
from cantlie.study.results import CurveGroup, StudyCell, StudyFigure, StudyTable

_MONTHS = (6.0, 12.0, 24.0)


def incidence_table(data: Analysed) -> StudyTable | None:
    """Return cumulative incidences of the study's competing endpoint, with what treating death as censored gives."""
    name = data.study.competing
    if not name:
        return None
    rows = []
    groups = ["all", *(g.id for g in data.study.groups if g.id != "all")]
    labels = {g.id: g.name for g in data.study.groups}
    for group in groups:
        time, status, _ = data.times(name, data.members("all", group))
        if not (status == 1).any():
            if len(time):
                rows.append(
                    (StudyCell(labels.get(group, "All patients")), StudyCell(""), StudyCell("no event"), StudyCell("–"))
                )
            continue
        curve = cumulative_incidence(time, status).curve(1)
        rates = curve.rates(_MONTHS)
        names = ("time", "incidence", "lower", "upper", "naive")
        for number, values in enumerate(zip(*(rates[name].to_numpy(dtype=float) for name in names), strict=True)):
            month, found, low, high, naive = (float(value) for value in values)
            beyond = not np.isfinite(found)
            rows.append(
                (
                    StudyCell(labels.get(group, "All patients") if number == 0 else ""),
                    StudyCell(f"{month:g} months"),
                    StudyCell(
                        "beyond follow-up" if beyond else f"{100 * found:.1f}% ({100 * low:.1f}-{100 * high:.1f})"
                    ),
                    StudyCell("–" if beyond else f"{100 * naive:.1f}%"),
                )
            )
    if all(row[2].text == "no event" for row in rows):
        return None
    return StudyTable(
        "competing",
        f"{data.study.endpoint(name).label or name}: cumulative incidence (not in the paper)",
        ("Group", "At", "Cumulative incidence (95% CI)", "1 - Kaplan-Meier (death censored; too high)"),
        tuple(rows),
        (f"{data.study.endpoint(name).describe()}; Aalen and Johansen, log(-log) intervals",),
        in_paper=False,
    )


def cif_figure(data: Analysed, spec: FigureSpec) -> StudyFigure | None:
    """Return cumulative incidence curves with log(-log) bands, numbers at risk and Gray's test."""
    time, status, patients = data.times(spec.endpoint, data.members(spec.set, "all", spec.where))
    if not (status == 1).any():
        return None
    name, order = data.curve_names(spec.by, patients)
    known = name != ""
    if not (status[known] == 1).any():
        return None
    risk_time = risk_axis(float(time.max()))
    incidence = cumulative_incidence(time[known], status[known], group=name[known])
    curves = [
        _curve_group(label, incidence.curve(1, label), time[name == label], status[name == label], risk_time)
        for label in order
    ]
    text = ""
    if len(curves) > 1:
        test = gray_test(time[known], status[known], name[known])
        text = f"Gray's test p = {format_p(test.p_value)}".replace("= <", "< ")
    return StudyFigure(spec, tuple(curves), text, in_paper="not in the paper" not in spec.title)


def _curve_group(
    label: str, curve: IncidenceCurve, time: np.ndarray, status: np.ndarray, risk_time: np.ndarray
) -> CurveGroup:
    rates = curve.rates(curve.time)
    start = np.array([0.0])
    censor = np.unique(time[status == 0])
    at = curve.rates(censor)["incidence"].to_numpy(dtype=float) if len(censor) else np.array([])
    return CurveGroup(
        label,
        curve.n,
        curve.events,
        np.concatenate([start, curve.time]),
        np.concatenate([start, curve.incidence]),
        np.concatenate([start, rates["lower"].to_numpy(dtype=float)]),
        np.concatenate([start, rates["upper"].to_numpy(dtype=float)]),
        censor,
        at,
        risk_time,
        np.array([float((time >= t).sum()) for t in risk_time]),
    )
