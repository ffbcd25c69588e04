"""The report of an audit: files, their content, and their words."""

import csv
import json
from pathlib import Path

import pytest

from cantlie.core.errors import OutputError
from cantlie.report.audit_report import SCOPE, run_audit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("audit")
    run_audit("yin2014", out)
    return out


def test_results_hold_every_check_with_its_verdict(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    fields = {"verdict", "printed", "recomputed", "method", "severity", "place", "check", "item", "study"}
    assert results["summary"]["checks"] == len(results["checks"]) == 102
    assert all(fields <= set(row) for row in results["checks"])
    assert {row["verdict"] for row in results["checks"]} == {"consistent", "inconsistent", "not recomputable"}
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert run["status"] == "done"
    assert len(run["provenance"]["claims_sha256"]) == 64


def test_tables_are_csv(folder: Path) -> None:
    with (folder / "tables" / "findings.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 102
    assert any(row["slip"] for row in rows)
    with (folder / "tables" / "p_values.csv").open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 5


def test_the_page_is_whole_and_neutral(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    for words in ("Summary", "Findings by severity", "Not recomputable", "Reproduction of all p-values", "Methods"):
        assert words in page
    assert SCOPE[:60] in page
    assert "Research use only" in page
    assert "<script src" not in page
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")


def test_only_the_chosen_formats_are_written(tmp_path: Path) -> None:
    run_audit("pei2019", tmp_path, formats=("json",))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "run.json"]


def test_a_clean_table_has_a_clean_report(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("item,A (n=3)\nSex,\n  m,1 (33.3)\n  f,2 (66.7)\n", encoding="utf-8")
    result = run_audit(table, tmp_path / "out", formats=("html",))
    assert result.of("inconsistent") == ()
    assert "No printed number was found" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        run_audit("pei2019", tmp_path / "file" / "out", formats=("json",))
