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
from cantlie.study.definition import VariableSpec
from cantlie.study.loading import load_study
from cantlie.study.synthesis_draft import LATER, Indices
from cantlie.study.synthesis_margins import (
    deal,
    printed_levels,
    row_cells,
    values_in_levels,
    with_mean_and_sd,
    with_median_and_range,
)
from cantlie.study.synthesis_survival import DAYS_PER_MONTH
from cantlie.study.synthesis_times import TimedDraft


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


class _Maker(TimedDraft):
    """The making of one cohort, in the order in which its parts depend on each other."""

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

    # ------------------------------------------------------------------ variables without a time after treatment
    def _early_variables(self) -> None:
        statistics = self._statistics()
        done: dict[str, list[Any]] = {}
        for spec in self.study.variables:
            if spec.table in LATER or spec.name == self.study.group_variable:
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
            if spec.table not in LATER:
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


def _number_or_text(spec: VariableSpec, value: Any) -> Any:
    column = TABLES["patients"].column(spec.column_name)
    if column is not None and column.kind in ("number", "integer"):
        return float(value)
    return value
