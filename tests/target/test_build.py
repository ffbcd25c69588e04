"""Targets of a protocol: margins, junction policies, clipping, lesions, recipes."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cantlie.core.errors import StructureError
from cantlie.core.grid import Grid
from cantlie.patient.regions import Regions
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.sections import Margins, Split, Target
from cantlie.target.build import build_targets
from cantlie.target.junction import feather_offset_of_session, feather_offsets_mm
from cantlie.target.recipes import resolve, resolve_first

_spec = importlib.util.spec_from_file_location("target_shapes", Path(__file__).with_name("shapes.py"))
shapes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(shapes)

GRID = Grid((34, 50, 60), (3.0, 3.0, 3.0), (-88.0, -73.0, -50.0))
PLANE = {"method": "plane", "plane_point_mm": (-10.0, 0.0, 0.0), "plane_normal": (1.0, 0.0, 0.0)}


@pytest.fixture(scope="module")
def regions():
    return Regions(
        GRID,
        {
            "BODY": shapes.box(GRID, (-85, -70, -60), (85, 70, 60)),
            "Liver": shapes.box(GRID, (-60.0, -30.0, -30.0), (30.0, 30.0, 30.0)),
            "GTV_1": shapes.sphere(GRID, (-40, 0, 0), 9.0),
            "GTV_2": shapes.sphere(GRID, (10, 5, 5), 12.0),
            "Kidney_L": shapes.box(GRID, (40, 20, -30), (60, 50, 20)),
        },
    )


def _protocol(**split):
    protocol = load_protocol("zhang2021-alternating")
    return protocol.model_copy(update={"split": Split(**PLANE, **split)})


def test_printed_margins_overlap_at_the_plane(regions):
    result = build_targets(regions, _protocol())
    right, left = result.targets

    # a box grown by an ellipsoid of 3, 3, 5 mm: faces, edges, corners
    def grown(a, b, c, x=3.0, y=3.0, z=5.0):
        edges = np.pi * (a * y * z + b * x * z + c * x * y)
        return (a * b * c + 2 * (a * b * z + a * c * y + b * c * x) + edges + 4 / 3 * np.pi * x * y * z) / 1000

    assert right.ctv_cc == pytest.approx(50 * 60 * 60 / 1000, rel=0.002)
    assert left.ctv_cc == pytest.approx(40 * 60 * 60 / 1000, rel=0.002)
    assert right.ptv_cc == pytest.approx(grown(50, 60, 60), rel=0.01)
    assert left.ptv_cc == pytest.approx(grown(40, 60, 60), rel=0.01)
    # both reach 3 mm beyond the plane over the grown cross section
    cross_section = 60 * 60 + 2 * 60 * (3 + 5) + np.pi * 15
    assert result.junction.overlap_cc == pytest.approx(6 * cross_section / 1000, rel=0.05)
    assert result.volumes_cc["PTV_overlap"] == pytest.approx(result.junction.overlap_cc)
    assert result.volumes_cc["Liver-GTV"] == pytest.approx(
        regions.volume_cc("Liver") - result.volumes_cc["GTV_all"], rel=1e-5
    )


def test_abut_and_gap_end_where_they_say(regions):
    overlap = build_targets(regions, _protocol())
    whole_cc = overlap.targets[0].ptv_cc + overlap.targets[1].ptv_cc - overlap.junction.overlap_cc
    abut = build_targets(regions, _protocol(junction="abut"))
    assert abut.junction.overlap_cc == 0
    assert abut.targets[0].ptv_cc + abut.targets[1].ptv_cc == pytest.approx(whole_cc, rel=0.005)
    gap = build_targets(regions, _protocol(junction="gap", gap_mm=10.0))
    cross_section = 60 * 60 + 2 * 60 * (3 + 5) + np.pi * 15
    assert gap.junction.untreated_cc == pytest.approx(10 * cross_section / 1000, rel=0.05)
    x = GRID.x_mm
    assert not gap.ptv("PTV1")[:, :, x > -13].any() and not gap.ptv("PTV2")[:, :, x < -7].any()


def test_feather_hands_over_in_even_steps(regions):
    split = Split(**PLANE, junction="feather", feather_mm=30.0, feather_steps=5)
    assert feather_offsets_mm(split) == pytest.approx((-12, -6, 0, 6, 12))
    assert [feather_offset_of_session(split, n) for n in (0, 4, 5, 14)] == pytest.approx([-12, 12, -12, 12])
    result = build_targets(regions, _protocol(junction="feather", feather_mm=30.0, feather_steps=5))
    level = result.junction.right_level
    both = (result.ptv("PTV1") > 0) | (result.ptv("PTV2") > 0)
    assert np.allclose((level + result.junction.left_level)[both], 1)
    line = level[17, 25, :]
    x = GRID.x_mm
    assert line[x < -26][-3] == pytest.approx(1) and line[x > 6][0] == pytest.approx(0)
    assert line[np.argmin(abs(x + 10))] == pytest.approx(0.5, abs=0.11)
    assert (np.diff(line[(x > -40) & (x < 20)]) <= 1e-6).all()
    assert "one session" in result.junction.explanation


def test_ptv_is_clipped_to_the_body_and_says_by_how_much(regions):
    tight = regions.with_region("BODY", shapes.box(GRID, (-61, -70, -60), (85, 70, 60)))
    result = build_targets(tight, _protocol())
    assert (result.ptv("PTV1") <= tight["BODY"] + 1e-6).all()
    assert result.targets[0].outside_body_cc == pytest.approx(2 * 60 * 60 / 1000, rel=0.25)
    assert result.targets[1].outside_body_cc == 0


def test_targets_from_lesions(regions):
    def with_targets(*targets):
        return load_protocol("zhang2021-alternating").model_copy(update={"targets": targets, "split": None})

    five = Margins.model_validate(5.0)
    union_target = Target(id="PTV", recipe="gtv_union", ptv_margin_mm=five)
    result = build_targets(regions, with_targets(union_target))
    assert result.lesions == ("GTV_1", "GTV_2")
    assert result.volumes_cc["CTV"] == pytest.approx(4 / 3 * np.pi * (9**3 + 12**3) / 1000, rel=0.01)
    assert result.volumes_cc["PTV"] == pytest.approx(4 / 3 * np.pi * (14**3 + 17**3) / 1000, rel=0.015)
    boost = Target(
        id="PTV_boost", recipe="largest_gtv", ctv_margin_mm=Margins.model_validate(20.0), clip_ctv_to="Liver"
    )
    result = build_targets(regions, with_targets(boost))
    assert result.volumes_cc["CTV_boost"] < 0.95 * 4 / 3 * np.pi * 32**3 / 1000
    assert (result.regions["CTV_boost"] <= regions["Liver"] + 1e-6).all()
    whole = Target(id="PTV", recipe="whole_liver")
    assert build_targets(regions, with_targets(whole)).volumes_cc["PTV"] == pytest.approx(regions.volume_cc("Liver"))
    chosen = Target(id="PTV", recipe="structure", structure="GTV_1 + Kidney_L")
    expected = regions.volume_cc("GTV_1") + regions.volume_cc("Kidney_L")
    assert build_targets(regions, with_targets(chosen)).volumes_cc["PTV"] == pytest.approx(expected, rel=1e-5)
    no_lesions = Regions(GRID, {"Liver": regions["Liver"], "BODY": regions["BODY"]})
    with pytest.raises(StructureError, match="none is contoured"):
        build_targets(no_lesions, with_targets(union_target))


def test_recipes_are_carried_out(regions):
    liver, one, two = (regions[name] for name in ("Liver", "GTV_1", "GTV_2"))
    assert np.allclose(resolve(regions, "Liver - GTV*"), liver - one - two, atol=1e-6)
    assert np.array_equal(resolve(regions, "Liver - ITV*"), liver)
    assert np.array_equal(resolve(regions, "Liver & GTV_1"), np.minimum(liver, one))
    shell = resolve(regions, "ring(GTV_1, 0, 5)")
    assert shapes.volume_mm3(GRID, shell) == pytest.approx(4 / 3 * np.pi * (14**3 - 9**3), rel=0.02)
    assert resolve(regions, "expand(GTV_1, 4) - GTV_1").max() <= 1
    for missing in ("Stomach", "Liver - Stomach", "PTV* & Liver"):
        with pytest.raises(StructureError):
            resolve(regions, missing)


def test_stand_ins_are_used_and_noted(regions):
    found = resolve_first(regions, "Kidney_L + Kidney_R", ("Kidneys", "Kidney_L"))
    assert found.name == "Kidney_L" and "stands in" in found.notes[0].message
    assert resolve_first(regions, "Liver").notes == ()
    assert resolve_first(regions, "Stomach", ("Duodenum",)) is None


@pytest.mark.parametrize("one", ["liu2022-sbrt", "pei2019-imrt", "yin2014-boost", "zhang2021-alternating"])
def test_limits_hold_for_a_colon_and_for_a_single_kidney(regions, one):
    patient = Regions(GRID, {**regions.fractions, "Colon": shapes.sphere(GRID, (0, -40, 0), 10.0)})
    protocol = load_protocol(one)
    for limit in (*protocol.constraints, *protocol.reference_limits):
        found = resolve_first(patient, limit.structure, limit.stand_ins)
        if "Kidney_L +" in limit.structure:
            assert found.name == "Kidney_L" and found.notes
        if limit.structure == "Bowel_Large":
            assert found.name == "Colon" and found.notes
    if one == "liu2022-sbrt":
        assert "Colon" in protocol.choice.structures
