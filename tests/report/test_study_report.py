"""Reports of studies: every file is there, says SYNTHETIC where it must, and shows where numbers differ from print."""

import csv
import json
import re
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cantlie.core.errors import CantlieError
from cantlie.report.study_figures import draw
from cantlie.report.study_report import list_studies, run_study, synthesize_study

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def zhang(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zhang")
    made = synthesize_study("zhang2021", folder / "data")
    result = run_study("zhang2021", folder / "data", folder / "out")
    return folder, made, result


def test_the_five_studies_are_listed():
    rows = list_studies()
    assert [row["id"] for row in rows] == ["li2024", "liu2022", "pei2019", "yin2014", "zhang2021"]
    assert all(str(row["doi"]).startswith("10.") for row in rows)


def test_a_run_leaves_all_its_files(zhang):
    folder, _, result = zhang
    out = folder / "out"
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {"run.json", "results.json", "report.html", "report.pdf"} <= names
    assert {f"tables/{table.id}.csv" for table in result.tables} <= names
    assert {f"figures/{figure.spec.id}.{suffix}" for figure in result.figures for suffix in ("svg", "png")} <= names
    assert (out / "report.pdf").read_bytes().startswith(b"%PDF")
    assert {"table1", "table2", "table3", "table4", "table5"} <= {table.id for table in result.tables}


def test_every_output_says_synthetic(zhang):
    folder, made, _ = zhang
    out = folder / "out"
    for path in (out / "tables").glob("*.csv"):
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert rows
        assert all(row["data"] == "SYNTHETIC" for row in rows)
    assert "SYNTHETIC" in (out / "report.html").read_text()
    assert json.loads((out / "results.json").read_text())["label"] == "SYNTHETIC"
    assert json.loads((out / "run.json").read_text())["synthetic"] is True
    remarks = (folder / "data" / "SYNTHETIC.txt").read_text()
    assert all(text in remarks for text in (*made.missed, *made.not_imposed))
    for path in (folder / "data").glob("*.csv"):
        assert all(row["patient_id"].startswith("SYNTHETIC") for row in csv.DictReader(path.read_text().splitlines()))


def test_results_carry_verdicts_and_the_report_shows_differences(zhang):
    folder, _, _ = zhang
    found = json.loads((folder / "out" / "results.json").read_text())
    verdicts = {row["verdict"] for row in found["rows"]}
    assert verdicts == {"consistent", "inconsistent"}
    kidney = [row for row in found["rows"] if row["printed"] == ">.05" and row["verdict"] == "inconsistent"]
    assert len(kidney) == 1
    assert "printed: &gt;.05" in (folder / "out" / "report.html").read_text()
    assert found["agreement"]["same"] >= found["agreement"]["compared"] - 2


def test_no_table_shows_what_cannot_be_estimated_as_a_number(zhang):
    """Nobody of group B lives at 36 months: survival is 0 there and has no interval."""
    _, _, result = zhang
    cells = {cell.text for table in result.tables for row in table.rows for cell in row}
    assert not [text for text in cells if "nan" in text]
    survivors = next(table for table in result.tables if table.id == "table4")
    assert survivors.columns[-1].startswith("Kaplan-Meier") and survivors.rows[-1][-1].text == "0.0%"


def test_tests_are_footnotes_wherever_their_column_stands(zhang):
    folder, _, result = zhang
    page = (folder / "out" / "report.html").read_text()
    survivors = next(table for table in result.tables if table.id == "table4")
    at = survivors.columns.index("tests")
    assert at < len(survivors.columns) - 1
    for name in survivors.rows[0][at].text.split("; "):
        assert f"<td>{name}" not in page
    assert re.search(r"Kaplan-Meier beside it; a: Pearson", page)


def test_curves_are_drawn_over_aligned_numbers_at_risk(zhang):
    _, _, result = zhang
    figure = next(f for f in result.figures if f.spec.kind == "km")
    picture = draw(figure, result)
    curve_axes, table_axes = picture.axes[:2]
    picture.canvas.draw()
    ticks = curve_axes.get_xticks()
    assert list(ticks) == list(figure.groups[0].risk_time)
    for group in figure.groups:
        for month, count in zip(group.risk_time, group.at_risk, strict=True):
            texts = [t for t in table_axes.texts if t.get_text() == f"{count:.0f}" and t.get_position()[0] == month]
            assert texts
    left, right = curve_axes.get_position().x0, table_axes.get_position().x0
    assert left == right
    assert curve_axes.get_xlim() == table_axes.get_xlim()
    assert figure.groups[0].at_risk[0] == 32
    assert np.all(np.diff(figure.groups[0].at_risk) <= 0)
    assert any(t.get_text() == "SYNTHETIC" for t in picture.texts)


def test_a_long_name_of_an_arm_stays_within_the_figure(zhang):
    _, _, result = zhang
    figure = next(f for f in result.figures if f.spec.kind == "km")
    named = tuple(replace(group, label="an arm with a name that does not end " * 4) for group in figure.groups)
    picture = draw(replace(figure, groups=named), result)
    picture.canvas.draw()
    axes = picture.axes[0]
    legend, frame = axes.get_legend().get_window_extent(), axes.get_window_extent()
    assert legend.x0 >= frame.x0
    assert legend.x1 <= frame.x1


@pytest.mark.parametrize(("name", "size"), [("hepatocellular", 227), ("metabric", 1904)])
def test_the_worked_examples_run_on_real_data(tmp_path, name, size):
    runpy.run_path(str(EXAMPLES / name / "prepare.py"))["prepare"](tmp_path / "data")
    result = run_study(EXAMPLES / name / "study.toml", tmp_path / "data", tmp_path / "out", pdf=False)
    assert result.size == size
    assert not result.synthetic
    assert "SYNTHETIC" not in (tmp_path / "out" / "report.html").read_text()
    tables = {table.id: table for table in result.tables}
    if name == "hepatocellular":
        rows = {row[0].text: row for row in tables["cox"].rows}
        assert rows["Large / small"][2].text.startswith("1.849 (1.210-2.825)")
        assert next(row for row in tables["survival"].rows if row[0].text == "RFS")[2].text == "227 (143)"
    else:
        assert any("found no match" in note.message for note in result.notes)
        assert any("Immortal time" in note.message for note in result.notes)
        rows = {row[0].text: row for row in tables["matching"].rows}
        assert rows["all, unadjusted"][1].text == "1137 / 767"
        assert rows["matched again"][1].text == "701 / 701"
        assert float(rows["matched again"][2].text) < 0.03
        assert any("outnumber 767 controls" in note.message for note in result.notes)


def test_wrong_data_end_in_one_sentence(tmp_path):
    with pytest.raises(CantlieError, match="no such file or folder"):
        run_study("zhang2021", tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "patients.csv").write_text("patient_id,arm,age_years\nP1,A,fifty\n")
    with pytest.raises(CantlieError, match=r"patients.csv, row 2, column age_years, rule not-a-number"):
        run_study("zhang2021", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_figures_of_one_patient_come_from_a_run(zhang, tmp_path):
    folder, _, _ = zhang
    case = tmp_path / "case"
    (case / "figures").mkdir(parents=True)
    for name in ("targets", "isodose-course", "dvh-course", "calendar"):
        text = f'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><title>{name}</title></svg>'
        (case / "figures" / f"{name}.svg").write_text(text)
    rule = {"structure": "Stomach", "metric": "Dmax", "op": "<=", "limit": 40.0, "unit": "Gy", "achieved": 33.9,
            "verdict": "pass"}  # fmt: skip
    (case / "results.json").write_text(json.dumps({"constraints": [rule], "protocol": {"title": "Semi-hepatic"}}))
    (case / "run.json").write_text(json.dumps({"status": "done"}))
    run_study("zhang2021", folder / "data", tmp_path / "out", cases=[case], pdf=False)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Images of one patient (1): Semi-hepatic" in page and "Dose constraints of the protocol" in page
    names = {path.name for path in (tmp_path / "out" / "figures").glob("patient-1-*")}
    assert names == {f"patient-1-{name}.svg" for name in ("targets", "isodose-course", "dvh-course")}
    (case / "run.json").write_text(json.dumps({"status": "failed"}))
    with pytest.raises(CantlieError, match="not finished"):
        run_study("zhang2021", folder / "data", tmp_path / "out", cases=[case], pdf=False)
