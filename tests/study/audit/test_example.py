"""The sixth table: a newcomer's road, and claims made from it."""

from pathlib import Path

import pytest

from cantlie.core.errors import ProtocolError
from cantlie.study.audit.audit import audit
from cantlie.study.audit.from_table import claims_from_table
from cantlie.study.audit.load import read_claims

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "audit_asaur"


def test_the_two_planted_slips_are_found_and_nothing_else() -> None:
    result = audit(FOLDER / "table.csv")
    found = {(f.check, f.item): (f.severity, f.slip) for f in result.of("inconsistent")}
    assert set(found) == {("percent", "Cirrhosis: code 0, Large"), ("p-value", "Vascular invasion")}
    assert found["percent", "Cirrhosis: code 0, Large"] == ("major", "two digits swapped: 45.8")
    assert found["p-value", "Vascular invasion"][0] == "major"
    assert audit(FOLDER / "table_correct.csv").of("inconsistent") == ()
    assert result.of("not recomputable") == ()


def test_claims_from_the_table_say_the_same() -> None:
    text = claims_from_table(FOLDER / "table.csv")
    loaded = read_claims(text.encode(), place="made.toml")
    again, direct = audit(loaded), audit(FOLDER / "table.csv")
    assert [(f.item, f.verdict) for f in again.findings] == [(f.item, f.verdict) for f in direct.findings]


def test_the_template_is_valid_when_its_comments_are_removed() -> None:
    text = claims_from_table("item,A (n=3)\nSex,\n m,1\n f,2\n")
    lines = [line for line in text.splitlines() if not line.startswith("# ----")]
    body = [line.removeprefix("# ") if line.startswith("# ") else line for line in lines]
    cut = [line for line in body if not line.startswith(("Claims made", "Write numbers", "All kinds"))]
    loaded = read_claims("\n".join(cut).encode(), place="template")
    assert loaded.claims.count() == 9
    assert audit(loaded).of("inconsistent") == ()


def test_a_missing_table_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="cannot read the table"):
        claims_from_table(tmp_path / "absent.csv")


def test_columns_without_sizes_ask_for_them() -> None:
    assert '# groups = { "A" = 0 }' in claims_from_table("item,A\nage,50 ± 3\n")
