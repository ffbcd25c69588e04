"""results.json and dvh.csv of a planned or evaluated case: everything that was measured, as plain values."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

from cantlie.core.notes import Note
from cantlie.core.provenance import RESEARCH_USE_ONLY
from cantlie.evaluation.constraints import ConstraintResult
from cantlie.evaluation.coverage import CoverageResult
from cantlie.evaluation.dvh import Dvh
from cantlie.plan.treatment import TreatmentPlan
from cantlie.protocol.schema import Protocol
from cantlie.radiobiology.model import Estimate
from cantlie.workflow.dosimetry import Dosimetry

_DVH_STEP_GY = 0.1


def results_of(
    title: str,
    protocol: Protocol,
    dosimetry: Dosimetry,
    *,
    plans: Sequence[TreatmentPlan] = (),
    sections: Mapping[str, Any] | None = None,
    notes: Sequence[Note] = (),
) -> dict[str, Any]:
    """Return results.json as a tree of plain values.

    Every judged row has ``structure``, ``metric``, ``op``, ``limit``, ``achieved``, ``margin``, ``unit``, ``verdict``,
    ``scope`` and ``place``; coverage rules stand among the constraints as volume metrics of their target.

    Parameters
    ----------
    sections
        More sections (targets, course, radiobiology ...) under their names.
    """
    constraints = [constraint_row(row) for row in dosimetry.constraints]
    constraints += [_coverage_row(row) for row in dosimetry.coverage]
    return {
        "title": title,
        "notice": RESEARCH_USE_ONLY,
        "protocol": {"id": protocol.id, "title": protocol.title, "sha256": protocol.sha256},
        "structures": {name: round(curve.volume_cc, 4) for name, curve in dosimetry.dvhs["course"].items()},
        "constraints": constraints,
        "reference_limits": [constraint_row(row) for row in dosimetry.reference_limits],
        "metrics": {
            scope: {name: _metrics(curve) for name, curve in curves.items()} for scope, curves in dosimetry.dvhs.items()
        },
        "indices": {scope: [asdict(row) for row in rows] for scope, rows in dosimetry.indices.items()},
        "delivery": [delivery_of(plan) for plan in plans],
        **(sections or {}),
        "warnings": [asdict(note) for note in notes],
    }


def constraint_row(row: ConstraintResult) -> dict[str, Any]:
    """Return one judged constraint as plain values."""
    return asdict(row)


def _coverage_row(row: CoverageResult) -> dict[str, Any]:
    return {
        "structure": row.target,
        "metric": f"V{row.isodose_percent:g}%[%]",
        "op": ">=",
        "limit": row.required_percent,
        "unit": "%",
        "achieved": row.achieved_percent,
        "margin": row.margin_percent,
        "verdict": row.verdict,
        "scope": row.scope,
        "isodose_gy": row.isodose_gy,
        "covering_isodose_percent": row.covering_isodose_percent,
        "reason": row.reason,
        "wording": row.wording,
        "place": row.place,
    }


def _metrics(curve: Dvh) -> dict[str, float]:
    d2, d50, d95, d98 = (float(dose) for dose in curve.dose_at_percent_gy(np.array([2.0, 50.0, 95.0, 98.0])))
    small_cc = min(0.03, curve.volume_cc)
    return {
        "volume_cc": curve.volume_cc,
        "Dmin_gy": curve.min_gy,
        "Dmean_gy": curve.mean_gy,
        "Dmax_gy": curve.max_gy,
        "D0.03cc_gy": float(curve.dose_at_volume_gy(small_cc)),
        "D2%_gy": d2,
        "D50%_gy": d50,
        "D95%_gy": d95,
        "D98%_gy": d98,
    }


def delivery_of(plan: TreatmentPlan) -> dict[str, Any]:
    """Return beams, segments and monitor units of a plan."""
    return {
        "plan": plan.label,
        "target": plan.target_name,
        "machine": plan.machine_id,
        "fractions": plan.fractions,
        "prescription_gy": plan.prescription_gy,
        "mu_per_fraction": plan.mu,
        "segments": sum(segments_of(beam.control_points) for beam in plan),
        "beams": [
            {
                "number": beam.number,
                "name": beam.name,
                "gantry_deg": beam.control_points[0].geometry.gantry_deg,
                "collimator_deg": beam.control_points[0].geometry.collimator_deg,
                "couch_deg": beam.control_points[0].geometry.couch_deg,
                "isocentre_mm": beam.control_points[0].geometry.isocentre_mm,
                "mu": beam.mu,
                "segments": segments_of(beam.control_points),
            }
            for beam in plan
        ],
    }


def risks_of(risks: Sequence[Estimate]) -> list[dict[str, Any]]:
    """Return probabilities of complication or control with their band, inputs and source."""
    return [
        {
            "model": risk.model.id,
            "name": risk.model.name,
            "endpoint": risk.model.endpoint,
            "value": risk.value,
            "low": risk.low,
            "high": risk.high,
            "inputs": dict(risk.inputs),
            "parameters": dict(risk.model.parameters),
            "dose_basis": risk.model.dose_basis,
            "source": risk.model.source,
            "status": risk.model.status,
        }
        for risk in risks
    ]


def segments_of(points: Sequence[Any]) -> int:
    """Return how many pieces of a beam deliver monitor units."""
    mu = [point.cumulative_mu for point in points]
    return sum(later > earlier for earlier, later in pairwise(mu))


def dvh_csv(curves: Mapping[str, Dvh]) -> str:
    """Return cumulative DVHs as CSV: structure, dose_gy, volume_cc, volume_percent."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["structure", "dose_gy", "volume_cc", "volume_percent"])
    for name, curve in curves.items():
        doses, volumes = curve.curve(_DVH_STEP_GY)
        percents = 100.0 * volumes / curve.volume_cc
        writer.writerows(
            (name, f"{dose:.1f}", f"{volume:.4f}", f"{percent:.4f}")
            for dose, volume, percent in zip(doses, volumes, percents, strict=True)
        )
    return stream.getvalue()
