"""Printed limits beside reference limits: stricter, the same or looser; nothing where metrics cannot be compared."""

import json

import pytest

from cantlie.cli.main import run
from cantlie.protocol.loading import list_protocols, load_protocol
from cantlie.protocol.references import beside_references


def found(protocol_id: str) -> set[tuple[str, str, str, float]]:
    return {
        (one.constraint.split(":")[0], one.relation, one.reference.source.split(",")[0], one.reference.limit)
        for one in beside_references(load_protocol(protocol_id))
    }


def test_the_sbrt_limits_of_stomach_and_bowel_are_looser_than_tg_101():
    rows = found("liu2022-sbrt")
    assert ("Stomach", "looser than", "AAPM TG-101", 22.2) in rows
    assert ("Bowel_Small", "looser than", "AAPM TG-101", 25.2) in rows
    assert ("SpinalCord", "stricter than", "AAPM TG-101", 21.9) in rows
    assert ("SpinalCord", "stricter than", "HyTEC", 20.3) in rows
    assert ("Liver - GTV*", "the same as", "QUANTEC", 15.0) in rows
    assert ("Liver - GTV*", "looser than", "HyTEC", 13.0) in rows
    assert not any(name == "Heart" for name, *_ in rows)  # Dmax and D15cc say different things


def test_conventional_limits_stand_beside_quantec():
    assert ("SpinalCord", "stricter than", "QUANTEC", 50.0) in found("zhang2021-alternating")
    assert ("Liver - GTV*", "stricter than", "QUANTEC", 30.0) in found("pei2019-imrt")


@pytest.mark.parametrize("protocol_id", list_protocols())
def test_every_protocol_has_reference_limits_with_source_and_risk(protocol_id):
    limits = load_protocol(protocol_id).reference_limits
    assert limits and all("doi:" in limit.source and limit.risk for limit in limits)


def test_the_check_says_it(capsys):
    assert run(["protocol", "check", "liu2022-sbrt", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["beside_references"]
    assert any(row["relation"] == "looser than" and row["constraint"].startswith("Stomach") for row in rows)
    assert run(["protocol", "check", "liu2022-sbrt"]) == 0
    assert "Stomach: Dmax < 30 Gy: looser than D0.03cc <= 22.2 Gy, AAPM TG-101" in capsys.readouterr().out
