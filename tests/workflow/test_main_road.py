"""The main road on the bundled real patient: the bars of the protocol, the files, and what others read from them."""

import csv
import json
import shutil
import subprocess
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest

from cantlie.cli.main import run
from cantlie.dicom.bundled import bundled_case_path
from cantlie.dicom.plan_file import read_plan_file
from cantlie.dicom.reading import read_case
from cantlie.dicom.rtdose import read_rtdose
from cantlie.evaluation.dvh import dvh
from cantlie.machine.machine import load_machine
from cantlie.patient.masks import structure_fractions
from cantlie.workflow.plan_case import plan_case
from cantlie.workflow.planned_case import PlanCase


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """Plan the bundled case once for all tests of this file."""
    folder = tmp_path_factory.mktemp("main") / "demo"
    case = bundled_case_path("crlm_ct_1006")
    plan_case(PlanCase(case, "zhang2021-alternating", folder, start=date(2026, 1, 5), label="CRLM-CT-1006"))
    return folder


@pytest.fixture(scope="module")
def results(out) -> dict:
    return json.loads((out / "results.json").read_text())


def test_every_rule_of_the_paper_is_met_in_the_delivered_dose(results):
    rows = {(row["structure"], row["metric"]): row for row in results["constraints"]}
    assert len(rows) == 8
    assert {row["verdict"] for row in rows.values()} == {"pass"}
    for name in ("PTV1", "PTV2"):
        assert rows[name, "V90%[%]"]["achieved"] >= 95
        own = results["metrics"][name][name]
        assert own["Dmean_gy"] == pytest.approx(30, abs=0.6)
    assert all(row["place"] for row in rows.values())


def test_segments_are_few_and_legal(out):
    machine = load_machine("generic-6mv-mlci")
    for name in ("PTV1", "PTV2"):
        plan = read_plan_file(out / "dicom" / f"RP_{name}.dcm").plan
        assert 7 <= len(plan.beams) <= 9
        for beam in plan:
            mu = [point.cumulative_mu for point in beam.control_points]
            assert mu == sorted(mu)
            assert len(beam.control_points) <= 2 * 12
            for point in beam.control_points:
                assert machine.broken_rules(point.aperture) == []


def test_the_set_up_stands_in_the_plan_and_in_the_report(out):
    setup = pydicom.dcmread(out / "dicom" / "RP_PTV1.dcm").PatientSetupSequence[0]
    assert setup.PatientPosition == "HFS"
    assert "vacuum cushion" in setup.SetupTechniqueDescription
    assert setup.FixationDeviceSequence[0].FixationDeviceType == "VACUUM_MOLD"
    assert "HFS, vacuum cushion, abdominal bandage" in (out / "report.html").read_text()


def test_the_calendar_is_three_weeks_of_two_sessions_a_day(results):
    course = results["course"]
    assert (course["treatment_days"], course["calendar_days"], len(course["sessions"])) == (15, 19, 30)
    assert course["shortest_interval_h"] == 6
    assert [s["target"] for s in course["sessions"][:4]] == ["PTV1", "PTV2", "PTV1", "PTV2"]


def test_dicom_objects_refer_to_each_other(out):
    files = {path.name: pydicom.dcmread(path) for path in (out / "dicom").iterdir()}
    assert set(files) == {"RS.dcm", "RP_PTV1.dcm", "RP_PTV2.dcm", "RD_PTV1.dcm", "RD_PTV2.dcm", "RD_sum.dcm"}
    frames = {f.FrameOfReferenceUID for name, f in files.items() if name != "RS.dcm"}
    assert len(frames) == 1
    for name in ("PTV1", "PTV2"):
        plan = files[f"RP_{name}.dcm"]
        assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == files["RS.dcm"].SOPInstanceUID
        assert plan.ApprovalStatus == "UNAPPROVED"
        assert plan.PlanIntent == "RESEARCH"
        referred = files[f"RD_{name}.dcm"].ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID
        assert referred == plan.SOPInstanceUID
    assert len(files["RD_sum.dcm"].ReferencedRTPlanSequence) == 2


@pytest.mark.parametrize("name", ["RS", "RP_PTV1", "RP_PTV2", "RD_PTV1", "RD_PTV2", "RD_sum"])
def test_dciodvfy_finds_no_error(out, name):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    found = subprocess.run(
        ["dciodvfy", str(out / "dicom" / f"{name}.dcm")], capture_output=True, text=True, check=False
    )
    assert [line for line in found.stderr.splitlines() if line.startswith("Error")] == []


def test_our_own_reader_sees_the_same_dvh(out, results):
    dose = read_rtdose(out / "dicom" / "RD_sum.dcm")
    case = read_case(bundled_case_path("crlm_ct_1006"))
    for name in ("Liver", "Stomach", "SpinalCanal"):
        mask = structure_fractions(case.structures[name], case.ct.volume.grid)
        found = dvh(dose, mask, case.ct.volume.grid, name=name)
        assert found.mean_gy == pytest.approx(results["metrics"]["course"][name]["Dmean_gy"], rel=1e-3)
        assert found.max_gy == pytest.approx(results["metrics"]["course"][name]["Dmax_gy"], rel=1e-3)


def test_plastimatch_finds_the_same_dvh(out, results, tmp_path):
    if shutil.which("plastimatch") is None:
        pytest.skip("plastimatch is not installed (Debian package plastimatch)")
    _run(
        ["plastimatch", "convert", "--input", str(out / "dicom" / "RS.dcm"),
         "--referenced-ct", str(_ct_folder(tmp_path)),
         "--output-ss-img", "ss.nrrd", "--output-ss-list", "ss.txt"],
        tmp_path,
    )  # fmt: skip
    _run(["plastimatch", "convert", "--input", str(out / "dicom" / "RD_sum.dcm"), "--output-dose-img", "dose.nrrd"],
         tmp_path)  # fmt: skip
    _run(
        ["plastimatch", "dvh", "--input-ss-img", "ss.nrrd", "--input-ss-list", "ss.txt", "--input-dose", "dose.nrrd",
         "--output-csv", "dvh.csv", "--cumulative", "--dose-units", "gy", "--num-bins", "8000", "--bin-width", "0.01"],
        tmp_path,
    )  # fmt: skip
    with (tmp_path / "dvh.csv").open() as stream:
        names, *rows = csv.reader(stream)
    table = np.array(rows, dtype=float)
    doses = table[:, 0]
    for name in ("Liver", "CTV1", "PTV1", "CTV2", "PTV2", "Spleen", "Kidney_R", "SpinalCanal"):
        share = table[:, names.index(name)]
        ours = results["metrics"]["course"][name]
        assert float(np.trapezoid(share, doses)) == pytest.approx(ours["Dmean_gy"], rel=0.01), name
        theirs_gy = float(np.interp(-0.5, -share, doses))
        theirs_at_ours = float(np.interp(ours["D50%_gy"], doses, share))
        # where the curve is flat, 1 % of the volume is many per cent of the dose
        assert abs(theirs_gy / ours["D50%_gy"] - 1) <= 0.01 or abs(theirs_at_ours - 0.5) <= 0.01, name


def _ct_folder(tmp_path: Path) -> Path:
    shutil.unpack_archive(bundled_case_path("crlm_ct_1006"), tmp_path / "case")
    return next(path for path in (tmp_path / "case").rglob("CT") if path.is_dir())


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_command_again_resumes(out, capsys):
    case = bundled_case_path("crlm_ct_1006")
    again = run(["plan", str(case), "--out", str(out), "--start", "2026-01-05", "--label", "CRLM-CT-1006"])
    assert again == 0
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done"
    assert next(stage for stage in record["stages"] if stage["name"] == "planning")["resumed"]
    assert "Research use only" in capsys.readouterr().out


def test_the_report_is_self_contained_and_says_what_it_is(out):
    html = (out / "report.html").read_text()
    assert "Research use only" in html
    for word in ("SpinalCanal", "6 h", "Provenance", "CRLM-CT-1006"):
        assert word in html
    assert 'src="http' not in html
    assert "<script src" not in html
    assert (out / "report.pdf").read_bytes().startswith(b"%PDF")


def test_dvh_csv_has_the_agreed_columns(out):
    with (out / "dvh.csv").open() as stream:
        reader = csv.DictReader(stream)
        assert reader.fieldnames == ["structure", "dose_gy", "volume_cc", "volume_percent"]
        first = next(row for row in reader if row["structure"] == "Liver")
    assert float(first["volume_percent"]) == pytest.approx(100)


def test_evaluate_judges_the_exported_plans_alike(out, results, tmp_path):
    folder = tmp_path / "case"
    shutil.unpack_archive(bundled_case_path("crlm_ct_1006"), folder)
    for path in folder.rglob("RS*.dcm"):
        path.unlink()
    shutil.copytree(out / "dicom", folder / "plans")
    assert run(["evaluate", str(folder), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    ours = {(r["structure"], r["metric"]): r["achieved"] for r in results["constraints"]}
    for row in found["constraints"]:
        expected = ours[row["structure"], row["metric"]]
        assert row["achieved"] == pytest.approx(expected, rel=0.01, abs=0.3), row["structure"]


def test_dose_recalculates_the_exported_plan(out, results, tmp_path):
    case = bundled_case_path("crlm_ct_1006")
    plan = out / "dicom" / "RP_PTV1.dcm"
    assert run(["dose", str(case), "--plan", str(plan), "--grid", "4", "--out", str(tmp_path / "out")]) == 0
    again = json.loads((tmp_path / "out" / "results.json").read_text())["structures"]["Liver"]["Dmean_gy"]
    assert again == pytest.approx(results["metrics"]["PTV1"]["Liver"]["Dmean_gy"], rel=0.005)
