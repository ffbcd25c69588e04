"""What a protocol says about errors: image guidance with its action level, motion, and what plans must withstand."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from cantlie.protocol.sections import NotNegative, Positive, Section, fault

Shift = tuple[NotNegative, NotNegative, NotNegative]
MotionType = Literal["", "free_breathing", "belt", "compression", "breath_hold", "gating", "itv"]


class Guidance(Section):
    """Image guidance: which sessions are imaged, how images are matched, and from what displacement one corrects.

    ``frequency`` is ``every_session``, ``weekly`` (the first session of every calendar week) or ``first_then_weekly``
    (the first ``first_sessions``, then weekly). ``action_level_mm`` counts along any axis. ``available_from`` is the
    first day on which the department had image guidance.
    """

    modality: str = ""
    frequency: Literal["", "every_session", "weekly", "first_then_weekly"] = ""
    first_sessions: int = Field(default=3, ge=1, le=60)
    match_sequence: tuple[str, ...] = ()
    action_level_mm: Positive | None = None
    approval: bool = False
    available_from: date | None = None

    @field_validator("available_from", mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if isinstance(value, str):
            try:
                return date.fromisoformat(value)
            except ValueError:
                raise fault(f"{value!r} is not a date like 2010-01-31") from None
        return value


class Motion(Section):
    """How breathing is managed, and how far the liver moves (peak to peak; x left, y posterior, z head) in mm.

    ``managed_share`` is what remains of the motion with a belt, compression or gating.
    """

    management: MotionType = ""
    amplitude_mm: Shift | None = None
    managed_share: Annotated[float, Field(ge=0, le=1)] = 1.0


class Robustness(Section):
    """What plans are judged against, and whether they are made for it.

    ``planning`` is ``nominal``, ``expectation`` (the mean over displacements counts) or ``minimax`` (the worst counts).
    """

    shift_mm: Shift = (5.0, 5.0, 5.0)
    density_percent: Annotated[float, Field(ge=0, le=20)] = 3.0
    systematic_sd_mm: Shift = (2.0, 2.0, 2.0)
    random_sd_mm: Shift = (2.0, 2.0, 2.0)
    planning: Literal["nominal", "expectation", "minimax"] = "nominal"

    @model_validator(mode="after")
    def _planning_needs_a_shift(self) -> Self:
        if self.planning != "nominal" and not any(self.shift_mm):
            raise fault("robust planning needs a displacement", "shift_mm")
        return self
