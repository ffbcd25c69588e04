"""EQD2 of summed plans beside their physical dose: structure by structure, and the risk of liver disease from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cantlie.core.progress import Progress, silent
from cantlie.evaluation.dvh import Dvh, dvh
from cantlie.patient.regions import Regions
from cantlie.protocol.schema import Protocol
from cantlie.radiobiology.model import Estimate
from cantlie.radiobiology.ntcp import hytec_enzyme_risk, rild
from cantlie.target.build import ALL_LESIONS, NORMAL_LIVER, OVERLAP
from cantlie.target.recipes import resolve_first
from cantlie.workflow.plan_doses import SummedPlans
from cantlie.workflow.rild_band import with_band


@dataclass(frozen=True, slots=True, eq=False)
class SummedBiology:
    """DVHs of the EQD2 by structure, each with the α/β that it was calculated with, and risks with their bands."""

    curves: Mapping[str, Dvh]
    alpha_beta_gy: Mapping[str, float]
    risks: tuple[Estimate, ...]


def biology_of_sum(
    summed: SummedPlans, regions: Regions, protocol: Protocol, physical: Mapping[str, Dvh], progress: Progress = silent
) -> SummedBiology | None:
    """Return the EQD2 of summed plans; None where the fractions of a plan are not known.

    Targets and lesions are judged with the tumour's α/β, liver with the liver's, all else with that of late effects in
    organs, as the protocol gives them. Repair between fractions is complete.

    Parameters
    ----------
    physical
        DVHs of the physical sum: its structures are judged.
    """
    if not summed.has_fractions:
        return None
    masks = {name: mask for name, mask in _masks(regions, protocol, physical).items() if name != "BODY"}
    biology = protocol.biology
    tumour = {
        *protocol.target_ids,
        *(target.ctv_id for target in protocol.targets),
        ALL_LESIONS,
        OVERLAP,
        *(name for name in masks if name.upper().startswith(("GTV", "CTV", "ITV", "PTV"))),
    }
    values = {
        name: biology.alpha_beta_tumour_gy
        if name in tumour
        else biology.alpha_beta_liver_gy
        if name.startswith("Liver")
        else biology.alpha_beta_organs_gy
        for name in masks
    }
    curves: dict[str, Dvh] = {}
    for number, alpha_beta in enumerate(sorted(set(values.values()))):
        progress(number / len(set(values.values())), f"EQD2 with alpha/beta {alpha_beta:g} Gy")
        volume = summed.eqd2(alpha_beta)
        for name, value in values.items():
            if value == alpha_beta:
                curves[name] = dvh(volume, masks[name], regions.grid, name=name)
    risks: list[Estimate] = []
    liver = next((name for name in (NORMAL_LIVER, protocol.normal_liver) if name in curves), None)
    if liver is not None:
        curve = curves[liver]
        risk = rild(
            0.5 * (curve.dose_gy[:-1] + curve.dose_gy[1:]),
            curve.differential_cc,
            liver_disease=biology.liver_disease,
            largest_dose_per_fraction_gy=summed.largest_fraction_gy,
        )
        risks.append(
            with_band(
                risk,
                lambda corner: summed.bed(corner.alpha_beta_gy),
                masks[liver],
                regions.grid,
                biology,
                (None,),
                summed.largest_fraction_gy,
            )
        )
        fractions = sum(plan.fractions or 0 for plan in summed.plans)
        if fractions <= 6 and liver in physical:
            risks.append(hytec_enzyme_risk(physical[liver].mean_gy, fractions))
    return SummedBiology(curves, values, tuple(risks))


def eqd2_metrics(biology: SummedBiology | None, physical: Mapping[str, Dvh]) -> dict[str, Any] | None:
    """Return EQD2 and physical dose of every structure in columns of their own, for results.json."""
    if biology is None:
        return None
    rows: dict[str, Any] = {}
    for name, curve in biology.curves.items():
        row: dict[str, float] = {"alpha_beta_gy": biology.alpha_beta_gy[name]}
        for kind, of_kind in (("physical", physical.get(name)), ("eqd2", curve)):
            if of_kind is not None:
                d2, d95 = (float(value) for value in of_kind.dose_at_percent_gy(np.array([2.0, 95.0])))
                row |= {
                    f"Dmean_{kind}_gy": of_kind.mean_gy,
                    f"Dmax_{kind}_gy": of_kind.max_gy,
                    f"D2%_{kind}_gy": d2,
                    f"D95%_{kind}_gy": d95,
                }
        rows[name] = row
    return rows


def _masks(regions: Regions, protocol: Protocol, physical: Mapping[str, Dvh]) -> dict[str, NDArray[np.float32]]:
    masks = {name: regions[name] for name in physical if name in regions}
    for rule in (*protocol.constraints, *protocol.reference_limits):
        found = resolve_first(regions, rule.structure, rule.stand_ins)
        if found is not None and found.name in physical:
            masks.setdefault(found.name, found.fractions)
    liver = resolve_first(regions, protocol.normal_liver, ())
    if liver is not None and NORMAL_LIVER not in masks:
        masks.setdefault(liver.name, liver.fractions)
    return masks
