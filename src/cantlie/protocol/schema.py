"""What a protocol can say: the whole of its tables, and that they fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from cantlie.core.errors import ProtocolError
from cantlie.protocol.sections import (
    Biology,
    Choice,
    Citation,
    Constraint,
    Coverage,
    Drug,
    FollowUp,
    Margins,
    Phases,
    Prescription,
    ReferenceLimit,
    Schedule,
    Section,
    Split,
    Target,
    Technique,
    fault,
    readable_recipe,
)
from cantlie.protocol.uncertainty import Guidance, Motion, Robustness

__all__ = [
    "Biology",
    "Choice",
    "Citation",
    "Constraint",
    "Coverage",
    "Drug",
    "FollowUp",
    "Guidance",
    "Margins",
    "Motion",
    "Phases",
    "Prescription",
    "Protocol",
    "ReferenceLimit",
    "Robustness",
    "Schedule",
    "Section",
    "Split",
    "Target",
    "Technique",
]


class Protocol(Section):
    """A radiotherapy protocol as data."""

    schema_version: Literal[1]
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str = Field(min_length=1)
    summary: str = ""
    arm: str = ""
    citation: Citation
    targets: tuple[Target, ...] = Field(min_length=1)
    split: Split | None = None
    phases: Phases = Phases()
    gtv: str = "GTV*"
    normal_liver: str = "Liver - GTV*"
    technique: Technique
    prescriptions: tuple[Prescription, ...] = Field(min_length=1)
    choice: Choice | None = None
    coverage: tuple[Coverage, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    reference_limits: tuple[ReferenceLimit, ...] = ()
    minimise: tuple[str, ...] = ()
    schedule: Schedule
    biology: Biology = Biology()
    drugs: tuple[Drug, ...] = ()
    follow_up: FollowUp = FollowUp()
    guidance: Guidance = Guidance()
    motion: Motion = Motion()
    robustness: Robustness = Robustness()
    remarks: tuple[str, ...] = ()

    @field_validator("gtv", "normal_liver")
    @classmethod
    def _recipes_can_be_read(cls, value: str) -> str:
        readable_recipe(value)
        return value

    _source: str = PrivateAttr(default="")
    _sha256: str = PrivateAttr(default="")

    @property
    def source(self) -> str:
        """The file that it was read from, or ``built-in``."""
        return self._source

    @property
    def sha256(self) -> str:
        """The SHA-256 of the text that it was read from."""
        return self._sha256

    @property
    def target_ids(self) -> tuple[str, ...]:
        """The targets in the order of their treatment."""
        return self.schedule.targets or tuple(target.id for target in self.targets)

    @property
    def schemes(self) -> tuple[str, ...]:
        """The prescription schemes to choose from; empty when there is only one."""
        return tuple(dict.fromkeys(p.scheme for p in self.prescriptions if p.scheme))

    def target(self, target_id: str) -> Target:
        """Return a target by its id."""
        for target in self.targets:
            if target.id == target_id:
                return target
        raise ProtocolError(
            f"the protocol has no target {target_id!r}",
            where=self.id,
            remedy=f"its targets are {', '.join(target.id for target in self.targets)}",
        )

    def prescription(self, target_id: str, scheme: str | None = None) -> Prescription:
        """Return the prescription of a target, in the given scheme or in the default one."""
        chosen = scheme if scheme is not None else (self.choice.default if self.choice else "")
        for prescription in self.prescriptions:
            if prescription.target == target_id and prescription.scheme in ("", chosen):
                return prescription
        raise ProtocolError(
            f"the protocol prescribes no dose to {target_id!r}" + (f" in scheme {chosen!r}" if chosen else ""),
            where=self.id,
            remedy=f"its schemes are {', '.join(self.schemes)}" if self.schemes else "",
        )

    def with_scheme(self, scheme: str) -> Protocol:
        """Return the protocol with the prescriptions of one scheme only, so that nothing is left to choose.

        Raises
        ------
        ProtocolError
            If there is no such scheme.
        """
        if scheme not in self.schemes:
            raise ProtocolError(
                f"the protocol has no scheme {scheme!r}",
                where=self.id,
                remedy=f"its schemes are {', '.join(self.schemes)}" if self.schemes else "it has only one prescription",
            )
        kept = tuple(p.model_copy(update={"scheme": ""}) for p in self.prescriptions if p.scheme in ("", scheme))
        return self.model_copy(update={"prescriptions": kept, "choice": None})

    def sections(self) -> Iterator[tuple[str, Section]]:
        """Yield every table with its path, such as ``constraints[2]``."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Section):
                yield name, value
            elif isinstance(value, tuple):
                for index, item in enumerate(value):
                    if isinstance(item, Section):
                        yield f"{name}[{index}]", item

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        ids = [target.id for target in self.targets]
        for index, name in enumerate(ids):
            if name in ids[:index]:
                raise fault(f"two targets have the id {name!r}", "targets", index, "id")
            if self.targets[index].recipe.endswith("half_liver") and self.split is None:
                raise fault("half-liver targets need a table [split]", "targets", index, "recipe")
        self._check_target_names(ids)
        for index, constraint in enumerate(self.constraints):
            if constraint.scope not in {"course", "plan", *ids}:
                raise fault(f"{constraint.scope!r} is none of course, plan or a target", "constraints", index, "scope")
        self._check_schemes()
        return self

    def _check_target_names(self, ids: list[str]) -> None:
        named: list[tuple[str, tuple[str | int, ...]]] = [
            *((p.target, ("prescriptions", n, "target")) for n, p in enumerate(self.prescriptions)),
            *((c.target, ("coverage", n, "target")) for n, c in enumerate(self.coverage)),
            *((name, ("schedule", "targets", n)) for n, name in enumerate(self.schedule.targets)),
            *((name, ("schedule", "new_ct_before", n)) for n, name in enumerate(self.schedule.new_ct_before)),
        ]
        for name, path in named:
            if name not in ids:
                raise fault(f"there is no target {name!r}; the targets are {', '.join(ids)}", *path)

    def _check_schemes(self) -> None:
        schemes = self.schemes
        if bool(schemes) != (self.choice is not None):
            raise fault("prescription schemes and the table [choice] belong together", "choice")
        if self.choice is not None:
            named = [("default", self.choice.default), ("near", self.choice.near)]
            for key, scheme in [*named, *(("order", scheme) for scheme in self.choice.order)]:
                if scheme and scheme not in schemes:
                    raise fault(f"there is no scheme {scheme!r}; the schemes are {', '.join(schemes)}", "choice", key)
        for target_id in self.target_ids:
            for scheme in schemes or ("",):
                count = sum(p.target == target_id and p.scheme in ("", scheme) for p in self.prescriptions)
                if count != 1:
                    suffix = f" in scheme {scheme!r}" if scheme else ""
                    raise fault(f"{target_id} has {count} prescriptions{suffix} instead of one", "prescriptions")
