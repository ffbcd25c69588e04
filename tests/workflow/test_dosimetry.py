"""Doses judged by a protocol: organs that the CT does not show whole."""

import numpy as np

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.patient.regions import Regions
from cantlie.protocol.loading import load_protocol
from cantlie.workflow.dosimetry import COURSE, judge_doses

GRID = Grid((10, 12, 12), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))


def box(*slices: slice) -> np.ndarray:
    mask = np.zeros(GRID.shape, dtype=np.float32)
    mask[slices] = 1.0
    return mask


def test_shares_of_organs_cut_by_the_ct_are_told_apart() -> None:
    regions = Regions(
        GRID,
        {
            "BODY": np.ones(GRID.shape, dtype=np.float32),
            "Liver": box(slice(1, 10), slice(2, 8), slice(2, 8)),
            "PTV": box(slice(4, 6), slice(3, 5), slice(3, 5)),
            "Kidney_L": box(slice(0, 3), slice(8, 11), slice(2, 4)),
            "Kidney_R": box(slice(1, 3), slice(8, 11), slice(8, 10)),
            "SpinalCord": box(slice(0, 10), slice(9, 10), slice(6, 7)),
            "Stomach": box(slice(3, 6), slice(9, 11), slice(2, 4)),
        },
    )
    protocol = load_protocol("liu2022-sbrt")
    dose = Volume(GRID, np.full(GRID.shape, 10.0, dtype=np.float32))
    found = judge_doses(regions, protocol, {COURSE: dose, "PTV": dose}, {"PTV": 42.0})
    reasons = {(row.structure, row.metric): row.reason for row in found.constraints}
    for cut in (("Kidney_L + Kidney_R", "V15Gy[%]"), ("Liver - GTV*", "Dmean"), ("Liver - GTV*", "CV15Gy[cc]")):
        assert "the CT ends within it" in reasons[cut]
    assert reasons["Stomach", "Dmax"] == "" and reasons["SpinalCord", "Dmax"] == ""
    said = {note.where: note.message for note in found.notes if "the CT ends" in note.message}
    assert set(said) == {"Kidney_L + Kidney_R", "Liver - GTV*"}
    assert "Dmean, CV15Gy[cc]" in said["Liver - GTV*"]


def test_conformity_is_judged_on_the_isodose_that_is_to_cover_the_target() -> None:
    target = box(slice(3, 7), slice(3, 9), slice(3, 9))
    body = np.ones(GRID.shape, dtype=np.float32)
    regions = Regions(GRID, {"BODY": body, "PTV1": target, "PTV2": target, "PTV": target})
    dose = Volume(GRID, (28.0 * target).astype(np.float32))  # between 90 % and 100 % of 30 Gy
    doses = {COURSE: dose, "PTV1": dose, "PTV2": dose}
    found = judge_doses(regions, load_protocol("zhang2021-alternating"), doses, {"PTV1": 30.0, "PTV2": 30.0})
    for row in (found.indices["PTV1"][0], *found.indices[COURSE]):
        assert row.prescription_gy == 30.0 and row.reference_gy == 27.0
        assert row.paddick_conformity > 0.5  # nothing gets 30 Gy; the dose falls off within a voxel
    stereotactic = judge_doses(regions, load_protocol("liu2022-sbrt"), {COURSE: dose, "PTV": dose}, {"PTV": 42.0})
    assert stereotactic.indices["PTV"][0].reference_gy == 42.0
