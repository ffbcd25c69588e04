"""The patients of an analysis: variables and endpoints worked out once, chosen by set, group and subgroup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cantlie.cohort.failure import coded_patterns
from cantlie.cohort.schema import TABLES
from cantlie.cohort.tables import Cohort
from cantlie.cohort.variables import as_numbers, evaluate, raw_values
from cantlie.core.errors import CohortError
from cantlie.core.notes import Note
from cantlie.study.definition import Study
from cantlie.study.endpoints import EndpointData, build_endpoint, check_order

Bools = NDArray[np.bool_]


class Analysed:
    """A cohort as a study sees it.

    Parameters
    ----------
    study, cohort
        The variables, sets and endpoints of the study are worked out for the patients of the cohort.

    Raises
    ------
    CohortError
        If the data lack what the study needs.
    """

    def __init__(self, study: Study, cohort: Cohort) -> None:
        if "x_failure_pattern" not in cohort.patients and len(cohort.table("events")):
            patients = cohort.patients.assign(x_failure_pattern=coded_patterns(cohort).to_numpy())
            cohort = replace(cohort, tables={**cohort.tables, "patients": patients})
        self.study, self.cohort = study, cohort
        self.ids = pd.Index(cohort.patients["patient_id"], name="patient_id")
        self.notes: list[Note] = []
        self._variables: dict[str, pd.Series] = {}
        self._numbers: dict[str, pd.Series] = {}
        self._endpoints: dict[str, EndpointData] = {}
        self.group = self.variable(study.group_variable)
        known = {group.id for group in study.groups}
        strange = sorted({str(g) for g in self.group if g is not None and g not in known and known != {"all"}})
        if strange:
            raise CohortError(
                f"the group {strange[0]!r} is none of the study's",
                where=f"variable {study.group_variable}",
                remedy=f"groups: {', '.join(sorted(known))}",
            )
        if (lost := int(self.group.isna().sum())) and known != {"all"}:
            self.notes.append(
                Note(f"{lost} patients have no group and stand under all patients only", f"variable {self.group.name}")
            )

    def variable(self, name: str) -> pd.Series:
        """Return a variable for every patient; a column that the data lack is missing everywhere, with a note."""
        if name not in self._variables:
            spec = self.study.variable(name)
            try:
                self._variables[name] = evaluate(self.cohort, spec.variable())
            except CohortError as error:
                if "has no column" not in error.what or spec.table != "patients":
                    raise
                self.notes.append(Note(f"the data have no column {spec.source}", f"variable {name}"))
                self._variables[name] = pd.Series([None] * len(self.ids), index=self.ids, dtype=object, name=name)
            self._note_unknown(name)
        return self._variables[name]

    def _note_unknown(self, name: str) -> None:
        """Note whose values cannot be placed in the window of a variable, and a default for want of any data."""
        spec = self.study.variable(name)
        if spec.default is not None and spec.table in TABLES and not len(self.cohort.table(spec.table)):
            message = (
                f"the data have no table {spec.table}, so every patient has the default {spec.default}: not a finding"
            )
            self.notes.append(Note(message, f"variable {name}"))
        lost = int(self.cohort.patients["treatment_start"].isna().sum())
        if spec.window_months is not None and lost:
            self.notes.append(
                Note(f"{lost} patients have no start of treatment, so their value is not known", f"variable {name}")
            )

    def numbers(self, name: str) -> pd.Series:
        """Return a variable as numbers, before it is divided into classes."""
        if name not in self._numbers:
            self._numbers[name] = as_numbers(raw_values(self.cohort, self.study.variable(name).variable()), name)
        return self._numbers[name]

    def endpoint(self, name: str) -> EndpointData:
        """Return an endpoint."""
        if name not in self._endpoints:
            data = build_endpoint(self.cohort, self.study.endpoint(name))
            self._endpoints[name] = data
            self.notes += list(data.notes)
        return self._endpoints[name]

    def members(self, set_name: str = "all", group: str = "all", where: Mapping[str, str] | None = None) -> Bools:
        """Return which patients belong to a set, a group and a subgroup, shape (n,)."""
        inside = np.ones(len(self.ids), dtype=bool)
        if set_name != "all":
            if set_name not in self.study.sets:
                raise CohortError(
                    f"no set is called {set_name!r}", where="study", remedy=f"sets: {', '.join(self.study.sets)}"
                )
            for name, level in self.study.sets[set_name].items():
                inside &= (self.variable(name) == level).to_numpy()
        if group != "all":
            inside &= (self.group == group).to_numpy()
        for name, level in (where or {}).items():
            inside &= (self.variable(name) == level).to_numpy()
        return inside

    def times(
        self, endpoint: str, members: Bools
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.object_]]:
        """Return time (months), status and patient of the rows of an endpoint that belong to members."""
        frame = self.endpoint(endpoint).frame
        rows = frame[frame["patient_id"].isin(set(self.ids[members]))]
        return (
            rows["time_months"].to_numpy(dtype=float),
            rows["status"].to_numpy(dtype=np.int64),
            rows["patient_id"].to_numpy(dtype=object),
        )

    def curve_names(self, by: str, patients: NDArray[np.object_]) -> tuple[NDArray[np.str_], list[str]]:
        """Return of which curve of a figure each patient is a part, and the curves in their order.

        Parameters
        ----------
        by
            Variable of which each level that occurs has a curve; empty for one curve of all.
        patients
            Identifiers, shape (n,); one without a level has the name "" and is a part of none.
        """
        if not by:
            return np.full(len(patients), "All patients"), ["All patients"]
        names = {group.id: group.name for group in self.study.groups}
        values = self.variable(by).reindex(patients)
        levels = [level for level in self.study.variable(by).levels if (values == level).any()]
        shown = {level: names.get(level, level) for level in levels}
        return np.array([shown.get(value, "") for value in values], dtype=str), list(shown.values())

    def lacking(self) -> dict[str, Bools]:
        """Return who lacks each variable and each patient endpoint that the analysis has used, shape (n,) each."""
        used = {**self._variables, **self._numbers}
        found = {self.study.variable(n).label or n: v.isna().to_numpy() for n, v in used.items()}
        for name, data in self._endpoints.items():
            if data.endpoint.level == "patient":
                found[f"endpoint {name}"] = ~self.ids.isin(data.frame["patient_id"])
        return found

    def order_notes(self) -> tuple[Note, ...]:
        """Return notes of endpoints that last longer than overall survival."""
        names = {e.name for e in self.study.endpoints}
        if "OS" not in names:
            return ()
        return tuple(
            note
            for name in ("PFS", "DMFS", "LPFS")
            if name in names
            for note in check_order(self.endpoint(name), self.endpoint("OS"))
        )
