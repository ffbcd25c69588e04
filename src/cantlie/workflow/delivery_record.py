"""The treatment records of a case: delivered against prescribed, in results.json and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from cantlie.core.errors import InputError
from cantlie.course.calendar import next_monday, plan_calendar
from cantlie.course.delivered import DeliveredCourse, Delivery, delivered_course
from cantlie.dicom.plan_file import PlanFile
from cantlie.dicom.treatment_record import TreatmentRecord, records_of_case
from cantlie.patient.case import Case
from cantlie.protocol.schema import Protocol
from cantlie.report.document import Cell, Column, KeyValue, Paragraph, Row, Section, Table, Tone

_TONES: dict[str, Tone] = {"as planned": "pass", "moved": "", "incomplete": "warning", "extra": "warning"}


def deliveries_of(
    records: Sequence[TreatmentRecord], targets: Mapping[str, str], planned_mu: Mapping[str, float]
) -> tuple[Delivery, ...]:
    """Return the recorded sessions of plans whose target is known.

    Parameters
    ----------
    targets, planned_mu
        SOP instance UID of a plan to its target and to its monitor units per fraction.
    """
    result = []
    for record in records:
        if record.plan_uid not in targets:
            continue
        delivered = [beam.delivered_mu for beam in record.beams]
        known = [mu for mu in delivered if mu is not None]
        total = sum(known) if len(known) == len(delivered) else None
        result.append(
            Delivery(targets[record.plan_uid], record.fraction, record.start, total, planned_mu.get(record.plan_uid))
        )
    return tuple(result)


def delivered_course_of_case(
    path: Path, case: Case, plans: Sequence[PlanFile], protocol: Protocol, start: date | None
) -> DeliveredCourse | None:
    """Return the course as the treatment records of a case have it; None where there are none of its plans.

    The protocol's calendar begins on ``start``, by default on the day of the first record.

    Raises
    ------
    CantlieError
        If a record is damaged, or none belongs to the protocol's calendar.
    """
    records = records_of_case(path, case)
    if not records:
        return None
    own = {file.plan.sop_instance_uid: file for file in plans}
    names = protocol.target_ids
    targets = {uid: file.plan.target_name for uid, file in own.items() if file.plan.target_name in names}
    if len(names) == 1:
        targets = dict.fromkeys(own or {record.plan_uid for record in records}, names[0])
    planned_mu = {uid: file.plan.mu for uid, file in own.items() if file.plan.beams and len(file.fraction_groups) == 1}
    deliveries = deliveries_of(records, targets, planned_mu)
    if not deliveries:
        raise InputError(
            "the treatment records belong to no plan of the case whose target is known",
            where="RTRECORD",
            remedy="add the RTPLAN that they refer to",
        )
    days = [one.start.date() for one in deliveries if one.start is not None]
    first = start or (min(days) if days else next_monday(date.today()))
    return delivered_course(plan_calendar(protocol, first), deliveries)


def delivery_results(course: DeliveredCourse) -> dict[str, Any]:
    """Return results.json's section."""
    return {
        "fractions": [
            {"target": target, "delivered": given, "prescribed": prescribed}
            for target, given, prescribed in course.fractions
        ],
        "sessions": [
            {
                "number": row.number,
                "target": row.target,
                "fraction": row.fraction,
                "planned": None if row.planned is None else row.planned.isoformat(timespec="minutes"),
                "delivered": None if row.delivered is None else row.delivered.isoformat(timespec="minutes"),
                "mu_share": row.share,
                "outcome": row.outcome,
            }
            for row in course.sessions
        ],
    }


def delivery_sections(course: DeliveredCourse | None) -> tuple[Section, ...]:
    """Return the chapter on what was delivered; none without records."""
    if course is None:
        return ()
    facts: list[tuple[str, object]] = [
        (f"Fractions of {target}", f"{given} of {prescribed} delivered")
        for target, given, prescribed in course.fractions
    ]
    facts += [
        ("Calendar days", course.calendar.calendar_days),
        ("Treatment days", course.calendar.treatment_days),
    ]
    rows: list[Row] = [
        [
            row.number,
            f"{row.target}, fraction {row.fraction}",
            None if row.planned is None else f"{row.planned:%Y-%m-%d %H:%M}",
            None if row.delivered is None else f"{row.delivered:%Y-%m-%d %H:%M}",
            f"{100 * row.share:.1f}" if row.delivered is not None else None,
            Cell(row.outcome, tone=_TONES.get(row.outcome, "fail")),
        ]
        for row in course.sessions
    ]
    columns = [
        Column("Session", align="right", width=0.5),
        Column("Plan", width=1.4),
        Column("Planned", width=1.2),
        Column("Delivered", width=1.2),
        Column("Monitor units", "%", align="right", width=0.8),
        Column("Outcome", width=1.0),
    ]
    section = Section(
        "Delivered sessions",
        [
            Paragraph(
                "From the treatment records of the case (RT Beams Treatment Record), against the protocol's calendar."
            ),
            KeyValue(facts),
            Table(columns, rows, compact=True),
        ],
    )
    return (section,)
