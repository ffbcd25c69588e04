"""The groups, sets and levels of a synthetic cohort, dealt so that the printed counts come out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cantlie.statistics.association import bowker
from cantlie.study.definition import Study, SurvivalRow, Synthesis, VariableSpec
from cantlie.study.synthesis_margins import deal, paired_yes, printed_levels, rest_level
from cantlie.study.synthesis_survival import Target

LATER = ("toxicities", "assessments")
"""Tables whose rows come after treatment, for those still alive."""
Indices = NDArray[np.intp]


class Draft:
    """A cohort in the making: its groups, sets, levels, and what could not be met."""

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

    def _deal_levels(self) -> None:
        p_matched = {
            row.variable: row.p_set.get("matched") for table in self.study.tables for row in table.rows if row.p_set
        }
        for name, cells in printed_levels(self.study).items():
            spec = self.study.variable(name)
            if spec.table in LATER:
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


def p_tolerance(p: float) -> float:
    """Return half a unit of the last printed decimal of a p-value, at least two decimals being printed."""
    return 0.5 * 10.0 ** -max(2, len(repr(p).partition(".")[2]))


def _tolerance(value: float) -> float:
    return 0.5 if value == int(value) else 0.05
