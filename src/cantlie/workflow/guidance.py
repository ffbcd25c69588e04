"""Judge a shift log by a protocol's image guidance: sessions, action level, statistics and margins."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from cantlie.cohort.shift_log import ShiftLog, read_shift_log
from cantlie.core.files import write_json, write_text
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.provenance import RESEARCH_USE_ONLY
from cantlie.course.calendar import Calendar, plan_calendar
from cantlie.course.image_guidance import (
    AFTER_THE_LOG,
    AxisStatistics,
    GuidanceRow,
    PopulationErrors,
    axis_statistics,
    first_day,
    judge_guidance,
    population_errors,
)
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.schema import Protocol
from cantlie.protocol.uncertainty import Guidance
from cantlie.report.guidance_report import guidance_document
from cantlie.report.writing import write_report
from cantlie.target.setup_errors import margin_note
from cantlie.workflow.run_folder import RunFolder, key_of

STAGES = {"reading the log": 1.0, "judging": 1.0, "report": 4.0}


@dataclass(frozen=True, slots=True)
class JudgeGuidance:
    """What the user asks for.

    ``start`` is the first treatment day; without it the first day of the log, and without any day the sessions are
    judged without a calendar.
    """

    log: Path
    protocol: str
    out: Path
    start: date | None = None
    action_level_mm: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class JudgedGuidance:
    """All that was found, patient by patient."""

    rule: Guidance
    log: ShiftLog
    rows: tuple[GuidanceRow, ...]
    statistics: dict[str, tuple[AxisStatistics, ...]]
    errors: PopulationErrors | None
    margins_mm: dict[str, tuple[float, float, float]]
    notes: tuple[Note, ...]

    @property
    def all_met(self) -> bool:
        """Whether no session breaks a rule."""
        return all(row.verdict != "fail" for row in self.rows)


def judge_log(request: JudgeGuidance, progress: Progress = silent) -> JudgedGuidance:
    """Judge a shift log and write results.json, sessions.csv and the report.

    Raises
    ------
    CantlieError
        If the log or the protocol cannot be used.
    """
    protocol = load_protocol(request.protocol)
    settings = {"name": "guidance", "protocol": request.protocol, "action_level_mm": request.action_level_mm}
    with RunFolder(request.out, settings, STAGES, progress) as run:
        log = run.stage("reading the log", key_of(str(request.log)), lambda _: read_shift_log(request.log), keep=False)
        judged = run.stage("judging", "", lambda _: _judge(request, protocol, log), keep=False)
        run.note(judged.notes)
        run.cite([protocol.citation.sentence(), *_SOURCES])
        run.add_provenance(shift_log_sha256=log.sha256, protocol_sha256=protocol.sha256)
        run.stage("report", "", lambda _: _write(request, protocol, judged), keep=False)
    return judged


_SOURCES = (
    "van Herk M. Errors and margins in radiotherapy. Semin Radiat Oncol 2004;14:52",
    "van Herk M et al. The probability of correct target dosage. Int J Radiat Oncol Biol Phys 2000;47:1121",
)


def guidance_of(protocol: Protocol, action_level_mm: float | None = None) -> Guidance:
    """Return the protocol's image guidance, with its technique's action level where it names it there, or another."""
    rule = protocol.guidance
    level = action_level_mm or rule.action_level_mm or protocol.technique.action_level_mm
    return rule.model_copy(update={"action_level_mm": level})


def _judge(request: JudgeGuidance, protocol: Protocol, log: ShiftLog) -> JudgedGuidance:
    rule = guidance_of(protocol, request.action_level_mm)
    rows: list[GuidanceRow] = []
    notes = list(log.notes)
    for patient in log.patients:
        calendar = _calendar(protocol, request.start or first_day(log, patient))
        own = judge_guidance(log, patient, rule, calendar)
        rows += own
        later = sum(AFTER_THE_LOG in row.reasons for row in own)
        if later:
            message = (
                f"the log ends {later} sessions before the course, and these are not judged; add them to the log "
                "(modality none where no image was taken) to have them judged"
            )
            notes.append(Note(message, f"shift log, {patient}" if patient else "shift log"))
    if rule.action_level_mm is None:
        notes.append(Note("the protocol has no action level; give one by --action-level", "guidance"))
    errors, more = population_errors(log)
    notes += more
    known = {target.id: _margin(protocol, target.id) for target in protocol.targets}
    if errors is not None:
        for name, margin in known.items():
            notes += [
                replace(note, where=f"{name}, {note.where}") for note in margin_note(margin, errors.margin_after_mm)
            ]
    statistics = {patient: axis_statistics(log, patient) for patient in log.patients}
    return JudgedGuidance(rule, log, tuple(rows), statistics, errors, known, tuple(dict.fromkeys(notes)))


def _calendar(protocol: Protocol, start: date | None) -> Calendar | None:
    return None if start is None else plan_calendar(protocol, start)


def _margin(protocol: Protocol, target: str) -> tuple[float, float, float]:
    """Return the PTV margin of a target along each axis; of two sides the smaller one."""
    margins = protocol.target(target).ptv_margin_mm
    return (
        min(margins.left, margins.right),
        min(margins.anterior, margins.posterior),
        min(margins.superior, margins.inferior),
    )


def _write(request: JudgeGuidance, protocol: Protocol, judged: JudgedGuidance) -> None:
    out = request.out
    write_json(out / "results.json", guidance_results(protocol, judged))
    write_text(out / "sessions.csv", sessions_csv(judged))
    created = datetime.now(UTC).astimezone()
    document = guidance_document(
        protocol.title,
        protocol.id,
        judged.rule,
        judged.rows,
        judged.statistics,
        judged.errors,
        judged.margins_mm,
        judged.notes,
        created,
    )
    write_report(document, out, created)


def guidance_results(protocol: Protocol, judged: JudgedGuidance) -> dict[str, Any]:
    """Return results.json."""
    errors = judged.errors
    return {
        "title": f"Image guidance by {protocol.title}",
        "notice": RESEARCH_USE_ONLY,
        "protocol": {"id": protocol.id, "sha256": protocol.sha256},
        "rule": judged.rule.model_dump(mode="json", exclude={"choices"}),
        "sessions": [_session(row) for row in judged.rows],
        "verdicts": {
            verdict: sum(row.verdict == verdict for row in judged.rows) for verdict in ("pass", "fail", "not evaluable")
        },
        "over_action_level": sum(bool(row.over_axes) for row in judged.rows),
        "imaged": sum(row.entry is not None and row.entry.imaged for row in judged.rows),
        "patients": {
            patient or "patient": [asdict(row) for row in rows] for patient, rows in judged.statistics.items()
        },
        "population": None
        if errors is None
        else {
            "before_correction": {**asdict(errors.before), "van_herk_margin_mm": errors.margin_before_mm},
            "after_correction": {**asdict(errors.after), "van_herk_margin_mm": errors.margin_after_mm},
        },
        "protocol_margins_mm": judged.margins_mm,
        "warnings": [asdict(note) for note in judged.notes],
    }


def _session(row: GuidanceRow) -> dict[str, Any]:
    entry = row.entry
    return {
        "patient": row.patient,
        "session": row.number,
        "start": None if row.start is None else row.start.isoformat(timespec="minutes"),
        "target": row.target,
        "image_due": row.due,
        "modality": None if entry is None else entry.modality,
        "shift_mm": None if entry is None else entry.shift_mm,
        "remaining_mm": None if entry is None else entry.remaining_mm,
        "over_axes": row.over_axes,
        "action_asked": row.action or None,
        "corrected": None if entry is None else entry.corrected,
        "verdict": row.verdict,
        "reasons": row.reasons,
        "place": None if entry is None else entry.name,
    }


def sessions_csv(judged: JudgedGuidance) -> str:
    """Return one line per session."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            "patient",
            "session",
            "start",
            "target",
            "image_due",
            "x_mm",
            "y_mm",
            "z_mm",
            "corrected",
            "verdict",
            "reasons",
        ]
    )  # fmt: skip
    for row in judged.rows:
        values = _session(row)
        shift = values["shift_mm"] or ("", "", "")
        writer.writerow(
            [
                row.patient, row.number or "", values["start"] or "", row.target,
                "" if row.due is None else "yes" if row.due else "no", *shift,
                {True: "yes", False: "no", None: ""}[values["corrected"]], row.verdict, "; ".join(row.reasons),
            ]
        )  # fmt: skip
    return stream.getvalue()
