"""``cantlie guidance``: from a shift log to verdicts, statistics, margins and a report."""

import csv
import json

import pytest

from cantlie.cli.main import run

LOG = """session,modality,match,x_mm,y_mm,z_mm,corrected,approved_by
1,CBCT,bone > soft tissue,0.5,0.2,-1.0,no,physician
2,CBCT,bone > soft tissue,0.5,2.5,-1.0,yes,physician
3,CBCT,bone > soft tissue,0.5,0.2,-3.0,no,physician
"""


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    return path


def test_the_report_judges_every_session(log, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(["guidance", str(log), "--protocol", "yin2014-boost", "--start", "2026-01-05", "--out", str(out)]) == 1
    results = json.loads((out / "results.json").read_text())
    assert [row["verdict"] for row in results["sessions"]][:4] == ["pass", "pass", "fail", "not evaluable"]
    assert results["verdicts"] == {"pass": 2, "fail": 1, "not evaluable": 27}
    assert any("ends 27 sessions before the course" in note["message"] for note in results["warnings"])
    assert results["over_action_level"] == 2
    assert results["patients"]["patient"][2]["largest_mm"] == 3
    assert results["protocol_margins_mm"]
    page = (out / "report.html").read_text()
    assert "was not corrected" in page
    assert "Research use only" in page
    assert (out / "report.pdf").read_bytes().startswith(b"%PDF")
    with (out / "sessions.csv").open() as stream:
        assert [row["verdict"] for row in csv.DictReader(stream)] == [r["verdict"] for r in results["sessions"]]
    assert "1 fail" in capsys.readouterr().out


def test_without_a_calendar_only_the_log_is_judged_and_a_level_may_be_given(log, tmp_path):
    out = tmp_path / "out"
    args = ["guidance", str(log), "--protocol", "zhang2021-alternating", "--action-level", "5", "--out", str(out)]
    assert run(args) == 0
    results = json.loads((out / "results.json").read_text())
    assert len(results["sessions"]) == 3
    assert {row["verdict"] for row in results["sessions"]} == {"pass"}


@pytest.mark.parametrize("text", ["", "session;x\n", "\x00\x01", LOG + "4,CBCT,bone,1,2\n"])
def test_a_bad_log_is_one_sentence(text, tmp_path, capsys):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    assert run(["guidance", str(path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "cantlie: " in error


def test_residuals_that_nobody_measured_ask_for_no_margin_of_zero(tmp_path, capsys):
    path = tmp_path / "log.csv"
    rows = [f"P{p},{s},CBCT,{p + s},{2 * s - p},{3 - s},yes" for p in (1, 2, 3) for s in (1, 2, 3)]
    path.write_text("patient,session,modality,x_mm,y_mm,z_mm,corrected\n" + "\n".join(rows) + "\n")
    assert run(["guidance", str(path), "--out", str(tmp_path / "out")]) in (0, 1)
    told = " ".join(capsys.readouterr().out.split())
    assert "before correction ask for: x " in told
    assert "after correction ask for: not known" in told
    assert "not measured" in (tmp_path / "out" / "report.html").read_text()
