"""The guide to the outputs names every field that rows of results.json have."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.evaluation.constraints import ConstraintResult
from cantlie.evaluation.indices import PlanIndices
from cantlie.patient.regions import Regions
from cantlie.plan.complexity import Complexity
from cantlie.plan.treatment import TreatmentPlan
from cantlie.protocol.loading import load_protocol
from cantlie.workflow.dosimetry import judge_doses
from cantlie.workflow.export import ExportedFile
from cantlie.workflow.results import delivery_of, results_of

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "outputs.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([\w.%]+)`", TEXT))


@pytest.mark.parametrize("kind", [ConstraintResult, PlanIndices, Complexity])
def test_every_field_of_a_row_is_named(kind):
    assert {field.name for field in fields(kind)} - {"notes"} <= NAMED


def test_what_lies_in_dicom_is_named():
    assert {"path", "content"} <= {field.name for field in fields(ExportedFile)} & NAMED


def test_every_table_of_an_evaluated_case_is_named():
    grid = Grid((6, 6, 6), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    full = np.ones(grid.shape, dtype=np.float32)
    protocol = load_protocol("zhang2021-alternating")
    regions = Regions(grid, {"BODY": full, "Liver": full, "PTV1": full, "PTV2": full, "Liver-GTV": full})
    doses = dict.fromkeys(("course", "PTV1", "PTV2"), Volume(grid, 30 * full))
    dosimetry = judge_doses(regions, protocol, doses, {"PTV1": 30.0, "PTV2": 30.0})
    results = results_of("title", protocol, dosimetry)
    assert set(results) <= NAMED
    assert {key for row in results["constraints"] for key in row} <= NAMED
    assert set(results["metrics"]["course"]["Liver"]) <= NAMED
    assert set(delivery_of(TreatmentPlan("label", "machine", (), 15, 30.0))) <= NAMED
