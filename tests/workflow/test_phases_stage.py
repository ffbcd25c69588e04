"""A 4D-CT made from a patient by a known breathing motion: phases, internal targets, and the planning phase."""

import numpy as np
import pytest
from scipy import ndimage
from tests.workflow.dicom_cases import CENTRE, GRID, deformed, image_of, organs, write_case

from cantlie.core.errors import InputError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.course.registration_field import DisplacementField
from cantlie.patient.masks import structure_fractions
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.sections import Phases
from cantlie.target.build import build_targets
from cantlie.target.phase_contours import itv_name, named_phases
from cantlie.workflow.patient_stage import CaseRequest
from cantlie.workflow.phases_stage import prepare_breathing_patient

AMPLITUDE_MM = 12.0
CYCLE = {0: 1.0, 20: 0.6, 50: 0.0, 70: 0.3}
"""Percent of the breathing cycle to the share of the amplitude by which the liver lies lower than at exhale."""


def breathing(share: float, grid: Grid = GRID, centre=CENTRE, reach_mm: float = 60.0) -> DisplacementField:
    """Return where each point of a phase lay at exhale: the dome comes down by the share of the amplitude."""
    away = grid.points_mm() - centre
    shape = np.exp(-0.5 * (away**2).sum(-1) / reach_mm**2)[..., None]
    down = np.array([0.0, 0.25, 1.0])  # a point of the phase was higher, and a little further back, at exhale
    return DisplacementField(grid, (share * AMPLITUDE_MM * shape * down).astype(np.float32))


@pytest.fixture
def four_d(tmp_path):
    """Write the phases of a 4D-CT; return a function that chooses which of them have contours."""

    def write(contoured=tuple(CYCLE), names=True, extra=()):
        masks, truth = organs(), {}
        hu = image_of(masks)
        for number, (percent, share) in enumerate(CYCLE.items()):
            image, moved = deformed(hu, masks, breathing(share))
            truth[percent] = moved
            drawn = moved if percent in contoured else {}
            tags = {"SeriesDescription": f"4D {percent}%"} if names else {
                "TemporalPositionIdentifier": number + 1, "NumberOfTemporalPositions": len(CYCLE)}  # fmt: skip
            write_case(tmp_path / "case", image, drawn, number, frame="2.25.77", tags=tags)
        for number, (description, drawn) in enumerate(extra, start=5):
            write_case(tmp_path / "case", hu, drawn, number, frame="2.25.77", tags={"SeriesDescription": description})
        return tmp_path / "case", truth

    return write


def drawn_again(mask: np.ndarray) -> np.ndarray:
    """Return a mask as it comes back from its contours."""
    from cantlie.patient.contours import contours_of_fractions
    from cantlie.patient.structures import Structure

    return structure_fractions(
        Structure("x", contours_of_fractions(mask, GRID), 1, slice_spacing_mm=GRID.spacing_mm[2]), GRID
    )


def test_the_itv_is_the_union_of_the_phases_and_exhale_is_planned_on(four_d):
    path, truth = four_d()
    patient, found = prepare_breathing_patient(CaseRequest(path), Phases())
    assert patient.case.ct.description == "4D 50%"
    assert found.phases == ("0 %", "20 %", "50 %", "70 %")
    for name in ("GTV_1", "GTV_2"):
        union = np.max([drawn_again(masks[name]) for masks in truth.values()], axis=0)
        assert np.array_equal(patient.regions[itv_name(name)], union)
    one = {m.name: m for m in found.moving}["GTV_1"]
    assert one.motion.amplitude_mm[2] == pytest.approx(AMPLITUDE_MM * 0.9, abs=1.5) and one.motion.amplitude_mm[2] >= 10
    assert one.motion.exhale == "50 %" and one.motion.mid_position in ("20 %", "70 %")
    assert one.itv_cc > 1.3 * one.planned_cc
    assert {m.itv for m in found.moving} == {"ITV_1", "ITV_2", "Liver_ITV"}
    assert "Breathing" in found.section().title and found.results()["structures"][0]["itv_cc"] > 0
    assert any("planned on 50 %" in note.message for note in patient.notes)


def test_mid_position_average_and_numbered_phases(four_d):
    path, _ = four_d(names=False)
    exhale, found = prepare_breathing_patient(CaseRequest(path), Phases())
    assert found.phases == ("phase 1", "phase 2", "phase 3", "phase 4")
    assert exhale.case.ct.series_instance_uid == "2.25.22"  # the phase with the lesions highest
    middle, _ = prepare_breathing_patient(CaseRequest(path), Phases(), wanted="mid_position")
    assert middle.case.ct.series_instance_uid in ("2.25.21", "2.25.23")
    average, found = prepare_breathing_patient(CaseRequest(path), Phases(planning="average"))
    assert "mean density of all phases" in found.planned_on
    assert not np.allclose(average.density.values, exhale.density.values)
    assert average.case.input_sha256 != exhale.case.input_sha256


def test_contours_on_one_phase_only_are_noted(four_d):
    path, _ = four_d(contoured=(50,))
    patient, found = prepare_breathing_patient(CaseRequest(path), Phases())
    assert not found.moving and any("no ITV" in note.message for note in patient.notes)


@pytest.mark.slow
def test_contours_of_one_phase_are_propagated_to_the_others(four_d):
    path, truth = four_d(contoured=(50,))
    patient, found = prepare_breathing_patient(CaseRequest(path), Phases(contours="propagated"))
    assert "propagated" in found.source
    union = np.max([masks["GTV_1"] for masks in truth.values()], axis=0)
    overlap = 2 * np.minimum(patient.regions["ITV_1"], union).sum() / (patient.regions["ITV_1"].sum() + union.sum())
    assert overlap > 0.9


def test_a_lesion_drawn_on_the_projection_is_the_itv(four_d):
    masks = organs()
    path, _ = four_d(contoured=(), extra=[("MIP", masks)])
    patient, found = prepare_breathing_patient(CaseRequest(path), Phases())
    assert patient.case.ct.description == "MIP" and "maximum intensity projection" in found.source
    assert np.array_equal(patient.regions["ITV_1"], patient.regions["GTV_1"])
    path, _ = four_d(contoured=())
    (path / "RS5.dcm").unlink()
    with pytest.raises(InputError, match="no phase of it has contours"):
        prepare_breathing_patient(CaseRequest(path), Phases())


def test_structures_named_after_phases_in_one_set(tmp_path):
    masks = organs()
    hu = image_of(masks)
    named = {"BODY": masks["BODY"], "Liver": masks["Liver"]}
    for percent, share in CYCLE.items():
        named[f"GTV_{percent}"] = deformed(hu, masks, breathing(share))[1]["GTV_1"]
    write_case(tmp_path, hu, named)
    patient, found = prepare_breathing_patient(CaseRequest(tmp_path), Phases())
    assert [n for n in patient.regions.fractions if n.startswith(("GTV", "ITV"))] == ["GTV", "ITV"]
    union = np.max([drawn_again(named[f"GTV_{p}"]) for p in CYCLE], axis=0)
    assert np.array_equal(patient.regions["ITV"], union)
    assert np.array_equal(patient.regions["GTV"], drawn_again(named["GTV_50"]))
    assert found.moving[0].motion.exhale == "50 %"


def test_numbered_lesions_are_not_phases():
    assert named_phases([f"GTV_{n}" for n in range(1, 51)]) == {}
    assert named_phases(["GTV_10", "GTV_20", "Liver"]) == {}
    assert list(named_phases(["GTV_T0", "GTV_T50", "GTV_T90"])["GTV"]) == [0.0, 50.0, 90.0]
    assert list(named_phases(["GTV_1_0", "GTV_1_50", "GTV_2_0", "GTV_2_50"])) == ["GTV_1", "GTV_2"]


def test_a_target_with_the_breathing_in_its_itv(four_d):
    path, _ = four_d()
    patient, _ = prepare_breathing_patient(CaseRequest(path), Phases())
    protocol = load_protocol("yin2014-boost")
    still = build_targets(patient.regions, protocol)
    targets = tuple(t.model_copy(update={"breathing": "itv"}) for t in protocol.targets)
    moving = build_targets(patient.regions, protocol.model_copy(update={"targets": targets}))
    assert np.array_equal(moving.regions["CTV_liver"], patient.regions["Liver_ITV"])
    assert (moving.regions["CTV_boost"] >= patient.regions["ITV_1"] - 1e-6).all()
    assert moving.volumes_cc["CTV_boost"] > still.volumes_cc["CTV_boost"]
    sbrt = build_targets(patient.regions, load_protocol("liu2022-sbrt"), only=("PTV",))
    assert (sbrt.regions["CTV"] >= np.maximum(patient.regions["ITV_1"], patient.regions["ITV_2"]) - 1e-6).all()
    assert sbrt.volumes_cc["CTV"] < 1.2 * (patient.regions.volume_cc("ITV_1") + patient.regions.volume_cc("ITV_2"))


def test_a_case_without_phases_is_read_as_ever(tmp_path):
    masks = organs()
    write_case(tmp_path, image_of(masks), masks)
    patient, found = prepare_breathing_patient(CaseRequest(tmp_path), Phases())
    assert found is None and "ITV_1" not in patient.regions
    with pytest.raises(InputError, match="no 4D-CT"):
        prepare_breathing_patient(CaseRequest(tmp_path), Phases(), wanted="average")


@pytest.mark.slow
def test_a_4d_ct_made_from_the_real_patient(tmp_path):
    """Bundled patient, 14 mm at the dome: the ITV is the union of the phases, found again by propagation."""
    from cantlie.dicom.bundled import bundled_case_path
    from cantlie.dicom.reading import read_case

    case = read_case(bundled_case_path())
    grid = case.ct.volume.grid.resampled((2.5, 2.5, 3.0))
    names = ["BODY", "Liver", *(s.key for s in case.structures if s.key.startswith("GTV"))]
    masks = {name: structure_fractions(case.structures[name], grid) for name in names}
    blurred = ndimage.gaussian_filter(case.ct.volume.values.astype(np.float32), 0.8)
    image = Volume(case.ct.volume.grid, blurred).resample(grid, outside=-1000.0)
    liver = grid.points_mm()[masks["Liver"] > 0.5]
    dome = np.array([*np.median(liver, axis=0)[:2], liver[:, 2].max() - 30.0])
    truth = {}
    for number, (percent, share) in enumerate(CYCLE.items()):
        field = breathing(share * 14.0 / AMPLITUDE_MM, grid, dome, 70.0)
        truth[percent] = {n: np.asarray(field.pull(Volume(grid, m)).values) for n, m in masks.items() if n != "BODY"}
        drawn = {"BODY": masks["BODY"], **truth[percent]}
        hu = field.pull(image, outside=-1000.0).values
        for folder, kept in (("all", drawn), ("one", drawn if percent == 50 else {})):
            write_case(tmp_path / folder, hu, kept, number, frame="2.25.77", grid=grid,
                       tags={"SeriesDescription": f"T{percent:02d}"})  # fmt: skip
    patient, found = prepare_breathing_patient(CaseRequest(tmp_path / "all"), Phases())
    assert patient.case.ct.description == "T50"
    own = patient.case.ct.volume.grid
    largest = max((n for n in names if n.startswith("GTV")), key=lambda n: float(masks[n].sum()))
    for name in names[2:]:
        union = np.max([structure_fractions(_drawn(m[name], grid), own) for m in truth.values()], axis=0)
        assert np.abs(patient.regions[itv_name(name)] - union).max() < 0.02
    liver_motion = {m.name: m for m in found.moving}["Liver"].motion
    assert 6 < liver_motion.amplitude_mm[2] < 14 and liver_motion.exhale == "50 %"
    propagated, _ = prepare_breathing_patient(CaseRequest(tmp_path / "one"), Phases(contours="propagated"))
    a, b = propagated.regions["Liver_ITV"], patient.regions["Liver_ITV"]
    assert 2 * np.minimum(a, b).sum() / (a.sum() + b.sum()) > 0.95
    a, b = propagated.regions[itv_name(largest)], patient.regions[itv_name(largest)]
    assert 2 * np.minimum(a, b).sum() / (a.sum() + b.sum()) > 0.85


def _drawn(mask, grid):
    from cantlie.patient.contours import contours_of_fractions
    from cantlie.patient.structures import Structure

    return Structure("x", contours_of_fractions(mask, grid), 1, slice_spacing_mm=grid.spacing_mm[2])
