"""Plans made elsewhere: each with its fractions, summed as physical dose and EQD2, judged and reported."""

import copy
import csv
import json

import numpy as np
import pytest
from pydicom import dcmread
from tests.workflow.dicom_cases import box, write_case

from cantlie.cli.main import run
from cantlie.core.errors import InputError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dicom.plan_file import read_plan_groups
from cantlie.dicom.rtdose import DoseFile, read_dose_file, write_rtdose
from cantlie.dicom.rtplan import write_rtplan
from cantlie.machine.aperture import Aperture
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.patient.regions import Regions
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan
from cantlie.protocol.loading import load_protocol
from cantlie.radiobiology.linear_quadratic import eqd2_gy
from cantlie.workflow.plan_doses import summed_plans

GRID = Grid((16, 24, 30), (5.0, 5.0, 5.0), (-72.5, -57.5, 0.0))
ALTERNATING = load_protocol("zhang2021-alternating")


MASKS = {
    "BODY": box(GRID, (-70, 70), (-55, 55), (-1, 80)),
    "Liver": box(GRID, (-50, 30), (-30, 30), (10, 65)),
    "GTV_1": box(GRID, (-30, -10), (-10, 10), (30, 50)),
    "PTV1": box(GRID, (-50, -10), (-30, 30), (10, 65)),
    "PTV2": box(GRID, (-10, 30), (-30, 30), (10, 65)),
    "SpinalCord": box(GRID, (-5, 5), (40, 50), (-1, 80)),
}


@pytest.fixture
def case(tmp_path):
    """Write CT, structures, two plans and their doses; return the folder and the case."""
    hu = np.where(MASKS["BODY"] > 0, 40, -1000).astype(np.float32)
    folder = tmp_path / "case"
    made = write_case(folder, hu, MASKS, 1, frame="2.25.3", grid=GRID, file="RS.dcm")
    reference = dcmread(folder / "RS.dcm").SOPInstanceUID
    machine = load_machine("generic-6mv-mlci")
    pairs = len(machine.mlc.leaf_boundaries_mm) - 1
    opening = Aperture((-50.0, 50.0), (-50.0, 50.0), np.full(pairs, -40.0), np.full(pairs, 40.0))
    geometry = BeamGeometry((0.0, 0.0, 30.0), 0.0)
    uids = []
    for name, gy, count in (("PTV1", 30.0, 15), ("PTV2", 24.0, 8)):
        points = (ControlPoint(geometry, opening, 0.0), ControlPoint(geometry, opening, 100.0))
        plan = TreatmentPlan(name, machine.id, (TreatmentBeam(1, "G000", points),), count, gy, target_name=name)
        uids.append(write_rtplan(made, plan, machine, reference, folder / f"RP_{name}.dcm"))
        dose = gy * MASKS[name] + 0.1 * gy * MASKS["BODY"] * (1 - MASKS[name])
        write_rtdose(made, Volume(GRID, dose.astype(np.float32)), folder / f"RD_{name}.dcm", plan_uids=[uids[-1]])
    return folder, made


def test_two_plans_are_summed_with_their_own_fractions(case, tmp_path):
    folder, _ = case
    out = tmp_path / "out"
    code = run(["evaluate", str(folder), "--protocol", "zhang2021-alternating", "--out", str(out)])
    assert code in (0, 1)
    results = json.loads((out / "results.json").read_text())
    plans = {row["target"]: row for row in results["plans_summed"]}
    assert {name: (row["fractions"], row["fractions_from"]) for name, row in plans.items()} == {
        "PTV1": (15, "RTPLAN"),
        "PTV2": (8, "RTPLAN"),
    }
    cord = results["eqd2"]["SpinalCord"]
    expected = float(eqd2_gy(3.0 / 15, 15, 3.0) + eqd2_gy(2.4 / 8, 8, 3.0))
    assert cord["alpha_beta_gy"] == 3.0
    assert cord["Dmean_physical_gy"] == pytest.approx(5.4, rel=1e-3)
    assert cord["Dmean_eqd2_gy"] == pytest.approx(expected, rel=1e-3)
    liver = results["eqd2"]["Liver - GTV*"]
    assert liver["alpha_beta_gy"] == 2.5 and liver["Dmean_eqd2_gy"] != liver["Dmean_physical_gy"]
    assert results["radiobiology"]["ntcp"][0]["low"] <= results["radiobiology"]["ntcp"][0]["value"]
    assert results["reference_limits"]
    with (out / "dvh_eqd2.csv").open() as stream:
        assert {"SpinalCord", "Liver - GTV*"} <= {row["structure"] for row in csv.DictReader(stream)}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "2 plans summed" in page and "Research use only" in page and "EQD2 (α/β = 2.5 Gy)" in page
    assert (out / "report.pdf").read_bytes().startswith(b"%PDF")


def test_doses_outside_the_case_take_the_fractions_that_are_given(case, tmp_path):
    folder, _ = case
    doses = []
    for name in ("PTV1", "PTV2"):
        doses += ["--dose", str(folder / f"RD_{name}.dcm").replace("case/", "apart/")]
        (tmp_path / "apart").mkdir(exist_ok=True)
        (folder / f"RD_{name}.dcm").rename(tmp_path / "apart" / f"RD_{name}.dcm")
        (folder / f"RP_{name}.dcm").unlink()
    out = tmp_path / "out"
    common = ["evaluate", str(folder), "--protocol", "zhang2021-alternating", *doses, "--out", str(out)]
    assert run([*common, "--fractions", "10", "--fractions", "5"]) in (0, 1)
    results = json.loads((out / "results.json").read_text())
    assert [(row["fractions"], row["fractions_from"]) for row in results["plans_summed"]] == [
        (10, "given"),
        (5, "given"),
    ]
    expected = float(eqd2_gy(0.3, 10, 3.0) + eqd2_gy(2.4 / 5, 5, 3.0))
    assert results["eqd2"]["SpinalCord"]["Dmean_eqd2_gy"] == pytest.approx(expected, rel=1e-3)
    assert run([*common, "--fractions", "10", "--fractions", "5", "--fractions", "5"]) == 2


def files(case: tuple, *kinds: str) -> list[DoseFile]:
    folder, _ = case
    found = [read_dose_file(folder / f"RD_{name}.dcm") for name in ("PTV1", "PTV2")]
    return [
        DoseFile(f.dose, kind, f.dose_type, f.plan_uids, f.sop_instance_uid, f.frame_of_reference_uid)
        for f, kind in zip(found, kinds, strict=True)
    ]


def test_the_dose_of_one_session_is_multiplied_and_a_bare_sum_has_no_eqd2(case):
    regions = Regions(GRID, MASKS)
    summed = summed_plans(files(case, "FRACTION_SESSION", "PLAN"), (), ALTERNATING, regions, (2, 8))
    assert float(summed.plans[0].dose.values.max()) == pytest.approx(60.0, rel=1e-3)
    assert summed.eqd2(10.0).values.max() == pytest.approx(
        float(eqd2_gy(30.0, 2, 10.0) + eqd2_gy(0.3, 8, 10.0)), rel=1e-3
    )
    assert any("LQ-L" in note.message for note in summed.notes)  # 30 Gy in one fraction
    only = summed_plans(files(case, "MULTI_PLAN", "MULTI_PLAN")[:1], (), ALTERNATING, regions)
    assert not only.plans and not only.has_fractions and any("no EQD2" in note.message for note in only.notes)
    with pytest.raises(InputError, match="fractions"):
        only.eqd2(3.0)


def test_without_a_plan_file_the_protocol_says_the_fractions_with_a_warning(case):
    summed = summed_plans(files(case, "PLAN", "PLAN"), (), ALTERNATING, Regions(GRID, MASKS))
    assert [(plan.target, plan.fractions, plan.fractions_from) for plan in summed.plans] == [
        ("PTV1", 15, "protocol"),
        ("PTV2", 15, "protocol"),
    ]
    assert sum("no RTPLAN says its fractions" in note.message for note in summed.notes) == 2


@pytest.mark.parametrize("kind", ["CONTROL_POINT", "BRACHY_SESSION"])
def test_a_dose_of_a_piece_of_a_plan_is_not_judged_as_a_plan(kind):
    piece = DoseFile(Volume(GRID, np.ones(GRID.shape, np.float32)), kind, "PHYSICAL", ("2.25.1",), "2.25.7", "2.25.3")
    with pytest.raises(InputError, match=f"{kind}.*, not of a plan"):
        summed_plans([piece], (), ALTERNATING, Regions(GRID, MASKS))


@pytest.mark.parametrize("kind", ["RECORD", "PLAN_OVERVIEW", ""])
def test_a_dose_of_an_unusual_kind_is_taken_whole_and_said(kind):
    dose = DoseFile(Volume(GRID, np.ones(GRID.shape, np.float32)), kind, "PHYSICAL", ("2.25.1",), "2.25.7", "2.25.3")
    summed = summed_plans([dose], (), ALTERNATING, Regions(GRID, MASKS))
    assert any(f"of kind {kind or 'unstated'} " in note.message for note in summed.notes)
    assert float(summed.physical.values.max()) == 1.0


def test_doses_of_beams_of_one_plan_are_added_up(case):
    folder, _ = case
    uid = str(dcmread(folder / "RP_PTV1.dcm").SOPInstanceUID)
    found = read_dose_file(folder / "RD_PTV1.dcm")
    half = Volume(GRID, np.asarray(found.dose.values) * np.float32(0.5))
    beams = [DoseFile(half, "BEAM", "PHYSICAL", (uid,), f"2.25.{n}", "2.25.3") for n in (7, 8)]
    summed = summed_plans(beams, (), ALTERNATING, Regions(GRID, MASKS))
    assert len(summed.plans) == 1
    assert float(summed.physical.values.max()) == pytest.approx(30.0, rel=1e-3)


def test_two_doses_of_one_plan_are_not_summed_in_silence(case, tmp_path, capsys):
    folder, made = case
    first = read_dose_file(folder / "RD_PTV1.dcm")
    again = Volume(GRID, np.asarray(first.dose.values, np.float32) * np.float32(1.01))
    write_rtdose(made, again, folder / "RD_again.dcm", plan_uids=list(first.plan_uids))
    command = ["evaluate", str(folder), "--out", str(tmp_path / "out")]
    assert run(command) == 2
    assert "two doses are of the same plan, 'PTV1'" in capsys.readouterr().err


def test_plans_of_one_label_keep_their_own_beams(case, tmp_path):
    folder, _ = case
    for name, beam in (("PTV1", "first"), ("PTV2", "second")):
        data = dcmread(folder / f"RP_{name}.dcm")
        data.RTPlanLabel, data.BeamSequence[0].BeamName = "IMRT", beam
        data.save_as(folder / f"RP_{name}.dcm")
    assert run(["evaluate", str(folder), "--out", str(tmp_path / "out")]) in (0, 1)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["plan"] for row in results["plans_summed"]] == ["IMRT", "IMRT (2)"]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert ">first<" in page and ">second<" in page


def dose_file(dose_gy: float, kind: str, uid: str, groups=(), beams=()) -> DoseFile:
    values = (dose_gy * MASKS["PTV1"]).astype(np.float32)
    name = f"2.25.{kind}.{groups}.{beams}"
    return DoseFile(Volume(GRID, values), kind, "PHYSICAL", (uid,), name, "2.25.3", "", groups, beams)


def test_doses_of_fraction_groups_count_with_the_fractions_of_their_group(case):
    folder, _ = case
    data = dcmread(folder / "RP_PTV1.dcm")
    boost = copy.deepcopy(data.FractionGroupSequence[0])
    boost.FractionGroupNumber, boost.NumberOfFractionsPlanned = 2, 3
    data.FractionGroupSequence.append(boost)
    data.save_as(folder / "RP_PTV1.dcm")
    plans = read_plan_groups(folder / "RP_PTV1.dcm")
    uid, regions = plans[0].plan.sop_instance_uid, Regions(GRID, MASKS)
    parts = [dose_file(30.0, "FRACTION", uid, (1,)), dose_file(9.0, "FRACTION", uid, (2,))]
    whole = dose_file(39.0, "PLAN", uid)
    summed = summed_plans([*parts, whole], plans, ALTERNATING, regions)  # whole and in parts: counted once
    assert [(plan.fractions, plan.fractions_from) for plan in summed.plans] == [(15, "RTPLAN"), (3, "RTPLAN")]
    assert float(summed.physical.values.max()) == pytest.approx(39.0)
    assert summed.eqd2(10.0).values.max() == pytest.approx(
        float(eqd2_gy(2.0, 15, 10.0) + eqd2_gy(3.0, 3, 10.0)), rel=1e-5
    )
    only = summed_plans([whole], plans, ALTERNATING, regions)
    assert float(only.physical.values.max()) == pytest.approx(39.0) and not only.has_fractions
    assert any("RTDOSE_group1.dcm" in note.message for note in only.notes)


def test_a_plan_dose_beside_those_of_its_beams_counts_once(case):
    regions = Regions(GRID, MASKS)
    files = [dose_file(30.0, "PLAN", "2.25.9"), *(dose_file(15.0, "BEAM", "2.25.9", (1,), (n,)) for n in (1, 2))]
    summed = summed_plans(files, (), ALTERNATING, regions)
    assert float(summed.physical.values.max()) == pytest.approx(30.0)


def test_a_fraction_dose_that_is_only_of_one_fraction_is_found_out_by_the_prescription(case):
    folder, _ = case
    plans = read_plan_groups(folder / "RP_PTV1.dcm")  # 30 Gy in 15
    uid, regions = plans[0].plan.sop_instance_uid, Regions(GRID, MASKS)
    for given_gy in (31.0, 31.0 / 15):
        summed = summed_plans([dose_file(given_gy, "FRACTION", uid, (1,))], plans, ALTERNATING, regions)
        assert float(summed.physical.values.max()) == pytest.approx(31.0, rel=1e-5)
        assert any("taken as that of one fraction" in note.message for note in summed.notes) == (given_gy < 30)


def scale_warnings(summed) -> list[str]:
    return [note.sentence() for note in summed.notes if "its highest dose is" in note.message]


@pytest.mark.parametrize(("factor", "said"), [(100.0, "100 times the 30 Gy"), (0.01, "0.01 of the 30 Gy"), (1.4, "")])
@pytest.mark.parametrize("source", ["its RTPLAN", "the protocol"])
def test_a_dose_that_is_off_by_a_unit_is_told(case, factor, said, source):
    folder, _ = case
    plans = read_plan_groups(folder / "RP_PTV1.dcm") if source == "its RTPLAN" else ()
    uid = read_plan_groups(folder / "RP_PTV1.dcm")[0].plan.sop_instance_uid
    dose = dose_file(30.0 * factor, "PLAN", uid)
    summed = summed_plans([dose], plans, ALTERNATING, Regions(GRID, MASKS))
    found = scale_warnings(summed)
    assert len(found) == bool(said) and all(said in one and source in one for one in found), found
    assert float(summed.physical.values.max()) == pytest.approx(30.0 * factor)  # nothing is put right in silence
    total = dose_file(30.0 * factor, "MULTI_PLAN", uid)
    assert len(scale_warnings(summed_plans([total], plans, ALTERNATING, Regions(GRID, MASKS)))) == bool(said)


@pytest.mark.parametrize(("kind", "gy"), [("FRACTION", 2.0), ("FRACTION_SESSION", 2.0), ("BEAM", 2.0)])
def test_a_dose_of_a_part_is_not_taken_for_one_of_another_unit(case, kind, gy):
    folder, _ = case
    plans = read_plan_groups(folder / "RP_PTV1.dcm")
    dose = dose_file(gy, kind, plans[0].plan.sop_instance_uid, (1,))
    assert not scale_warnings(summed_plans([dose], plans, ALTERNATING, Regions(GRID, MASKS)))
    again = dose_file(100 * gy, kind, plans[0].plan.sop_instance_uid, (1,))
    told = scale_warnings(summed_plans([again], plans, ALTERNATING, Regions(GRID, MASKS)))
    assert bool(told) == (
        kind == "FRACTION_SESSION"
    )  # 15 x 200 Gy of 30; a beam or a group of 200 Gy is below ten times


def test_a_plan_with_a_wedge_is_judged_by_its_dose_and_says_that_its_beams_were_not_read(case, tmp_path):
    folder, _ = case
    data = dcmread(folder / "RP_PTV1.dcm")
    data.BeamSequence[0].NumberOfWedges = 1
    data.save_as(folder / "RP_PTV1.dcm")
    out = tmp_path / "out"
    assert run(["evaluate", str(folder), "--protocol", "zhang2021-alternating", "--out", str(out)]) in (0, 1)
    results = json.loads((out / "results.json").read_text())
    assert {row["target"]: row["fractions"] for row in results["plans_summed"]} == {"PTV1": 15, "PTV2": 8}
    assert any(
        "beams of the plan were not read: the beam has a wedge" in note["message"] for note in results["warnings"]
    )
    assert any("only moved" in note["message"] for note in results["warnings"])
