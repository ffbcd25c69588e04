"""Plans on two CTs evaluated together: the sum on one anatomy, EQD2 with each plan's own fractions."""

import json

import numpy as np
import pytest
from tests.workflow.dicom_cases import GRID, bump, deformed, ellipsoid, image_of, organs, write_case

from cantlie.cli.main import run
from cantlie.core.errors import DicomError
from cantlie.core.volume import Volume
from cantlie.dicom.registration_file import write_deformable_registration
from cantlie.dicom.rtdose import write_rtdose
from cantlie.workflow.evaluate_case import EvaluateCase, evaluate_case
from cantlie.workflow.other_cts import doses_of_other_cts


@pytest.fixture
def cases(tmp_path):
    """Write a CT with 12 fractions and an earlier one, 9 mm deformed, with 18 fractions."""
    masks = organs()
    hu = image_of(masks)
    back = bump(9.0)  # where each point of the new CT lay in the earlier one
    first = write_case(tmp_path / "first", hu, masks, 1)
    hu2, masks2 = deformed(hu, masks, back)
    new = write_case(tmp_path / "new", hu2, masks2, 2, date="20260202")
    whole = Volume(GRID, (30.6 * ellipsoid((-22, -6, 8), (48, 42, 42))).astype(np.float32))
    boost = Volume(GRID, (22.8 * back.pull(Volume(GRID, ellipsoid((-26, -6, 10), 26))).values).astype(np.float32))
    write_rtdose(first, whole, tmp_path / "first" / "RD.dcm")
    write_rtdose(new, boost, tmp_path / "new" / "RD.dcm")
    return tmp_path, new, first, back, whole, boost, masks2


def test_doses_of_two_cts_are_summed_on_one_with_the_registration_of_the_case(cases):
    folder, new, first, back, whole, boost, masks = cases
    write_deformable_registration(new, first, back, folder / "first" / "REG.dcm")
    arguments = ["evaluate", folder / "new", "--other-ct", folder / "first", "--protocol", "yin2014-boost"]
    options = ["--fractions", 12, "--fractions", 18, "--out", folder / "out", "--robustness", "off"]
    assert run([str(a) for a in (*arguments, *options)]) in (0, 1)
    results = json.loads((folder / "out" / "results.json").read_text())
    assert [(p["fractions"], p["fractions_from"]) for p in results["plans_summed"]] == [(12, "given"), (18, "given")]
    carried = back.pull(whole)
    truth = carried.values + boost.values
    liver = masks["Liver"] > 0.99
    assert results["metrics"]["course"]["Liver"]["Dmean_gy"] == pytest.approx(
        truth[masks["Liver"] > 0.5].mean(), rel=0.02
    )
    # EQD2 per voxel: each plan with its own dose per fraction, then summed.
    alpha_beta = 2.5
    eqd2 = sum(d * (d / n + alpha_beta) / (2 + alpha_beta) for d, n in ((carried.values, 18), (boost.values, 12)))
    found = results["eqd2"]["Liver"]
    assert found["alpha_beta_gy"] == alpha_beta
    assert found["Dmean_eqd2_gy"] == pytest.approx(float(eqd2[masks["Liver"] > 0.5].mean()), rel=0.02)
    assert found["Dmax_eqd2_gy"] == pytest.approx(float(eqd2[liver].max()), rel=0.03)
    other = results["other_cts"]
    assert "registration object" in other["registrations"][0]["origin"]
    limits = {row["structure"]: row for row in other["limits"]}
    assert limits["Kidney_R"]["low"] <= limits["Kidney_R"]["achieved"] <= limits["Kidney_R"]["high"]
    page = (folder / "out" / "report.html").read_text(encoding="utf-8")
    for text in ("Doses of other CTs", "Registration of the CTs", "Checkerboard", "12 fractions", "18 fractions"):
        assert text in page


@pytest.mark.slow
def test_without_a_registration_object_cantlie_registers(cases):
    folder, _, _, back, whole, boost, _ = cases
    request = EvaluateCase(
        folder / "new", "yin2014-boost", folder / "out", others=(folder / "first",), fractions=(12, 18)
    )
    evaluate_case(request)
    results = json.loads((folder / "out" / "results.json").read_text())
    assert results["other_cts"]["registrations"][0]["dice"]["Liver"] > 0.93
    truth = back.pull(whole).values + boost.values
    assert results["metrics"]["course"]["GTV_1"]["Dmean_gy"] == pytest.approx(float(truth.max()), rel=0.03)


def test_what_cannot_be_summed_is_refused(cases):
    folder, new, *_ = cases
    with pytest.raises(DicomError, match="CT of the case itself"):
        doses_of_other_cts((folder / "new",), folder / "new", new)
    (folder / "first" / "RD.dcm").unlink()
    with pytest.raises(DicomError, match="no RTDOSE"):
        doses_of_other_cts((folder / "first",), folder / "new", new)
