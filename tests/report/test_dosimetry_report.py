"""The dosimetry of a cohort: runs read back, tables with tests, cohort tables that can be read, refusals."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cantlie.cli.main import run
from cantlie.cohort.importing import read_cohort
from cantlie.core.errors import CohortError
from cantlie.core.files import write_json, write_text
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.evaluation.dvh import dvh
from cantlie.evaluation.metrics import metric_value
from cantlie.patient.regions import Regions
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.metric import Metric
from cantlie.report.dosimetry_report import run_dosimetry
from cantlie.study.dosimetry_runs import WantedMetric, find_runs, read_run
from cantlie.workflow.dosimetry import COURSE, judge_doses
from cantlie.workflow.results import dvh_csv, results_of

GRID = Grid((8, 12, 12), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
A, B = "zhang2021-alternating", "zhang2021-sequential"


def phantom() -> Regions:
    masks = {name: np.zeros(GRID.shape, dtype=np.float32) for name in ("BODY", "Liver", "PTV1", "PTV2", "Stomach")}
    masks["BODY"][:] = 1
    masks["Liver"][1:7, 2:10, 1:7] = 1
    masks["Liver-GTV"] = masks["Liver"].copy()
    masks["PTV1"][1:7, 2:10, 1:4] = 1
    masks["PTV2"][1:7, 2:10, 4:7] = 1
    masks["Stomach"][1:7, 2:10, 8:11] = 1
    return Regions(GRID, masks)


def make_run(folder: Path, protocol_id: str, patient: int, level: float) -> Path:
    """Write what a run leaves, from a dose on a phantom that differs from patient to patient."""
    rng = np.random.default_rng(patient)
    protocol = load_protocol(protocol_id)
    regions = phantom()
    base = rng.uniform(0.2, 0.5, GRID.shape) * level
    doses = {}
    for name in ("PTV1", "PTV2"):
        dose = (30 * (base + regions[name])).astype(np.float32)
        doses[name] = Volume(GRID, dose)
    total = Volume(GRID, doses["PTV1"].values + doses["PTV2"].values)
    dosimetry = judge_doses(regions, protocol, {COURSE: total, **doses}, {"PTV1": 30.0, "PTV2": 30.0})
    write_json(folder / "results.json", results_of("made", protocol, dosimetry))
    write_text(folder / "dvh.csv", dvh_csv(dosimetry.dvhs[COURSE]))
    provenance = {"cantlie": "0.1", "python": "3", "case_sha256": f"{patient:064x}"[::-1]}
    write_json(folder / "run.json", {"status": "done", "provenance": provenance})
    return folder


@pytest.fixture
def paired_runs(tmp_path) -> Path:
    for patient in range(1, 6):
        make_run(tmp_path / "runs" / f"p{patient}" / A, A, patient, 1.0)
        make_run(tmp_path / "runs" / f"p{patient}" / B, B, patient, 1.02 + 0.01 * patient)
    return tmp_path / "runs"


def test_arms_with_the_same_patients_are_compared_in_pairs(paired_runs, tmp_path):
    out = tmp_path / "out"
    command = ["study", "dosimetry", str(paired_runs), "--arm", B, "--metric", "Liver: V20Gy[%]", "--out", str(out)]
    assert run(command) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["paired"] and results["arms"] == [B, A] and len(results["runs"]) == 10
    row = next(r for r in results["rows"] if (r["structure"], r["metric"]) == ("Stomach", "Dmax"))
    values = {arm: [] for arm in (A, B)}
    for folder in find_runs([paired_runs]):
        one = read_run(folder)
        values[one.arm].append(one.values["Stomach", "Dmax", "Gy"])
    assert row["arms"][0]["mean"] == pytest.approx(np.mean(values[B]))
    assert row["arms"][0]["sd"] == pytest.approx(np.std(values[B], ddof=1))
    assert row["recommended"]["p_value"] == pytest.approx(stats.ttest_rel(values[B], values[A]).pvalue)
    assert row["as_published"]["p_value"] == pytest.approx(stats.ttest_ind(values[B], values[A]).pvalue)
    assert row["ranks"]["method"].startswith("Wilcoxon")
    assert row["interval"][0] < row["difference"] < row["interval"][1]
    with (out / "tables" / "dosimetry.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert {"Liver"} <= {r["structure"] for r in table if r["metric"] == "V20Gy[%]"}
    with (out / "tables" / "patients.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 10
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Dosimetry of a cohort" in page and "paired t-test" in page and "Research use only" in page
    assert (out / "figures" / "mean-dvh.svg").stat().st_size > 5000
    cohort = read_cohort(out / "cohort" / A)
    assert len(cohort.patients) == 5 and set(cohort.tables["dosimetry"]["structure"]) >= {"Stomach", "PTV1"}


def test_an_arms_file_names_arms_and_patients_of_different_people(tmp_path):
    lines = ["run,arm,patient_id"]
    for patient in range(1, 8):
        make_run(tmp_path / f"run{patient}", A, patient, 1.0 + 0.05 * (patient > 4))
        lines.append(f"run{patient},{'old' if patient <= 4 else 'new'},P{patient:02d}")
    write_text(tmp_path / "arms.csv", "\n".join(lines) + "\n")
    result = run_dosimetry([tmp_path], tmp_path / "out", arms_file=tmp_path / "arms.csv")
    assert result.arms == ("old", "new") and not result.is_paired
    row = next(r for r in result.rows if (r.structure, r.metric) == ("Stomach", "Dmax"))
    assert [s.n for s in row.arms] == [4, 3]
    assert row.recommended.method == "Welch's t-test" and "Mann" in row.ranks.method
    assert all(r.structure != "Bowel_Small" for r in result.rows)  # a rule on what nobody has leaves no row
    cohort = read_cohort(tmp_path / "out" / "cohort")
    assert sorted(cohort.patients["patient_id"]) == [f"P{n:02d}" for n in range(1, 8)]
    assert set(cohort.patients["arm"]) == {"old", "new"}


@pytest.mark.parametrize("text", ["Dmean", "Dmax", "D2cc", "D50%", "V20Gy[%]", "V20Gy[cc]", "CV25Gy[cc]"])
def test_a_metric_from_the_kept_dvh_is_that_of_the_dose(tmp_path, text):
    folder = make_run(tmp_path / "run", A, 3, 1.0)
    regions = phantom()
    base = np.random.default_rng(3).uniform(0.2, 0.5, GRID.shape)
    total = sum((30 * (base + regions[name])).astype(np.float32) for name in ("PTV1", "PTV2"))
    curve = dvh(Volume(GRID, total), regions["Liver"], GRID, name="Liver")
    found = read_run(folder, [WantedMetric.parse(f"Liver: {text}")]).values
    key = next(k for k in found if k[0] == "Liver" and k[1] == str(Metric.parse(text)))
    assert found[key] == pytest.approx(metric_value(Metric.parse(text), curve), rel=0.01, abs=0.1)


def test_what_cannot_be_tabulated_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(CohortError, match="no finished run"):
        run_dosimetry([tmp_path], tmp_path / "out")
    folder = make_run(tmp_path / "runs" / "one", A, 1, 1.0)
    with pytest.raises(CohortError, match="stands twice"):
        make_run(tmp_path / "runs" / "two", A, 1, 1.0)
        run_dosimetry([tmp_path / "runs"], tmp_path / "out")
    with pytest.raises(CohortError, match="no DVH of Colon"):
        read_run(folder, [WantedMetric.parse("Colon: Dmax")])
    with pytest.raises(CohortError, match="not a metric of a structure"):
        WantedMetric.parse("Dmax")
    write_text(tmp_path / "arms.csv", "run,arm\nother,A\n")
    with pytest.raises(CohortError, match="no line in the arms file"):
        run_dosimetry([folder], tmp_path / "out", arms_file=tmp_path / "arms.csv")
    write_json(folder / "run.json", {"status": "interrupted", "provenance": {}})
    with pytest.raises(CohortError, match="not finished"):
        run_dosimetry([folder], tmp_path / "out")
    write_text(folder / "run.json", "{")
    with pytest.raises(CohortError, match="damaged"):
        run_dosimetry([folder], tmp_path / "out")
