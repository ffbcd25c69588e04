"""The times of a synthetic cohort: deaths, progressions and dates that meet the printed survival."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cantlie.study.definition import SurvivalRow
from cantlie.study.synthesis_draft import Draft, Indices, p_tolerance
from cantlie.study.synthesis_margins import row_cells
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

_KINDS = {
    "in-field": ("local_progression",),
    "out-field": ("new_liver_lesion",),
    "in-field and out-field": ("local_progression", "new_liver_lesion"),
    "distant only": ("extrahepatic_progression",),
}


class TimedDraft(Draft):
    """A draft whose patients live, progress and die."""

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
            time,
            dead,
            everything,
            stratum,
            landmarks,
            rng=self.rng,
            rounds=self.rounds * (8 if self.size <= 60 else 5),
            pinned=pinned,
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

    def _dates(self, os_days: NDArray[np.int64]) -> None:
        first, last = (pd.Timestamp(day) for day in self.plan.accrual)
        end = pd.Timestamp(self.plan.last_seen)
        for patient, days in zip(self.patients, os_days, strict=True):
            latest = min(last, end - pd.Timedelta(days=int(days)))
            room = max((latest - first).days, 0)
            patient["treatment_start"] = first + pd.Timedelta(days=int(self.rng.integers(0, room + 1)))
        self.starts = [patient["treatment_start"] for patient in self.patients]

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
