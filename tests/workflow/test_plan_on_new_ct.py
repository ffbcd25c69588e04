"""A course over two CTs: the boost after a re-CT, and the rest of a course planned anew, judged on the sum."""

import json

import numpy as np
import pytest
from pydicom import dcmread
from tests.workflow.dicom_cases import GRID, bump, deformed, ellipsoid, image_of, organs, write_case

from cantlie.cli.main import run
from cantlie.core.errors import InputError
from cantlie.core.volume import Volume
from cantlie.dicom.registration_file import read_registration_file, write_deformable_registration
from cantlie.dicom.rtdose import read_rtdose
from cantlie.protocol.loading import load_protocol
from cantlie.workflow.plan_on_new_ct import two_cts
from cantlie.workflow.planned_case import PlanCase

SIZE_MM = 8.0


@pytest.fixture(scope="module")
def protocol(tmp_path_factory):
    """Return the file of Yin's protocol with margins and fields for a small phantom."""
    text = load_text("yin2014-boost")
    text = text.replace("fields = 7", "fields = 5").replace("beamlet_mm = 5.0", "beamlet_mm = 10.0")
    text = text.replace("dose_grid_mm = [4.0, 4.0, 4.0]", "dose_grid_mm = [6.0, 6.0, 6.0]")
    text = text.replace("craniocaudal = 20.0 }", "craniocaudal = 13.0 }")
    path = tmp_path_factory.mktemp("protocol") / "two.toml"
    path.write_text(text, encoding="utf-8")
    return path


def load_text(name: str) -> str:
    from importlib import resources

    return (resources.files("cantlie.protocol") / "data" / f"{name}.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Write a first CT, and a second one 8 mm deformed with a smaller lesion, in one folder and apart."""
    root = tmp_path_factory.mktemp("cases")
    masks = organs()
    hu = image_of(masks)
    back = bump(SIZE_MM)
    shrunk = {**masks, "GTV_1": ellipsoid((-26, -6, 10), 11)}
    hu2, masks2 = deformed(hu, shrunk, back)
    for name in ("both", "first"):
        write_case(root / name, hu, masks, 1, date="20260105")
    for name in ("both", "second"):
        write_case(root / name, hu2, masks2, 2, date="20260202")
    return root, back


@pytest.fixture(scope="module")
def out(folders, protocol, tmp_path_factory):
    root, _ = folders
    folder = tmp_path_factory.mktemp("runs") / "yin"
    code = run(["plan", str(root / "both"), "--protocol", str(protocol), "--out", str(folder), "--start", "2026-01-05"])
    assert code in (0, 1)
    return folder


@pytest.mark.slow
def test_the_boost_is_planned_on_the_second_ct_and_judged_on_the_sum(out, folders):
    results = json.loads((out / "results.json").read_text())
    earlier = results["earlier_ct"]
    assert earlier["plans"] == [
        {"target": "PTV_liver", "fractions_given": 18, "fractions_planned": 18, "prescribed_dose_given_gy": 30.6}
    ]
    assert [row["plan"] for row in results["delivery"]] != [] and len(results["delivery"]) == 1
    assert results["delivery"][0]["target"] == "PTV_boost" and results["delivery"][0]["fractions"] == 12
    # The dose of the course is the boost and the carried-over dose, and the kidneys' limits are judged on it.
    total = read_rtdose(out / "dicom" / "RD_course.dcm").values
    boost = read_rtdose(out / "dicom" / "RD_PTV_boost.dcm").values
    before = read_rtdose(out / "dicom" / "RD_PTV_liver_earlier.dcm").values
    assert total == pytest.approx(boost + before, abs=0.02)
    rows = {(r["structure"], r["metric"], r["scope"]): r for r in results["constraints"]}
    for side in ("Kidney_L", "Kidney_R"):
        assert rows[side, "D66%", "course"]["verdict"] == "pass"
        assert rows[side, "D100%", "course"]["verdict"] == "pass"
    assert rows["SpinalCord", "Dmax", "course"]["achieved"] <= 40
    assert rows["PTV_boost", "V100%[%]", "plan"]["achieved"] >= 89
    assert rows["PTV_liver", "V90%[%]", "plan"]["judged_on"] == "the earlier CT"
    assert len(results["course"]["sessions"]) == 30
    assert results["course"]["sessions"][18]["target"] == "PTV_boost"
    assert results["metrics"]["course"]["Liver"]["Dmean_gy"] > 31


@pytest.mark.slow
def test_the_carried_dose_is_that_of_the_true_deformation(out, folders):
    _, back = folders
    first = read_rtdose(out / "first_ct" / "dicom" / "RD_PTV_liver.dcm")
    found = read_rtdose(out / "dicom" / "RD_PTV_liver_earlier.dcm")
    truth = back.pull(first, found.grid).values
    high = truth > 15.3
    away = np.abs(found.values - truth)[high]
    assert (away <= 0.03 * 30.6).mean() >= 0.90
    link = json.loads((out / "results.json").read_text())["earlier_ct"]["registration"]
    assert link["dice"]["Liver"] > 0.93 and link["mean_surface_distance_mm"]["Liver"] < 2.5
    assert link["jacobian"]["folded_fraction"] == 0


@pytest.mark.slow
def test_registration_objects_and_report(out):
    rigid = read_registration_file(out / "dicom" / "REG_rigid.dcm")
    soft = read_registration_file(out / "dicom" / "REG_deformable.dcm")
    frames = {dcmread(out / "dicom" / "RD_course.dcm").FrameOfReferenceUID}
    assert {soft.registered_frame_uid, rigid.registered_frame_uid} == frames == {"2.25.32"}
    assert {one.frame_uid for one in soft.images} == {"2.25.31"}
    page = (out / "report.html").read_text(encoding="utf-8")
    for text in ("Sessions on the earlier CT", "Registration of the CTs", "Checkerboard", "Sum ± one standard error"):
        assert text in page
    assert (out / "first_ct" / "report.html").exists() and (out / "report.pdf").exists()
    sessions = json.loads((out / "run.json").read_text())
    assert sessions["status"] == "done"


def test_one_ct_is_planned_with_a_note_and_two_ways_to_name_the_second(folders, protocol, tmp_path):
    root, _ = folders
    chosen = load_protocol(str(protocol))
    assert two_cts(PlanCase(root / "first", "x", tmp_path), chosen) is None
    first, second = two_cts(PlanCase(root / "first", "x", tmp_path, second_ct=root / "second"), chosen)
    assert (first.case.name, second.case.name) == ("first", "second")
    first, second = two_cts(PlanCase(root / "both", "x", tmp_path), chosen)
    assert (first.series, second.series) == ("2.25.21", "2.25.22")
    with pytest.raises(InputError, match="planned on one CT"):
        two_cts(PlanCase(root / "first", "x", tmp_path, second_ct=root), load_protocol("zhang2021-alternating"))


def test_ct_of_the_same_day_cannot_be_told_apart(tmp_path, protocol):
    masks = organs()
    hu = image_of(masks)
    for number in (1, 2):
        write_case(tmp_path / "case", hu, masks, number)
    with pytest.raises(InputError, match="not clear"):
        two_cts(PlanCase(tmp_path / "case", "x", tmp_path), load_protocol(str(protocol)))


@pytest.mark.slow
def test_the_rest_is_planned_after_some_sessions_with_the_registration_that_came_with_the_case(
    out, folders, protocol, tmp_path
):
    """Adaptive: after 20 of 30 sessions (18 and 2) the boost's last ten fractions are planned on another CT."""
    root, back = folders
    masks = organs()
    hu2, masks2 = deformed(image_of(masks), masks, back)
    later = write_case(tmp_path / "new", hu2, masks2, 3, date="20260210")
    first = write_case(tmp_path / "unused", image_of(masks), masks, 1)
    write_deformable_registration(later, first, back, tmp_path / "new" / "REG.dcm")
    folder = tmp_path / "out"
    earlier_run = ["--previous", str(out / "first_ct"), "--given", "20", "--previous-ct", str(root / "first")]
    code = run(["plan", str(tmp_path / "new"), "--protocol", str(protocol), *earlier_run, "--out", str(folder)])
    assert code in (0, 1)
    results = json.loads((folder / "results.json").read_text())
    earlier = results["earlier_ct"]
    assert [(p["target"], p["fractions_given"]) for p in earlier["plans"]] == [("PTV_liver", 18), ("PTV_boost", 2)]
    assert "registration object" in earlier["registration"]["origin"]
    assert results["delivery"][0]["fractions"] == 10
    given = [s for s in results["course"]["sessions"] if "earlier CT" in s["target"]]
    assert len(given) == 20 and len(results["course"]["sessions"]) == 30
    found = read_rtdose(folder / "dicom" / "RD_PTV_liver_earlier.dcm")
    truth = back.pull(read_rtdose(out / "first_ct" / "dicom" / "RD_PTV_liver.dcm"), found.grid)
    assert np.abs(found.values - truth.values).max() < 0.3
    # Two of twelve boost fractions were given before, ten follow: the boost gets its whole dose.
    total = read_rtdose(folder / "dicom" / "RD_course.dcm")
    inside = Volume(GRID, masks2["GTV_1"]).resample(total.grid).values > 0.95
    assert total.values[inside].mean() == pytest.approx(53.4, abs=3)


@pytest.mark.slow
def test_what_cannot_be_continued_is_refused(out, folders, protocol, tmp_path, capsys):
    root, _ = folders
    base = ["plan", str(root / "second"), "--protocol", str(protocol), "--out", str(tmp_path / "o")]
    for extra, message in (
        (["--previous", str(root)], "not the folder"),
        (["--previous", str(out / "first_ct")], "--given"),
        (["--previous", str(out / "first_ct"), "--given", "30"], "nothing to plan"),
        (["--previous", str(out / "first_ct"), "--given", "5"], "--previous-ct"),
        (["--previous", str(out / "first_ct"), "--given", "5", "--previous-ct", str(root / "second")], "same series"),
    ):
        assert run([*base, *extra]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_what_was_given_stays_while_the_rest_is_displaced(out):
    results = json.loads((out / "results.json").read_text())
    robustness = results["robustness"]
    assert "stays as it is" in robustness["method"]
    row = next(
        r
        for r in robustness["metrics"]
        if (r["structure"], r["metric"], r["scope"]) == ("SpinalCord", "Dmax", "course")
    )
    judged = {(r["structure"], r["metric"], r["scope"]): r["achieved"] for r in results["constraints"]}
    assert row["nominal"] == pytest.approx(judged["SpinalCord", "Dmax", "course"], abs=0.02)
    assert row["best"] <= row["nominal"] <= row["worst"]
    assert "Robustness" in (out / "report.html").read_text(encoding="utf-8")
    assert (out / "dvh_bands.csv").exists()
