"""A case report made of a CT, masks and an invented dose: all that a real one has, without a planning run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.evaluation.constraints import constraint_table
from cantlie.evaluation.coverage import judge_coverage
from cantlie.evaluation.dvh import dvh
from cantlie.evaluation.indices import plan_indices
from cantlie.machine.aperture import FluenceMap
from cantlie.protocol.loading import load_protocol
from cantlie.report.case_report import (
    BeamRow,
    BiologyRow,
    CaseReport,
    CheckRow,
    FluenceView,
    NtcpRow,
    PlanView,
    Promise,
    Role,
    SessionRow,
    StructureView,
    TargetsView,
    VolumeRow,
)

Mask = NDArray[np.float32]


def phantom() -> tuple[Volume, dict[str, Mask]]:
    """Return an invented abdomen: CT in HU and masks."""
    grid = Grid((24, 60, 80), (4.0, 4.0, 6.0), (-158.0, -118.0, -70.0))
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")

    def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Mask:
        distance = np.sqrt(sum(((p - c) / r) ** 2 for p, c, r in zip((x, y, z), centre, radii, strict=True)))
        return np.clip((1.0 - distance) * min(radii) / 4.0 + 0.5, 0, 1).astype(np.float32)

    body = np.clip((1 - np.hypot(x / 150, y / 105)) * 30, 0, 1).astype(np.float32)
    liver = ball((-45, -20, 0), (70, 60, 48))
    masks = {
        "BODY": body,
        "Liver": liver,
        "GTV_1": ball((-60, -10, 5), (12, 12, 12)),
        "Stomach": ball((55, -30, 10), (28, 30, 30)),
        "SpinalCord": ball((0, 60, 0), (7, 7, 200)),
        "Kidney_L": ball((60, 40, -25), (22, 24, 40)),
        "Kidney_R": ball((-65, 50, -30), (22, 24, 40)),
        "Bag_Bowel": ball((20, -40, -50), (70, 40, 25)),
    }
    hu = -1000 + 1000 * body + 60 * liver + 20 * masks["Stomach"] + 700 * masks["SpinalCord"]
    return Volume(grid, hu.astype(np.float32)), masks


def invented_dose(ct: Volume, target: Mask, prescription_gy: float) -> Volume:
    """Return a dose that fills a target and falls off around it, with streaks along nine beams, on a coarser grid."""
    grid = ct.grid.resampled((4.0, 4.0, 5.0))
    mask = Volume(ct.grid, target).resample(grid).values
    sharp = ndimage.gaussian_filter(ndimage.maximum_filter(mask, size=3), 1.2)
    bath = ndimage.gaussian_filter(mask.astype(np.float64), (1.5, 9, 9))
    points = grid.points_mm()
    weights = mask / mask.sum()
    centre = (points * weights[..., None]).sum(axis=(0, 1, 2))
    angle = np.arctan2(points[..., 1] - centre[1], points[..., 0] - centre[0])
    rays = 0.75 + 0.25 * np.cos(9 * angle)
    dose = prescription_gy * np.clip(1.02 * sharp + (1 - sharp) * 1.1 * bath * rays, 0, 1.08)
    body = Volume(ct.grid, (ct.values > -500).astype(np.float32)).resample(grid).values > 0.5
    return Volume(grid, np.where(body, dose, 0.02 * prescription_gy * bath).astype(np.float32))


def make_report(
    ct: Volume, masks: Mapping[str, Mask], label: str = "phantom", created: datetime | None = None
) -> CaseReport:
    """Return a whole case report for a CT in HU and masks on its grid, with an invented dose."""
    grid = ct.grid
    liver = masks["Liver"]
    weights = liver / liver.sum()
    centre = np.array(
        [
            (weights.sum(axis=(0, 1)) @ grid.x_mm),
            weights.sum(axis=(0, 2)) @ grid.y_mm,
            weights.sum(axis=(1, 2)) @ grid.z_mm,
        ]
    )
    normal = np.array([0.86, -0.5, 0.1])
    side = (grid.points_mm() - centre - [18, 0, 0]) @ normal
    masks = dict(masks)
    masks["CTV1"] = (liver * (side <= 0)).astype(np.float32)
    masks["CTV2"] = (liver * (side > 0)).astype(np.float32)
    cells = [max(1, round(2 * m / s) | 1) for m, s in zip((5, 3, 3), grid.spacing_mm[::-1], strict=True)]
    for n in "12":
        masks[f"PTV{n}"] = ndimage.maximum_filter(masks[f"CTV{n}"], size=cells)
    lesions = [name for name in masks if name.startswith("GTV")]
    gtv = np.maximum.reduce([masks[name] for name in lesions])
    masks["Liver - GTV*"] = np.clip(liver - gtv, 0, 1)
    masks["Kidney_L + Kidney_R"] = np.maximum(masks["Kidney_L"], masks["Kidney_R"])
    if "SpinalCanal" not in masks:
        masks["SpinalCanal"] = masks["SpinalCord"]

    protocol = load_protocol("zhang2021-alternating")
    doses = {f"PTV{n}": invented_dose(ct, masks[f"PTV{n}"], 30.0) for n in "12"}
    course = Volume(doses["PTV1"].grid, doses["PTV1"].values + doses["PTV2"].values)
    roles: dict[str, Role] = {"PTV1": "target", "PTV2": "target", "CTV1": "ctv", "CTV2": "ctv", "BODY": "body"}
    roles |= dict.fromkeys(lesions, "gtv")
    hidden = {"Liver - GTV*", "Kidney_L + Kidney_R"}
    order = sorted(
        (n for n in masks if n not in hidden), key=lambda n: (list("tcgob").index(roles.get(n, "organ")[0]), n)
    )
    views = [StructureView(n, Volume(grid, masks[n]), roles.get(n, "organ")) for n in order]
    dvhs = {n: dvh(course, m, grid, name=n) for n, m in masks.items()}
    plans = []
    start = datetime(2026, 1, 5, 8, 0)
    rng = np.random.default_rng(1)
    for n, label_ in enumerate(("PTV1", "PTV2")):
        own = {name: dvh(doses[label_], masks[name], grid, name=name) for name in masks}
        beams = [
            BeamRow(
                m + 1,
                f"{label_[-1]}-{m + 1}",
                float(a),
                0.0,
                0.0,
                float(60 + 30 * rng.random()),
                int(rng.integers(5, 12)),
                (-72.0, 68.5),
                (-95.0, 95.0),
            )
            for m, a in enumerate(range(0, 360, 40))
        ]
        edge = np.arange(-100, 100.1, 5.0)
        shape = np.hypot(edge[None] / 70, edge[:, None] / 90) < 1
        turn = np.linspace(0, 2 * np.pi, 90)
        outline = np.c_[68 * np.cos(turn), 88 * np.sin(turn)]
        fluences = [
            FluenceView(
                b.name,
                FluenceMap(edge, edge, shape * ndimage.gaussian_filter(rng.random(shape.shape), 2) * 2 * b.mu),
                (outline,),
            )
            for b in beams
        ]
        plans.append(
            PlanView(
                label_,
                label_,
                doses[label_],
                30.0,
                15,
                "mean dose of the target = 30 Gy from its own plan",
                (float(centre[0] - 30 + 90 * n), float(centre[1]), float(centre[2])),
                beams,
                own,
                fluences,
                [plan_indices(own[label_], own["BODY"], 30.0, 27.0)],
                [
                    Promise(f"{label_} mean", "Gy", 30.0, 30.02),
                    Promise(f"{label_} D95%", "Gy", 28.61, 28.44),
                    Promise("SpinalCord Dmax", "Gy", 14.2, 14.9),
                ],
                delivery_minutes=6.4,
                delivery_note="Estimated from MU, segments, leaf travel and gantry rotation at the machine's limits.",
                technique="step-and-shoot IMRT, 9 coplanar fields, 6 MV",
            )
        )
    sessions = []
    for fraction in range(15):
        day = start + timedelta(days=fraction + 2 * (fraction // 5))
        for n, hours in enumerate((0, 6)):
            gap = None if fraction == n == 0 else (6.0 if n else 18.0)
            sessions.append(
                SessionRow(2 * fraction + n + 1, day + timedelta(hours=hours), f"PTV{n + 1}", fraction + 1, 2.0, gap)
            )
    rules = [judge_coverage(rule, dvhs[rule.target], 30.0) for rule in protocol.coverage]
    return CaseReport(
        title="Semi-hepatic alternating IMRT",
        subtitle="Zhang et al. 2021, arm A, planned on one case",
        case_label=label,
        created=created or datetime(2026, 1, 2, 9, 30, tzinfo=UTC),
        version="0.1.0",
        protocol_id=protocol.id,
        protocol_summary=protocol.summary,
        ct=ct,
        structures=views,
        plans=plans,
        course_dose=course,
        course_prescription_gy=30.0,
        course_dvhs={n: d for n, d in dvhs.items() if n not in ("BODY", "Kidney_L", "Kidney_R")},
        constraints=constraint_table(protocol.constraints, dvhs, 30.0),
        coverage=rules,
        course_indices=[plan_indices(dvhs["PTV1"], dvhs["BODY"], 30.0, 27.0)],
        targets=TargetsView(
            [
                ("Dividing plane", "gallbladder fossa to vena cava"),
                ("Method", "liver and cord with a prior of the right share"),
                ("Right share", "62 ± 7 %"),
                ("Junction", "overlap, as printed"),
                ("Margins LR / AP / CC", "3 / 3 / 5 mm"),
                ("Overlap of PTV1 and PTV2", "128.4 cc"),
            ],
            [VolumeRow(n, dvhs[n].volume_cc, "") for n in ("Liver", "CTV1", "CTV2", "PTV1", "PTV2")],
            ["Couinaud segments: not contoured", "gallbladder and vena cava: not contoured", "liver and cord: used"],
            tuple(float(v) for v in centre + np.array([18, 0, 0])),  # type: ignore[arg-type]
            tuple(float(v) for v in normal),  # type: ignore[arg-type]
        ),
        sessions=sessions,
        course_note="Times are local. No session falls on a weekend.",
        biology=[
            BiologyRow("Liver - GTV*", "mean EQD2 (α/β = 2.5 Gy)", 28.31, "Gy", 27.9),
            BiologyRow("PTV1", "mean BED (α/β = 10 Gy)", 36.4, "Gy", 30.2, "no time factor"),
        ],
        ntcp=[
            NtcpRow(
                "RILD",
                "LKB, n = 1.1, m = 0.18, TD50 = 40.5 Gy",
                0.043,
                0.012,
                0.11,
                "doi:10.1016/S0360-3016(02)02846-8",
            )
        ],
        checks=[CheckRow("PTV1", "gamma 3 % / 2 mm global", 98.7, "%", "≥ 95 %", "pass")],
        notes=[
            Note("the small bowel is not contoured; the bowel bag stands in", "Bowel_Small"),
            Note("end slices are capped by half a slice", "Liver", "info"),
        ],
        protocol_choices=[("coverage.volume_percent", "not stated; 95 % is the usual meaning of 'covered'")],
        provenance=[
            ("Protocol", protocol.id),
            ("Protocol SHA-256", protocol.sha256),
            ("Machine", "generic-6mv-mlci"),
            ("Python", "3.12"),
        ],
        citations=["Zhang J et al. Technol Cancer Res Treat 2021;20:1-10. doi:10.1177/15330338211051808"],
        attributions=["Invented data"],
    )
