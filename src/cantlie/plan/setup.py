"""What stands before the optimisation: rules, masks, voxels, beam directions, beamlets and their influence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import PlanningError
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part, silent
from cantlie.core.volume import Volume
from cantlie.dose.influence import Beamlets, influence_matrix
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.beam_model_file import beam_of
from cantlie.plan.beams import region_points_mm
from cantlie.plan.directions import BODY
from cantlie.plan.fields import FieldSet
from cantlie.plan.goals import Rule, full_part, graded_part, rules_of_protocol
from cantlie.plan.imaged_length import imaged_length_notes
from cantlie.plan.raster import Raster, source_blur
from cantlie.plan.request import PlanningRequest, PlanTarget
from cantlie.plan.skin import skin_notes
from cantlie.plan.technique import Site, Technique
from cantlie.plan.voxels import PlanningVoxels, planning_voxels
from cantlie.target.recipes import resolve_first

Fractions = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """Everything that the optimisation works with.

    Parameters
    ----------
    rules
        The rules of the protocol that can be judged in this patient.
    masks
        Region of every rule, target and structure to be spared, on the CT grid.
    minimise
        Names of the structures to be spared as far as possible.
    voxels
        The optimiser's voxels.
    plans
        The fields of each target's plan.
    model
        The beam model.
    notes
        What is missing or was chosen.
    """

    rules: tuple[Rule, ...]
    masks: Mapping[str, Fractions]
    minimise: tuple[str, ...]
    voxels: PlanningVoxels
    plans: tuple[FieldSet, ...]
    model: BeamModel
    notes: tuple[Note, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Structures that have rules, each once."""
        return tuple(dict.fromkeys(rule.structure for rule in self.rules))


def prepare(request: PlanningRequest, technique: Technique, progress: Progress = silent) -> Setup:
    """Return the set-up of a request, with the directions of a technique.

    Raises
    ------
    PlanningError
        If a target is empty or the machine cannot reach it or has no leaves.
    """
    if request.machine.mlc is None:
        raise PlanningError(
            f"{request.machine.id} has no multileaf collimator, and Cantlie shapes the fields that it plans by leaves",
            where="machine",
            remedy="choose a machine with leaves",
        )
    settings = request.settings
    notes: list[Note] = []
    progress(0.0, "preparing masks")
    rules, masks, minimise = _masks(request, notes)
    target_names = tuple(target.name for target in request.targets)
    organs = tuple(name for name in masks if name not in (*target_names, BODY))
    maxima = dict.fromkeys(r.structure for r in rules if r.metric.kind == "max" and r.structure in organs)
    voxels = planning_voxels(
        request.density.grid,
        masks,
        body=BODY,
        targets=target_names,
        organs=organs,
        voxel_mm=settings.voxel_mm,
        max_voxels=settings.max_voxels,
        maxima=maxima,
    )
    progress(0.1, "choosing beam directions")
    model = beam_of(request.machine)
    plans = []
    width = settings.beamlet_mm or request.protocol.technique.beamlet_mm
    for number, target in enumerate(request.targets):
        step = part(progress, 0.1 + 0.9 * number / len(target_names), 0.1 + 0.9 * (number + 1) / len(target_names))
        notes.extend(skin_notes(target.name, masks[target.name], masks[BODY], request.density.grid))
        notes.extend(imaged_length_notes(target.name, masks[target.name], request.density.grid))
        points = region_points_mm(request.density.grid, masks[target.name], 0.8 * width)
        site = Site(request, target, points, masks, notes, part(step, 0.0, 0.5))
        rasters = technique.rasters(site, technique.directions(site), width)
        plans.append(_field_set(request.density, rasters, model, voxels, target, part(step, 0.5, 1.0)))
    return Setup(rules, masks, minimise, voxels, tuple(plans), model, tuple(notes))


def _masks(
    request: PlanningRequest, notes: list[Note]
) -> tuple[tuple[Rule, ...], dict[str, Fractions], tuple[str, ...]]:
    regions, protocol = request.regions, request.protocol
    masks: dict[str, Fractions] = {target.name: regions[target.name] for target in request.targets}
    masks[BODY] = regions[BODY] if BODY in regions else (request.density.values > 0.3).astype(np.float32)
    missing: set[str] = set()
    stand_ins = {constraint.structure: constraint.stand_ins for constraint in protocol.constraints}
    rules = []
    for name, level in request.levels.items():
        masks[graded_part(name)] = masks[name] * level
        masks[full_part(name)] = masks[name] * (level > 1.0 - 1e-3)
    for rule in rules_of_protocol(protocol, request.targets):
        if rule.structure in request.levels and rule.kind != "constraint":
            rule = replace(rule, structure=full_part(rule.structure))
        if rule.structure not in masks and rule.structure not in missing:
            found = resolve_first(regions, rule.structure, stand_ins.get(rule.structure, ()))
            if found is None:
                missing.add(rule.structure)
                notes.append(Note("is not contoured, so its limits cannot be planned for", rule.structure))
            else:
                masks[rule.structure] = found.fractions
                notes.extend(found.notes)
        if rule.structure in masks:
            rules.append(rule)
    minimise = []
    for name in protocol.minimise:
        if name not in masks:
            found = resolve_first(regions, name, stand_ins.get(name, ()))
            if found is None:
                continue
            masks[name] = found.fractions
        minimise.append(name)
    return tuple(rules), masks, tuple(minimise)


def _field_set(
    density: Volume,
    rasters: tuple[Raster, ...],
    model: BeamModel,
    voxels: PlanningVoxels,
    target: PlanTarget,
    progress: Progress,
) -> FieldSet:
    # The influence is that of fluence as it arrives: the source's blur and profile are in `SourceBlur`.
    plain = model.model_copy(update={"off_axis_fluence": (), "focal_spot_sigma_mm": 0.0, "extra_focal_fraction": 0.0})
    beamlets = []
    for raster in rasters:
        x, y = raster.centres_mm()
        beamlets.append(Beamlets(raster.geometry, x[raster.used], y[raster.used], raster.width_mm))
    influence = influence_matrix(density, beamlets, plain, voxels.grid, voxels.index, progress=progress)
    blurs = tuple(source_blur(raster, model) for raster in rasters)
    return FieldSet(rasters, blurs, influence, target.fractions)
