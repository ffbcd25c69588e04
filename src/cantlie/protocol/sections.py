"""The tables of a protocol: their values, and where in the paper each value is printed."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from cantlie.core.errors import ProtocolError
from cantlie.protocol.metric import Metric
from cantlie.protocol.recipe import Recipe, names_in, parse_recipe

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Percent = Annotated[float, Field(gt=0, le=100)]
Degrees = Annotated[float, Field(ge=0, lt=360)]
Priority = Annotated[int, Field(ge=1, le=9)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Operator = Literal["<=", "<", ">=", ">"]
TargetRecipe = Literal["right_half_liver", "left_half_liver", "whole_liver", "gtv_union", "largest_gtv", "structure"]
SIDES = ("left", "right", "anterior", "posterior", "superior", "inferior")


class Section(BaseModel):
    """A table of a protocol.

    ``place`` says where in the paper the values of the table are printed; ``choices`` names the values that the paper
    does not print, each with the reason for Cantlie's choice.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    place: str = ""
    choices: dict[str, str] = {}

    @model_validator(mode="after")
    def _choices_name_values(self) -> Self:
        for key, reason in self.choices.items():
            if key not in type(self).model_fields:
                raise fault(f"'choices' names {key!r}, which is not a value of this table", "choices", key)
            if not reason.strip():
                raise fault(f"'choices' gives no reason for {key!r}", "choices", key)
        return self


class Citation(Section):
    """The publication that a protocol follows."""

    authors: tuple[str, ...] = Field(min_length=1)
    title: str
    journal: str
    year: int = Field(ge=1950, le=2100)
    doi: str = Field(pattern=r"^10\.\d{4,9}/\S+$")
    volume: str = ""
    pages: str = ""
    licence: str = ""

    def sentence(self) -> str:
        """Return the citation as one line."""
        who = self.authors[0] + (" et al." if len(self.authors) > 1 else "")
        where = " ".join(part for part in (self.journal, self.volume) if part)
        pages = f":{self.pages}" if self.pages else ""
        return f"{who} {self.title}. {where}{pages} ({self.year}). doi:{self.doi}"


class Margins(BaseModel):
    """Distances in mm towards the six sides of the patient.

    In a file: one number for all sides, or a table of ``left_right``, ``anterior_posterior`` and ``craniocaudal``, or
    of the six sides.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    left: NotNegative
    right: NotNegative
    anterior: NotNegative
    posterior: NotNegative
    superior: NotNegative
    inferior: NotNegative

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return dict.fromkeys(SIDES, value)
        if isinstance(value, dict):
            axes = {
                "left_right": ("left", "right"),
                "anterior_posterior": ("anterior", "posterior"),
                "craniocaudal": ("superior", "inferior"),
            }
            spelled: dict[Any, Any] = {}
            for key, distance in value.items():
                for side in axes.get(key, (key,)):
                    if side in spelled:
                        raise ValueError(f"the margin to the {side} is given twice")
                    spelled[side] = distance
            return spelled
        return value

    def lower_upper_mm(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Return the distances towards smaller (right, anterior, inferior) and larger (x, y, z) of LPS."""
        return (self.right, self.anterior, self.inferior), (self.left, self.posterior, self.superior)

    def sides(self) -> tuple[float, ...]:
        """Return the distances in the order left, right, anterior, posterior, superior, inferior."""
        return tuple(float(getattr(self, side)) for side in SIDES)

    def __str__(self) -> str:
        values = dict(zip(SIDES, self.sides(), strict=True))
        if len(set(values.values())) == 1:
            return f"{self.left:g} mm"
        if self.left == self.right and self.anterior == self.posterior and self.superior == self.inferior:
            return f"LR {self.left:g}, AP {self.anterior:g}, CC {self.superior:g} mm"
        return ", ".join(f"{side} {value:g}" for side, value in values.items()) + " mm"


def _no_margin() -> Margins:
    return Margins.model_validate(0.0)


class Target(Section):
    """A target volume: what its CTV is made of and how far its PTV goes beyond it."""

    id: Identifier
    label: str = ""
    recipe: TargetRecipe
    structure: str = ""
    ctv_margin_mm: Margins = Field(default_factory=_no_margin)
    clip_ctv_to: str = ""
    ptv_margin_mm: Margins = Field(default_factory=_no_margin)
    ptv_margin_least_mm: Margins | None = None
    ptv_margin_most_mm: Margins | None = None
    breathing: Literal["in_margin", "itv"] = "in_margin"

    @property
    def ctv_id(self) -> str:
        """The name of its CTV: that of the target with CTV for PTV."""
        return self.id.replace("PTV", "CTV", 1) if "PTV" in self.id else f"{self.id}_CTV"

    @field_validator("structure", "clip_ctv_to")
    @classmethod
    def _recipes_can_be_read(cls, value: str) -> str:
        if value:
            readable_recipe(value)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.recipe == "structure") != bool(self.structure):
            raise fault("'structure' is given exactly when the recipe is 'structure'", "recipe")
        if self.breathing == "itv" and self.recipe not in ("whole_liver", "gtv_union", "largest_gtv"):
            raise fault("an ITV is made of whole_liver, gtv_union or largest_gtv", "breathing")
        least, most = self.ptv_margin_least_mm, self.ptv_margin_most_mm
        if least is not None and any(a > b for a, b in zip(least.sides(), self.ptv_margin_mm.sides(), strict=True)):
            raise fault("ptv_margin_mm lies below ptv_margin_least_mm", "ptv_margin_mm")
        if most is not None and any(a < b for a, b in zip(most.sides(), self.ptv_margin_mm.sides(), strict=True)):
            raise fault("ptv_margin_mm lies above ptv_margin_most_mm", "ptv_margin_mm")
        return self


class Split(Section):
    """How the liver is divided into halves and what happens where the two PTVs meet."""

    method: Literal["anatomy", "couinaud", "volume_equal", "lesion_aware", "plane"] = "anatomy"
    lesion_shift_mm: NotNegative = 15.0
    plane_point_mm: tuple[float, float, float] | None = None
    plane_normal: tuple[float, float, float] | None = None
    right_fraction_prior: float = Field(default=0.62, gt=0, lt=1)
    right_fraction_sd: float = Field(default=0.07, gt=0, lt=0.5)
    caudate: Literal["by_plane", "left", "right"] = "by_plane"
    junction: Literal["overlap", "abut", "gap", "feather"] = "overlap"
    gap_mm: NotNegative = 0.0
    feather_mm: NotNegative = 0.0
    feather_steps: int = Field(default=1, ge=1, le=15)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.method == "plane") != (self.plane_point_mm is not None and self.plane_normal is not None):
            raise fault("plane_point_mm and plane_normal are given exactly when the method is 'plane'", "method")
        if self.plane_normal is not None and not any(self.plane_normal):
            raise fault("plane_normal has no direction", "plane_normal")
        if (self.junction == "gap") != (self.gap_mm > 0):
            raise fault('gap_mm is given (above 0) exactly when the junction is "gap"', "junction")
        if (self.junction == "feather") != (self.feather_mm > 0 and self.feather_steps > 1):
            raise fault(
                'feather_mm (above 0) and feather_steps (2 or more) belong to the junction "feather"', "junction"
            )
        return self


class Arc(Section):
    """One arc: the gantry angles (IEC 61217) between which it turns, clockwise (growing angles) or back."""

    start_deg: Degrees
    stop_deg: Degrees
    direction: Literal["CW", "CC"]
    collimator_deg: Degrees = 0.0
    couch_deg: Degrees = 0.0

    @property
    def turn_deg(self) -> float:
        """How far the gantry turns; positive is clockwise. Equal angles mean a full turn."""
        if self.direction == "CW":
            return (self.stop_deg - self.start_deg) % 360.0 or 360.0
        return -((self.start_deg - self.stop_deg) % 360.0 or 360.0)

    @model_validator(mode="after")
    def _does_not_pass_180(self) -> Self:
        start = (self.start_deg + 180.0) % 360.0 - 180.0
        low, high = sorted((start, start + self.turn_deg))
        if self.start_deg == 180.0 and self.turn_deg < 0:
            low, high = low + 360.0, high + 360.0
        if low < -180.0 - 1e-9 or high > 180.0 + 1e-9:
            raise fault("the arc passes 180 degrees, where no gantry gets through", "direction")
        return self


class Phases(Section):
    """What is done with the phases of a 4D-CT.

    ``planning``: the phase that is planned on: ``exhale``, ``mid_position`` (by the contours), or ``average``, where
    the contours are those of exhale and dose is computed in the mean density of all phases. ``contours``: ``drawn``
    ones only, or those of the planning phase ``propagated`` to the others by deformable registration.
    """

    planning: Literal["exhale", "mid_position", "average"] = "exhale"
    contours: Literal["drawn", "propagated"] = "drawn"


class Technique(Section):
    """How the dose is delivered."""

    modality: Literal["photon"] = "photon"
    energy_mv: Annotated[float, Field(ge=1, le=25)]
    energies_mv: tuple[float, ...] = ()
    delivery: Literal["step_and_shoot", "sliding_window", "static", "field_in_field", "arc"]
    fields: int = Field(ge=1, le=36)
    fields_least: int | None = None
    fields_most: int | None = None
    gantry_deg: tuple[Degrees, ...] = ()
    couch_deg: tuple[Degrees, ...] = ()
    couch_most_deg: Annotated[float, Field(ge=0, le=90)] = 0.0
    collimator_deg: Degrees = 0.0
    arcs: tuple[Arc, ...] = ()
    arc_count: int = Field(default=1, ge=1, le=6)
    machine: str = "generic-6mv-mlci"
    beamlet_mm: Annotated[float, Field(ge=1, le=20)] = 5.0
    dose_grid_mm: tuple[Positive, Positive, Positive] = (4.0, 4.0, 4.0)
    motion_management: str = ""
    immobilisation: tuple[str, ...] = ()
    image_guidance: str = ""
    action_level_mm: Positive | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.fields_least is not None and self.fields < self.fields_least:
            raise fault(f"{self.fields} fields are fewer than fields_least = {self.fields_least}", "fields")
        if self.fields_most is not None and self.fields > self.fields_most:
            raise fault(f"{self.fields} fields are more than fields_most = {self.fields_most}", "fields")
        for name in ("gantry_deg", "couch_deg"):
            angles = getattr(self, name)
            if angles and len(angles) != self.fields:
                raise fault(f"{name} has {len(angles)} angles for {self.fields} fields", name)
        if self.energies_mv and self.energy_mv not in self.energies_mv:
            raise fault("energy_mv is not one of energies_mv", "energy_mv")
        return self


class Prescription(Section):
    """The dose of one target: its fractions and the statistic that the plan is normalised by."""

    target: Identifier
    dose_per_fraction_gy: Positive
    fractions: int = Field(ge=1, le=60)
    scheme: str = ""
    normalise: str = "Dmean"
    normalise_percent: Annotated[float, Field(gt=0, le=200)] = 100.0
    normalise_dose: Literal["plan", "course"] = "plan"
    tolerance_percent: NotNegative = 2.0
    priority: Priority | None = None
    total_least_gy: Positive | None = None
    total_most_gy: Positive | None = None

    @property
    def total_gy(self) -> float:
        """The prescribed dose of the whole plan."""
        return self.dose_per_fraction_gy * self.fractions

    @property
    def metric(self) -> Metric:
        """The dose metric of the target that is brought to ``normalise_percent`` of the total dose."""
        return Metric.parse(self.normalise)

    @field_validator("normalise")
    @classmethod
    def _is_a_dose(cls, value: str) -> str:
        metric = readable_metric(value)
        if not metric.is_dose or metric.unit != "Gy":
            raise ValueError(f"a plan is normalised by a dose such as Dmean or D95%, not by {value!r}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.total_least_gy is not None and self.total_gy < self.total_least_gy - 1e-9:
            raise fault(
                f"the total of {self.total_gy:g} Gy lies below total_least_gy = {self.total_least_gy:g}", "fractions"
            )
        if self.total_most_gy is not None and self.total_gy > self.total_most_gy + 1e-9:
            raise fault(
                f"the total of {self.total_gy:g} Gy lies above total_most_gy = {self.total_most_gy:g}", "fractions"
            )
        return self


class Choice(Section):
    """How one of several prescription schemes is chosen for a patient."""

    rule: Literal["given", "distance", "highest_within_limits"]
    default: str
    near: str = ""
    structures: tuple[str, ...] = ()
    distance_mm: Positive | None = None
    order: tuple[str, ...] = ()
    maximum_days: int | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.rule == "distance" and not (self.near and self.structures and self.distance_mm):
            raise fault('the rule "distance" needs near (a scheme), structures and distance_mm', "rule")
        if self.rule == "highest_within_limits" and not self.order:
            raise fault('the rule "highest_within_limits" needs the order of the schemes, the highest first', "rule")
        return self


class Coverage(Section):
    """A coverage rule: at least ``volume_percent`` of the target inside an isodose."""

    target: Identifier
    isodose_percent: Annotated[float, Field(gt=0, le=150)]
    volume_percent: Percent
    isodose_least_percent: Annotated[float, Field(gt=0, le=150)] | None = None
    isodose_most_percent: Annotated[float, Field(gt=0, le=150)] | None = None
    scope: Literal["plan", "course"] = "plan"
    priority: Priority | None = None
    wording: str = ""

    @property
    def metric(self) -> Metric:
        """The metric that must reach ``volume_percent``: the volume inside the isodose."""
        return Metric.parse(f"V{self.isodose_percent:.10g}%[%]")


class Constraint(Section):
    """A limit on the dose in a structure."""

    structure: str
    stand_ins: tuple[str, ...] = ()
    metric: str
    op: Operator
    limit: NotNegative
    unit: Literal["Gy", "%", "cc"]
    scope: str = "course"
    priority: Priority = 1
    wording: str = ""

    @property
    def parsed_metric(self) -> Metric:
        """The metric, read."""
        return Metric.parse(self.metric)

    @property
    def recipe(self) -> Recipe:
        """The structure recipe, read."""
        return parse_recipe(self.structure)

    @field_validator("structure", "stand_ins")
    @classmethod
    def _structures_can_be_read(cls, value: Any) -> Any:
        for text in (value,) if isinstance(value, str) else value:
            readable_recipe(text)
        return value

    @field_validator("metric")
    @classmethod
    def _metric_can_be_read(cls, value: str) -> str:
        readable_metric(value)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        metric = readable_metric(self.metric)
        if metric.unit != self.unit:
            raise fault(f"{metric} is in {metric.unit}, but the limit is in {self.unit}", "unit")
        if self.unit == "%" and not metric.is_dose and self.limit > 100:
            raise fault("a relative volume cannot exceed 100 %", "limit")
        return self

    def sentence(self) -> str:
        """Return the constraint as one line."""
        return f"{self.structure}: {self.metric} {self.op} {self.limit:g} {self.unit}"


class ReferenceLimit(Constraint):
    """A limit from elsewhere that stands beside the printed ones and is reported, not planned for."""

    source: str
    population: str = ""
    risk: str = ""


class Schedule(Section):
    """When the sessions of the plans take place."""

    order: Literal["alternating", "sequential"]
    targets: tuple[Identifier, ...] = ()
    interval_h: Positive | None = None
    days_per_week: int = Field(default=5, ge=1, le=7)
    every_days: int = Field(default=1, ge=1, le=14)
    first_session: str = Field(default="09:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    pause_days: int = Field(default=0, ge=0, le=60)
    maximum_days: int | None = Field(default=None, ge=1)
    new_ct_before: tuple[Identifier, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.order == "alternating") != (self.interval_h is not None):
            raise fault('interval_h is given exactly when the order is "alternating"', "order")
        if self.interval_h is not None and self.interval_h >= 24:
            raise fault("interval_h lies within one day, below 24 h", "interval_h")
        return self


class Biology(Section):
    """The radiobiological values that a protocol is judged with."""

    alpha_beta_tumour_gy: Positive = 10.0
    alpha_beta_liver_gy: Positive = 2.5
    alpha_beta_organs_gy: Positive = 3.0
    repair_half_time_h: Positive = 2.0
    repair_half_times_h: tuple[Positive, ...] = (0.5, 1.5, 2.5, 4.0)
    liver_disease: Literal["metastases", "primary"] = "metastases"


class FollowUp(Section):
    """What is looked at after treatment, and when."""

    first_months: tuple[float, ...] = ()
    then_every_months: tuple[float, ...] = ()
    assessments: tuple[str, ...] = ()
    response: str = ""
    toxicity: str = ""
    wording: str = ""


class Drug(Section):
    """A drug given together with the radiotherapy."""

    name: str
    dose: str = ""
    route: str = ""
    purpose: str = ""


def fault(message: str, *path: str | int) -> PydanticCustomError:
    """Return an error of a validator that concerns a key below the validated table."""
    return PydanticCustomError("protocol_fault", "{message}", {"message": message, "path": path})


def readable_metric(text: str) -> Metric:
    try:
        return Metric.parse(text)
    except ProtocolError as error:
        raise ValueError(error.sentence()) from None


def readable_recipe(text: str) -> Recipe:
    try:
        recipe = parse_recipe(text)
    except ProtocolError as error:
        raise ValueError(error.sentence()) from None
    if not names_in(recipe):
        raise ValueError(f"{text!r} names no structure")
    return recipe
