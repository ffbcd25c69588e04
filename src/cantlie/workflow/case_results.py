"""What a planned case leaves behind: results.json, the DVHs and the report."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cantlie.core.files import write_json, write_text
from cantlie.core.progress import Progress
from cantlie.plan.complexity import complexity
from cantlie.report.case_pages import write_case_report
from cantlie.target.build import TargetResult
from cantlie.workflow.arc_page import arc_summaries
from cantlie.workflow.case_page import case_report
from cantlie.workflow.course_stage import biology_of, summary_of
from cantlie.workflow.dosimetry import COURSE
from cantlie.workflow.earlier_results import earlier_results, rows_of_finished_targets
from cantlie.workflow.export import ExportedFile
from cantlie.workflow.machine_choice import beam_quality
from cantlie.workflow.planned_case import PlannedCase
from cantlie.workflow.results import dvh_csv, results_of
from cantlie.workflow.run_folder import RunFolder
from cantlie.workflow.scheme_stage import scheme_of


def write_results(run: RunFolder, planned: PlannedCase, files: tuple[ExportedFile, ...], progress: Progress) -> None:
    out = planned.request.out
    sections: dict[str, Any] = {
        "reading": list(planned.patient.report.lines()),
        "targets": planned_targets(planned.targets),
        "earlier_ct": earlier_results(planned),
        "breathing": planned.phases.results() if planned.phases else None,
        "scheme": scheme_of(planned.scheme),
        "planning": {
            "seconds": planned.planning.seconds,
            "rules": [asdict(outcome) for outcome in planned.planning.outcomes],
            "progress": planned.planning.history.rows(),
        },
        "conflicts": [
            {**asdict(one), "least_violation": max(one.least_violation, 0.0)} for one in planned.planning.conflicts
        ],
        "course": summary_of(planned.course),
        "radiobiology": biology_of(planned.course),
        "complexity": {
            one.target.name: asdict(complexity(one.plan, planned.machine)) for one in planned.planning.plans
        },
        "machine": {
            "id": planned.machine.id,
            "energy_mv": planned.machine.energy_mv,
            "meterset_unit": planned.machine.dosimeter_unit,
            "beam": beam_quality(planned.machine),
        },
        "arcs": {one.target.name: arc_summaries(one.plan, planned.machine) for one in planned.planning.plans},
        "independent_check": [asdict(check) for check in planned.checks],
        **planned.answers.results(),
        "files": [{"path": str(f.path.relative_to(out)), "modality": f.modality, "content": f.content} for f in files],
    }
    results = results_of(
        planned.protocol.title,
        planned.protocol,
        planned.dosimetry,
        plans=[one.plan for one in planned.planning.plans],
        sections=sections,
        notes=planned.notes,
    )
    results["constraints"] += rows_of_finished_targets(planned)
    write_json(out / "results.json", results)
    for scope, curves in planned.dosimetry.dvhs.items():
        write_text(out / ("dvh.csv" if scope == COURSE else f"dvh_{scope}.csv"), dvh_csv(curves))
    planned.answers.write(out)
    progress(0.1, "figures and report")
    write_case_report(case_report(planned, run.record), out)


def planned_targets(targets: TargetResult) -> dict[str, Any]:
    """Return how the targets came about, as plain values."""
    result: dict[str, Any] = {
        "volumes_cc": dict(targets.volumes_cc),
        "lesions": list(targets.lesions),
        "targets": [
            {
                "id": t.id,
                "ctv": t.ctv,
                "label": t.label,
                "ctv_cc": t.ctv_cc,
                "ptv_cc": t.ptv_cc,
                "margin": str(t.margin),
                "cut_off_outside_body_cc": t.outside_body_cc,
            }
            for t in targets.targets
        ],
    }
    halves = targets.halves
    if halves is not None:
        result["division"] = {
            "method": halves.method,
            "plane_point_mm": halves.plane.point_mm,
            "plane_normal": halves.plane.normal,
            "uncertainty_mm": halves.uncertainty_mm,
            "right_fraction": halves.right_fraction,
            "right_fraction_range": halves.right_fraction_range,
            "right_cc": halves.right_cc,
            "left_cc": halves.left_cc,
            "chain": [asdict(step) for step in halves.chain],
            "caudate_cc": halves.caudate_cc,
            "caudate_right_share": halves.caudate_right_share,
            "lesions": [asdict(lesion) for lesion in halves.lesions],
        }
    if targets.junction is not None:
        result["junction"] = {
            "overlap_cc": targets.junction.overlap_cc,
            "untreated_cc": targets.junction.untreated_cc,
            "explanation": targets.junction.explanation,
        }
    return result
