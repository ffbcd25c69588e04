"""The command `compare`: what it prints, how it ends, what it refuses."""

import json

import pytest
import typer
from typer.testing import CliRunner

from cantlie.cli import compare
from cantlie.core.errors import InputError
from cantlie.workflow import compare_cases


class Found:
    def __init__(self, all_met: bool) -> None:
        self.all_met = all_met


@pytest.fixture
def command(monkeypatch):
    """Return the command with a road that only writes results.json, and the requests that it got."""
    requests = []

    def road(request, progress):
        requests.append(request)
        request.out.mkdir(parents=True, exist_ok=True)
        summary = [{"first_id": "a", "other_id": "b", "sentence": "Mean dose: 1.0 Gy with a, 2.0 Gy with b."}]
        protocols = [
            {"id": "a", "status": "planned", "reason": ""},
            {"id": "c", "status": "failed", "reason": "no leaves."},
        ]
        (request.out / "results.json").write_text(json.dumps({"summary": summary, "protocols": protocols}))
        return Found(all_met="fine" in request.protocols)

    monkeypatch.setattr(compare_cases, "compare_cases", road)
    app = typer.Typer()
    app.command("compare")(compare.compare)
    return lambda *arguments: (CliRunner().invoke(app, [str(a) for a in arguments]), requests)


def test_it_says_what_differs_and_ends_with_1_when_a_rule_is_broken(command, tmp_path):
    result, requests = command("case", "--protocol", "a", "--protocol", "b", "--out", tmp_path, "--label", "x")
    assert result.exit_code == 1
    assert "a against b" in result.stdout and "2.0 Gy with b" in result.stdout
    assert "c was not planned: no leaves." in result.stderr
    assert (requests[0].protocols, requests[0].label) == (("a", "b"), "x")


def test_it_ends_with_0_when_all_is_met_and_prints_json_alone(command, tmp_path):
    options = ("--scheme", "a=48-in-3", "--start", "2026-01-05", "--json")
    result, requests = command("case", "--protocol", "fine", "--protocol", "b", "--out", tmp_path, *options)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["summary"]
    assert requests[0].schemes == (("a", "48-in-3"),)
    assert requests[0].start.isoformat() == "2026-01-05"


def test_a_scheme_without_its_protocol_is_refused(command, tmp_path):
    result, requests = command("case", "--protocol", "a", "--protocol", "b", "--scheme", "48-in-3", "--out", tmp_path)
    assert isinstance(result.exception, InputError)
    assert "ID=SCHEME" in result.exception.sentence()
    assert not requests
