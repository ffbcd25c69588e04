"""The liver divided: the chain of ways to find the plane, exact halves, segments, equal volumes, lesions."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.errors import GeometryError, StructureError
from cantlie.core.grid import Grid
from cantlie.patient.regions import Regions
from cantlie.protocol.sections import Split
from cantlie.target.halves import divide_liver
from cantlie.target.plane import Plane

_spec = importlib.util.spec_from_file_location("target_shapes", Path(__file__).with_name("shapes.py"))
shapes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(shapes)

GRID = Grid((40, 60, 70), (4.0, 4.0, 5.0), (-138.0, -118.0, -98.0))


@pytest.fixture(scope="module")
def patient():
    """A model abdomen: a liver wedge, gallbladder, vena cava and cord where a patient has them."""
    z, y, x = np.meshgrid(GRID.z_mm, GRID.y_mm, GRID.x_mm, indexing="ij")
    liver = ((x + 60) / 70) ** 2 + ((y + 20) / 60) ** 2 + (z / 75) ** 2 <= 1
    cava = (x + 15) ** 2 + (y - 10) ** 2 <= 10**2
    gallbladder = ((x + 62) / 14) ** 2 + ((y + 45) / 20) ** 2 + ((z + 40) / 20) ** 2 <= 1
    cord = (x - 3) ** 2 + (y - 75) ** 2 <= 7**2
    lesion = (x + 100) ** 2 + (y + 10) ** 2 + z**2 <= 15**2
    middle = (x + 40) ** 2 + (y + 18) ** 2 + (z - 10) ** 2 <= 15**2
    masks = {
        "Liver": liver & ~gallbladder & ~cava,
        "Gallbladder": gallbladder,
        "V_Venacava_I": cava,
        "SpinalCord": cord,
        "GTV_1": lesion,
        "GTV_2": middle,
    }
    return Regions(GRID, {name: mask.astype(np.float32) for name, mask in masks.items()})


def _without(regions, *names):
    return Regions(regions.grid, {k: v for k, v in regions.fractions.items() if k not in names})


def test_plane_goes_from_gallbladder_to_vena_cava(patient):
    halves = divide_liver(patient, Split(), lesions=("GTV_1", "GTV_2"))
    assert halves.method == "gallbladder and vena cava"
    assert halves.plane.distance_mm([(-62, -45, -40), (-15, 10, 30)]) == pytest.approx([0, 0], abs=2.0)
    assert halves.plane.normal[0] > 0
    assert [step.used for step in halves.chain] == [True]
    low, high = halves.right_fraction_range
    assert low <= halves.right_fraction <= high
    assert [(side.name, side.crosses) for side in halves.lesions] == [("GTV_1", False), ("GTV_2", True)]
    assert halves.lesions[0].right_share == pytest.approx(1.0)


def test_full_anatomy_is_known_to_5_mm_and_the_range_holds_planes_that_far_away(patient):
    halves = divide_liver(patient, Split())
    assert halves.uncertainty_mm == 5.0
    weights = patient["Liver"].ravel()
    away = halves.plane.distance_mm(GRID.points_mm().reshape(-1, 3))
    low, high = halves.right_fraction_range
    for shift in (-5.0, 5.0):
        share = weights[away < shift].sum() / weights.sum()
        assert low - 0.01 <= share <= high + 0.01


def test_halves_add_up_to_the_liver_voxel_by_voxel(patient):
    for method in ("anatomy", "volume_equal"):
        halves = divide_liver(patient, Split(method=method))
        assert np.allclose(halves.right + halves.left, patient["Liver"], atol=1e-6)
        assert halves.right.min() >= 0 and halves.left.min() >= 0
        assert halves.right_cc + halves.left_cc == pytest.approx(patient.volume_cc("Liver"), rel=1e-6)


@pytest.mark.parametrize(
    ("missing", "method"),
    [
        (("V_Venacava_I",), "gallbladder and cord"),
        (("Gallbladder",), "cord and liver, with the usual share of the right half"),
        (("Gallbladder", "V_Venacava_I", "SpinalCord"), "liver alone, with the usual share of the right half"),
    ],
)
def test_chain_falls_back_and_says_why(patient, missing, method):
    halves = divide_liver(_without(patient, *missing), Split())
    assert halves.method == method
    assert halves.chain[-1].used and not any(step.used for step in halves.chain[:-1])
    assert "not contoured" in halves.chain[0].outcome
    # each fallback is less sure than full anatomy, and its range still holds what anatomy says
    full = divide_liver(patient, Split())
    assert halves.uncertainty_mm > full.uncertainty_mm
    low, high = halves.right_fraction_range
    assert low - 0.03 <= full.right_fraction <= high + 0.03
    if "usual share" in method:
        assert abs(halves.right_fraction - 0.62) < 0.1
        assert any("anatomy" in note.message for note in halves.notes)


def test_landmarks_that_make_no_sense_are_not_used(patient):
    far = np.zeros(GRID.shape, np.float32)
    far[:, -8:, -8:] = 1.0
    halves = divide_liver(patient.with_region("Gallbladder", far), Split())
    assert "away from the liver" in halves.chain[0].outcome
    assert halves.method.startswith("cord and liver")
    above = np.zeros(GRID.shape, np.float32)
    above[-1:, 30:33, 30:33] = 1.0
    assert "level of the liver" in divide_liver(patient.with_region("V_Venacava_I", above), Split()).chain[0].outcome


def test_equal_volumes_are_equal(patient):
    halves = divide_liver(patient, Split(method="volume_equal"))
    assert halves.right_fraction == pytest.approx(0.5, abs=0.002)
    assert halves.plane.normal == divide_liver(patient, Split()).plane.normal


def test_given_plane_is_taken_as_it_is(patient):
    split = Split(method="plane", plane_point_mm=(-60.0, -20.0, 0.0), plane_normal=(-2.0, 0.0, 0.0))
    halves = divide_liver(patient, split)
    assert halves.plane.normal == (1.0, 0.0, 0.0)
    assert halves.right_fraction == pytest.approx(0.5, abs=0.05)
    with pytest.raises(StructureError, match="leaves 100% of the liver"):
        divide_liver(patient, Split(method="plane", plane_point_mm=(200.0, 0.0, 0.0), plane_normal=(1.0, 0.0, 0.0)))
    with pytest.raises(GeometryError, match="does not divide right from left"):
        divide_liver(patient, Split(method="plane", plane_point_mm=(-60.0, 0.0, 0.0), plane_normal=(0.0, 1.0, 0.0)))


def test_segments_come_before_the_plane_and_give_it_back(patient):
    truth = Plane.facing_left((-40.0, -15.0, 0.0), (0.8, -0.55, 0.1))
    liver = patient["Liver"]
    right = liver * truth.right_share(GRID)
    upper = (GRID.z_mm > 0).astype(np.float32)[:, None, None]
    segments = {
        "Liver_S8": right * upper,
        "Liver_S6": right * (1 - upper),
        "Liver_S2": (liver - right) * upper,
        "Liver_S4": (liver - right) * (1 - upper),
    }
    regions = Regions(GRID, {**patient.fractions, **segments})
    halves = divide_liver(regions, Split())
    assert halves.method == "Couinaud's segments"
    assert np.allclose(halves.right, right, atol=1e-5)
    assert np.degrees(np.arccos(np.dot(halves.plane.normal, truth.normal))) < 4
    assert abs(float(truth.distance_mm(halves.plane.point_mm))) < 4
    assert halves.right_fraction == pytest.approx(right.sum() / liver.sum(), abs=1e-4)


def test_segments_that_are_missing_are_asked_for(patient):
    with pytest.raises(StructureError, match="segments are not contoured"):
        divide_liver(patient, Split(method="couinaud"))


def test_caudate_lobe_goes_where_the_protocol_says(patient):
    caudate = shapes.sphere(GRID, (-30.0, 0.0, 20.0), 12.0)
    regions = patient.with_region("Liver_S1", np.minimum(caudate, patient["Liver"]))
    shares = {
        side: divide_liver(regions, Split(caudate=side)).caudate_right_share for side in ("right", "left", "by_plane")
    }
    assert shares["right"] == pytest.approx(1, abs=1e-3)
    assert shares["left"] == pytest.approx(0, abs=1e-3)
    assert 0 <= shares["by_plane"] <= 1
    assert divide_liver(regions, Split()).caudate_cc == pytest.approx(regions.volume_cc("Liver_S1"), rel=0.01)
    assert any("caudate" in note.message for note in divide_liver(patient, Split(caudate="left")).notes)


@pytest.mark.parametrize("missing", [(), ("SpinalCord",)])
def test_a_liver_on_the_left_is_noted(patient, missing):
    points = GRID.points_mm()
    body = ((points[..., 0] / 130) ** 2 + (points[..., 1] / 110) ** 2 <= 1).astype(np.float32)
    usual = _without(patient.with_region("BODY", body), *missing)
    assert not any("on the patient's left" in note.message for note in divide_liver(usual, Split()).notes)
    mirrored = Regions(GRID, {name: np.flip(mask, 2).copy() for name, mask in usual.fractions.items()})
    plane = Split(method="plane", plane_point_mm=(40, 0, 0), plane_normal=(1, 0, 0))
    for split in (plane, Split()):
        (note,) = [n for n in divide_liver(mirrored, split).notes if "on the patient's left" in n.message]
        assert "situs inversus" in note.message and note.level == "warning"


def test_a_liver_cut_by_the_ct_is_noted(patient):
    cut = Regions(
        Grid((20, 60, 70), GRID.spacing_mm, GRID.origin_mm), {k: v[:20] for k, v in patient.fractions.items()}
    )
    assert any("highest slice" in note.message for note in divide_liver(cut, Split()).notes)


def test_no_liver_is_refused(patient):
    with pytest.raises(StructureError, match="no liver"):
        divide_liver(_without(patient, "Liver"), Split())


@settings(deadline=None, max_examples=60)
@given(
    normal=st.tuples(st.floats(0.1, 1), st.floats(-1, 1), st.floats(-1, 1)),
    point=st.tuples(*[st.floats(-20, 20)] * 3),
    spacing=st.tuples(*[st.floats(0.5, 6)] * 3),
)
def test_voxel_shares_of_a_plane_are_exact(normal, point, spacing):
    grid = Grid((3, 4, 5), spacing, (-5.0, -6.0, -4.0))
    plane = Plane.facing_left(point, normal)
    share = plane.right_share(grid)
    n = 12
    offsets = (np.arange(n) + 0.5) / n - 0.5
    steps = np.stack(np.meshgrid(offsets, offsets, offsets, indexing="ij"), axis=-1).reshape(-1, 3) * np.asarray(
        spacing
    )
    samples = (plane.distance_mm(grid.points_mm()[..., None, :] + steps) < 0).mean(axis=-1)
    assert np.abs(share - samples).max() < 0.08
    assert abs(float(share.sum() - samples.sum())) < 0.02 * share.size
