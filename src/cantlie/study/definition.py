"""What a study file can say: cohort, variables, eligibility, endpoints, tables, figures and printed numbers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cantlie.cohort.eligibility import Operator, Rule
from cantlie.cohort.variables import Aggregate, Variable
from cantlie.study.endpoints import STANDARD, Endpoint


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Citation(_Strict):
    """The paper."""

    title: str
    authors: str
    journal: str
    year: int
    doi: str
    licence: str = ""


class VariableSpec(_Strict):
    """One variable (``cantlie.cohort.variables.Variable``); ``bounds`` limit made-up values, in units of the table."""

    name: str
    source: str
    label: str = ""
    where: dict[str, Any] = {}
    aggregate: Aggregate = "only"
    window_months: tuple[float, float] | None = None
    factor: float = 1.0
    cuts: tuple[float, ...] = ()
    closed: Literal["left", "right"] = "left"
    levels: tuple[str, ...] = ()
    mapping: dict[str, str] = {}
    default: Any = None
    bounds: tuple[float, float] | None = None
    whole: bool = False

    @property
    def table(self) -> str:
        """Name of the table."""
        return self.source.partition(".")[0]

    @property
    def column_name(self) -> str:
        """Name of the column."""
        return self.source.partition(".")[2]

    def variable(self) -> Variable:
        """Return the variable of the cohort floor."""
        return Variable(**self.model_dump(exclude={"bounds", "whole"}))


class Group(_Strict):
    """An arm or comparison group: its level of the grouping variable."""

    id: str
    name: str
    n: int
    randomised: int | None = None


class Criterion(_Strict):
    """An eligibility rule; without a variable it is only listed."""

    text: str
    kind: Literal["inclusion", "exclusion"] = "inclusion"
    variable: str | None = None
    operator: Operator = "=="
    value: Any = None
    missing: Literal["eligible", "ineligible"] = "eligible"


class EndpointSpec(_Strict):
    """An endpoint; the fields of a standard one of that name hold where they are not given."""

    name: str
    label: str | None = None
    events: tuple[str, ...] | None = None
    death: Literal["event", "censors", "competes"] | None = None
    start: str = "treatment_start"
    last_seen: tuple[str, ...] | None = None
    level: Literal["patient", "lesion"] | None = None

    def endpoint(self) -> Endpoint:
        """Return the endpoint with the standard's fields where none are given."""
        given = {name: value for name, value in self.model_dump().items() if value is not None}
        standard = STANDARD.get(self.name)
        if standard is not None:
            base = {name: getattr(standard, name) for name in Endpoint.__dataclass_fields__}
            given = {**base, **given}
        return Endpoint(**given)


class Row(_Strict):
    """One row (or block of rows) of a table.

    ``printed`` holds the paper's numbers by group (``set:group`` when the table shows several sets): counts in the
    order of the variable's levels; for ``mean_sd`` mean and SD; for ``median_range`` median, lowest, highest. ``level``
    picks one level or several, for rows that count an event.
    """

    variable: str = ""
    label: str = ""
    statistic: Literal["counts", "mean_sd", "median_range", "mean"] = "counts"
    level: str | tuple[str, ...] = ""
    endpoint: str = ""
    month: float | None = None
    printed: dict[str, tuple[float, ...]] = {}
    percents: dict[str, tuple[float, ...]] = {}
    p: float | str | None = None
    p_set: dict[str, float | str] = {}
    digits: int = 1
    note: str = ""


class TableSpec(_Strict):
    """A table of the paper; ``kind`` says how its rows are made."""

    id: str
    title: str
    kind: Literal["characteristics", "events", "grades", "patterns"]
    groups: tuple[str, ...] = ("all",)
    sets: tuple[str, ...] = ("all",)
    percent_digits: int = 1
    rows: tuple[Row, ...]
    note: str = ""
    denominator: Literal["set", "assessed"] = "set"


class SurvivalRow(_Strict):
    """Survival of one group by one endpoint, with the paper's numbers."""

    endpoint: str
    group: str = "all"
    where: dict[str, str] = {}
    set: str = "all"
    median: float | None = None
    median_ci: tuple[float, float] | None = None
    at: dict[str, float] = {}
    at_ci: dict[str, tuple[float, float]] = {}
    events: int | None = None
    label: str = ""


class CompareRow(_Strict):
    """A log-rank comparison with the printed p."""

    endpoint: str
    by: str
    where: dict[str, str] = {}
    set: str = "all"
    p: float | str | None = None
    label: str = ""


class CoxTerm(_Strict):
    """One contrast of a Cox regression: ``level`` of a variable against the ``reference``, or a number as it is.

    Patients of a level that is neither the level nor the reference of any term of the variable are left out; without a
    reference all other levels are it.
    """

    label: str
    variable: str
    level: str | tuple[str, ...] = ""
    reference: str | tuple[str, ...] = ""
    hr: float | None = None
    ci: tuple[float, float] | None = None
    p: float | str | None = None
    multivariable: bool = False
    multi_hr: float | None = None
    multi_ci: tuple[float, float] | None = None
    multi_p: float | str | None = None


class CoxSpec(_Strict):
    """The Cox regressions of a paper."""

    endpoint: str
    set: str = "all"
    terms: tuple[CoxTerm, ...]


class MatchingSpec(_Strict):
    """Propensity matching, and where the paper's own matched pairs are kept.

    ``order`` says which pair greedy matching makes first (``cantlie.statistics.matching.match``).
    """

    treatment: str
    treated: str
    covariates: tuple[str, ...]
    caliper: float | None = 0.2
    order: Literal["closest", "largest", "smallest", "data", "random"] = "closest"
    ratio: int = 1
    pair_column: str = ""


class FigureSpec(_Strict):
    """A figure of the paper."""

    id: str
    title: str
    kind: Literal["km", "cif", "forest", "love", "flow", "response", "waterfall", "swimmer"]
    endpoint: str = ""
    by: str = ""
    where: dict[str, str] = {}
    set: str = "all"


class NotMade(_Strict):
    """A figure or table of the paper that patient-level tables cannot give, and where it comes from."""

    id: str
    shows: str
    instead: str


class Fill(_Strict):
    """Made-up values for a column of patients that no table prints."""

    column: str
    choices: tuple[str | float, ...] = ()
    low: float | None = None
    high: float | None = None
    whole: bool = False


class Synthesis(_Strict):
    """How a synthetic cohort is made beyond the printed tables."""

    accrual: tuple[str, str]
    last_seen: str
    first_month: float = 2.5
    max_follow_up_months: float = 60.0
    course_days: int = 19
    course: dict[str, Any] = {}
    fill: tuple[Fill, ...] = ()
    patterns: str = ""
    progressions: dict[str, int] = {}
    os_by: str = ""
    os_deaths: dict[str, int] = {}
    set_sizes: dict[str, int] = {}
    impossible: tuple[str, ...] = ()
    not_imposed: tuple[str, ...] = ()


class Ethics(_Strict):
    """Who approved the study, under which number, how patients consented, and where it is registered; as published."""

    committee: str = ""
    approval: str = ""
    consent: str = ""
    registration: str = ""


class Study(_Strict):
    """A study: what was asked, of whom, and every table and figure that answers it."""

    id: str
    title: str
    citation: Citation
    design: str
    software: str = ""
    groups: tuple[Group, ...]
    group_variable: str
    sets: dict[str, dict[str, str]] = {}
    variables: tuple[VariableSpec, ...]
    eligibility: tuple[Criterion, ...] = ()
    endpoints: tuple[EndpointSpec, ...]
    tables: tuple[TableSpec, ...] = ()
    survival: tuple[SurvivalRow, ...] = ()
    compare: tuple[CompareRow, ...] = ()
    cox: CoxSpec | None = None
    matching: MatchingSpec | None = None
    figures: tuple[FigureSpec, ...] = ()
    not_made: tuple[NotMade, ...] = ()
    competing: str = ""
    remarks: tuple[str, ...] = ()
    ethics: Ethics = Ethics()
    synthesis: Annotated[Synthesis | None, Field(default=None)]

    def variable(self, name: str) -> VariableSpec:
        """Return a variable by name."""
        return next(v for v in self.variables if v.name == name)

    def endpoint(self, name: str) -> Endpoint:
        """Return an endpoint by name."""
        return next(e for e in self.endpoints if e.name == name).endpoint()

    def rules(self) -> tuple[Rule, ...]:
        """Return the eligibility rules of the cohort floor."""
        return tuple(
            Rule(
                c.text,
                c.kind,
                self.variable(c.variable).variable() if c.variable else None,
                c.operator,
                c.value,
                c.missing,
            )
            for c in self.eligibility
        )

    @model_validator(mode="after")
    def _names_exist(self) -> Study:
        variables = {v.name for v in self.variables}
        endpoints = {e.name for e in self.endpoints}
        if len(variables) != len(self.variables):
            raise ValueError("two variables have the same name")

        levels = {v.name: v.levels for v in self.variables}
        groups = {"all", *(g.id for g in self.groups)}
        sets = {"all", *self.sets}

        def need(name: str, known: set[str], where: str) -> None:
            if name and name not in known:
                raise ValueError(f"{where} names {name!r}, which is none of: {', '.join(sorted(known))}")

        def need_levels(name: str, where: str) -> None:
            need(name, variables, where)
            if name and not levels[name]:
                raise ValueError(f"{where} counts the levels of {name!r}, which has none: give the variable its levels")

        def need_level(name: str, wanted: str | tuple[str, ...], where: str) -> None:
            need(name, variables, where)
            for level in (wanted,) if isinstance(wanted, str) else wanted:
                if level and levels[name] and level not in levels[name]:
                    raise ValueError(f"{where}: {level!r} is no level of {name} ({', '.join(levels[name])})")

        def need_where(where: dict[str, str], place: str) -> None:
            for name, level in where.items():
                need_level(name, level, place)

        for v in self.variables:
            if v.cuts and list(v.cuts) != sorted(set(v.cuts)):
                raise ValueError(f"variable {v.name}: the cuts do not grow from one to the next")
            if v.cuts and v.levels and len(v.levels) != len(v.cuts) + 1:
                raise ValueError(
                    f"variable {v.name}: {len(v.cuts)} cuts make {len(v.cuts) + 1} levels, not {len(v.levels)}"
                )
            if v.window_months is not None and v.window_months[0] > v.window_months[1]:
                raise ValueError(f"variable {v.name}: the window ends before it begins")
        for e in self.endpoints:
            if e.name not in STANDARD and (e.events is None or e.death is None):
                raise ValueError(f"endpoint {e.name} is no standard one: give its events and how death counts")
        if len(groups) != len({g.id for g in self.groups} | {"all"}) or len({g.id for g in self.groups}) != len(
            self.groups
        ):
            raise ValueError("two groups have the same id")
        need(self.competing, endpoints, "competing")
        for set_name, where in self.sets.items():
            need_where(where, f"set {set_name}")
        need(self.group_variable, variables, "group_variable")
        for c in self.eligibility:
            need(c.variable or "", variables, f"eligibility rule {c.text!r}")
        for table in self.tables:
            for row in table.rows:
                need(row.variable, variables, f"table {table.id}")
                need(row.endpoint, endpoints, f"table {table.id}")
                if not row.variable and not row.endpoint:
                    raise ValueError(f"a row of table {table.id} names neither a variable nor an endpoint")
                if bool(row.endpoint) != (row.month is not None):
                    raise ValueError(f"a row of table {table.id} needs endpoint and month together, or neither")
                if table.kind in ("characteristics", "patterns") and row.statistic == "counts":
                    need_levels(row.variable, f"table {table.id}")
                if row.variable:
                    need_level(row.variable, row.level, f"table {table.id}")
                places = groups | {f"{s}:{g}" for s in sets for g in groups}
                for key in (*row.printed, *row.percents):
                    need(key, places, f"table {table.id}, printed")
                for key in row.p_set:
                    need(key, sets, f"table {table.id}, p_set")
            for name in table.groups:
                need(name, groups, f"table {table.id}")
            for name in table.sets:
                need(name, sets, f"table {table.id}")
        for s in self.survival:
            need(s.endpoint, endpoints, "survival")
            need(s.group, groups, "survival")
            need(s.set, sets, "survival")
            need_where(s.where, "survival")
        for r in self.compare:
            need(r.endpoint, endpoints, "compare")
            need(r.by, variables, "compare")
            need(r.set, sets, "compare")
            need_where(r.where, "compare")
        if self.cox is not None:
            need(self.cox.endpoint, endpoints, "cox")
            need(self.cox.set, sets, "cox")
            for term in self.cox.terms:
                need_level(term.variable, term.level, "cox")
                need_level(term.variable, term.reference, "cox")
        for figure in self.figures:
            need(figure.endpoint, endpoints, f"figure {figure.id}")
            need(figure.set, sets, f"figure {figure.id}")
            need_where(figure.where, f"figure {figure.id}")
            if figure.kind in ("km", "cif", "response"):
                need_levels(figure.by, f"figure {figure.id}")
            if (figure.kind in ("km", "cif") and not figure.endpoint) or (figure.kind == "response" and not figure.by):
                raise ValueError(f"figure {figure.id} of the kind {figure.kind} lacks its endpoint or variable")
        if self.matching is not None:
            need_level(self.matching.treatment, self.matching.treated, "matching")
            for name in self.matching.covariates:
                need(name, variables, "matching")
            judged = self.cox.endpoint if self.cox is not None else self.endpoints[0].name
            if self.endpoint(judged).level == "lesion":
                raise ValueError(f"matching judges patients, but {judged} is an endpoint of lesions")
        return self
