"""Breathing, set-up errors and the margins that they ask for; the choice of a prescription scheme."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cantlie.core.errors import GeometryError, ProtocolError, StructureError
from cantlie.core.grid import Grid
from cantlie.patient.regions import Regions
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.sections import Split
from cantlie.target.build import build_targets
from cantlie.target.halves import divide_liver
from cantlie.target.motion import internal_target
from cantlie.target.scheme_choice import choose_scheme, shortest_distance_mm
from cantlie.target.setup_errors import (
    margin_note,
    margin_with_breathing_mm,
    sd_from_absolute_errors,
    setup_errors,
    share_beyond,
    van_herk_margin_mm,
)

_spec = importlib.util.spec_from_file_location("target_shapes", Path(__file__).with_name("shapes.py"))
shapes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(shapes)

GRID = Grid((40, 50, 60), (3.0, 3.0, 3.0), (-88.0, -73.0, -60.0))


def test_itv_is_the_union_of_the_phases():
    shifts = [0.0, 4.0, 9.0, 12.0, 8.0, 2.0]
    phases = {f"GTV_phase{n}": shapes.sphere(GRID, (0, 0.2 * s, s), 12.0) for n, s in enumerate(shifts)}
    result = internal_target(Regions(GRID, phases), list(phases))
    assert np.array_equal(result.itv, np.max(list(phases.values()), axis=0))
    assert result.amplitude_mm == pytest.approx((0, 2.4, 12), abs=0.1)
    assert (result.exhale, result.mid_position) == ("GTV_phase3", "GTV_phase1")
    swept = 4 / 3 * np.pi * 12**3 + np.pi * 12**2 * np.hypot(12, 2.4)
    assert shapes.volume_mm3(GRID, result.itv) == pytest.approx(swept, rel=0.03)
    with pytest.raises(StructureError, match="at least one phase"):
        internal_target(Regions(GRID, phases), [])
    empty = Regions(GRID, {**phases, "none": np.zeros(GRID.shape, np.float32)})
    with pytest.raises(StructureError, match="empty in one phase"):
        internal_target(empty, [*phases, "none"])


def test_set_up_errors_are_recovered_from_a_simulated_log():
    random = np.random.default_rng(3)
    systematic, spread = np.array([1.5, 2.0, 3.0]), np.array([2.0, 1.0, 2.5])
    logs = [random.normal(random.normal(0.5, systematic), spread, (25, 3)) for _ in range(600)]
    errors = setup_errors(logs)
    assert errors.systematic_mm == pytest.approx(np.sqrt(systematic**2 + spread**2 / 25), rel=0.1)
    assert errors.random_mm == pytest.approx(spread, rel=0.02)
    assert errors.mean_mm == pytest.approx((0.5, 0.5, 0.5), abs=0.3)
    assert (errors.patients, errors.sessions) == (600, 15000)
    with pytest.raises(GeometryError, match="at least two patients"):
        setup_errors(logs[:1])


def test_action_level_counts_any_axis():
    assert share_beyond([[(0, 0, 0), (2, 0, 0)], [(0, -2.5, 0), (1.9, 1.9, 1.9)]], 2.0) == 0.5


def test_margins_of_van_herk():
    assert van_herk_margin_mm([3.0, 0.0], [2.0, 1.0]) == pytest.approx([8.9, 0.7])
    # without breathing and with small random errors the general form lies near 2.5 Sigma
    assert float(margin_with_breathing_mm(2.0, 0.0, 0.0)) == pytest.approx(5.0)
    # 10 mm of breathing asks for much less than 10 mm on the mid-position
    breathing = float(margin_with_breathing_mm(0.0, 0.0, 10.0))
    assert breathing == pytest.approx(1.6449 * (np.sqrt(3.58**2 + 3.2**2) - 3.2), rel=1e-3)
    # Pei prints 2.5 +- 2.0 mm and 1.8 +- 1.5 mm of absolute error
    assert sd_from_absolute_errors(2.5, 2.0) == pytest.approx(3.2, abs=0.01)
    x = np.random.default_rng(0).normal(0, 3.2, 200_000)
    assert sd_from_absolute_errors(abs(x).mean(), abs(x).std()) == pytest.approx(3.2, rel=0.01)
    notes = margin_note((6.5, 6.5, 11.0), (8.0, 2.2, 11.0))
    assert [note.where for note in notes] == ["left-right"]


@pytest.mark.parametrize(("gap_mm", "scheme"), [(4.0, "42-in-3"), (16.0, "48-in-3")])
def test_sbrt_scheme_follows_the_distance_to_luminal_organs(gap_mm, scheme):
    regions = Regions(
        GRID,
        {
            "GTV_1": shapes.box(GRID, (-20, -20, -20), (0, 0, 0)),
            "Stomach": shapes.box(GRID, (gap_mm, -20, -20), (40, 0, 0)),
            "Duodenum": shapes.box(GRID, (40, 20, 20), (60, 40, 40)),
        },
    )
    choice = choose_scheme(load_protocol("liu2022-sbrt"), regions)
    assert choice.scheme == scheme
    assert dict(choice.distances_mm)["Stomach"] == pytest.approx(gap_mm, abs=1.6)
    assert "Stomach" in choice.reason and any("Bowel_Small" in note.message for note in choice.notes)
    chosen = load_protocol("liu2022-sbrt").with_scheme(choice.scheme)
    assert chosen.prescription("PTV").total_gy == float(scheme[:2])
    assert choose_scheme(chosen, regions) is None


def test_sbrt_scheme_is_the_cautious_one_without_organs():
    regions = Regions(GRID, {"GTV_1": shapes.box(GRID, (-20, -20, -20), (0, 0, 0))})
    choice = choose_scheme(load_protocol("liu2022-sbrt"), regions)
    assert choice.scheme == "42-in-3" and "no luminal organ" in choice.reason
    with pytest.raises(ProtocolError, match="no lesion"):
        choose_scheme(load_protocol("liu2022-sbrt"), Regions(GRID, {}))


def test_the_highest_scheme_within_the_limits_is_taken():
    protocol, nothing = load_protocol("pei2019-imrt"), Regions(GRID, {})
    choice = choose_scheme(protocol, nothing, refusal=lambda scheme: "" if int(scheme[:2]) < 50 else "too high")
    assert choice.scheme == "48-in-12" and [name for name, _ in choice.rejected] == ["52-in-10", "60-in-20", "52-in-13"]
    assert choose_scheme(protocol, nothing, refusal=lambda scheme: "no").notes
    assert choose_scheme(protocol, nothing).scheme == protocol.choice.default
    assert choose_scheme(load_protocol("li2024-palliative"), nothing).scheme == "30-in-10"
    # by BED, the highest first, all within the printed ranges and the printed 6 weeks
    beds = []
    for scheme in protocol.choice.order:
        prescription = protocol.with_scheme(scheme).prescription("PTV")
        beds.append(prescription.total_gy * (1 + prescription.dose_per_fraction_gy / 10))
        assert 2 <= prescription.dose_per_fraction_gy <= 5.2 and 7 <= prescription.fractions <= 30
    assert beds == sorted(beds, reverse=True)
    assert (beds[0], beds[-1]) == pytest.approx((79.04, 39.0))


def test_distance_between_boxes():
    near = shapes.box(GRID, (0, 0, 0), (12, 12, 12))
    far = shapes.box(GRID, (-40, 0, 0), (-21, 12, 12))
    assert shortest_distance_mm(GRID, near, far) == pytest.approx(21, abs=1.6)
    assert shortest_distance_mm(GRID, near, near) == 0.0
    assert shortest_distance_mm(GRID, near, np.zeros_like(near)) == float("inf")


def test_a_plane_can_be_moved_beside_lesions():
    regions = Regions(
        GRID,
        {
            "Liver": shapes.box(GRID, (-60, -40, -40), (40, 40, 40)),
            "Gallbladder": shapes.sphere(GRID, (-12, -50, -20), 10.0),
            "V_Venacava_I": shapes.box(GRID, (-18, 20, -60), (-6, 32, 58)),
            "GTV_1": shapes.sphere(GRID, (-9, 0, 0), 8.0),
        },
    )
    anatomy = divide_liver(regions, Split(), lesions=("GTV_1",))
    beside = divide_liver(regions, Split(method="lesion_aware"), lesions=("GTV_1",))
    assert anatomy.lesions[0].crosses and not beside.lesions[0].crosses
    moved = float(np.dot(np.subtract(beside.plane.point_mm, anatomy.plane.point_mm), anatomy.plane.normal))
    assert 5 <= abs(moved) <= 14 and beside.plane.normal == anatomy.plane.normal
    assert "beside lesions" in beside.method


def test_only_the_wanted_targets_are_built():
    protocol = load_protocol("yin2014-boost")
    regions = Regions(
        GRID,
        {
            "Liver": shapes.box(GRID, (-60, -40, -40), (40, 40, 40)),
            "GTV_1": shapes.sphere(GRID, (-9, 0, 0), 8.0),
            "GTV_2": shapes.sphere(GRID, (-40, 0, 0), 12.0),
        },
    )
    result = build_targets(regions, protocol, only=protocol.schedule.new_ct_before)
    assert [target.id for target in result.targets] == ["PTV_boost"]
    assert result.regions["CTV_boost"][20, 24, 16] == 1 and result.volumes_cc["CTV_boost"] > 30
    assert [target.id for target in build_targets(regions, protocol).targets] == ["PTV_liver", "PTV_boost"]
