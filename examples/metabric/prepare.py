"""Turn the METABRIC data of DeepSurv (MIT licence) into a cohort folder that Cantlie reads.

Usage: python examples/metabric/prepare.py OUT
"""

import sys
from pathlib import Path

import pandas as pd

YES_NO = {0.0: "no", 1.0: "yes"}


def prepare(out: Path) -> None:
    """Write patients.csv and outcomes.csv into a folder."""
    raw = pd.read_csv(Path(__file__).with_name("metabric.csv"))
    ids = [f"M{number:04d}" for number in range(1, len(raw) + 1)]
    patients = pd.DataFrame(
        {
            "patient_id": ids,
            "arm": raw["radiotherapy"].map({0.0: "noRT", 1.0: "RT"}),
            "age_years": raw["age"],
            "x_er": raw["ER_positive"].map({0.0: "negative", 1.0: "positive"}),
            "x_chemotherapy": raw["chemotherapy"].map(YES_NO),
            "x_hormone": raw["hormone_tx"].map(YES_NO),
            "x_erbb2": raw["ERBB2"],
            "x_mki67": raw["MKI67"],
            "x_pgr": raw["PGR"],
            "x_egfr": raw["EGFR"],
        }
    )
    outcomes = pd.DataFrame({"patient_id": ids, "endpoint": "OS", "time_months": raw["time"], "event": raw["event"]})
    out.mkdir(parents=True, exist_ok=True)
    patients.to_csv(out / "patients.csv", index=False)
    outcomes.to_csv(out / "outcomes.csv", index=False)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
