"""Make the table of this example from asaur_hepatoCellular.csv (CC0, R package asaur); the slips came later, by hand.

Usage: python make_table.py asaur_hepatoCellular.csv > table_correct.csv
"""

import csv
import sys
from pathlib import Path

import numpy as np

from cantlie.statistics.association import pearson_chi2
from cantlie.statistics.comparison import t_test

VARIABLES = {
    "Gender": "Gender",
    "HBsAg": "Hepatitis B antigen",
    "Cirrhosis": "Cirrhosis",
    "Vascularinvasion": "Vascular invasion",
    "Tumormultiplicity": "Several tumours",
    "TNM": "TNM stage",
}


def main() -> None:
    """Write the table to standard output."""
    with Path(sys.argv[1]).open(newline="") as stream:
        patients = list(csv.DictReader(stream))
    groups = [[p for p in patients if p["Tumorsize"] == size] for size in ("1", "2")]
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(
        ["Characteristic", *(f"{n} (n={len(g)})" for n, g in zip(("Small", "Large"), groups, strict=True)), "p"]
    )
    ages = [np.array([float(p["Age"]) for p in group]) for group in groups]
    means = [f"{age.mean():.1f} ± {age.std(ddof=1):.1f}" for age in ages]
    out.writerow(["Age (years)", *means, f"{t_test(*ages).p_value:.3f}"])
    for column, name in VARIABLES.items():
        levels = sorted({p[column] for p in patients})
        counts = [[sum(p[column] == level for p in group) for group in groups] for level in levels]
        out.writerow([name, "", "", f"{pearson_chi2(counts).p_value:.3f}"])
        for level, row in zip(levels, counts, strict=True):
            cells = [f"{k} ({100 * k / len(g):.1f})" for k, g in zip(row, groups, strict=True)]
            out.writerow([f"  code {level}", *cells, ""])


if __name__ == "__main__":
    main()
