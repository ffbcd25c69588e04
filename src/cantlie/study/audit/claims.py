"""What a paper prints, as data: the schema of a claims file."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cantlie.study.audit.printed import Printed, read_p

Consequence = Literal["minor", "warning", "major"]
Interval = tuple[Printed, Printed]


def _p_value(raw: Any) -> Printed:
    return read_p(raw)


def _month(raw: Any) -> date:
    if isinstance(raw, date):
        return raw
    pieces = str(raw).split("-")
    if len(pieces) == 1:
        pieces.append("1")
    if len(pieces) == 2:
        pieces.append("1")
    try:
        return date(*(int(piece) for piece in pieces))
    except ValueError as error:
        raise ValueError(f"{raw!r} is no date; write 2018, 2018-01 or 2018-01-31") from error


PValueText = Annotated[Printed, BeforeValidator(_p_value)]
Day = Annotated[date, BeforeValidator(_month)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Claim(_Strict):
    """What every claim carries: where it stands, what it is about."""

    place: str
    what: str = ""
    note: str = ""
    cited: bool = False


class Table(Claim):
    """A printed table of counts, means and p-values."""

    caption: str = ""
    content: Literal["baseline", "response", "survival", "toxicity", "dosimetry", "other"] = "baseline"
    groups: dict[str, int] = Field(default_factory=dict)
    rows: str = ""
    file: str = ""
    tests: list[str] = Field(default_factory=list)
    independent: bool = False
    matched: bool = False
    balanced: bool = False
    integers: list[str] = Field(default_factory=list)
    ordered: list[str] = Field(default_factory=list)
    several: list[str] = Field(default_factory=list)
    sums: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _has_rows(self) -> Table:
        if bool(self.rows) == bool(self.file):
            raise ValueError("give either rows (the table as text) or file (a CSV beside the claims file)")
        return self


class Proportion(Claim):
    """A percentage in the text; without a count, the possible counts are searched. ``se`` and ``ci`` in percent."""

    count: int | None = Field(default=None, ge=0)
    of: int = Field(gt=0)
    percent: Printed
    se: Printed | None = None
    ci: Interval | None = None
    level: float = Field(default=95, gt=50, lt=100)


class Total(Claim):
    """Parts and the total that is printed for them."""

    parts: list[Printed] = Field(min_length=1)
    total: Printed
    relation: Literal["equal", "at most", "at least"] = "equal"


class Stated(_Strict):
    """One place where a fact is stated, and what stands there."""

    place: str
    value: str | int

    @property
    def text(self) -> str:
        """The value as text."""
        return str(self.value)


class Quantity(Claim):
    """The same fact stated in several places."""

    place: str = ""
    stated: list[Stated] = Field(min_length=2)
    consequence: Consequence | None = None
    kind: Literal["fact", "label"] = "fact"


class Survival(Claim):
    """What is printed about one survival endpoint in one group; times in months."""

    endpoint: str
    group: str = "all"
    of: str = ""
    by: str = ""
    n: int | None = Field(default=None, gt=0)
    events: int | None = Field(default=None, ge=0)
    event_months: list[float] = Field(default_factory=list)
    median: Printed | None = None
    ci: Interval | None = None
    level: float = 95
    ci_type: Literal["unknown", "plain", "log", "log-log"] = "unknown"
    rates: dict[str, Printed] = Field(default_factory=dict)
    rate_ci: dict[str, Interval] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    includes_death: bool | None = None

    @model_validator(mode="after")
    def _sane(self) -> Survival:
        for key in (*self.rates, *self.rate_ci, *self.counts):
            try:
                float(key)
            except ValueError:
                raise ValueError(f"the time '{key}' is no number of months") from None
        for months, rate in self.rates.items():
            if not 0 <= rate.value <= 100:
                raise ValueError(f"the rate at {months} months is {rate.text}; rates are percent between 0 and 100")
        if self.events is not None and self.n is not None and self.events > self.n:
            raise ValueError(f"events ({self.events}) exceed the number of patients ({self.n})")
        return self

    @property
    def death_is_event(self) -> bool | None:
        """Whether death counts as an event: as stated, else by the usual meaning of the endpoint."""
        if self.includes_death is not None:
            return self.includes_death
        return {"OS": True, "PFS": True, "DFS": True, "RFS": True, "EFS": True, "LPFS": True, "LC": False}.get(
            self.endpoint.upper()
        )


class Ratio(Claim):
    """A hazard, odds or risk ratio with its interval and p-value."""

    estimate: Printed
    ci: Interval
    p: PValueText | None = None
    level: float = Field(default=95, gt=50, lt=100)
    test: str = ""


class Difference(Claim):
    """A difference (or any estimate on a linear scale) with its interval and p-value."""

    estimate: Printed
    ci: Interval
    p: PValueText | None = None
    level: float = Field(default=95, gt=50, lt=100)
    null: float | None = 0.0
    test: str = ""


class Moments(_Strict):
    """The size, mean and standard deviation of one group."""

    n: int = Field(gt=1)
    mean: Printed
    sd: Printed


class Comparison(Claim):
    """A p-value in the text; with counts or means it is recomputed, with neither it is listed as not recomputable."""

    p: PValueText
    counts: list[list[int]] = Field(default_factory=list)
    means: list[Moments] = Field(default_factory=list)
    tests: list[str] = Field(default_factory=list)
    needs: str = "individual data"

    @model_validator(mode="after")
    def _rectangular(self) -> Comparison:
        if self.counts and (len(self.counts) < 2 or len({len(row) for row in self.counts}) != 1):
            raise ValueError("counts needs at least two rows of the same length")
        return self


class Statement(Claim):
    """A statement in words about printed numbers: significance, order, a bound."""

    says: Literal["significant", "not significant", "larger", "at least", "at most", "above", "below"]
    p: PValueText | None = None
    values: dict[str, Printed] = Field(default_factory=dict)
    subject: str = ""
    limit: Printed | None = None
    consequence: Consequence | None = None

    @model_validator(mode="after")
    def _complete(self) -> Statement:
        if self.says in ("significant", "not significant") and self.p is None:
            raise ValueError("a statement about significance needs p")
        if self.says == "larger" and (self.subject not in self.values or len(self.values) < 2):
            raise ValueError("a statement 'larger' needs values of both groups and a subject among them")
        if self.says in ("at least", "at most", "above", "below") and (self.limit is None or not self.values):
            raise ValueError(f"a statement '{self.says}' needs values and a limit")
        return self


class Phase(_Strict):
    """One part of a course: dose per fraction and the allowed numbers of fractions."""

    per_fraction: Printed
    fractions: tuple[int, int]


class Fractionation(Claim):
    """Doses in Gy: total, fractions, dose per fraction, BED, EQD2, as single values or ranges."""

    total: Printed | None = None
    fractions: int | None = Field(default=None, gt=0)
    per_fraction: Printed | None = None
    bed: Printed | None = None
    eqd2: Printed | None = None
    alpha_beta: float = Field(default=10.0, gt=0)
    total_range: Interval | None = None
    fractions_range: tuple[int, int] | None = None
    per_fraction_range: Interval | None = None
    bed_range: Interval | None = None
    phases: list[Phase] = Field(default_factory=list)


class Constraint(Claim):
    """A dose limit: ``metric`` as Dmax, Dmean, V20Gy, D66%, D0.03cc; ``unit`` Gy, percent or cc."""

    structure: str
    metric: str
    op: Literal["<", "<=", ">", ">="]
    limit: Printed
    unit: Literal["Gy", "cGy", "percent", "cc", "ml"] = "Gy"


class Prescription(_Strict):
    """The highest prescribed dose and the highest dose allowed in the target, for the logic of constraints."""

    max_gy: float = Field(gt=0)
    max_percent: float | None = Field(default=None, ge=100)
    place: str = ""


class Schedule(Claim):
    """A treatment calendar: fractions a week and the time that is printed for the whole."""

    fractions: int = Field(gt=0)
    per_week: int = Field(default=5, ge=1, le=7)
    per_day: int = Field(default=1, ge=1)
    every_days: int | None = Field(default=None, ge=1)
    days: Printed | None = None
    weeks: Printed | None = None


class Dates(Claim):
    """Dates of a study; months may be given as 2018-01."""

    accrual_from: Day | None = None
    accrual_to: Day | None = None
    approval: Day | None = None
    followup_end: Day | None = None
    submitted: Day | None = None
    needs_months: float | None = None
    longest_months: Printed | None = None


class Subset(_Strict):
    """One group of a pooled distribution."""

    n: int = Field(gt=0)
    median: Printed | None = None
    mean: Printed | None = None
    range: Interval | None = None


class Summary(Claim):
    """The distribution of one variable: median, range, mean, SD, with the patients per printed class."""

    n: int = Field(gt=0)
    median: Printed | None = None
    range: Interval | None = None
    mean: Printed | None = None
    sd: Printed | None = None
    sum: Printed | None = None
    whole_numbers: bool = False
    bins: dict[str, int] = Field(default_factory=dict)
    groups: dict[str, Subset] = Field(default_factory=dict)
    limits: str = ""


class Size(Claim):
    """Longest diameters and volumes of the same lesions."""

    diameter_cm: Interval | None = None
    volume_cc: Interval | None = None
    diameter_median_cm: Printed | None = None
    volume_median_cc: Printed | None = None


class Plausible(Claim):
    """A value to hold against the usual clinical range of ``quantity``."""

    quantity: str
    value: Printed


class Exclusion(_Strict):
    """Patients who left a group, and why."""

    n: int = Field(ge=0)
    reason: str = ""
    from_toxicity: bool = False


class Flow(Claim):
    """From patients entered to patients analysed in one group."""

    group: str
    entered: int = Field(gt=0)
    excluded: list[Exclusion] = Field(default_factory=list)
    analysed: int = Field(gt=0)
    safety_analysed: int | None = None


class Announced(Claim):
    """Something that the methods announce: where its result is reported, if anywhere."""

    reported: str = ""


class Open(Claim):
    """A printed statement that cannot be recomputed from the paper, with the reason."""

    printed: str
    why: str
    check: str = "p-value"
    known: str = ""
    consequence: Consequence | None = None


class Citation(_Strict):
    """Which paper it is."""

    title: str = ""
    journal: str = ""
    year: int | None = None
    doi: str = ""
    software: str = ""


class Claims(_Strict):
    """Everything that one paper prints, ready to be checked."""

    id: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    citation: Citation = Citation()
    alpha: float = Field(default=0.05, gt=0, lt=1)
    tests: list[str] = Field(default_factory=list)
    prescription: Prescription | None = None
    table: list[Table] = Field(default_factory=list)
    proportion: list[Proportion] = Field(default_factory=list)
    total: list[Total] = Field(default_factory=list)
    quantity: list[Quantity] = Field(default_factory=list)
    survival: list[Survival] = Field(default_factory=list)
    ratio: list[Ratio] = Field(default_factory=list)
    difference: list[Difference] = Field(default_factory=list)
    comparison: list[Comparison] = Field(default_factory=list)
    statement: list[Statement] = Field(default_factory=list)
    fractionation: list[Fractionation] = Field(default_factory=list)
    constraint: list[Constraint] = Field(default_factory=list)
    schedule: list[Schedule] = Field(default_factory=list)
    dates: list[Dates] = Field(default_factory=list)
    summary: list[Summary] = Field(default_factory=list)
    size: list[Size] = Field(default_factory=list)
    plausible: list[Plausible] = Field(default_factory=list)
    flow: list[Flow] = Field(default_factory=list)
    announced: list[Announced] = Field(default_factory=list)
    open: list[Open] = Field(default_factory=list)

    def count(self) -> int:
        """Return the number of claims."""
        return sum(len(value) for value in self.__dict__.values() if isinstance(value, list)) - len(self.tests)
