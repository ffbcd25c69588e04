"""Planted errors: every row of the oracle is classified as it must be."""

import json
from pathlib import Path
from typing import Any

from cantlie.study.audit.audit import audit
from cantlie.study.audit.load import claims_from_dict


def verdict_of(claims: dict[str, Any]) -> str:
    """Audit the claims; any inconsistent finding makes them inconsistent."""
    result = audit(claims_from_dict({"id": "planted", **claims}))
    assert result.findings
    return "inconsistent" if result.of("inconsistent") else "consistent"


def claims_of(row: dict[str, Any]) -> dict[str, Any]:
    """Turn one planted row into claims."""
    place = {"place": "planted"}
    match row["kind"]:
        case "pct":
            return {"proportion": [{**place, "count": row["k"], "of": row["n"], "percent": row["printed_pct"]}]}
        case "total":
            return {"total": [{**place, "parts": row["parts"], "total": row["printed_total"]}]}
        case "p2x2":
            return {"comparison": [{**place, "counts": row["table"], "p": row["printed_p"], "tests": ["Pearson"]}]}
        case "hr":
            return {"ratio": [{**place, "estimate": row["hr"], "ci": [row["lo"], row["hi"]], "p": row["p"]}]}
        case "ci_sym":
            ci = {"median": row["median"], "ci": [row["lo"], row["hi"]], "ci_type": row["ci_type"]}
            return {"survival": [{**place, "endpoint": "OS", **ci}]}
        case "median_bracket":
            rates = {str(months): rate for months, rate in row["landmarks"]}
            return {"survival": [{**place, "endpoint": "OS", "median": row["median"], "rates": rates}]}
        case "pfs_os":
            return {
                "survival": [
                    {**place, "endpoint": "OS", "rates": {"12": row["os_pct"]}},
                    {
                        **place,
                        "endpoint": "PFS",
                        "rates": {"12": row["pfs_pct"]},
                        "includes_death": row["pfs_includes_death"],
                    },
                ]
            }
        case "bed":
            course = {"fractions": row["fractions"], "per_fraction": row["dose_per_fraction"]}
            effect = {"bed": row["printed_bed"], "alpha_beta": row["alpha_beta"]}
            return {"fractionation": [{**place, **course, **effect}]}
    raise AssertionError(f"unknown kind {row['kind']}")


def test_planted_errors_are_all_classified__against_audit_planted(oracles: Path) -> None:
    rows = json.loads((oracles / "statistics" / "audit_planted.json").read_text())["rows"]
    wrong = [row for row in rows if verdict_of(claims_of(row)) != row["expected"]]
    assert len(rows) == 143
    assert wrong == []
