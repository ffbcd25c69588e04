"""Every case of the statistics oracles against R, every expected number of it within its tolerance."""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

HERE = Path(__file__).parent


def load(name: str) -> ModuleType:
    """Load a neighbour of this file (pytest's importlib mode does not put its folder on the path)."""
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        assert specification and specification.loader
        module = importlib.util.module_from_spec(specification)
        sys.modules[name] = module
        specification.loader.exec_module(module)
    return sys.modules[name]


expected_values = load("statistics_expected")
load("statistics_formula")
survival = load("statistics_survival_cases")
groups = load("statistics_group_cases")
planted = load("test_audit_planted")


def audit_planted(case: dict[str, Any]) -> None:
    wrong = [row for row in case["rows"] if planted.verdict_of(planted.claims_of(row)) != row["expected"]]
    assert wrong == []
    assert len(case["rows"]) == case["n"]
    assert sum(row["expected"] == "inconsistent" for row in case["rows"]) == case["n_bad"]


CHECKS: dict[str, Callable[[dict[str, Any], pd.DataFrame, Any], None]] = {
    "binomial_ci": groups.binomial_ci,
    "competing_risks": survival.competing_risks,
    "contingency": groups.contingency,
    "cox": survival.cox_case,
    "cox_cluster": survival.cox_case,
    "cox_start_stop": survival.cox_case,
    "evalue": groups.evalue,
    "firth_cox": survival.firth_cox,
    "firth_logistic": groups.firth_logistic,
    "guyot_reconstruction": survival.guyot,
    "immortal_time": survival.immortal,
    "km": survival.km,
    "mcnemar": groups.mcnemar_case,
    "propensity": groups.propensity,
    "rmst": survival.rmst,
    "rubin": groups.rubin,
    "sample_size": groups.sample_size,
    "two_sample": groups.two_sample,
}


def case_files() -> list[Path]:
    """Return every JSON case of the oracles' folder, none where it is absent."""
    folder = Path(os.environ.get("CANTLIE_ORACLES", HERE.parents[2] / "shared" / "oracles")) / "statistics"
    return sorted(folder.rglob("*.json")) if folder.is_dir() else []


@pytest.mark.parametrize("path", case_files(), ids=lambda path: path.stem)
def test_statistics__against_r(path: Path, oracles: Path) -> None:
    case = json.loads(path.read_text())
    kind = case["kind"]
    if kind == "audit_planted":
        audit_planted(case)
        return
    assert kind in CHECKS, f"{path.name}: there is no check for kind {kind!r}"
    data = pd.DataFrame()
    if case.get("dataset"):
        data = pd.read_csv(path.parent / case["dataset"])
    tolerance = (case.get("tol") or {}).get("rel", 1e-6)
    expected = expected_values.Expected(case["expected"], tolerance)
    CHECKS[kind](case, data, expected)
    expected.all_compared()
