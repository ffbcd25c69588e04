"""Synthetic cohorts: patients who do not exist, made so that a study's printed numbers come out again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cantlie.cohort.schema import TABLES
from cantlie.cohort.tables import Cohort, typed_table
from cantlie.cohort.units import TESTS
from cantlie.core.errors import ProtocolError
from cantlie.core.notes import Note
from cantlie.statistics.association import bowker
from cantlie.study.definition import Study, SurvivalRow, Synthesis, VariableSpec
from cantlie.study.loading import load_study
from cantlie.study.synthesis_margins import (
    deal,
    paired_yes,
    printed_levels,
    rest_level,
    row_cells,
    values_in_levels,
    with_mean_and_sd,
    with_median_and_range,
)
from cantlie.study.synthesis_survival import (
    DAYS_PER_MONTH,
    Subset,
    Target,
    miss,
    penalty,
    plan_times,
    search_progressions,
    search_times,
)

_LATER = ("toxicities", "assessments")
_KINDS = {
    "in-field": ("local_progression",),
    "out-field": ("new_liver_lesion",),
    "in-field and out-field": ("local_progression", "new_liver_lesion"),
    "distant only": ("extrahepatic_progression",),
}
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticCohort:
    """A synthetic cohort, the printed numbers that it could not meet, and those that it did not try to."""

    cohort: Cohort
    missed: tuple[str, ...]
    not_imposed: tuple[str, ...]


def synthesize(id_or_path: str, *, seed: int = 1, search_rounds: int = 6000) -> SyntheticCohort:
    """Make a synthetic cohort of a study.

    Counts, percentages, means with SD, medians with range, survival medians, landmark rates and numbers of events are
    met where they can hold together; the rest are listed. The patients do not exist; nothing can be learnt from them.

    Parameters
    ----------
    id_or_path
        Name of a built-in study, or path of a study file with a ``[synthesis]`` table.
    seed
        The same seed makes the same cohort.
    search_rounds
        Steps of the search for times that meet the numbers of subgroups.

    Raises
    ------
    ProtocolError
        If the study has no ``[synthesis]`` table.
    """
    study = load_study(id_or_path)
    if study.synthesis is None:
        raise ProtocolError(
            "the study does not say how to make patients up", where=str(id_or_path), remedy="add [synthesis]"
        )
    return _Maker(study, study.synthesis, np.random.default_rng(seed), search_rounds).make()


class _Maker:
    """The state of the making of one cohort, in the order in which its parts depend on each other."""

    def __init__(self, study: Study, plan: Synthesis, rng: np.random.Generator, rounds: int) -> None:
        self.study, self.plan, self.rng, self.rounds = study, plan, rng, rounds
        self.missed: list[str] = list(plan.impossible)
        self.size = sum(group.n for group in study.groups)
        self.ids = [f"SYNTHETIC-{number:04d}" for number in range(1, self.size + 1)]
        self.group = np.repeat([group.id for group in study.groups], [group.n for group in study.groups])
        self.levels: dict[str, list[str | None]] = {}
        self.raw: dict[str, list[Any]] = {}
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.patients: list[dict[str, Any]] = [{"patient_id": i} for i in self.ids]
        self.members: dict[str, NDArray[np.bool_]] = {"all": np.ones(self.size, dtype=bool)}
        self.pair = np.full(self.size, -1)

    def make(self) -> SyntheticCohort:
        self._groups_and_sets()
        self._deal_levels()
        self._fill()
        os_days, dead = self._survival()
        self._dates(os_days)
        self._early_variables()
        kinds, first_days = self._failures(os_days, dead)
        self._write_events(os_days, dead, kinds, first_days)
        self._later_variables(os_days)
        tables = {"patients": self.patients, **self.rows}
        cohort = Cohort(
            {name: typed_table(TABLES[name], tables[name]) for name in TABLES if tables.get(name)},
            f"{self.study.id}-synthetic",
            synthetic=True,
            notes=(Note("SYNTHETIC: these patients do not exist; the cohort was made from printed numbers", "cohort"),),
        )
        return SyntheticCohort(cohort, tuple(dict.fromkeys(self.missed)), self.plan.not_imposed)

    # ------------------------------------------------------------------ groups and sets
    def _groups_and_sets(self) -> None:
        spec = self.study.variable(self.study.group_variable)
        for patient, group in zip(self.patients, self.group, strict=True):
            patient[spec.column_name] = group
        for name, condition in self.study.sets.items():
            inside = np.zeros(self.size, dtype=bool)
            for group in self.study.groups:
                rows = np.flatnonzero(self.group == group.id)
                count = self.plan.set_sizes.get(f"{name}:{group.id}", len(rows))
                chosen = np.sort(self.rng.permutation(rows)[:count])
                inside[chosen] = True
                if self.study.matching is not None and name == "matched":
                    self.pair[chosen] = np.arange(count)
            self.members[name] = inside
            for variable, level in condition.items():
                other = next((x for x in self.study.variable(variable).levels if x != level), "no")
                self.levels[variable] = [level if i else other for i in inside]
        if (self.pair >= 0).any() and self.study.matching is not None:
            for patient, pair in zip(self.patients, self.pair, strict=True):
                patient[self.study.matching.pair_column] = None if pair < 0 else float(pair + 1)

    def _rows_of(self, set_name: str, group: str) -> Indices:
        inside = self.members[set_name]
        return np.flatnonzero(inside if group == "all" else inside & (self.group == group))

    # ------------------------------------------------------------------ counts of levels
    def _deal_levels(self) -> None:
        p_matched = {
            row.variable: row.p_set.get("matched") for table in self.study.tables for row in table.rows if row.p_set
        }
        for name, cells in printed_levels(self.study).items():
            spec = self.study.variable(name)
            if spec.table in _LATER:
                continue
            levels = self.levels.setdefault(name, [None] * self.size)
            for (set_name, group), counts in sorted(cells.items(), key=lambda item: item[0][0] == "all"):
                members = self._rows_of(set_name, group)
                left = dict(counts)
                if set_name == "all" and len(cells) > len(self.study.groups):
                    for i in members:
                        if levels[i] is not None:
                            left[str(levels[i])] -= 1
                    members = np.array([i for i in members if levels[i] is None], dtype=np.intp)
                    if min(left.values()) < 0:
                        self.missed.append(f"{name}: more in a level after matching than before")
                        left = {level: max(count, 0) for level, count in left.items()}
                dealt, fault = deal(left, members, rest_level(spec), self.rng)
                if fault:
                    self.missed.append(f"{name} in {group}: {fault}")
                for i, level in dealt.items():
                    levels[i] = level
            if (self.pair >= 0).any() and p_matched.get(name) is not None:
                if len(spec.levels) == 2:
                    self._pair_levels(name, spec, p_matched[name])
                else:
                    self._pair_many_levels(name, spec, p_matched[name])

    def _pair_levels(self, name: str, spec: VariableSpec, p_printed: float | str | None) -> None:
        sides = [np.flatnonzero((self.group == g.id) & (self.pair >= 0)) for g in self.study.groups[:2]]
        yes = [sum(self.levels[name][i] == spec.levels[0] for i in rows) for rows in sides]
        first, second, met = paired_yes(yes[0], yes[1], len(sides[0]), p_printed, self.rng)
        for rows, has in zip(sides, (first, second), strict=True):
            for i, value in zip(rows, has, strict=True):
                self.levels[name][i] = spec.levels[0] if value else spec.levels[1]
        if not met:
            self.missed.append(
                f"{name}: no number of discordant pairs gives the printed p of {p_printed} after matching"
            )

    def _pair_many_levels(self, name: str, spec: VariableSpec, p_printed: float | str | None) -> None:
        """Exchange levels within the second group until Bowker's test of the pairs gives the printed p."""
        if not isinstance(p_printed, float):
            return
        sides = [np.flatnonzero((self.group == g.id) & (self.pair >= 0)) for g in self.study.groups[:2]]
        codes = {level: k for k, level in enumerate(spec.levels)}
        first, second = (np.array([codes[str(self.levels[name][i])] for i in rows]) for rows in sides)
        size = len(spec.levels)

        def distance() -> float:
            table = np.zeros((size, size))
            np.add.at(table, (first, second), 1.0)
            return abs(bowker(table).p_value - p_printed)

        best = distance()
        for _ in range(3000):
            if best < p_tolerance(p_printed):
                break
            a, b = self.rng.integers(0, len(second), 2)
            second[[a, b]] = second[[b, a]]
            found = distance()
            if found <= best:
                best = found
            else:
                second[[a, b]] = second[[b, a]]
        for i, code in zip(sides[1], second, strict=True):
            self.levels[name][i] = spec.levels[int(code)]
        if best >= p_tolerance(p_printed):
            self.missed.append(f"{name}: no pairing was found with Bowker's p of {p_printed}")

    def _fill(self) -> None:
        for fill in self.plan.fill:
            for patient in self.patients:
                if fill.choices:
                    patient[fill.column] = fill.choices[int(self.rng.integers(len(fill.choices)))]
                else:
                    value = self.rng.uniform(fill.low or 0.0, fill.high or 1.0)
                    patient[fill.column] = float(round(value)) if fill.whole else round(float(value), 1)
        if self.study.matching is not None and "modality" in {v.name for v in self.study.variables}:
            spec = self.study.variable("modality")
            weights = np.array([0.45, 0.35, 0.20])
            for patient, group in zip(self.patients, self.group, strict=True):
                if group == self.study.matching.treated:
                    patient[spec.column_name] = str(self.rng.choice(spec.levels, p=weights))

    # ------------------------------------------------------------------ overall survival
    def _mask(self, row: SurvivalRow) -> NDArray[np.bool_]:
        mask = self.members[row.set].copy()
        if row.group != "all":
            mask &= self.group == row.group
        for name, level in row.where.items():
            mask &= np.array([x == level for x in self._level_list(name)])
        return mask

    def _level_list(self, name: str) -> list[Any]:
        if name in self.levels:
            return self.levels[name]
        return [patient.get(self.study.variable(name).column_name) for patient in self.patients]

    def _targets(self, row: SurvivalRow) -> list[Target]:
        who = row.label or (row.group if row.group != "all" else "all patients")
        who = f"{row.endpoint}, {who}" + ("" if row.set == "all" else f" ({row.set})")
        targets = [
            Target("rate", value, float(month), _tolerance(value), f"{who}: {value:g} % at {month} months")
            for month, value in row.at.items()
        ]
        if row.median is not None:
            targets.append(
                Target("median", row.median, 0.0, _tolerance(row.median), f"{who}: median {row.median:g} months")
            )
        if row.events is not None:
            targets.append(Target("events", float(row.events), 0.0, 1.0, f"{who}: {row.events} events"))
        return targets

    def _survival_rows(self) -> list[tuple[SurvivalRow, list[Target]]]:
        """All OS rows with their targets; landmark counts of tables become exact rates."""
        rows = [(row, self._targets(row)) for row in self.study.survival if row.endpoint == "OS"]
        counted: dict[tuple[str, str], list[Target]] = {}
        for table in self.study.tables:
            for row in table.rows:
                if row.endpoint != "OS" or row.month is None:
                    continue
                for place, numbers in row_cells(self.study, table, row).items():
                    n = len(self._rows_of(*place))
                    label = f"OS, {place[1]}: {numbers[0]:g} of {n} alive at {row.month:g} months"
                    counted.setdefault(place, []).append(Target("rate", 100 * numbers[0] / n, row.month, 1e-6, label))
        for (set_name, group), targets in counted.items():
            found = next((t for r, t in rows if r.set == set_name and r.group == group and not r.where), None)
            if found is None:
                rows.append((SurvivalRow(endpoint="OS", set=set_name, group=group), targets))
            else:
                found += targets
        return rows

    def _survival(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        rows = self._survival_rows()
        strata = self._strata(rows)
        time = np.zeros(self.size)
        dead = np.zeros(self.size, dtype=bool)
        stratum = np.full(self.size, -1)
        for number, (mask, targets, deaths) in enumerate(strata):
            members = np.flatnonzero(mask)
            t, e, missed = plan_times(
                len(members), targets, deaths=deaths, first_month=self.plan.first_month,
                last_month=self.plan.max_follow_up_months, rng=self.rng,
            )  # fmt: skip
            self.missed += missed
            order = self.rng.permutation(len(members))
            time[members[order]], dead[members[order]] = t, e
            stratum[members] = number
        loose = np.flatnonzero(stratum < 0)
        scale = self.plan.max_follow_up_months / 3
        time[loose] = np.clip(
            self.rng.exponential(scale, len(loose)), self.plan.first_month, self.plan.max_follow_up_months
        )
        dead[loose] = self.rng.random(len(loose)) < 0.6
        stratum[loose] = len(strata) + np.arange(len(loose))
        planned = {id(target) for _, targets, _ in strata for target in targets}
        everything = [
            Subset(self._mask(row), target, weight=6.0 if id(target) in planned else 1.0)
            for row, targets in rows
            for target in targets
        ]
        everything += [
            Subset(
                s.members,
                Target("alive", round(s.target.value * s.members.sum() / 100), s.target.month, 1.0, s.target.label),
                weight=6.0,
            )
            for s in list(everything)
            if s.target.kind == "rate" and s.target.tolerance < 1e-3
        ]
        everything += [
            Subset(self.members[name], Target("events", float(count), 0.0, 1.0, f"OS: {count} deaths ({name})"))
            for name, count in self.plan.os_deaths.items()
            if name in self.study.sets
        ]
        everything += self._comparisons()
        landmarks = sorted({s.target.month for s in everything if s.target.kind == "rate"})
        pinned = [t.value for _, targets, _ in strata for t in targets if t.kind == "median"]
        time, dead, missed = search_times(
            time, dead, everything, stratum, landmarks, rng=self.rng, rounds=self.rounds * 5, pinned=pinned
        )
        self.missed += missed
        return np.round(time * DAYS_PER_MONTH).astype(np.int64), dead

    def _comparisons(self) -> list[Subset]:
        """Printed log-rank p-values of two groups as targets."""
        result = []
        for row in self.study.compare:
            levels = self.study.variable(row.by).levels
            if row.endpoint != "OS" or not isinstance(row.p, float) or len(levels) != 2:
                continue
            inside = self._mask(SurvivalRow(endpoint="OS", set=row.set, where=row.where))
            values = self._level_list(row.by)
            sides = [inside & np.array([value == level for value in values]) for level in levels]
            label = f"OS, {row.label or row.by}: log-rank p = {row.p:g}"
            result.append(Subset(sides[0], Target("p", row.p, 0.0, p_tolerance(row.p), label), sides[1]))
        return result

    def _strata(
        self, rows: list[tuple[SurvivalRow, list[Target]]]
    ) -> list[tuple[NDArray[np.bool_], list[Target], int | None]]:
        by = self.plan.os_by
        wanted: list[tuple[str, str]] = (
            [(by, level) for level in self.study.variable(by).levels] if by else [("", "all")]
        )
        result = []
        for name, level in wanted:
            for row, targets in sorted(rows, key=lambda item: item[0].set != "all"):
                if not targets:
                    continue
                whole = row.group == "all" and not row.where
                grouped = name == self.study.group_variable and row.group == level and not row.where
                if (not name and whole) or grouped or (row.where == {name: level} and row.group == "all"):
                    deaths = self.plan.os_deaths.get(level, row.events)
                    result.append((self._mask(row), targets, deaths))
                    break
        return result

    # ------------------------------------------------------------------ dates
    def _dates(self, os_days: NDArray[np.int64]) -> None:
        first, last = (pd.Timestamp(day) for day in self.plan.accrual)
        end = pd.Timestamp(self.plan.last_seen)
        for patient, days in zip(self.patients, os_days, strict=True):
            latest = min(last, end - pd.Timedelta(days=int(days)))
            room = max((latest - first).days, 0)
            patient["treatment_start"] = first + pd.Timedelta(days=int(self.rng.integers(0, room + 1)))
        self.starts = [patient["treatment_start"] for patient in self.patients]

    # ------------------------------------------------------------------ variables without a time after treatment
    def _early_variables(self) -> None:
        statistics = self._statistics()
        done: dict[str, list[Any]] = {}
        for spec in self.study.variables:
            if spec.table in _LATER or spec.name == self.study.group_variable:
                continue
            key = f"{spec.source}{sorted(spec.where.items())}"
            levels = self.levels.get(spec.name)
            numbers = statistics.get(key, {})
            if key in done and levels is None:
                continue
            if levels is None and not numbers:
                continue
            done[key] = self._values(spec, levels, numbers)
            self.raw[key] = done[key]
        self._write_variables()

    def _statistics(self) -> dict[str, dict[tuple[str, str], tuple[str, tuple[float, ...], int, VariableSpec]]]:
        result: dict[str, dict[tuple[str, str], tuple[str, tuple[float, ...], int, VariableSpec]]] = {}
        for table in self.study.tables:
            for row in table.rows:
                if row.variable and row.statistic != "counts":
                    spec = self.study.variable(row.variable)
                    key = f"{spec.source}{sorted(spec.where.items())}"
                    for place, numbers in row_cells(self.study, table, row).items():
                        result.setdefault(key, {})[place] = (row.statistic, numbers, row.digits, spec)
        return result

    def _values(
        self,
        spec: VariableSpec,
        levels: list[str | None] | None,
        numbers: dict[tuple[str, str], tuple[str, tuple[float, ...], int, VariableSpec]],
    ) -> list[Any]:
        values: list[Any] = [None] * self.size
        if levels is not None and spec.cuts:
            known = [i for i, level in enumerate(levels) if level is not None]
            made = values_in_levels(spec, [str(levels[i]) for i in known], self.rng)
            for i, value in zip(known, made, strict=True):
                values[i] = float(value)
        elif levels is not None:
            back = {level: text for text, level in spec.mapping.items()}
            values = [None if level is None else back.get(level, level) for level in levels]
        for (set_name, group), (statistic, printed, _, own) in numbers.items():
            rows = self._rows_of(set_name, group)
            scaled = [number / own.factor for number in printed]
            if statistic == "mean_sd":
                low = own.bounds[0] if own.bounds else 0.0
                made = with_mean_and_sd(len(rows), scaled[0], scaled[1], lowest=low, whole=own.whole, rng=self.rng)
            elif statistic == "mean":
                made = np.full(len(rows), scaled[0])
            else:
                if values[rows[0]] is None:
                    low, high = scaled[1], scaled[2]
                    u = self.rng.beta(1.2, 1.6, len(rows))
                    draft = np.asarray(u, dtype=np.float64)
                    draft = np.where(
                        u < 0.5, low + (scaled[0] - low) * 2 * u, scaled[0] + (high - scaled[0]) * (2 * u - 1) ** 3
                    )
                    draft = np.round(draft) if own.whole else draft
                else:
                    draft = np.array([float(values[i]) for i in rows])
                made = with_median_and_range(draft, scaled[0], scaled[1], scaled[2], digits=2 if not own.whole else -1)
            for i, value in zip(rows, made, strict=True):
                values[i] = float(value)
        return values

    def _write_variables(self) -> None:
        by_key = {f"{s.source}{sorted(s.where.items())}": s for s in self.study.variables}
        lesions: list[list[dict[str, Any]]] = [[] for _ in self.ids]
        counts = next((v for k, v in self.raw.items() if by_key[k].source == "lesions.count"), None)
        separate = counts is not None and max(float(c) for c in counts if c is not None) <= 20
        for i, own in enumerate(lesions):
            number = int(float(counts[i])) if counts is not None and counts[i] is not None else 1
            for k in range(number if separate else 1):
                own.append({"lesion_id": f"L{k + 1}", "irradiated": "yes", "role": "target" if k < 2 else "non_target"})
            if not separate and counts is not None:
                own[0]["count"] = float(number)
        course = {"course_id": "C1", **self.plan.course}
        courses: list[dict[str, Any]] = [dict(course) for _ in self.ids]
        for key, values in self.raw.items():
            spec = by_key[key]
            for i, value in enumerate(values):
                if value is None:
                    continue
                if spec.table == "patients":
                    self.patients[i][spec.column_name] = _number_or_text(spec, value)
                elif spec.table == "courses":
                    courses[i][spec.column_name] = float(value)
                elif spec.table == "lesions" and spec.source != "lesions.count":
                    lesions[i][0][spec.column_name] = round(float(value), 4)
                    for other in lesions[i][1:]:
                        other[spec.column_name] = round(float(value) * self.rng.uniform(0.3, 0.95), 1)
                elif spec.table == "dosimetry":
                    unit = "Gy" if str(spec.where["metric"]).startswith("D") else "%"
                    row = {"patient_id": self.ids[i], **spec.where, "value": float(value), "unit": unit}
                    self.rows.setdefault("dosimetry", []).append(row)
                elif spec.table == "labs":
                    row = {
                        "patient_id": self.ids[i], "date": self.starts[i] - pd.Timedelta(days=5), **spec.where,
                        "value": round(float(value), 1), "unit": TESTS[str(spec.where["test"])].unit,
                    }  # fmt: skip
                    self.rows.setdefault("labs", []).append(row)
        for i, own_course in enumerate(courses):
            if {"fractions", "dose_per_fraction_gy"} <= set(own_course):
                own_course["dose_gy"] = own_course["fractions"] * own_course["dose_per_fraction_gy"]
            own_course["start"] = self.starts[i]
            own_course["end"] = self.starts[i] + pd.Timedelta(days=self.plan.course_days - 1)
            self.rows.setdefault("courses", []).append({"patient_id": self.ids[i], **own_course})
            self.rows.setdefault("lesions", []).extend({"patient_id": self.ids[i], **lesion} for lesion in lesions[i])

    # ------------------------------------------------------------------ progression
    def _failures(
        self, os_days: NDArray[np.int64], dead: NDArray[np.bool_]
    ) -> tuple[list[tuple[str, ...]], NDArray[np.int64]]:
        kinds = self._ways()
        rows = [row for row in self.study.survival if row.endpoint != "OS"]
        none = np.full(self.size, -1, dtype=np.int64)
        if not any(kinds):
            return kinds, none
        os_time = os_days / DAYS_PER_MONTH
        targets = [
            (self._mask(row), self.study.endpoint(row.endpoint), target)
            for row in rows
            for target in self._targets(row)
        ]

        by_endpoint = {
            e.name: np.array([any(kind in e.events for kind in way) for way in kinds]) for _, e, _ in targets
        }

        def score(times: NDArray[np.float64], ways: Indices) -> float:
            if (self.group[ways] != self.group).any():
                return float("inf")
            total = 0.0
            for mask, endpoint, target in targets:
                happened = by_endpoint[endpoint.name][ways]
                time = np.where(happened, np.minimum(times, os_time), os_time)
                event = happened | dead if endpoint.death == "event" else happened
                total += penalty(miss(time, event, mask, target))
            return total

        failing = np.array([bool(k) for k in kinds])
        best = search_progressions(
            os_time, failing, score, first_month=self.plan.first_month, rng=self.rng, rounds=self.rounds
        )
        for _ in range(3):
            if best[2] <= 0:
                break
            again = search_progressions(
                os_time, failing, score, first_month=self.plan.first_month, rng=self.rng, rounds=self.rounds
            )
            best = min(best, again, key=lambda found: found[2])
        times, ways, _ = best
        chosen = [kinds[w] for w in ways]
        for mask, endpoint, target in targets:
            happened = by_endpoint[endpoint.name][ways]
            time = np.where(happened, np.minimum(times, os_time), os_time)
            event = happened | dead if endpoint.death == "event" else happened
            if miss(time, event, mask, target) > 0:
                self.missed.append(target.label)
        days = np.where(np.isfinite(times), np.round(np.where(np.isfinite(times), times, 0) * DAYS_PER_MONTH), -1)
        return chosen, np.minimum(days.astype(np.int64), os_days)

    def _ways(self) -> list[tuple[str, ...]]:
        if self.plan.patterns:
            found: list[tuple[str, ...]] = []
            local_left = self._local_failures()
            for i, pattern in enumerate(self.levels[self.plan.patterns]):
                if pattern == "locoregional and distant":
                    local = local_left.get(str(self.group[i]), 0) > 0
                    local_left[str(self.group[i])] = local_left.get(str(self.group[i]), 0) - 1
                    found.append(("local_progression" if local else "new_liver_lesion", "extrahepatic_progression"))
                else:
                    found.append(_KINDS[pattern] if pattern else ())
            self.levels.pop(self.plan.patterns)
            for patient in self.patients:
                patient.pop(self.study.variable("pattern").column_name, None)
            return found
        ways: list[tuple[str, ...]] = [()] * self.size
        order = self.rng.permutation(self.size)
        place = 0
        for kind, count in self.plan.progressions.items():
            start = place if kind != "local_progression" else 0
            for k in range(count):
                i = int(order[(start + k) % self.size])
                ways[i] = (*ways[i], kind)
            if kind != "local_progression":
                place = (start + count - 2) % self.size
            else:
                place = 3
        return ways

    def _local_failures(self) -> dict[str, int]:
        """Local failures of each group beyond those whose pattern says so."""
        left = {}
        for row in self.study.survival:
            if row.endpoint == "LC" and row.events is not None and row.group != "all":
                named = sum(
                    1
                    for i, pattern in enumerate(self.levels[self.plan.patterns])
                    if self.group[i] == row.group and pattern in ("in-field", "in-field and out-field")
                )
                left[row.group] = row.events - named
        return left

    def _write_events(
        self,
        os_days: NDArray[np.int64],
        dead: NDArray[np.bool_],
        kinds: list[tuple[str, ...]],
        first: NDArray[np.int64],
    ) -> None:
        events = self.rows.setdefault("events", [])
        for i, patient in enumerate(self.ids):
            start = self.starts[i]
            for kind in kinds[i]:
                row = {"patient_id": patient, "date": start + pd.Timedelta(days=int(first[i])), "kind": kind}
                if kind == "local_progression":
                    row["lesion_id"] = "L1"
                events.append(row)
            kind = "death" if dead[i] else "last_follow_up"
            events.append({"patient_id": patient, "date": start + pd.Timedelta(days=int(os_days[i])), "kind": kind})

    # ------------------------------------------------------------------ responses and toxicities
    def _later_variables(self, os_days: NDArray[np.int64]) -> None:
        orders: dict[str, Indices] = {}
        for name, cells in printed_levels(self.study).items():
            spec = self.study.variable(name)
            if spec.table not in _LATER:
                continue
            low, high = spec.window_months or (0.1, 3.0)
            day = round(min(low + 1.0 if low > 0 else 0.5, (low + high) / 2) * DAYS_PER_MONTH) if low >= 0 else -3
            if spec.table == "assessments":
                day = 92
            term = str(spec.where.get("term", name))
            for (set_name, group), counts in cells.items():
                members = self._rows_of(set_name, group)
                alive = members[os_days[members] > max(day, low * DAYS_PER_MONTH)]
                if spec.table == "toxicities":
                    members = orders.setdefault(f"{term}{set_name}{group}", self.rng.permutation(alive))
                    levels = [lv for lv in sorted(counts, reverse=True) for _ in range(counts[lv])]
                    dealt: dict[int, str | None] = {int(i): lv for i, lv in zip(members, levels, strict=False)}
                    if len(levels) > len(members):
                        self.missed.append(f"{name}: {len(levels)} graded, but {len(members)} alive in the window")
                else:
                    found, fault = deal(counts, members, None, self.rng)
                    dealt = {i: level for i, level in found.items() if level is not None}
                    if fault:
                        self.missed.append(f"{name} in {group}: {fault}")
                for i, level in dealt.items():
                    on = self.starts[i] + pd.Timedelta(days=int(min(day, os_days[i] - 1)))
                    self._write_finding(spec, self.ids[i], on, str(level))

    def _write_finding(self, spec: VariableSpec, patient: str, on: pd.Timestamp, level: str) -> None:
        row: dict[str, Any] = {"patient_id": patient, "date": on, **spec.where}
        if spec.table == "toxicities":
            grade = float(level) if not spec.cuts else float(spec.cuts[spec.levels.index(level) - 1])
            self.rows.setdefault("toxicities", []).append({**row, "scale": "study", "grade": grade})
        else:
            self.rows.setdefault("assessments", []).append({**row, "value": level, "method": "synthetic"})


def p_tolerance(p: float) -> float:
    """Return half a unit of the last printed decimal of a p-value, at least two decimals being printed."""
    return 0.5 * 10.0 ** -max(2, len(repr(p).partition(".")[2]))


def _tolerance(value: float) -> float:
    return 0.5 if value == int(value) else 0.05


def _number_or_text(spec: VariableSpec, value: Any) -> Any:
    column = TABLES["patients"].column(spec.column_name)
    if column is not None and column.kind in ("number", "integer"):
        return float(value)
    return value
