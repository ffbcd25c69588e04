"""Turn the data set hepatoCellular (R package asaur 0.50, CC0) into a cohort folder that Cantlie reads.

Usage: python examples/hepatocellular/prepare.py OUT
"""

import sys
from pathlib import Path

import pandas as pd


def prepare(out: Path) -> None:
    """Write patients.csv and outcomes.csv into a folder."""
    raw = pd.read_csv(Path(__file__).with_name("hepatoCellular.csv"))
    ids = [f"H{number:03d}" for number in raw["Number"]]
    patients = pd.DataFrame(
        {
            "patient_id": ids,
            "age_years": raw["Age"],
            "cirrhosis": raw["Cirrhosis"].map({0: "no", 1: "yes"}),
            "hepatitis_b": raw["HBsAg"].map({0: "no", 1: "yes"}),
            "x_gender": raw["Gender"],
            "x_size": raw["Tumorsize"],
            "x_multiple": raw["Tumormultiplicity"],
            "x_vascular_invasion": raw["Vascularinvasion"],
            "x_tnm": raw["TNM"],
            "x_bclc": raw["BCLC"],
            "x_afp": raw["AFP"],
            "x_cxcl17": raw["CXCL17T"],
            "x_cohort": "all",
        }
    )
    outcomes = pd.concat(
        [
            pd.DataFrame({"patient_id": ids, "endpoint": "OS", "time_months": raw["OS"], "event": raw["Death"]}),
            pd.DataFrame({"patient_id": ids, "endpoint": "RFS", "time_months": raw["RFS"], "event": raw["Recurrence"]}),
        ]
    )
    out.mkdir(parents=True, exist_ok=True)
    patients.to_csv(out / "patients.csv", index=False)
    outcomes.to_csv(out / "outcomes.csv", index=False)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
