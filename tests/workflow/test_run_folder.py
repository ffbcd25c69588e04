"""The run folder: resuming, its truth about how a run ended, and refusals."""

import json

import pytest

from cantlie.core.errors import OutputError
from cantlie.core.notes import Note
from cantlie.workflow.run_folder import RunFolder, key_of


def open_folder(path, seen=None):
    progress = (lambda f, m="": seen.append((f, m))) if seen is not None else (lambda f, m="": None)
    return RunFolder(path, {"name": "test"}, {"one": 1.0, "two": 3.0}, progress)


def test_a_stage_with_the_same_inputs_is_not_done_again(tmp_path):
    calls = []

    def work(progress):
        calls.append(1)
        return (1, 2)

    for _ in range(2):
        run = open_folder(tmp_path)
        assert run.stage("one", key_of("a", 1), work) == (1, 2)
    assert len(calls) == 1
    assert run.record["stages"][0]["resumed"]
    assert open_folder(tmp_path).stage("one", key_of("a", 2), work) == (1, 2)
    assert len(calls) == 2


def test_run_json_tells_how_the_run_stands(tmp_path):
    run = open_folder(tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "running"
    run.note([Note("same"), Note("same")])
    run.cite(["doi:1", "doi:1"])
    run.finish("interrupted")
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert len(record["warnings"]) == 1
    assert record["citations"] == ["doi:1"]
    assert "research use only" in record["notice"].lower()


def test_progress_runs_once_from_0_to_1_over_the_weights(tmp_path):
    seen = []
    run = open_folder(tmp_path, seen)
    run.stage("one", "k", lambda p: p(0.5, "half") or 1)
    run.stage("two", "k", lambda p: 2)
    fractions = [f for f, _ in seen]
    assert fractions == sorted(fractions)
    assert (0.125, "half") in seen
    assert fractions[-1] == pytest.approx(1.0)


def test_a_failed_stage_leaves_nothing_kept(tmp_path):
    run = open_folder(tmp_path)
    with pytest.raises(ValueError, match="boom"):
        run.stage("one", "k", lambda p: (_ for _ in ()).throw(ValueError("boom")))
    assert not (tmp_path / ".stages").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="a file, not a folder"):
        open_folder(tmp_path / "out")


@pytest.mark.parametrize(
    ("error", "status"), [(None, "done"), (KeyboardInterrupt, "interrupted"), (RuntimeError, "failed")]
)
def test_a_run_says_how_it_ended(tmp_path, error, status):
    try:
        with open_folder(tmp_path):
            if error is not None:
                raise error
    except (KeyboardInterrupt, RuntimeError):
        pass
    assert json.loads((tmp_path / "run.json").read_text())["status"] == status
