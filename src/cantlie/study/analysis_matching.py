"""Propensity matching of a study done again, balance before and after, and the hazard ratio of the matched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics.balance import Balance, all_levels, balance, effective_sample_size, propensity_weights
from cantlie.statistics.cox import CoxModel, cox
from cantlie.statistics.hypothesis import format_p
from cantlie.statistics.logistic import LogisticModel
from cantlie.statistics.matching import match, propensity_score
from cantlie.statistics.sensitivity import e_value
from cantlie.statistics.subgroup import subgroup_forest
from cantlie.study.analysis_groups import Analysed
from cantlie.study.definition import MatchingSpec
from cantlie.study.results import StudyCell, StudyTable

BALANCED = 0.1
_ORDERS = {
    "closest": "nearest neighbour, the closest pair of all first",
    "largest": "nearest neighbour, the largest score first",
    "smallest": "nearest neighbour, the smallest score first",
    "data": "nearest neighbour in the order of the data",
    "random": "nearest neighbour in random order",
}


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    """Follow-up (months), event and treatment of every patient of a study, shape (n,); NaN where not followed.

    ``known`` tells whose treatment is known: a patient without one is no control.
    """

    time: NDArray[np.float64]
    event: NDArray[np.bool_]
    treated: NDArray[np.bool_]
    known: NDArray[np.bool_]
    treatment: str

    @classmethod
    def of(cls, data: Analysed, spec: MatchingSpec) -> _Outcome:
        frame = data.endpoint(_endpoint_of(data)).frame.set_index("patient_id").reindex(data.ids)
        return cls(
            frame["time_months"].to_numpy(dtype=float),
            frame["status"].to_numpy(dtype=float) == 1,
            (data.variable(spec.treatment) == spec.treated).to_numpy(),
            data.variable(spec.treatment).notna().to_numpy(),
            spec.treated,
        )

    def size(self, inside: NDArray[np.bool_]) -> str:
        """Return how many of some patients were treated and not."""
        return f"{int((inside & self.treated).sum())} / {int((inside & ~self.treated).sum())}"

    def effect(
        self,
        inside: NDArray[np.bool_],
        weights: NDArray[np.float64] | None = None,
        cluster: NDArray[np.generic] | None = None,
    ) -> CoxModel | None:
        """Return the Cox model of treatment alone in some patients; None where it cannot be fitted."""
        use = inside & ~np.isnan(self.time)
        try:
            return cox(
                self.time[use], self.event[use], self.treated[use].astype(float)[:, None], names=[self.treatment],
                weights=None if weights is None else weights[use], cluster=None if cluster is None else cluster[use],
            )  # fmt: skip
        except StatisticsError:
            return None


def matching_tables(
    data: Analysed,
) -> tuple[list[StudyTable], tuple[dict[str, object], ...], tuple[Note, ...]]:
    """Match again (nearest, 0.2 SD of the logit, without replacement) and compare with the paper's own pairs.

    The closest pair of all is made first. To serve the largest scores first (MatchIt's default) fails where the
    treated outnumber the controls or many patients share a score: the treated of high scores then use up the controls
    of the scores below, always on the same side, and one class of a covariate pays for it.

    Hazard ratios are those of treatment alone: before matching, in the paper's pairs, in the new pairs (standard errors
    clustered by pair), and with overlap weights.

    Returns
    -------
    tables, points, notes
        The points are standardised differences before and after the new matching, for a love plot.
    """
    spec = data.study.matching
    if spec is None:
        return [], (), ()
    outcome = _Outcome.of(data, spec)
    covariates = pd.DataFrame({name: _covariate(data, name) for name in spec.covariates})
    whole = covariates.notna().all(axis=1).to_numpy()
    complete = whole & outcome.known
    notes = _left_out_notes(data, spec, outcome.known, whole)
    x = covariates[complete]
    x = pd.DataFrame({name: x[name].astype(str) if x[name].dtype == object else x[name] for name in x})
    z = outcome.treated[complete].astype(float)
    try:
        model, separated = _score(z, x)
        notes += separated
        pairs = match(z, model.linear, order=spec.order, caliper=spec.caliper, ratio=spec.ratio)
    except StatisticsError as error:
        return [], (), (*notes, Note(error.sentence(), "matching"))
    after = balance(z, all_levels(x), weights=pairs.weight)
    everyone = outcome.known
    rows = [_effect_row("all, unadjusted", outcome.size(everyone), after.before, outcome.effect(everyone))]
    if spec.pair_column and spec.pair_column in data.cohort.patients:
        numbers = pd.factorize(data.cohort.patients[spec.pair_column])[0]
        paper = (numbers >= 0) & outcome.known
        own = balance(z, all_levels(x), weights=paper[complete].astype(float))
        fitted = outcome.effect(paper, cluster=numbers)
        rows.append(_effect_row("the paper's pairs", outcome.size(paper), own.after, fitted))
    subclass, matched = np.full(len(data.ids), -1), np.zeros(len(data.ids), dtype=bool)
    subclass[complete], matched[complete] = pairs.subclass, pairs.weight > 0
    fitted = outcome.effect(matched, cluster=subclass)
    rows.append(_effect_row("matched again", outcome.size(matched), after.after, fitted))
    weights = np.zeros(len(data.ids))
    weights[complete] = propensity_weights(z, model.fitted, estimand="overlap")
    overlap = balance(z, all_levels(x), weights=weights[complete])
    effective = f"effective {effective_sample_size(weights[weights > 0]):.0f}"
    fitted = outcome.effect(weights > 0, weights, np.arange(len(data.ids)))
    rows.append(_effect_row("overlap weights", effective, overlap.after, fitted))
    notes += _balance_notes(after)
    if z.sum() > len(z) - z.sum():
        message = (
            f"{int(z.sum())} treated patients outnumber {int(len(z) - z.sum())} controls: they cannot all be matched, "
            "so the hazard ratio of the pairs is that of patients who might have had either treatment, not of all who "
            "were treated"
        )
        notes.append(Note(message, "matching"))
    notes += [Note(note.message, "matching", note.level) for note in pairs.notes]
    adjusted = after.before if after.after is None else after.after
    points: tuple[dict[str, object], ...] = tuple(
        {"label": term, "before matching": float(before), "matched again": float(new)}
        for term, before, new in zip(after.terms, after.before, adjusted, strict=True)
    )
    return [_effect_table(spec, rows)], points, tuple(notes)


def _covariate(data: Analysed, name: str) -> pd.Series:
    """Return a covariate of the score: classes where the study has any, else a number where all values are numbers."""
    values = data.variable(name)
    if data.study.variable(name).levels:
        return values
    numbers = pd.to_numeric(values, errors="coerce")
    return numbers if numbers.isna().equals(values.isna()) and numbers.notna().any() else values


def _score(z: NDArray[np.float64], x: pd.DataFrame) -> tuple[LogisticModel, list[Note]]:
    """Return the propensity model; where the covariates separate the groups, with Firth's penalty and a note."""
    try:
        return propensity_score(z, x), []
    except StatisticsError as error:
        if "separated" not in error.what:
            raise
        message = (
            "a combination of the covariates tells treated and controls apart, so some patients have no counterpart; "
            "the score is fitted with Firth's penalty, and balance and overlap must be looked at"
        )
        return propensity_score(z, x, firth=True), [Note(message, "matching")]


def _left_out_notes(
    data: Analysed, spec: MatchingSpec, known: NDArray[np.bool_], whole: NDArray[np.bool_]
) -> list[Note]:
    notes = []
    if not known.all():
        notes.append(Note(f"{int((~known).sum())} patients have no known treatment and are not analysed", "matching"))
    if not whole.all():
        notes.append(Note(f"{int((~whole).sum())} patients lack a covariate and are not matched", "matching"))
    others = [level for level in dict.fromkeys(data.variable(spec.treatment).dropna()) if level != spec.treated]
    if len(others) > 1:
        notes.append(Note(f"the controls of {spec.treated} are {' and '.join(map(str, others))} together", "matching"))
    return notes


def _endpoint_of(data: Analysed) -> str:
    """Return the endpoint by which the effect of treatment is judged: that of the regression, else the first."""
    return data.study.cox.endpoint if data.study.cox is not None else data.study.endpoints[0].name


def _effect_row(
    label: str, size: str, smd: NDArray[np.float64] | None, fitted: CoxModel | None
) -> tuple[StudyCell, ...]:
    """Return a set of patients with its largest standardised difference, hazard ratio, p and E-value."""
    worst = "–" if smd is None else f"{float(np.nanmax(np.abs(smd))):.3f}".replace("inf", "∞")
    cells = ("cannot be fitted", "–", "–")
    if fitted is not None:
        ratio, (low, high) = float(fitted.hazard_ratio[0]), (float(limit) for limit in fitted.interval[0])
        found = e_value(ratio, low, high)
        strength = f"{found.point:.2f}" + ("" if found.interval is None else f" ({found.interval:.2f})")
        cells = (f"{ratio:.3f} ({low:.3f}-{high:.3f})", format_p(float(fitted.p_value[0])), strength)
    return tuple(StudyCell(text) for text in (label, size, worst, *cells))


def _effect_table(spec: MatchingSpec, rows: list[tuple[StudyCell, ...]]) -> StudyTable:
    ratio = f"Hazard ratio of {spec.treated} (95% CI)"
    caliper = ", without caliper and replacement"
    if spec.caliper is not None:
        caliper = f", caliper {spec.caliper:g} SD of the logit over all patients, without replacement"
    return StudyTable(
        "matching",
        "Treatment effect by way of adjustment (not in the paper)",
        ("Set", "Patients, treated / control", "Largest |SMD|", ratio, "p", "E-value (of the limit)"),
        tuple(rows),
        (
            f"propensity score by logistic regression on {', '.join(spec.covariates)}",
            f"{_ORDERS[spec.order]}{caliper}",
        ),
        in_paper=False,
    )


def _balance_notes(after: Balance) -> list[Note]:
    """Return what the differences that remain after matching mean for the hazard ratio."""
    left = np.zeros(len(after.terms)) if after.after is None else after.after
    beyond = [f"{t} {d:+.2f}" for t, d in zip(after.terms, left, strict=True) if abs(d) > BALANCED]
    if not beyond:
        return [
            Note(
                f"after matching again no standardised difference is beyond {BALANCED:g} (largest {after.worst:.3f}); "
                "what was not measured may still differ",
                "matching",
                "info",
            )
        ]
    return [
        Note(
            f"after matching again the groups still differ by more than {BALANCED:g} SD in {', '.join(beyond)}: the "
            "hazard ratio of these pairs is in part an effect of that difference; adjust for it, match on it exactly, "
            "or rely on the overlap weights, which balance every covariate of the score",
            "matching",
        )
    ]


def subgroup_table(data: Analysed) -> StudyTable | None:
    """Return hazard ratios of treatment in the subgroups whose curves the paper shows, with tests of interaction."""
    spec = data.study.matching
    if spec is None:
        return None
    names = [name for figure in data.study.figures if figure.by == spec.treatment for name in figure.where]
    if not names:
        return None
    set_name = next((f.set for f in data.study.figures if f.where), "all")
    known = data.variable(spec.treatment).notna().to_numpy()
    time, status, patients = data.times(_endpoint_of(data), data.members(set_name) & known)
    index = pd.Index(patients)
    treated = (data.variable(spec.treatment).reindex(index) == spec.treated).to_numpy(dtype=float)
    levels = pd.DataFrame({name: data.variable(name).reindex(index).to_numpy() for name in dict.fromkeys(names)})
    try:
        forest = subgroup_forest(time, status == 1, treated, levels)
    except StatisticsError:
        return None
    rows = []
    for line in forest.rows:
        known = np.isfinite(line.hazard_ratio)
        rows.append(
            (
                StudyCell("All patients" if line.variable == "all" else f"{line.variable}: {line.level}"),
                StudyCell(f"{line.events_treated}/{line.n_treated}"),
                StudyCell(f"{line.events - line.events_treated}/{line.n - line.n_treated}"),
                StudyCell(f"{line.hazard_ratio:.3f} ({line.lower:.3f}-{line.upper:.3f})" if known else "–"),
                StudyCell("" if line.p_interaction is None else format_p(line.p_interaction)),
            )
        )
    return StudyTable(
        "subgroups",
        "Treatment effect in subgroups with tests of interaction (not in the paper)",
        ("Subgroup", "Events, treated", "Events, control", "Hazard ratio (95% CI)", "p of interaction"),
        tuple(rows),
        tuple(note.message for note in forest.notes),
        in_paper=False,
    )
