"""What a log file sees of a run: a line per stage, and a sign of life within a long one."""

from cantlie.cli import console
from cantlie.cli.main import run


def test_steps_of_one_stage_are_told_every_few_seconds(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress_shown("planning") as progress:
        progress(0.0, "reading")
        for step in range(120):  # twelve seconds of steps
            now[0] = 0.1 * step
            progress(0.1 + step / 1000, f"fluence, objective {1 / (step + 1):.4g}")
        progress(0.9, "dose of field 1 of 9")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("%  ")[1].split(",")[0] for line in lines] == [
        "reading",
        *["fluence"] * 3,
        "dose of field 1 of 9",
    ]
    assert [line.split(" s ")[0].strip() for line in lines[1:4]] == ["0.0", "5.0", "10.0"]


def test_commissioned_figures_stand_beside_limits_of_the_same_unit(monkeypatch, capsys, tmp_path):
    from cantlie.workflow import commission as workflow

    judged = [
        {"place": "x profile", "metric": "penumbra", "achieved": -2.001, "limit": 2.0, "unit": "mm", "verdict": "fail"}
    ]
    monkeypatch.setattr(workflow, "commission_machine", lambda *_: {"judged": judged, "warnings": [], "failed": 1})
    run(["machine", "commission", str(tmp_path), "--name", "X", "--out", str(tmp_path / "out")])
    assert "-2.001 mm" in (said := capsys.readouterr().out) and "2 mm" in said
