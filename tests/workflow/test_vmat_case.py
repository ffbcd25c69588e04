"""SBRT of single lesions of the bundled patient by VMAT, from DICOM to RTPLAN and report: the bars of the project."""

import json
import shutil
import subprocess
from datetime import date

import pytest

from cantlie.dicom.bundled import bundled_case_path
from cantlie.dicom.plan_file import read_plan_file
from cantlie.machine.machine import load_machine
from cantlie.workflow.plan_case import plan_case
from cantlie.workflow.planned_case import PlanCase


@pytest.mark.slow
@pytest.mark.parametrize(("lesion", "arcs"), [("GTV_4", 1), ("GTV_4", 2), ("GTV_6", 1), ("GTV_6", 2)])
def test_every_rule_of_sbrt_is_met_by_arcs(tmp_path, lesion, arcs):
    out = tmp_path / "out"
    plan_case(
        PlanCase(
            bundled_case_path("crlm_ct_1006"), "liu2022-sbrt", out, delivery="vmat", arcs=arcs, lesions=(lesion,),
            scheme="42-in-3", start=date(2026, 1, 5), label="CRLM-CT-1006",
        )
    )  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    assert {row["verdict"] for row in results["constraints"]} <= {"pass", "not evaluable"}
    d95 = next(rule for rule in results["planning"]["rules"] if rule["metric"] == "D95%")
    assert d95["delivered"] == pytest.approx(d95["promised"], rel=0.01)
    assert len(results["arcs"]["PTV"]) == arcs
    machine = load_machine("generic-6mv-mlci")
    plan = read_plan_file(out / "dicom" / "RP_PTV.dcm").plan
    assert len(plan.beams) == arcs
    for beam in plan:
        assert beam.dynamic
        for point in beam.control_points:
            assert machine.broken_rules(point.aperture) == []
    if shutil.which("dciodvfy"):
        said = subprocess.run(
            ["dciodvfy", str(out / "dicom" / "RP_PTV.dcm")], capture_output=True, text=True, check=False
        )
        assert "Error" not in said.stderr
