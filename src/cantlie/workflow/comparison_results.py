"""results.json and the CSV files of a comparison: every number of every arm, as plain values."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cantlie.core.notes import Note
from cantlie.core.provenance import RESEARCH_USE_ONLY
from cantlie.evaluation.dvh import Dvh
from cantlie.workflow.comparison_arm import LESSER_CC, Arm
from cantlie.workflow.comparison_biology import Assumptions, Corner, Probability, scaled
from cantlie.workflow.comparison_halves import BedDifference, HalvesOfArm
from cantlie.workflow.comparison_statements import Statement

_DVH_STEP_GY = 0.1


@dataclass(frozen=True, slots=True)
class FailedArm:
    """A protocol that could not be planned, with the reason in one sentence."""

    id: str
    title: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """All that was compared; ``bed_differences`` by the id of the arm that is taken from the first."""

    label: str
    arms: tuple[Arm, ...]
    failed: tuple[FailedArm, ...]
    assumptions: Assumptions
    statements: tuple[Statement, ...]
    bed_differences: Mapping[str, tuple[BedDifference, ...]]
    notes: tuple[Note, ...]

    @property
    def structures(self) -> tuple[str, ...]:
        """The structures that all arms have a DVH of; targets are left out."""
        first, *others = self.arms
        own = {name for arm in self.arms for t in arm.targets for name in (t.id, t.id.replace("PTV", "CTV", 1))}
        shared = [name for name in first.dvhs if all(name in arm.dvhs for arm in others)]
        return tuple(name for name in shared if name not in own and not name.startswith(("PTV", "CTV")))

    @property
    def all_met(self) -> bool:
        """Whether every protocol was planned and breaks none of its rules."""
        return not self.failed and all(arm.rules_met[1] == 0 for arm in self.arms)

    def nominal(self, structure: str) -> Corner:
        """Return the corner that a structure is judged by: liver, lesions or organs, with full repair."""
        if structure.startswith(("Liver", "CTV", "PTV_overlap")):
            return self.assumptions.liver
        return self.assumptions.tumour if structure.startswith("GTV") else self.assumptions.organs


def results_of_comparison(comparison: Comparison) -> dict[str, Any]:
    """Return results.json of a comparison as a tree of plain values; differences are first minus other."""
    arms = comparison.arms
    return {
        "title": "Comparison of protocols",
        "notice": RESEARCH_USE_ONLY,
        "case": comparison.label,
        "protocols": [*(_arm(arm) for arm in arms), *(_failed(one) for one in comparison.failed)],
        "assumptions": asdict(comparison.assumptions),
        "summary": [asdict(one) for one in comparison.statements],
        "constraints": [row for arm in arms for row in judged_rows(arm)],
        "metrics": {arm.id: {name: physical_metrics(curve) for name, curve in arm.dvhs.items()} for arm in arms},
        "biology": {arm.id: _biology(arm) for arm in arms},
        "ntcp": {arm.id: [_probability(one) for one in arm.biology.complications] for arm in arms},
        "tcp": {arm.id: [_probability(one) for one in arm.biology.control] for arm in arms},
        "halves": {arm.id: _halves(arm, arm.halves) for arm in arms if arm.halves is not None},
        "bed_difference_normal_liver": {
            name: [asdict(row) for row in rows] for name, rows in comparison.bed_differences.items()
        },
        "warnings": [asdict(note) for note in comparison.notes],
    }


def judged_rows(arm: Arm) -> list[dict[str, Any]]:
    """Return all judged rules of an arm as plain values."""
    rows = [{"protocol": arm.id, **asdict(row)} for row in arm.constraints]
    for row in arm.coverage:
        rows.append(
            {
                "protocol": arm.id,
                "structure": row.target,
                "metric": f"V{row.isodose_percent:g}%[%]",
                "op": ">=",
                "limit": row.required_percent,
                "unit": "%",
                "achieved": row.achieved_percent,
                "margin": row.margin_percent,
                "verdict": row.verdict,
                "scope": row.scope,
                "reason": row.reason,
                "wording": row.wording,
                "place": row.place,
            }
        )
    return rows


def physical_metrics(curve: Dvh) -> dict[str, float]:
    """Return volume, mean, extremes and points of a DVH of physical dose."""
    d2, d50, d95, d98 = (float(value) for value in curve.dose_at_percent_gy([2.0, 50.0, 95.0, 98.0]))
    return {
        "volume_cc": curve.volume_cc,
        "Dmean_gy": curve.mean_gy,
        "Dmax_gy": curve.max_gy,
        f"D{LESSER_CC:g}cc_gy": float(curve.dose_at_volume_gy(min(LESSER_CC, curve.volume_cc))),
        "D2%_gy": d2,
        "D50%_gy": d50,
        "D95%_gy": d95,
        "D98%_gy": d98,
    }


def long_table_csv(comparison: Comparison) -> str:
    """Return every number as one row: protocol, group, structure, quantity, unit, value, low, high."""
    rows: list[tuple[Any, ...]] = []
    for arm in comparison.arms:
        for name, curve in arm.dvhs.items():
            for quantity, value in physical_metrics(curve).items():
                kind, _, unit = quantity.rpartition("_")
                rows.append((arm.id, "physical", name, kind, {"gy": "Gy"}.get(unit, unit), value, "", ""))
        for name in arm.biology.bed:
            rows += [(arm.id, "biology", name, *row) for row in _biological_rows(arm, name, comparison.nominal(name))]
        for group, found in (("ntcp", arm.biology.complications), ("tcp", arm.biology.control)):
            rows += [(arm.id, group, "", one.model.id, "1", one.value, one.low, one.high) for one in found]
        for judged in judged_rows(arm):
            what = f"{judged['metric']} {judged['op']} {judged['limit']:g} ({judged['verdict']})"
            rows.append((arm.id, "rule", judged["structure"], what, judged["unit"], judged["achieved"], "", ""))
        rows += [
            (arm.id, "course", "", "calendar", "days", arm.calendar.calendar_days, "", ""),
            (arm.id, "course", "", "treatment", "days", arm.calendar.treatment_days, "", ""),
            (arm.id, "course", "", "sessions", "1", arm.sessions, "", ""),
            (arm.id, "course", "", "monitor units", "MU", arm.course_mu, "", ""),
            (arm.id, "course", "", "machine time", "min", arm.course_minutes, "", ""),
        ]
    columns = ("protocol", "group", "structure", "quantity", "unit", "value", "low", "high")
    return _csv(columns, (tuple(_cell(value) for value in row) for row in rows))


def statements_csv(statements: Sequence[Statement]) -> str:
    """Return the differences as a table: first minus other."""
    columns = ("topic", "quantity", "unit", "first", "other", "first_value", "other_value", "difference", "low", "high",
               "sureness")  # fmt: skip
    rows = (
        (s.topic, s.quantity, s.unit, s.first_id, s.other_id,
         *(_cell(value) for value in (s.first, s.other, s.difference, s.low, s.high)), s.sureness)
        for s in statements
    )  # fmt: skip
    return _csv(columns, rows)


def physical_dvh_csv(comparison: Comparison) -> str:
    """Return the DVHs of the physical dose of all arms."""
    rows: list[tuple[Any, ...]] = []
    for arm in comparison.arms:
        for name, curve in arm.dvhs.items():
            rows += [(arm.id, name, *point) for point in _points(curve)]
    return _csv(("protocol", "structure", "dose_gy", "volume_cc", "volume_percent"), rows)


def biological_dvh_csv(comparison: Comparison, kind: str) -> str:
    """Return the histograms of ``eqd2`` or ``bed`` of all arms, alpha/beta and repair named in every row."""
    rows: list[tuple[Any, ...]] = []
    repairs = (None, *comparison.assumptions.half_times_h)
    for arm in comparison.arms:
        for name, curves in arm.biology.bed.items():
            ratio = comparison.nominal(name).alpha_beta_gy
            for corner in (Corner(ratio, half_time) for half_time in repairs):
                if corner not in curves:
                    continue
                factor = 1.0 if kind == "bed" else 1.0 / (1.0 + 2.0 / ratio)
                half_time = "full repair" if corner.half_time_h is None else f"{corner.half_time_h:g}"
                head = (arm.id, name, f"{ratio:g}", half_time)
                rows += [(*head, *point) for point in _points(scaled(curves[corner], factor), 0.5)]
    columns = ("protocol", "structure", "alpha_beta_gy", "repair_half_time_h", f"{kind}_gy", "volume_cc",
               "volume_percent")  # fmt: skip
    return _csv(columns, rows)


def biological_range(arm: Arm, structure: str, nominal: Corner) -> tuple[float, float, float] | None:
    """Return the mean EQD2 of a structure at a corner and its range over repair, all for that corner's alpha/beta."""
    curves = arm.biology.bed.get(structure, {})
    if nominal not in curves:
        return None
    factor = 1.0 / (1.0 + 2.0 / nominal.alpha_beta_gy)
    means = [factor * c.mean_gy for corner, c in curves.items() if corner.alpha_beta_gy == nominal.alpha_beta_gy]
    return factor * curves[nominal].mean_gy, min(means), max(means)


def _biological_rows(arm: Arm, structure: str, nominal: Corner) -> Iterable[tuple[Any, ...]]:
    found = biological_range(arm, structure, nominal)
    if found is None:
        return
    ratio = nominal.alpha_beta_gy
    factor = 1.0 + 2.0 / ratio
    yield (f"mean EQD2 alpha/beta {ratio:g} Gy", "Gy", *found)
    yield (f"mean BED alpha/beta {ratio:g} Gy", "Gy", *(factor * value for value in found))


def _points(curve: Dvh, step_gy: float = _DVH_STEP_GY) -> Iterable[tuple[str, str, str]]:
    doses, volumes = curve.curve(step_gy)
    for dose, volume in zip(doses, volumes, strict=True):
        yield f"{dose:.1f}", f"{volume:.4f}", f"{100.0 * volume / curve.volume_cc:.4f}"


def _arm(arm: Arm) -> dict[str, Any]:
    calendar = arm.calendar
    return {
        "id": arm.id,
        "title": arm.title,
        "status": "planned",
        "reason": "",
        "plans_of": arm.plans_from or arm.id,
        "technique": arm.technique,
        "targets": [{**asdict(row), "total_gy": row.total_gy} for row in arm.targets],
        "delivery": [asdict(row) for row in arm.delivery],
        "course_mu": arm.course_mu,
        "course_minutes": arm.course_minutes,
        "calendar": {
            "calendar_days": calendar.calendar_days,
            "treatment_days": calendar.treatment_days,
            "sessions": arm.sessions,
            "shortest_interval_h": arm.shortest_interval_h(),
            "first": calendar.given[0].start.isoformat(timespec="minutes"),
            "last": calendar.given[-1].start.isoformat(timespec="minutes"),
        },
    }


def _failed(one: FailedArm) -> dict[str, Any]:
    return {"id": one.id, "title": one.title, "status": "failed", "reason": one.reason}


def _biology(arm: Arm) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, curves in arm.biology.bed.items():
        result[name] = [
            {
                "alpha_beta_gy": corner.alpha_beta_gy,
                "repair_half_time_h": corner.half_time_h,
                "mean_bed_gy": curve.mean_gy,
                "max_bed_gy": curve.max_gy,
                "mean_eqd2_gy": curve.mean_gy / (1.0 + 2.0 / corner.alpha_beta_gy),
                "max_eqd2_gy": curve.max_gy / (1.0 + 2.0 / corner.alpha_beta_gy),
            }
            for corner, curve in curves.items()
        ]
    return result


def _probability(one: Probability) -> dict[str, Any]:
    card = one.model
    return {
        "model": card.id,
        "endpoint": card.endpoint,
        "value": one.value,
        "low": one.low,
        "high": one.high,
        "within_the_models_range": one.trusted,
        "reason": one.reason,
        "band": one.band,
        "dose_basis": card.dose_basis,
        "source": card.source,
        "status": card.status,
    }


def _halves(arm: Arm, halves: HalvesOfArm) -> dict[str, Any]:
    return {
        "junction": halves.explanation,
        "overlap_cc": halves.overlap_cc,
        "overlap_mean_gy": None if halves.overlap is None else halves.overlap.mean_gy,
        "overlap_max_gy": None if halves.overlap is None else halves.overlap.max_gy,
        "halves": [
            {
                "target": half.target,
                "ctv": half.ctv,
                "own_plan_mean_gy": half.own_gy,
                "spilled_mean_gy": half.spilled.mean_gy,
                "spilled_max_gy": half.spilled.max_gy,
                "spilled_mean_percent_of_the_other_prescription": half.spilled_percent,
            }
            for half in halves.halves
        ],
    }


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def _csv(columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue()
