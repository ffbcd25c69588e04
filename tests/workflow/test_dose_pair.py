"""Two RTDOSE files against each other: gamma and difference from file to report, and what is refused."""

import json

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from cantlie.cli.main import app
from cantlie.core.errors import GeometryError, InputError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dicom.rtdose import write_rtdose
from cantlie.dicom.rtstruct import write_rtstruct
from cantlie.patient.case import Case, Ct, PatientIdentity
from cantlie.patient.contours import contours_of_fractions
from cantlie.patient.structures import Structure, StructureSet
from cantlie.workflow.dose_comparison import ComparisonSettings, GammaCriteria
from cantlie.workflow.dose_pair import DosePair, compare_dose_pair
from cantlie.workflow.patient_stage import CaseRequest

GRID = Grid((16, 24, 28), (4.0, 4.0, 4.0), (-54.0, -46.0, -30.0))


def bell(grid: Grid, shift_mm=(0.0, 0.0, 0.0), top_gy: float = 50.0) -> Volume:
    away = grid.points_mm() - np.asarray(shift_mm)
    return Volume(grid, (top_gy * np.exp(-0.5 * (away**2).sum(axis=-1) / 22.0**2)).astype(np.float32))


def case_of(frame: str = "2.25.3") -> Case:
    ct = Ct(Volume(GRID, np.zeros(GRID.shape, np.float32)), "HFS", "2.25.1", "2.25.2", frame, ())
    return Case(ct, StructureSet(), PatientIdentity("P1"))


@pytest.fixture
def pair(tmp_path):
    """Write a dose and one that is moved by 1.5 mm on a finer, offset grid; return a request maker."""
    finer = Grid((24, 34, 40), (2.9, 2.7, 2.8), (-55.3, -44.9, -31.1))
    write_rtdose(case_of(), bell(GRID), tmp_path / "A.dcm")
    write_rtdose(case_of(), bell(finer, (1.5, 0.0, 0.0)), tmp_path / "B.dcm")

    def request(**options) -> DosePair:
        return DosePair(tmp_path / "A.dcm", tmp_path / "B.dcm", tmp_path / "out", **options)

    return request


def test_a_small_shift_passes_gamma_and_shows_in_the_difference(pair, tmp_path):
    results = compare_dose_pair(pair(settings=ComparisonSettings(GammaCriteria(1.0, 2.0))))
    assert results["gamma"]["pass_percent"] > 99.5
    assert results["constraints"][0]["verdict"] == "pass"
    # the steepest slope of the bell is 50 / 22 · exp(-1/2) Gy/mm
    steepest = 1.5 * 50 / 22 * np.exp(-0.5)
    assert results["difference"]["highest_gy"] == pytest.approx(steepest, rel=0.12)
    assert results["difference"]["lowest_gy"] == pytest.approx(-steepest, rel=0.12)
    assert abs(results["difference"]["mean_gy"]) < 0.15
    for name in ("results.json", "report.html", "report.pdf", "figures/gamma.svg", "figures/difference.png"):
        assert (tmp_path / "out" / name).stat().st_size > 500, name
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == json.loads(json.dumps(results))


def test_a_shift_beyond_the_distance_fails_and_the_command_says_so(tmp_path):
    write_rtdose(case_of(), bell(GRID), tmp_path / "A.dcm")
    write_rtdose(case_of(), bell(GRID, (0.0, 6.0, 0.0)), tmp_path / "B.dcm")
    arguments = [str(tmp_path / "A.dcm"), str(tmp_path / "B.dcm"), "--out", str(tmp_path / "out"), "--json"]
    ran = CliRunner().invoke(app, ["gamma", *arguments, "--dose-percent", "2", "--local"])
    assert ran.exit_code == 1
    found = json.loads(ran.stdout)
    assert found["constraints"][0]["verdict"] == "fail"
    assert found["gamma"]["local"]
    ran = CliRunner().invoke(app, ["difference", *arguments])
    assert ran.exit_code == 0
    assert "gamma" not in json.loads(ran.stdout)


def test_each_structure_is_judged_with_a_case(tmp_path, make_images):
    hu = np.where(np.abs(GRID.points_mm()).max(axis=-1) < 44, 20.0, -1000.0)
    slices = make_images(tmp_path / "case", GRID, hu, "HFS")
    ct = Ct(Volume(GRID, hu.astype(np.float32)), "HFS", "2.25.1", "2.25.2", "2.25.3", slices)
    case = Case(ct, StructureSet(), PatientIdentity("P1"))
    right = ndimage.gaussian_filter((GRID.points_mm()[..., 0] < -12).astype(np.float32), 0.5)
    left = ndimage.gaussian_filter((GRID.points_mm()[..., 0] > 12).astype(np.float32), 0.5)
    for mask in (right, left):
        mask[:3] = mask[-3:] = mask[:, :5] = mask[:, -5:] = mask[..., :4] = mask[..., -4:] = 0
    structures = [
        Structure(name, contours_of_fractions(mask, GRID), n + 1, slice_spacing_mm=4.0)
        for n, (name, mask) in enumerate({"Liver": right, "Stomach": left}.items())
    ]
    write_rtstruct(case, structures, tmp_path / "case" / "RS.dcm")
    reference = bell(GRID)
    more = Volume(GRID, np.where(GRID.points_mm()[..., 0] > 0, 1.1, 1.0).astype(np.float32) * reference.values)
    write_rtdose(case, reference, tmp_path / "A.dcm")
    write_rtdose(case, more, tmp_path / "B.dcm")
    results = compare_dose_pair(
        DosePair(
            tmp_path / "A.dcm",
            tmp_path / "B.dcm",
            tmp_path / "out",
            settings=ComparisonSettings(GammaCriteria(3.0, 1.0, local=True)),
            case=CaseRequest(tmp_path / "case"),
        )
    )
    liver, stomach = results["structures"]["Liver"], results["structures"]["Stomach"]
    assert liver["gamma_pass_percent"] == 100.0
    assert stomach["gamma_pass_percent"] < 60.0
    assert liver["mean_difference_gy"] == pytest.approx(0.0, abs=1e-3)
    assert stomach["evaluated"]["Dmean_gy"] == pytest.approx(1.1 * stomach["reference"]["Dmean_gy"], rel=0.01)
    assert (tmp_path / "out" / "figures" / "dvh.svg").exists()


def test_doses_of_two_frames_are_refused_unless_asked(tmp_path, pair):
    request = pair()
    write_rtdose(case_of("2.25.9"), bell(GRID), tmp_path / "B.dcm")
    with pytest.raises(GeometryError, match="different frames"):
        compare_dose_pair(request)
    results = compare_dose_pair(pair(across_frames=True))
    assert any("frames of reference" in warning for warning in results["warnings"])


def test_a_dose_that_reaches_less_far_is_said(tmp_path, pair):
    request = pair(settings=ComparisonSettings(GammaCriteria()))
    half = Grid((16, 24, 14), GRID.spacing_mm, GRID.origin_mm)
    write_rtdose(case_of(), bell(half), tmp_path / "B.dcm")
    results = compare_dose_pair(request)
    assert results["gamma"]["uncovered_voxels"] == results["difference"]["uncovered_voxels"] > 0
    assert any("outside the evaluated dose" in warning for warning in results["warnings"])


def test_bad_input_is_one_sentence(tmp_path, pair):
    pair()
    for options in (["--threshold", "120"], ["--normalisation", "-3"], ["--dose-percent", "0"]):
        arguments = ["gamma", str(tmp_path / "A.dcm"), str(tmp_path / "B.dcm"), "--out", str(tmp_path / "o"), *options]
        ran = CliRunner().invoke(app, arguments)
        assert ran.exit_code != 0
    with pytest.raises(InputError, match="threshold"):
        compare_dose_pair(pair(settings=ComparisonSettings(threshold_percent=120.0)))
    from cantlie.core.errors import DicomError

    (tmp_path / "text.dcm").write_text("not a dose")
    with pytest.raises(DicomError):
        compare_dose_pair(DosePair(tmp_path / "A.dcm", tmp_path / "text.dcm", tmp_path / "out"))
